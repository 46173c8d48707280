// Batch normalisation, what follows it, and the gradients of both. Internal to src/learn; see
// kernels.h.
#pragma once

#include "infer/custom_operator.h"

namespace selvage::learn {

extern const infer::CustomOperator kBatchNormOperator;
extern const infer::CustomOperator kBatchNormAddOperator;
extern const infer::CustomOperator kBatchNormReplayOperator;
extern const infer::CustomOperator kBatchNormGradientOperator;
extern const infer::CustomOperator kLimitGradientOperator;

}  // namespace selvage::learn
