// Older models brought to the operator set in which gradients are written.
#pragma once

#include <cstdint>

#include "base/result.h"
#include "learn/expression.h"

namespace selvage::onnx {
class ModelProto;
}

namespace selvage::learn {

/// Gradients need ScatterND with reduction (opset 16) and reductions with axes as input (18).
inline constexpr std::int64_t kGradientOpset = 18;
/// Before it, broadcasting had other rules.
inline constexpr std::int64_t kOldestOpset = 7;

/// The version of ONNX's own operators that the model imports; 0 if none.
[[nodiscard]] std::int64_t opset_of(const onnx::ModelProto& model);

/// Rewrites a model of opset 7 to 17 to opset 18, keeping every value's name and meaning; newer
/// ones stay as they are. `types` tells ranks where the old form depends on them. kUnimplemented
/// for opset 6 and older, and for operators with subgraphs.
[[nodiscard]] Result<void> raise_opset(onnx::ModelProto& model, const ValueTypes& types);

}  // namespace selvage::learn
