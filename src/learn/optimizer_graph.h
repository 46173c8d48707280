// The optimisers' nodes. Internal to src/learn.
#pragma once

#include <functional>
#include <string>
#include <vector>

#include "base/result.h"
#include "learn/expression.h"
#include "learn/optimizer.h"

namespace selvage::learn {

/// A parameter on its way through a step.
struct Trained {
  std::string name;
  Expression value;
  Expression gradient;
  Expression updated;  ///< By add_updates().
};

/// State that the optimiser keeps from step to step.
struct Slot {
  std::string name;  ///< "momentum/conv1.weight"
  Expression value;
  Expression updated;
  Tensor initial;
};

/// Sets `updated` of every parameter and returns the state needed. kInvalidArgument for options out
/// of range.
[[nodiscard]] Result<std::vector<Slot>> add_updates(GraphBuilder& builder,
                                                    const OptimizerOptions& options,
                                                    std::vector<Trained>& parameters,
                                                    Expression learning_rate);

}  // namespace selvage::learn
