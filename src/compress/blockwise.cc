// The numerics of weight-only quantisation: see quantize_weights.h.
#include <algorithm>
#include <cmath>

#include "compress/quantize_weights.h"

namespace selvage::compress {
namespace {

/// Scale and zero point of one block, in the runtime's terms: code = round(value / scale + zero).
struct BlockScale {
  float scale = 0;
  float zero = 0;
};

/// As range2scalezp() and range2scale() of onnxruntime's q4_dq.cpp.
BlockScale block_scale(std::span<const float> block, int bits, Symmetry symmetry) {
  const auto top = static_cast<float>((1 << bits) - 1);
  const auto middle = static_cast<float>(1 << (bits - 1));
  float low = 0, high = 0;
  for (const float value : block) {
    low = std::min(low, value);
    high = std::max(high, value);
  }
  if (symmetry == Symmetry::kSymmetric)
    return {(std::abs(high) > std::abs(low) ? high : low) / -middle, middle};
  const float scale = (high - low) / top;
  const float zero = scale == 0 ? 0 : -low / scale;
  return {scale, std::roundf(std::clamp(zero, 0.0f, top))};
}

std::uint8_t code_of(float value, BlockScale block, int bits) {
  const float inverse = block.scale == 0 ? 0 : 1 / block.scale;
  const float code = std::roundf(value * inverse + block.zero);
  return static_cast<std::uint8_t>(std::clamp(code, 0.0f, static_cast<float>((1 << bits) - 1)));
}

float value_of(std::uint8_t code, BlockScale block) {
  return (static_cast<float>(code) - block.zero) * block.scale;
}

/// Puts `code` at place `index` of values of `bits` bits, the first in the lowest.
void put(std::span<std::byte> bytes, std::size_t index, std::uint8_t code, int bits) {
  if (bits == 8)
    bytes[index] = std::byte{code};
  else
    bytes[index / 2] |= std::byte{code} << (index % 2 * 4);
}
std::uint8_t take(std::span<const std::byte> bytes, std::size_t index, int bits) {
  if (bits == 8) return std::to_integer<std::uint8_t>(bytes[index]);
  return std::to_integer<std::uint8_t>(bytes[index / 2] >> (index % 2 * 4)) & 15;
}

/// [columns][rows], so that blocks are contiguous.
std::vector<float> by_column(std::span<const float> matrix, std::size_t rows, std::size_t columns) {
  std::vector<float> turned(matrix.size());
  for (std::size_t r = 0; r < rows; ++r)
    for (std::size_t c = 0; c < columns; ++c) turned[c * rows + r] = matrix[r * columns + c];
  return turned;
}

/// An empty matrix with room for everything.
class Builder {
 public:
  Builder(std::size_t rows, std::size_t columns, const WeightOnlyOptions& options)
      : matrix_{.rows = rows,
                .columns = columns,
                .bits = options.bits,
                .block_size = options.block_size},
        symmetry_(options.symmetry) {
    const auto bits = static_cast<std::size_t>(options.bits);
    block_bytes_ = static_cast<std::size_t>(options.block_size) * bits / 8;
    zero_bytes_ = (matrix_.blocks() * bits + 7) / 8;
    matrix_.bytes.resize(columns * matrix_.blocks() * block_bytes_);
    matrix_.scales.resize(columns * matrix_.blocks());
    if (symmetry_ == Symmetry::kSymmetric) return;
    if (options.rounding == RoundingMethod::kHqq)
      matrix_.real_zero_points.resize(columns * matrix_.blocks());
    else
      matrix_.zero_points.resize(columns * zero_bytes_);
  }

