// An input that is always the same becomes a constant.
#pragma once

#include <string_view>

#include "base/result.h"
#include "base/tensor.h"
#include "graph/model.h"

namespace selvage::graph {

/// The model computes as if `input` were `value`, whatever is passed: callers still pass it, but
/// nothing reads it any more. kNotFound where the model has no such input; kInvalidArgument for
/// another type or a shape that it does not take; kFailedPrecondition where it is an output, too.
[[nodiscard]] Result<void> bind_input(Model& model, std::string_view input,
                                      const TensorView& value);

}  // namespace selvage::graph
