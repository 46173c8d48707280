// Reverse-mode differentiation of an ONNX graph into the same graph, in standard operators (opset
// 18 and later). How each operator's gradient is formed, and how it was measured, stands at its
// rule (gradient_*.cc).
#pragma once

#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"
#include "learn/expression.h"

namespace selvage::learn {

/// Appends nodes that compute d loss / d value for each of `values` (names of inputs, initialisers
/// or inner values of the builder's graph), in their order; `loss` has one element. A value that
/// the loss does not depend on gets zeros. Integer and bool values carry no gradient, nor do
/// operators that are constant almost everywhere (Floor, Sign, comparisons). kUnimplemented: an
/// operator without a gradient lies between; the message names it and the path.
[[nodiscard]] Result<std::vector<Expression>> add_gradients(GraphBuilder& builder, Expression loss,
                                                            std::span<const std::string> values);

/// Whether there is a rule for the operator. For those that choose models by what can be trained.
[[nodiscard]] bool has_gradient(std::string_view op_type);

/// Whether it is arithmetic of a quantised model, which has no gradient: not DequantizeLinear,
/// whose arithmetic is in float.
[[nodiscard]] bool computes_in_integers(std::string_view op_type);
/// What to do about it, for errors.
inline constexpr std::string_view kTrainBeforeQuantising =
    "the model is quantised: train the float model that it was made from, or quantise that with "
    "`selvage quantize --train`";

}  // namespace selvage::learn
