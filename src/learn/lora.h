// Low-rank adapters in a graph. Internal to src/learn.
#pragma once

#include <string>
#include <vector>

#include "base/result.h"
#include "learn/training_graph.h"

namespace selvage::learn {

struct AddedAdapter {
  Adapter adapter;
  Tensor a, b;  ///< Initial values.
};

/// Gives the fitting weights among `parameters` their adapters: a fixed weight W is used as
/// W + scale / rank * A.B. A and B become values that nothing in `model` provides yet.
[[nodiscard]] Result<std::vector<AddedAdapter>> add_adapters(
    graph::Model& model, ValueTypes& types, const LoraOptions& options,
    std::span<const std::string> parameters);

}  // namespace selvage::learn
