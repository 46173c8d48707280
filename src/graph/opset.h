// Newer operator sets for older models.
#pragma once

#include <cstdint>

#include "base/result.h"
#include "graph/model.h"

namespace selvage::graph {

/// Of ONNX's own domain; 0 if the model does not import it.
[[nodiscard]] std::int64_t opset_of(const Model& model);

/// The versions that upgrade_opset() reads and writes.
inline constexpr std::int64_t kUpgradeFromMin = 7;
inline constexpr std::int64_t kUpgradeToMax = 17;

/// Rewrites nodes whose meaning or inputs changed between the model's operator set and `version`,
/// and raises the import; a model that has `version` or more stays as it is. What changed up to 17:
/// attributes that became inputs (Squeeze, Unsqueeze, ReduceSum, Split, Pad, Slice, Clip, Dropout,
/// TopK), Softmax, LogSoftmax and Hardmax over one axis, Upsample (now Resize),
/// BatchNormalization's outputs in training. kUnimplemented, naming the node, where a meaning
/// cannot be kept (a deprecated operator without an equal); kFailedPrecondition for an operator set
/// below kUpgradeFromMin or a model with functions of its own. On an error the model is unchanged.
[[nodiscard]] Result<void> upgrade_opset(Model& model, std::int64_t version);

}  // namespace selvage::graph
