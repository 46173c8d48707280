// Max pooling's gradient. Internal to src/learn; see kernels.h.
#pragma once

#include "infer/custom_operator.h"

namespace selvage::learn {

extern const infer::CustomOperator kMaxPoolGradientOperator;

}  // namespace selvage::learn
