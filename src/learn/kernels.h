// Kernels of our own for what the runtime's standard operators do slowly in
// training: stride-1 convolutions whose weights change with each step, their
// gradients, and max pooling's. Nodes of the domain "selvage"; the standard
// forms stay as the reference, and what leaves the trainer has none of these.
// docs/gradients.md has the measurements.
//
//   Conv(X [N,C,H,W], W [M,C,h,w], B [M]; pads) -> Y               stride 1, as
//   ONNX's ConvInputGradient(dY, W; pads) -> dX                           of
//   that Conv ConvWeightGradient(X, dY; pads) -> dW MaxPoolGradient(X, Y, dY;
//   kernel_shape, strides, pads) -> dX   the first of equal maxima
//
// Results do not depend on the number of threads.
#pragma once

#include <span>

#include "infer/custom_operator.h"

namespace selvage::learn {

/// For SessionOptions::operators.
[[nodiscard]] std::span<const infer::CustomOperator* const> training_operators();

}  // namespace selvage::learn
