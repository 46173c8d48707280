// What the operators of a model ask of the tensors around them. Internal to src/compress.
#pragma once

#include <optional>
#include <string>
#include <unordered_map>
#include <vector>

#include "compress/quantize_static.h"
#include "compress/selection.h"
#include "compress/static_facts.h"
#include "compress/static_plan.h"

namespace selvage::compress {

/// What the operator rules have said about a tensor.
struct Mark {
  bool is_weight = false;  ///< Has the weights' type, not the activations'.
  std::optional<std::size_t> axis = std::nullopt;
  std::string shares = {};
};

struct BiasMark {
  int node = 0;
  std::string name, input, weight;
};

struct StaticMarks {
  std::unordered_map<std::string, Mark> marks;
  std::vector<std::string> order;  ///< Names as they were marked first; some lost their mark.
  std::vector<BiasMark> biases;
  std::unordered_map<std::string, float> factors;  ///< See PlannedTensor::factor.
  std::vector<PlannedSum> sums;
  std::vector<int> removed;  ///< See StaticPlan::removed.
  QuantizationReport report;
};

/// Applies each node's rule, in the graph's order.
[[nodiscard]] StaticMarks mark_tensors(StaticFacts& facts, const Selector& selector);

}  // namespace selvage::compress