  void set_block(std::size_t column, std::size_t block, BlockScale scale) {
    const auto at = column * matrix_.blocks() + block;
    matrix_.scales[at] = scale.scale;
    if (!matrix_.real_zero_points.empty())
      matrix_.real_zero_points[at] = scale.zero;
    else if (!matrix_.zero_points.empty())
      put(std::span(matrix_.zero_points).subspan(column * zero_bytes_, zero_bytes_), block,
          static_cast<std::uint8_t>(scale.zero), matrix_.bits);
  }
  /// Chooses and sets the scale of the block that begins at `row` of a column's weights.
  BlockScale open_block(std::span<const float> weights, std::size_t column, std::size_t row) {
    const auto size = static_cast<std::size_t>(matrix_.block_size);
    const auto block = weights.subspan(row, std::min(size, weights.size() - row));
    const auto scale = block_scale(block, matrix_.bits, symmetry_);
    set_block(column, row / size, scale);
    return scale;
  }
  void set_code(std::size_t column, std::size_t row, std::uint8_t code) {
    const auto size = static_cast<std::size_t>(matrix_.block_size);
    const auto block = row / size;
    put(std::span(matrix_.bytes)
            .subspan((column * matrix_.blocks() + block) * block_bytes_, block_bytes_),
        row % size, code, matrix_.bits);
  }
  [[nodiscard]] const BlockwiseMatrix& matrix() const { return matrix_; }
  [[nodiscard]] BlockwiseMatrix take() { return std::move(matrix_); }

