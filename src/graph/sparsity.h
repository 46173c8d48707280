// How many of a model's weights are zero.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "base/result.h"
#include "graph/model.h"

namespace selvage::graph {

struct TensorSparsity {
  std::string name;
  std::uint64_t elements = 0;
  std::uint64_t zeros = 0;
};

/// Of every initialiser of two or more dimensions and a floating-point type, subgraphs included:
/// biases and norms say nothing about pruning. Reads all of their data. Errors as
/// TensorData::open().
[[nodiscard]] Result<std::vector<TensorSparsity>> measure_sparsity(const Model& model);

}  // namespace selvage::graph
