#include "learn/kernels.h"

#include <array>

#include "learn/kernel_conv.h"
#include "learn/kernel_depthwise.h"
#include "learn/kernel_norm.h"
#include "learn/kernel_pool.h"

namespace selvage::learn {

std::span<const infer::CustomOperator* const> training_operators() {
  static constexpr std::array kOperators{&kConvOperator,
                                         &kConvInputGradientOperator,
                                         &kConvWeightGradientOperator,
                                         &kDepthwiseConvOperator,
                                         &kDepthwiseConvInputGradientOperator,
                                         &kDepthwiseConvWeightGradientOperator,
                                         &kBatchNormOperator,
                                         &kBatchNormAddOperator,
                                         &kBatchNormReplayOperator,
                                         &kBatchNormGradientOperator,
                                         &kLimitGradientOperator,
                                         &kMaxPoolGradientOperator};
  return kOperators;
}

}  // namespace selvage::learn
