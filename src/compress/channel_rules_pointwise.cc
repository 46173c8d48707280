// Operators that keep channels apart: element by element, or along other axes.
#include <array>

#include "compress/channel_rule.h"

namespace selvage::compress {
namespace {

constexpr std::string_view kResized = "changes its size";

constexpr std::array<std::string_view, 47> kUnary = {
    "Abs",        "Acos",       "Acosh",    "Asin",
    "Asinh",      "Atan",       "Atanh",    "Cast",
    "Ceil",       "Celu",       "Clip",     "Cos",
    "Cosh",       "Dropout",    "Elu",      "Erf",
    "Exp",        "Floor",      "Gelu",     "HardSigmoid",
    "HardSwish",  "Identity",   "IsInf",    "IsNaN",
    "LeakyRelu",  "Log",        "Mish",     "Neg",
    "Not",        "Reciprocal", "Relu",     "Round",
    "Selu",       "Shrink",     "Sigmoid",  "Sign",
    "Sin",        "Sinh",       "Softplus", "Softsign",
    "Sqrt",       "Tan",        "Tanh",     "ThresholdedRelu",
    "BitwiseNot", "Swish",      "CastLike"};

constexpr std::array<std::string_view, 24> kBroadcast = {
    "Add",      "Sub",        "Mul",       "Div",
    "Pow",      "Min",        "Max",       "Sum",
    "Mean",     "And",        "Or",        "Xor",
    "Equal",    "Greater",    "Less",      "GreaterOrEqual",
    "Mod",      "PRelu",      "Where",     "LessOrEqual",
    "BitShift", "BitwiseAnd", "BitwiseOr", "BitwiseXor"};

void unary(RuleNode& node) {
  for (int i = 1; i < node.outputs(); ++i)
    if (node.is_output_used(i)) tie_same(node, node.in(0), node.out(i), kResized);
  tie_same(node, node.in(0), node.out(), kResized);
}

/// numpy's broadcasting: axes are aligned at the last one, those of size 1 repeat.
void broadcast(RuleNode& node) {
  const auto& y = node.out();
  for (int i = 0; i < node.inputs(); ++i) {
    if (!node.has(i)) continue;
    const auto& x = node.in(i);
    if (x.size() > y.size()) return node.freeze_all("has shapes that do not fit");
    for (std::size_t k = 1; k <= x.size(); ++k) {
      const auto& axis = x[x.size() - k];
      const auto& to = y[y.size() - k];
      if (axis.size != 1 || to.size == 1) node.tie(axis, to);
    }
  }
}

void pool(RuleNode& node) {
  for (int i = 1; i < node.outputs(); ++i)
    if (node.is_output_used(i)) return node.freeze_all("gives positions");
  const auto& x = node.in(0);
  const auto& y = node.out();
  if (x.size() < 3 || y.size() != x.size()) return node.freeze_all("has shapes that do not fit");
  node.tie(x[0], y[0]);
  node.tie(x[1], y[1]);
  for (std::size_t i = 2; i < x.size(); ++i) {
    node.freeze(x[i], "slides over it");
    node.freeze(y[i], "slides over it");
  }
}

/// Softmax and its like; before operator set 13 over everything from `axis` on.
void softmax(RuleNode& node) {
  const auto& x = node.in(0);
  tie_same(node, x, node.out(), kResized);
  const bool is_flattened = node.opset() < 13;
  const auto axis = RuleNode::normalise(node.attribute("axis", is_flattened ? 1 : -1), x.size());
  if (axis < 0) return node.freeze_all("runs over it");
  for (auto i = static_cast<std::size_t>(axis); i < x.size(); ++i)
    if (is_flattened || i == static_cast<std::size_t>(axis)) node.freeze(x[i], "runs over it");
}

void along_axis(RuleNode& node) {
  const auto& x = node.in(0);
  tie_same(node, x, node.out(), kResized);
  const auto axis = RuleNode::normalise(node.attribute("axis", -1), x.size());
  if (axis < 0) return node.freeze_all("runs over it");
  node.freeze(x[static_cast<std::size_t>(axis)], "runs over it");
}

/// Sums, means and extremes over `axes`; the rest passes.
void reduce_over(RuleNode& node, const std::vector<bool>& reduced, bool keeps) {
  const auto& x = node.in(0);
  const auto& y = node.out();
  std::size_t k = 0;
  for (std::size_t i = 0; i < x.size(); ++i) {
    if (reduced[i]) node.freeze(x[i], "sums over it");
    if (reduced[i] && !keeps) continue;
    if (k >= y.size()) return node.freeze_all("has shapes that do not fit");
    if (!reduced[i]) node.tie(x[i], y[k]);
    ++k;
  }
}

void reduce(RuleNode& node) {
  const auto axes = node.graph().integers(node.proto(), "axes", 1);
  const auto rank = node.in(0).size();
  if (!axes) return node.freeze_all("runs over computed axes");
  std::vector<bool> reduced(rank, axes->empty() && node.attribute("noop_with_empty_axes", 0) == 0);
  for (const auto raw : *axes) {
    const auto axis = RuleNode::normalise(raw, rank);
    if (axis < 0) return node.freeze_all("has shapes that do not fit");
    reduced[static_cast<std::size_t>(axis)] = true;
  }
  reduce_over(node, reduced, node.attribute("keepdims", 1) != 0);
}

void arg_extreme(RuleNode& node) {
  const auto rank = node.in(0).size();
  const auto axis = RuleNode::normalise(node.attribute("axis", 0), rank);
  if (axis < 0) return node.freeze_all("has shapes that do not fit");
  std::vector<bool> reduced(rank, false);
  reduced[static_cast<std::size_t>(axis)] = true;
  reduce_over(node, reduced, node.attribute("keepdims", 1) != 0);
}

struct Entry {
  std::string_view type;
  Rule rule;
};
constexpr std::array kRules = {Entry{"AveragePool", pool},
                               Entry{"MaxPool", pool},
                               Entry{"LpPool", pool},
                               Entry{"GlobalAveragePool", pool},
                               Entry{"GlobalMaxPool", pool},
                               Entry{"GlobalLpPool", pool},
                               Entry{"Softmax", softmax},
                               Entry{"LogSoftmax", softmax},
                               Entry{"Hardmax", softmax},
                               Entry{"LpNormalization", along_axis},
                               Entry{"ReduceMean", reduce},
                               Entry{"ReduceSum", reduce},
                               Entry{"ReduceMax", reduce},
                               Entry{"ReduceMin", reduce},
                               Entry{"ReduceProd", reduce},
                               Entry{"ReduceL1", reduce},
                               Entry{"ReduceL2", reduce},
                               Entry{"ReduceLogSum", reduce},
                               Entry{"ReduceLogSumExp", reduce},
                               Entry{"ReduceSumSquare", reduce},
                               Entry{"ArgMax", arg_extreme},
                               Entry{"ArgMin", arg_extreme}};

}  // namespace

Rule find_pointwise_rule(std::string_view type) {
  if (std::ranges::find(kUnary, type) != kUnary.end()) return unary;
  if (std::ranges::find(kBroadcast, type) != kBroadcast.end()) return broadcast;
  const auto found = std::ranges::find(kRules, type, &Entry::type);
  return found == kRules.end() ? nullptr : found->rule;
}

}  // namespace selvage::compress
