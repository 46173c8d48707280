// Models brought to the operator set in which gradients are written. Internal to src/learn.
#pragma once

#include <cstdint>

#include "base/result.h"
#include "graph/model.h"

namespace selvage::learn {

/// Gradients need ScatterND with reduction (opset 16) and reductions with axes as input (18).
inline constexpr std::int64_t kGradientOpset = 18;

/// Rewrites a model of an older operator set to kGradientOpset, keeping every value's name and
/// meaning; newer ones stay as they are. Errors as graph::upgrade_opset().
[[nodiscard]] Result<void> raise_opset(graph::Model& model);

}  // namespace selvage::learn
