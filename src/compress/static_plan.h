// What static quantisation will do to each tensor, decided before anything is changed. The rules
// are those of onnxruntime.quantization's QDQ quantiser. Internal to src/compress.
#pragma once

#include <optional>
#include <string>
#include <unordered_map>
#include <vector>

#include "base/result.h"
#include "compress/calibrate.h"
#include "compress/quantization.h"
#include "compress/quantize_static.h"
#include "graph/index.h"
#include "graph/model.h"

namespace selvage::compress {

/// A tensor that gets a scale.
struct PlannedTensor {
  std::string name;
  DataType type = DataType::kInt8;
  bool is_weight = false;  ///< A constant, stored as integers.
  /// Takes the parameters of this tensor instead of its own.
  std::string shares;
  std::vector<QuantizationParameters> parameters;  ///< One, or one a channel; none if shared.
  std::optional<std::size_t> axis;
  /// QuantizeLinear's scale is DequantizeLinear's times this: a factor that costs nothing.
  float factor = 1;
};

/// HardSigmoid(x; alpha, beta) = alpha * clip(x + beta / alpha, 0, 1 / alpha). Quantised, the sum
/// saturates at these limits by itself, and alpha is in the scale that it is read with: the runtime
/// has an integer kernel for additions, and none for HardSigmoid.
struct PlannedSum {
  int node = 0;
  float addend = 0;
  DataType type = DataType::kInt8;
};

/// A bias that becomes int32.
struct PlannedBias {
  int node = 0;
  std::string name, input, weight;
  std::vector<float> values;  ///< Times Gemm's beta.
  std::vector<float> scales;  ///< One, or one an element.
};

struct StaticPlan {
  std::vector<PlannedTensor> tensors;  ///< Each after the one it shares with.
  std::vector<PlannedBias> biases;
  std::vector<PlannedSum> sums;
  /// Nodes that leave; what produced their input produces their output instead.
  std::vector<int> removed;
  QuantizationReport report;
};

/// Errors as quantize_static().
[[nodiscard]] Result<StaticPlan> plan_static(const graph::Model& model, const graph::Index& index,
                                             RangeMap ranges, const StaticOptions& options);

}  // namespace selvage::compress