 private:
  BlockwiseMatrix matrix_;
  Symmetry symmetry_;
  std::size_t block_bytes_ = 0, zero_bytes_ = 0;
};

/// As HQQWeightOnlyQuantizer.quantize_internal() and optimize_weights(): a proximal solver for
/// |W - dequantise(quantise(W))|^0.7, which moves zero points only. All blocks step together and
/// stop when the mean error does not fall any more. `blocks` holds whole blocks, padded with zeros.
std::vector<BlockScale> solve_hqq(std::span<const float> blocks, std::size_t size, int bits) {
  constexpr float kNorm = 0.7f, kGrowth = 1.01f;
  constexpr float kInverseMax = 2e4f;
  constexpr int kSteps = 20;
  const auto top = static_cast<float>((1 << bits) - 1);
  const auto count = blocks.size() / size;
  std::vector<float> inverse(count), zero(count);
  for (std::size_t b = 0; b < count; ++b) {
    const auto block = blocks.subspan(b * size, size);
    const auto [low, high] = std::ranges::minmax(block);
    inverse[b] = high == low ? 1.0f : std::min(top / (high - low), kInverseMax);
    zero[b] = std::nearbyint(-low * inverse[b]);
  }
  float beta = 10;
  double best = 1e4;
  for (int step = 0; step < kSteps; ++step) {
    double error = 0;
    for (std::size_t b = 0; b < count; ++b) {
      double sum = 0;
      for (const float value : blocks.subspan(b * size, size)) {
        const float code = std::clamp(std::nearbyint(value * inverse[b] + zero[b]), 0.0f, top);
        const float off = value - (code - zero[b]) / inverse[b];
        const float magnitude = std::abs(off);
        error += static_cast<double>(magnitude);
        const float shrunk =
            std::max(0.0f, magnitude - std::pow(magnitude + 1e-8f, kNorm - 1) / beta);
        sum += static_cast<double>(code - (value - std::copysign(shrunk, off)) * inverse[b]);
      }
      zero[b] = static_cast<float>(sum / static_cast<double>(size));
    }
    beta *= kGrowth;
    error /= static_cast<double>(blocks.size());
    if (!(error < best)) break;
    best = error;
  }
  std::vector<BlockScale> scales(count);
  for (std::size_t b = 0; b < count; ++b) scales[b] = {1 / inverse[b], zero[b]};
  return scales;
}

BlockwiseMatrix quantize_hqq(std::span<const float> turned, std::size_t rows, std::size_t columns,
                             const WeightOnlyOptions& options) {
  Builder builder(rows, columns, options);
  const auto size = static_cast<std::size_t>(options.block_size);
  const auto blocks = builder.matrix().blocks();
  std::vector<float> padded(columns * blocks * size);
  for (std::size_t c = 0; c < columns; ++c)
    std::ranges::copy(turned.subspan(c * rows, rows),
                      padded.begin() + static_cast<std::ptrdiff_t>(c * blocks * size));
  const auto scales = solve_hqq(padded, size, options.bits);
  const auto top = static_cast<float>((1 << options.bits) - 1);
  for (std::size_t c = 0; c < columns; ++c) {
    for (std::size_t b = 0; b < blocks; ++b) builder.set_block(c, b, scales[c * blocks + b]);
    for (std::size_t r = 0; r < rows; ++r) {
      const auto& block = scales[c * blocks + r / size];
      const float code = std::nearbyint(turned[c * rows + r] / block.scale + block.zero);
      builder.set_code(c, r, static_cast<std::uint8_t>(std::clamp(code, 0.0f, top)));
    }
  }
  return builder.take();
}

/// Lower Cholesky factor in place of a symmetric matrix; false if it is not positive definite.
bool factor_cholesky(std::vector<double>& a, std::size_t n) {
  for (std::size_t j = 0; j < n; ++j) {
    double* const row_j = a.data() + j * n;
    double diagonal = row_j[j];
    for (std::size_t k = 0; k < j; ++k) diagonal -= row_j[k] * row_j[k];
    if (!(diagonal > 0)) return false;
    row_j[j] = std::sqrt(diagonal);
    for (std::size_t i = j + 1; i < n; ++i) {
      double* const row_i = a.data() + i * n;
      double sum = row_i[j];
      for (std::size_t k = 0; k < j; ++k) sum -= row_i[k] * row_j[k];
      row_i[j] = sum / row_j[j];
    }
  }
  return true;
}

/// What is added to the diagonal, as a part of its mean: 1 % as GPTQ has it, or as much as shrinks
/// the matrix by the rho of oracle approximating shrinkage, equation 23.
double damping_of(const Gram& gram, std::size_t n, double mean) {
  constexpr double kDampingMin = 0.01, kDampingMax = 1e6;
  const auto size = static_cast<double>(n), rows = static_cast<double>(gram.rows);
  double squares = 0;
  for (const double sum : gram.sums) squares += sum * sum;
  const double trace = size * mean;
  const double above = (1 - 2 / size) * squares + trace * trace;
  const double below = (rows + 1 - 2 / size) * (squares - trace * trace / size);
  const double rho = below > above ? above / below : 1;
  return std::clamp(rho / (1 - rho), kDampingMin, kDampingMax);
}

/// The upper Cholesky factor of the inverse of the Gram matrix, whose diagonal is raised by
/// damping_of(), and by more until it can be inverted. GPTQ's `Hinv`.
std::vector<double> inverse_factor(const Gram& gram, std::size_t n) {
  double mean = 0;
  for (std::size_t i = 0; i < n; ++i) mean += gram.sums[i * n + i] / static_cast<double>(n);
  if (!(mean > 0)) mean = 1;
  std::vector<double> lower;
  for (double damping = damping_of(gram, n, mean) * mean;; damping *= 10) {
    lower = gram.sums;
    for (std::size_t i = 0; i < n; ++i) {
      auto& diagonal = lower[i * n + i];
      diagonal = (diagonal == 0 ? mean : diagonal) + damping;
    }
    if (factor_cholesky(lower, n)) break;
  }
  // inverse(L), then inverse(L)^T inverse(L) = inverse of the matrix.
  std::vector<double> inverted(n * n);
  for (std::size_t j = 0; j < n; ++j) {
    inverted[j * n + j] = 1 / lower[j * n + j];
    for (std::size_t i = j + 1; i < n; ++i) {
      double sum = 0;
      for (std::size_t k = j; k < i; ++k) sum -= lower[i * n + k] * inverted[k * n + j];
      inverted[i * n + j] = sum / lower[i * n + i];
    }
  }
  std::vector<double> inverse(n * n);
  for (std::size_t k = 0; k < n; ++k)
    for (std::size_t i = 0; i <= k; ++i) {
      const double factor = inverted[k * n + i];
      for (std::size_t j = 0; j <= k; ++j) inverse[i * n + j] += factor * inverted[k * n + j];
    }
  // Of a matrix that was positive definite a moment ago; rounding may want a little more.
  auto upper = inverse;
  for (double more = 0; !factor_cholesky(upper, n); more = more == 0 ? 1e-10 : more * 10) {
    upper = inverse;
    for (std::size_t i = 0; i < n; ++i) upper[i * n + i] *= 1 + more;
  }
  // Upper = lower^T.
  for (std::size_t i = 0; i < n; ++i)
    for (std::size_t j = i + 1; j < n; ++j) {
      upper[i * n + j] = upper[j * n + i];
      upper[j * n + i] = 0;
    }
  return upper;
}

/// AdaRound of one column: codes go up or down by one so that d^T H d falls, d being each weight's
/// error in steps and H the Gram matrix in them. From rounding to nearest, the change that helps
/// most is made until none helps. (The paper relaxes the same objective to real numbers; with all
/// samples in H this is exact at each step, and found more: 4.6 dB against 0.9 on correlated
/// inputs.)
class RoundingSearch {
 public:
  RoundingSearch(std::span<const double> gram, std::size_t size)
      : gram_(gram), size_(size), slope_(size) {}

