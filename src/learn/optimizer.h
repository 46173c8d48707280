// Optimisers as graph updates: new parameters and new state from parameters, gradients and state.
// The formulas are those of torch.optim; epsilon, betas and so on mean what they mean there.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

namespace selvage::learn {

enum class OptimizerKind : std::uint8_t {
  kSgd,
  kAdam,     ///< Kingma and Ba 2014; weight decay is added to the gradient.
  kAdamW,    ///< Loshchilov and Hutter 2017; weight decay acts on the parameter.
  kRmsProp,  ///< Not centred.
  kAdagrad,
  kLion,  ///< Chen 2023, arXiv 2302.06675; weight decay acts on the parameter.
};

/// Exceptions from the defaults for parameters whose name matches; the first match wins.
struct ParameterGroup {
  std::string pattern;  ///< Of names: see name_pattern.h.
  float weight_decay = 0;
  float learning_rate_scale = 1;
};

struct OptimizerOptions {
  OptimizerKind kind = OptimizerKind::kSgd;
  float momentum = 0;     ///< kSgd, kRmsProp.
  bool nesterov = false;  ///< kSgd, with momentum.
  float beta1 = 0.9f;     ///< kAdam, kAdamW, kLion.
  float beta2 = 0.999f;   ///< kAdam, kAdamW; for kLion 0.99 is usual.
  float alpha = 0.99f;    ///< kRmsProp's smoothing.
  float epsilon = 1e-8f;  ///< Added to the root; kAdagrad usually takes 1e-10.
  float weight_decay = 0;
  std::vector<ParameterGroup> groups;
  float clip_norm = 0;   ///< Of all gradients together, as clip_grad_norm_; 0 = no limit.
  float clip_value = 0;  ///< Of each element, before clip_norm; 0 = no limit.
  /// Exponential moving average of the parameters, kept beside them; 0 = none. Usual: 0.999.
  float average_decay = 0;
};

}  // namespace selvage::learn
