// Operators that pick elements by index: their gradients put elements back and add up.
#include <numeric>

#include "learn/gradient_rules.h"

namespace selvage::learn {
namespace {

constexpr const char* kAdd = "add";

Expression scatter_elements(Expression into, Expression indices, Expression updates,
                            std::int64_t axis, const std::string& reduction) {
  return into.builder().node("ScatterElements", {into, indices, updates},
                             {into.type(), into.shape()},
                             {{"axis", axis}, {"reduction", reduction}});
}
Expression scatter_nd(Expression into, Expression indices, Expression updates,
                      const std::string& reduction) {
  return into.builder().node("ScatterND", {into, indices, updates}, {into.type(), into.shape()},
                             {{"reduction", reduction}});
}
Expression zeros_like(Expression x) {
  return x.builder().zeros(x.shape(), x.type());
}

Result<void> gather_rule(NodeGradient& n) {
  const auto x = n.x(), indices = n.x(1);
  auto axis = int_attribute(n.node(), "axis", 0);
  if (axis < 0) axis += x.rank();
  // ScatterND works on the first axes: those of the indices come to the front, and the result's
  // picked axis goes back to its place.
  const auto index_rank = indices.rank();
  std::vector<std::int64_t> forward, back;
  for (std::int64_t i = 0; i < index_rank; ++i) forward.push_back(axis + i);
  for (std::int64_t i = 0; i < axis; ++i) forward.push_back(i);
  for (std::int64_t i = axis + index_rank; i < n.dy().rank(); ++i) forward.push_back(i);
  for (std::int64_t i = 1; i <= axis; ++i) back.push_back(i);
  back.push_back(0);
  for (std::int64_t i = axis + 1; i < x.rank(); ++i) back.push_back(i);
  const auto updates = axis == 0 ? n.dy() : transpose(n.dy(), forward);
  Shape moved{x.size(axis)};
  for (std::int64_t i = 0; i < x.rank(); ++i)
    if (i != axis) moved.push_back(x.size(i));
  const auto at = unsqueeze(cast(indices, DataType::kInt64), index_rank);
  const auto sums = scatter_nd(n.builder().zeros(moved, x.type()), at, updates, kAdd);
  n.add(0, axis == 0 ? sums : transpose(sums, back));
  return {};
}

Result<void> gather_elements(NodeGradient& n) {
  n.add(0, scatter_elements(zeros_like(n.x()), n.x(1), n.dy(), int_attribute(n.node(), "axis", 0),
                            kAdd));
  return {};
}

Result<void> gather_nd(NodeGradient& n) {
  const auto batch = int_attribute(n.node(), "batch_dims", 0);
  const auto x = n.x();
  auto indices = n.x(1), dy = n.dy();
  if (batch > 0) {
    // ScatterND knows no batch: the batch's own indices are written in front of the others.
    auto shape = indices.shape();
    shape.back() = 1;
    std::vector<Expression> parts;
    for (std::int64_t axis = 0; axis < batch; ++axis) {
      std::vector<std::int64_t> counted(static_cast<std::size_t>(x.size(axis)));
      std::iota(counted.begin(), counted.end(), 0);
      Shape ones(shape.size(), 1);
      ones[static_cast<std::size_t>(axis)] = x.size(axis);
      parts.push_back(expand(reshape(n.builder().integers(counted), ones), shape));
    }
    parts.push_back(indices);
    indices = concat(parts, -1);
  }
  n.add(0, scatter_nd(zeros_like(x), indices, dy, kAdd));
  return {};
}

/// What was overwritten gets nothing; what was added passes.
Result<void> scatter_elements_rule(NodeGradient& n) {
  const auto reduction = string_attribute(n.node(), "reduction", "none");
  if (reduction != "none" && reduction != kAdd) return n.refuse("its reduction is " + reduction);
  const auto axis = int_attribute(n.node(), "axis", 0);
  if (n.wants(0))
    n.add(0, reduction == kAdd
                 ? n.dy()
                 : scatter_elements(n.dy(), n.x(1), zeros_like(n.x(2)), axis, "none"));
  if (n.wants(2))
    n.add(2, n.builder().node("GatherElements", {n.dy(), n.x(1)}, {n.dy().type(), n.x(2).shape()},
                              {{"axis", axis}}));
  return {};
}
Result<void> scatter_nd_rule(NodeGradient& n) {
  const auto reduction = string_attribute(n.node(), "reduction", "none");
  if (reduction != "none" && reduction != kAdd) return n.refuse("its reduction is " + reduction);
  if (n.wants(0))
    n.add(0, reduction == kAdd ? n.dy() : scatter_nd(n.dy(), n.x(1), zeros_like(n.x(2)), "none"));
  if (n.wants(2))
    n.add(2, n.builder().node("GatherND", {n.dy(), n.x(1)}, {n.dy().type(), n.x(2).shape()}));
  return {};
}

Result<void> top_k(NodeGradient& n) {
  const auto indices = n.ask_output(1, {DataType::kInt64, n.y().shape()});
  n.add(0, scatter_elements(zeros_like(n.x()), indices, n.dy(), int_attribute(n.node(), "axis", -1),
                            "none"));
  return {};
}

constexpr RuleEntry kRules[] = {
    {"Gather", gather_rule},        {"GatherElements", gather_elements},
    {"GatherND", gather_nd},        {"ScatterElements", scatter_elements_rule},
    {"ScatterND", scatter_nd_rule}, {"TopK", top_k},
};

}  // namespace

std::span<const RuleEntry> index_rules() {
  return kRules;
}

}  // namespace selvage::learn