  /// `steps`: of each weight's codes; `codes` are those of nearest rounding, `exact` what they
  /// should be, `top` the largest code.
  void run(std::span<const double> steps, std::span<const double> exact, double top,
           std::span<double> codes) {
    for (std::size_t i = 0; i < size_; ++i) {
      slope_[i] = 0;
      for (std::size_t k = 0; k < size_; ++k)
        slope_[i] += gram_[i * size_ + k] * steps[i] * steps[k] * (codes[k] - exact[k]);
    }
    // Each change lowers the cost; rounding of the sums could make it turn in circles at the end.
    for (std::size_t changes = 0; changes < kChangesMax * size_; ++changes) {
      const auto [at, way] = best_change(steps, exact, top, codes);
      if (way == 0) return;
      codes[at] += way;
      for (std::size_t k = 0; k < size_; ++k)
        slope_[k] += gram_[k * size_ + at] * steps[k] * steps[at] * way;
    }
  }

 private:
  static constexpr std::size_t kChangesMax = 10;  ///< For each weight.

  struct Change {
    std::size_t at = 0;
    double way = 0;  ///< 1, -1, or 0 for none that helps.
  };
  [[nodiscard]] Change best_change(std::span<const double> steps, std::span<const double> exact,
                                   double top, std::span<const double> codes) const {
    Change best;
    double least = 0;
    for (std::size_t i = 0; i < size_; ++i) {
      const double way = codes[i] > exact[i] ? -1 : 1;
      if (codes[i] + way < 0 || codes[i] + way > top) continue;
      const double own = gram_[i * size_ + i] * steps[i] * steps[i];
      const double change = 2 * way * slope_[i] + own;
      if (change >= least - kLeastGain * own) continue;
      least = change;
      best = {i, way};
    }
    return best;
  }
  static constexpr double kLeastGain = 1e-9;

