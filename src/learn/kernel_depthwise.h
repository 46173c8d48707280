// Depthwise convolution, one picture a channel, and its gradients. Internal to src/learn; see
// kernels.h.
#pragma once

#include "infer/custom_operator.h"

namespace selvage::learn {

extern const infer::CustomOperator kDepthwiseConvOperator;
extern const infer::CustomOperator kDepthwiseConvInputGradientOperator;
extern const infer::CustomOperator kDepthwiseConvWeightGradientOperator;

}  // namespace selvage::learn
