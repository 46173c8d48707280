// What a model's weights are worth to its loss on data: the first-order Taylor estimate of
// P. Molchanov et al. (CVPR 2019), for pruning.
#pragma once

#include <cstdint>
#include <functional>
#include <string>
#include <unordered_map>
#include <vector>

#include "base/result.h"
#include "graph/model.h"
#include "infer/dataset.h"
#include "infer/model.h"
#include "infer/runtime.h"

namespace selvage::learn {

struct ImportanceOptions {
  std::size_t samples = 2000;  ///< Spread evenly over the data; whole batches of them count.
  std::size_t batch = 64;
  std::string loss = "auto";  ///< As choose_objective() takes it.
  int threads = 1;
  std::function<bool()> stop;  ///< True: kCancelled.
};

/// For each trainable parameter |weight * gradient| of every element, the mean over batches: how
/// much the loss would change without the element, to first order. `loaded` is the runtime's view
/// of the model that `model` was made from, with the same inputs and outputs. Errors as train().
[[nodiscard]] Result<std::unordered_map<std::string, std::vector<float>>> taylor_importance(
    infer::Runtime& runtime, const infer::Model& loaded, const graph::Model& model,
    const infer::Dataset& data, const ImportanceOptions& options = {});

}  // namespace selvage::learn
