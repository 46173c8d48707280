// The protocol's classification extension: the best classes of an output as strings
// "value:index[:label]", best first.
#pragma once

#include <cstdint>

#include "base/tensor.h"
#include "infer/repository.h"

namespace selvage::serve {

enum class BatchDimension : std::uint8_t { kNone, kFirst };

/// The `classes` largest elements of each row, or of the whole tensor without a batch dimension, as
/// strings of shape [batch, n] or [n], n at most the number of elements. NaN counts as smallest.
/// kInvalidArgument for a type that has no order.
[[nodiscard]] Result<Tensor> classify(const TensorView& scores, std::uint32_t classes,
                                      BatchDimension batch, const infer::Labels& labels);

}  // namespace selvage::serve
