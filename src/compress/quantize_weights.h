// Weight-only quantisation: matrices of MatMul and Gemm in 4 or 8 bits, block by block, which the
// runtime multiplies as they are (MatMulNBits of com.microsoft). For large products, whose time is
// the reading of weights.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include "compress/calibrate.h"
#include "compress/quantize_static.h"

namespace selvage::compress {

enum class RoundingMethod : std::uint8_t {
  kNearest,
  /// Half-quadratic quantisation (Badri and Shaji, 2023): zero points that suit outliers, as real
  /// numbers, which the runtime takes with 4 bits only. Needs no data.
  kHqq,
  /// GPTQ (Frantar et al., ICLR 2023): each column's rounding error is made up for in the columns
  /// after it, as the activations weigh them. Needs samples.
  kGptq,
  /// AdaRound's objective (Nagel et al., ICML 2020): up or down for each weight, so that what comes
  /// out changes least. Needs samples.
  kAdaRound,
};
/// Whether a method looks at the activations of samples.
[[nodiscard]] constexpr bool needs_samples(RoundingMethod method) {
  return method == RoundingMethod::kGptq || method == RoundingMethod::kAdaRound;
}

struct WeightOnlyOptions {
  int bits = 4;          ///< 4 or 8.
  int block_size = 128;  ///< Weights of a column with a scale: a power of two, 16 to 1024.
  Symmetry symmetry = Symmetry::kAsymmetric;  ///< kHqq: kAsymmetric only.
  RoundingMethod rounding = RoundingMethod::kNearest;
  /// What the runtime may compute in: 0 chooses itself, 1 float32, 4 int8 (fastest).
  int accuracy_level = 0;
  NodeSelection selection;
};
inline constexpr int kBlockSizeMin = 16, kBlockSizeMax = 1024;
/// Rows of a matrix that kGptq and kAdaRound take: it needs their square in memory. Larger ones are
/// rounded to nearest.
inline constexpr std::size_t kGptqRowsMax = 8192;

/// A matrix [rows, columns] in the layout of MatMulNBits: column by column, each cut into blocks.
struct BlockwiseMatrix {
  std::size_t rows = 0, columns = 0;
  int bits = 4;
  int block_size = 128;
  std::vector<std::byte> bytes;         ///< [columns, blocks, block_size * bits / 8].
  std::vector<float> scales;            ///< [columns, blocks].
  std::vector<std::byte> zero_points;   ///< [columns, ceil(blocks * bits / 8)]; empty: the middle.
  std::vector<float> real_zero_points;  ///< [columns, blocks], in steps: of kHqq.

  [[nodiscard]] std::size_t blocks() const {
    return (rows + static_cast<std::size_t>(block_size) - 1) / static_cast<std::size_t>(block_size);
  }
  [[nodiscard]] std::vector<float> to_real() const;  ///< [rows, columns].
};

/// kNearest (bit for bit what the runtime's own quantiser makes) or kHqq.
[[nodiscard]] BlockwiseMatrix quantize_blockwise(std::span<const float> matrix, std::size_t rows,
                                                 std::size_t columns,
                                                 const WeightOnlyOptions& options);
/// What a product's inputs looked like.
struct Gram {
  std::vector<double> sums;  ///< Of x x^T over the inputs' rows: [n, n].
  std::size_t rows = 0;      ///< That were added up.
};
/// kGptq, with finite sums. Where the rows are too few to tell how inputs go together, the matrix
/// is shrunk towards independent ones (oracle approximating shrinkage: Chen, Wiesel, Eldar and
/// Hero, IEEE Trans. Signal Processing 58, 2010): errors are then passed on less, down to kNearest.
[[nodiscard]] BlockwiseMatrix quantize_gptq(std::span<const float> matrix, std::size_t rows,
                                            std::size_t columns, const Gram& gram,
                                            const WeightOnlyOptions& options);

/// kAdaRound, with the scales of kNearest; a column is never worse than rounded to nearest, as
/// `gram`, the sums, weighs errors.
[[nodiscard]] BlockwiseMatrix quantize_adaround(std::span<const float> matrix, std::size_t rows,
                                                std::size_t columns, std::span<const double> gram,
                                                const WeightOnlyOptions& options);

/// Quantises the weights of every chosen MatMul and Gemm in place. What needs_samples() takes the
/// overload with samples. Errors and report as quantize_static().
[[nodiscard]] Result<QuantizationReport> quantize_weights(graph::Model& model,
                                                          const WeightOnlyOptions& options = {});
[[nodiscard]] Result<QuantizationReport> quantize_weights(infer::Runtime& runtime,
                                                          graph::Model& model,
                                                          const Samples& samples,
                                                          const WeightOnlyOptions& options);

}  // namespace selvage::compress
