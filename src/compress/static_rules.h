// Which operators static quantisation knows, and how. Internal to src/compress.
#pragma once

#include <cstdint>
#include <optional>

#include "base/result.h"
#include "compress/quantize_static.h"
#include "compress/selection.h"

namespace selvage::compress {

/// How the tensors around an operator are treated.
enum class StaticRule : std::uint8_t {
  kConv,           ///< Input, weight with channels along axis 0, bias, output.
  kConvTranspose,  ///< The same with axis 1.
  kGemm,
  kMatMul,
  kRelu,         ///< Relu and Clip: vanish into the rounding of what comes before.
  kPassThrough,  ///< Moves elements: the output has the input's scale.
  kPad,
  kSplit,
  kGather,
  kWhere,
  kNormalization,
  kHardSigmoid,  ///< Becomes an addition that saturates: see PlannedSum.
  kEverything,   ///< All float inputs and outputs.
};
[[nodiscard]] std::optional<StaticRule> static_rule(const onnx::NodeProto& node);

/// Whether a node multiplies matrices: what quantisation is for.
[[nodiscard]] bool is_product(StaticRule rule);

[[nodiscard]] Result<Selector> make_selector(const onnx::GraphProto& graph,
                                             const StaticOptions& options);

}  // namespace selvage::compress