  std::span<const double> gram_;
  std::size_t size_;
  std::vector<double> slope_;  ///< Half of the cost's derivative by each code.
};

}  // namespace

std::vector<float> BlockwiseMatrix::to_real() const {
  std::vector<float> real(rows * columns);
  const auto size = static_cast<std::size_t>(block_size);
  const auto block_bytes = size * static_cast<std::size_t>(bits) / 8;
  const auto zero_bytes = (blocks() * static_cast<std::size_t>(bits) + 7) / 8;
  for (std::size_t c = 0; c < columns; ++c)
    for (std::size_t r = 0; r < rows; ++r) {
      const auto block = r / size, at = c * blocks() + block;
      BlockScale scale{scales[at], static_cast<float>(1 << (bits - 1))};
      if (!real_zero_points.empty())
        scale.zero = real_zero_points[at];
      else if (!zero_points.empty())
        scale.zero = take(std::span(zero_points).subspan(c * zero_bytes, zero_bytes), block, bits);
      const auto code =
          take(std::span(bytes).subspan(at * block_bytes, block_bytes), r % size, bits);
      real[r * columns + c] = value_of(code, scale);
    }
  return real;
}

BlockwiseMatrix quantize_blockwise(std::span<const float> matrix, std::size_t rows,
                                   std::size_t columns, const WeightOnlyOptions& options) {
  const auto turned = by_column(matrix, rows, columns);
  if (options.rounding == RoundingMethod::kHqq) return quantize_hqq(turned, rows, columns, options);
  Builder builder(rows, columns, options);
  const auto size = static_cast<std::size_t>(options.block_size);
  for (std::size_t c = 0; c < columns; ++c) {
    const auto weights = std::span(turned).subspan(c * rows, rows);
    BlockScale scale;
    for (std::size_t r = 0; r < rows; ++r) {
      if (r % size == 0) scale = builder.open_block(weights, c, r);
      builder.set_code(c, r, code_of(weights[r], scale, options.bits));
    }
  }
  return builder.take();
}

BlockwiseMatrix quantize_gptq(std::span<const float> matrix, std::size_t rows, std::size_t columns,
                              const Gram& gram, const WeightOnlyOptions& options) {
  const auto factor = inverse_factor(gram, rows);
  auto turned = by_column(matrix, rows, columns);
  Builder builder(rows, columns, options);
  const auto size = static_cast<std::size_t>(options.block_size);
  // Outputs do not depend on each other: each is rounded from its first weight to its last.
  for (std::size_t c = 0; c < columns; ++c) {
    const auto weights = std::span(turned).subspan(c * rows, rows);
    BlockScale scale;
    for (std::size_t r = 0; r < rows; ++r) {
      if (r % size == 0) scale = builder.open_block(weights, c, r);
      const auto code = code_of(weights[r], scale, options.bits);
      builder.set_code(c, r, code);
      const double* const row = factor.data() + r * rows;
      const double error = static_cast<double>(weights[r] - value_of(code, scale)) / row[r];
      for (std::size_t k = r + 1; k < rows; ++k) weights[k] -= static_cast<float>(error * row[k]);
    }
  }
  return builder.take();
}

BlockwiseMatrix quantize_adaround(std::span<const float> matrix, std::size_t rows,
                                  std::size_t columns, std::span<const double> gram,
                                  const WeightOnlyOptions& options) {
  const auto turned = by_column(matrix, rows, columns);
  Builder builder(rows, columns, options);
  const auto size = static_cast<std::size_t>(options.block_size);
  const double top = (1 << options.bits) - 1;
  RoundingSearch search(gram, rows);
  std::vector<double> steps(rows), exact(rows), codes(rows);
  for (std::size_t c = 0; c < columns; ++c) {
    const auto column = std::span(turned).subspan(c * rows, rows);
    BlockScale scale;
    for (std::size_t r = 0; r < rows; ++r) {
      if (r % size == 0) scale = builder.open_block(column, c, r);
      steps[r] = static_cast<double>(scale.scale);
      codes[r] = code_of(column[r], scale, options.bits);
      exact[r] = steps[r] == 0
                     ? codes[r]
                     : static_cast<double>(column[r]) / steps[r] + static_cast<double>(scale.zero);
    }
    search.run(steps, exact, top, codes);
    for (std::size_t r = 0; r < rows; ++r)
      builder.set_code(c, r, static_cast<std::uint8_t>(codes[r]));
  }
  return builder.take();
}

}  // namespace selvage::compress
