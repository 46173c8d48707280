// Static quantisation: weights and activations become integers, with ranges from calibration. The
// result holds QuantizeLinear and DequantizeLinear around the operators (QDQ), which the runtime
// fuses into integer kernels, or those kernels themselves (QOperator).
//
//   SELVAGE_TRY(auto values, static_candidates(model, options));
//   SELVAGE_TRY(auto ranges, calibrate(runtime, model, values, samples));
//   SELVAGE_TRY(auto report, quantize_static(model, ranges, options));
//
// Run the standard passes (graph/pass.h) first: batch normalisation that stays is quantised badly.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "base/result.h"
#include "compress/calibrate.h"
#include "compress/quantization.h"
#include "graph/model.h"

namespace selvage::compress {

enum class QuantizationFormat : std::uint8_t { kQdq, kQOperator };

/// What is quantised and what is left alone, as --include and --exclude say it.
struct NodeSelection {
  std::vector<std::string> types;           ///< Operator types; empty: the quantiser's own list.
  std::vector<std::string> nodes;           ///< Names; empty: all.
  std::vector<std::string> excluded_types;  ///< Win over `types`.
  std::vector<std::string> excluded_nodes;  ///< Win over `nodes`.
};

/// What one tensor gets instead of what the options say. `scale` and `zero_point` come together.
struct TensorOverride {
  std::optional<DataType> type;
  std::optional<Symmetry> symmetry;
  std::optional<Width> width;
  std::optional<float> min, max;
  std::optional<float> scale;
  std::optional<std::int32_t> zero_point;
};

struct StaticOptions {
  QuantizationFormat format = QuantizationFormat::kQdq;
  DataType activations = DataType::kInt8;  ///< (u)int8, or (u)int16 with kQdq.
  DataType weights = DataType::kInt8;      ///< (u)int4 (kQdq only) or (u)int8.
  bool per_channel = false;                ///< A scale for each output channel of a weight.
  Symmetry activation_symmetry = Symmetry::kAsymmetric;
  std::optional<Symmetry> weight_symmetry;  ///< Empty: symmetric if the type is signed.
  /// Of weights. Empty: reduced where the processor's 8-bit products may saturate.
  std::optional<Width> width;
  bool quantize_bias = true;
  std::optional<float> real_width_min;  ///< Of activations' and weights' ranges.
  NodeSelection selection;
  /// Operators that are no products (Conv, ConvTranspose, Gemm, MatMul) only where quantised ones
  /// make their inputs and read their outputs: what stands between float operators, as in layer
  /// normalisation and residual streams of transformers, costs time there and accuracy.
  bool connected_only = false;
  std::unordered_map<std::string, TensorOverride> overrides;  ///< By tensor.
};

/// A node that stays in float, and why.
struct KeptNode {
  std::string name;  ///< Its name, or "#12" for the twelfth without one.
  std::string type;
  std::string reason;
};

struct QuantizationReport {
  std::size_t quantized_nodes = 0;
  std::size_t quantized_weights = 0;
  std::vector<KeptNode> kept;
};

/// The operators that are quantised by default: those of the reference, and HardSigmoid.
[[nodiscard]] std::vector<std::string> static_types();

/// The values whose ranges quantize_static() needs.
[[nodiscard]] Result<std::vector<std::string>> static_candidates(const graph::Model& model,
                                                                 const StaticOptions& options);

/// Quantises in place; an operator set below 11 is raised to it. kInvalidArgument for settings that
/// exclude each other, for names in the selection or the overrides that the model does not have;
/// kFailedPrecondition when nothing is left to quantise (the message says why: already quantised,
/// float16, ...). On an error the model is unchanged. Nodes of subgraphs stay in float and are
/// listed once, by the node that holds them.
[[nodiscard]] Result<QuantizationReport> quantize_static(graph::Model& model,
                                                         const RangeMap& ranges,
                                                         const StaticOptions& options = {});

}  // namespace selvage::compress
