// Kernels of our own for what the runtime's standard operators do slowly in training: convolutions
// whose weights change with each step, batch normalisation with what follows it, max pooling's
// gradient. Nodes of the domain "selvage"; the standard forms stay as the reference, and what
// leaves the trainer has none of these. docs/gradients.md has the measurements.
//
// Conv(X [N,C,H,W], W [M,C,h,w], B [M]; pads, strides) -> Y
//     As ONNX's.
// ConvInputGradient(dY, W; pads, strides, input_size) -> dX
//     Of that Conv; input_size is H and W.
// ConvWeightGradient(X, dY; pads, strides, kernel_shape) -> dW
// DepthwiseConv, DepthwiseConvInputGradient, DepthwiseConvWeightGradient
//     The same with a window for each channel: W [C,1,h,w].
//     Nodes say so as `group` too, for who reads the graph.
// BatchNorm(X [N,C,...], scale [C], bias [C]; epsilon, floor, ceiling, open) -> Y, mean, variance
//     Normalised by the batch, then limited to floor .. ceiling: Relu or Clip. A gradient passes at
//     the floor itself unless there is `open`.
// BatchNormAdd(X, scale, bias, Z; ...) -> Y, mean, variance
//     Z is added before the limits.
// BatchNormReplay(X, scale, bias, mean, variance; ...) -> Y
//     What BatchNorm gave, again.
// BatchNormGradient(X, dY, scale, bias, mean, variance; ...) -> dX, dscale, dbias
// LimitGradient(X, dY; floor, ceiling, open) -> dX
//     dY where X is within the limits, 0 elsewhere.
// MaxPoolGradient(X, Y, dY; kernel_shape, strides, pads) -> dX
//     The first of equal maxima gets it.
//
// Results do not depend on the number of threads.
#pragma once

#include <span>

#include "infer/custom_operator.h"

namespace selvage::learn {

/// For SessionOptions::operators.
[[nodiscard]] std::span<const infer::CustomOperator* const> training_operators();

}  // namespace selvage::learn
