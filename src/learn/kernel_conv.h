// Convolutions in two dimensions. Internal to src/learn; see
// kernels.h.
#pragma once

#include "infer/custom_operator.h"

namespace selvage::learn {

extern const infer::CustomOperator kConvOperator;
extern const infer::CustomOperator kConvInputGradientOperator;
extern const infer::CustomOperator kConvWeightGradientOperator;

}  // namespace selvage::learn
