// Operators with weights: where channels begin and end.
#include <array>
#include <optional>

#include "compress/channel_rule.h"

namespace selvage::compress {
namespace {

constexpr std::string_view kComputed = "has a computed weight";
constexpr std::string_view kSpatial = "slides over it";

/// Axes behind batch and channel: a window moves over them.
void freeze_spatial(RuleNode& node, const Axes& axes) {
  for (std::size_t i = 2; i < axes.size(); ++i) node.freeze(axes[i], kSpatial);
}

/// In each of `groups` equal parts of `axis`, the same positions go together with `local`.
void tie_groups(RuleNode& node, const Axis& axis, const Axis& local, std::int64_t groups) {
  if (axis.is_open() || groups > axis.size || local.size > axis.size ||
      local.size * groups != axis.size)
    return node.freeze_all("has groups that do not fit");
  for (std::int64_t i = 0; i < axis.size; ++i)
    node.atoms().tie(axis.atom(i), local.atom(i % local.size));
}

/// The same where the axis stands for itself: position p of group 0 with p of all the others.
void tie_positions(RuleNode& node, const Axis& axis, std::int64_t groups) {
  const auto per_group = axis.size / groups;
  for (std::int64_t i = per_group; i < axis.size; ++i)
    node.atoms().tie(axis.atom(i), axis.atom(i % per_group));
}

/// Each input channel alone makes `out.size / in.size` output channels.
void tie_depthwise(RuleNode& node, const Axis& in, const Axis& out) {
  if (in.size <= 0 || out.size % in.size != 0) return node.freeze_all("has groups that do not fit");
  const auto multiplier = out.size / in.size;
  for (std::int64_t i = 0; i < out.size; ++i)
    node.atoms().tie(in.atom(i / multiplier), out.atom(i));
}

void tie_bias(RuleNode& node, int input, const Axis& channels) {
  if (!node.has(input)) return;
  const auto& bias = node.in(input);
  if (bias.size() == 1) node.tie(bias[0], channels);
}

/// What Conv and ConvTranspose share.
struct Convolution {
  int weight = 0;
  const Axes &x, &w, &y;
  std::int64_t groups = 1;
};

/// Ties what no layout of the weights changes; nothing where the node had to be frozen.
std::optional<Convolution> open_convolution(RuleNode& node) {
  const int weight = node.weight(1);
  if (weight == graph::Index::kNone) {
    node.freeze_all(kComputed);
    return std::nullopt;
  }
  const Convolution found{weight, node.in(0), node.in(1), node.out(), node.attribute("group", 1)};
  const auto& [_, x, w, y, groups] = found;
  if (x.size() < 3 || w.size() != x.size() || y.size() != x.size() || x[1].is_open()) {
    node.freeze_all("has shapes that do not fit");
    return std::nullopt;
  }
  node.tie(x[0], y[0]);
  for (const auto* axes : {&x, &w, &y}) freeze_spatial(node, *axes);
  tie_bias(node, 2, y[1]);
  return found;
}

/// Weights [M, C/groups, k...].
void conv(RuleNode& node) {
  const auto opened = open_convolution(node);
  if (!opened) return;
  const auto& [weight, x, w, y, groups] = *opened;
  node.tie(w[0], y[1]);
  if (is_depthwise(node.proto(), x[1].size)) return tie_depthwise(node, x[1], y[1]);
  if (groups < 1 || y[1].size % groups != 0) return node.freeze_all("has groups that do not fit");
  tie_groups(node, x[1], w[1], groups);
  tie_positions(node, y[1], groups);
  node.contract(weight, 1);
  node.make(weight, 0);
}

/// Weights [C, M/groups, k...].
void conv_transpose(RuleNode& node) {
  const auto opened = open_convolution(node);
  if (!opened) return;
  const auto& [weight, x, w, y, groups] = *opened;
  node.tie(x[1], w[0]);
  if (is_depthwise(node.proto(), x[1].size)) {
    node.freeze(w[1], "makes several channels of each");
    return tie_depthwise(node, x[1], y[1]);
  }
  if (groups < 1 || x[1].size % groups != 0) return node.freeze_all("has groups that do not fit");
  tie_positions(node, x[1], groups);
  tie_groups(node, y[1], w[1], groups);
  node.contract(weight, 0);
  node.make(weight, 1);
}

void gemm(RuleNode& node) {
  const int weight = node.weight(1);
  if (weight == graph::Index::kNone) return node.freeze_all(kComputed);
  const auto& a = node.in(0);
  const auto& b = node.in(1);
  const auto& y = node.out();
  if (a.size() != 2 || b.size() != 2 || y.size() != 2)
    return node.freeze_all("has shapes that do not fit");
  const std::size_t inner_a = node.attribute("transA", 0) != 0 ? 0 : 1;
  const std::size_t inner_b = node.attribute("transB", 0) != 0 ? 1 : 0;
  node.tie(a[1 - inner_a], y[0]);
  node.tie(a[inner_a], b[inner_b]);
  node.tie(b[1 - inner_b], y[1]);
  node.contract(weight, static_cast<int>(inner_b));
  node.make(weight, static_cast<int>(1 - inner_b));
  if (!node.has(2)) return;
  const auto& c = node.in(2);  // Broadcast to [M, N].
  if (!c.empty() && c.back().size != 1) node.tie(c.back(), y[1]);
  if (c.size() == 2 && c[0].size != 1) node.tie(c[0], y[0]);
}

/// Ties the axes before the last two, which broadcast.
void tie_batch(RuleNode& node, const Axes& from, const Axes& y) {
  for (std::size_t k = 3; k <= from.size(); ++k) {
    const auto& axis = from[from.size() - k];
    const auto& to = y[y.size() - k];
    if (axis.size != 1 || to.size == 1) node.tie(axis, to);
  }
}

void matmul(RuleNode& node) {
  const auto& a = node.in(0);
  const auto& b = node.in(1);
  const auto& y = node.out();
  if (a.size() < 2 || b.size() < 2 || y.size() != std::max(a.size(), b.size()))
    return node.freeze_all("multiplies vectors");
  const auto &inner_a = a.end()[-1], &inner_b = b.end()[-2];
  tie_batch(node, a, y);
  tie_batch(node, b, y);
  node.tie(a.end()[-2], y.end()[-2]);
  node.tie(b.end()[-1], y.end()[-1]);
  const int right = b.size() == 2 ? node.weight(1) : graph::Index::kNone;
  const int left = a.size() == 2 ? node.weight(0) : graph::Index::kNone;
  node.tie(inner_a, inner_b);
  if (right != graph::Index::kNone) {
    node.contract(right, 0);
    node.make(right, 1);
  } else if (left != graph::Index::kNone) {
    node.contract(left, 1);
    node.make(left, 0);
  } else {
    node.freeze(inner_a, "sums over it, and both factors are computed");
  }
}

void batch_norm(RuleNode& node) {
  if (node.attribute("training_mode", 0) != 0) return node.freeze_all("trains");
  for (int i = 1; i < node.outputs(); ++i)
    if (node.is_output_used(i)) return node.freeze_all("trains");
  const auto& x = node.in(0);
  tie_same(node, x, node.out(), "changes its size");
  if (x.size() < 2) return node.freeze_all("has shapes that do not fit");
  for (int i = 1; i < node.inputs(); ++i) tie_bias(node, i, x[1]);
}

void instance_norm(RuleNode& node) {
  const auto& x = node.in(0);
  const auto& y = node.out();
  tie_same(node, x, y, "changes its size");
  for (std::size_t i = 2; i < x.size(); ++i) node.freeze(x[i], "normalises over it");
  if (x.size() < 2) return node.freeze_all("has shapes that do not fit");
  for (int i = 1; i < node.inputs(); ++i) tie_bias(node, i, x[1]);
}

/// Other channels would change the statistics, which zeros do not equal.
void layer_norm(RuleNode& node) {
  for (int i = 1; i < node.outputs(); ++i)
    if (node.is_output_used(i)) return node.freeze_all("gives its statistics");
  const auto& x = node.in(0);
  tie_same(node, x, node.out(), "changes its size");
  const auto axis = RuleNode::normalise(node.attribute("axis", -1), x.size());
  for (std::size_t i = 0; i < x.size(); ++i)
    if (static_cast<std::int64_t>(i) >= axis) node.freeze(x[i], "normalises over it");
}

struct Entry {
  std::string_view type;
  Rule rule;
};
constexpr std::array kRules = {Entry{"Conv", conv},
                               Entry{"ConvTranspose", conv_transpose},
                               Entry{"Gemm", gemm},
                               Entry{"MatMul", matmul},
                               Entry{"BatchNormalization", batch_norm},
                               Entry{"InstanceNormalization", instance_norm},
                               Entry{"LayerNormalization", layer_norm}};

}  // namespace

Rule find_weight_rule(std::string_view type) {
  const auto found = std::ranges::find(kRules, type, &Entry::type);
  return found == kRules.end() ? nullptr : found->rule;
}

}  // namespace selvage::compress
