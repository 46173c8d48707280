// Normalisations and softmax.
#include <algorithm>
#include <numeric>

#include "learn/gradient_rules.h"

namespace selvage::learn {
namespace {

std::vector<std::int64_t> range(std::int64_t from, std::int64_t to) {
  std::vector<std::int64_t> axes(static_cast<std::size_t>(std::max<std::int64_t>(to - from, 0)));
  std::iota(axes.begin(), axes.end(), from);
  return axes;
}

std::vector<std::int64_t> all_but_channels(Expression x) {
  auto axes = range(1, x.rank());
  axes[0] = 0;
  for (std::size_t i = 1; i < axes.size(); ++i) axes[i] = static_cast<std::int64_t>(i) + 1;
  return axes;
}

/// [C] as [1,C,1,...], to broadcast against `x`.
Expression per_channel(Expression v, Expression x) {
  Shape shape(x.shape().size(), 1);
  shape[1] = v.elements();
  return reshape(v, shape);
}

/// a[c] * x + b[c]: the runtime's BatchNormalization is its fastest affine map per channel.
Expression affine(Expression x, Expression a, Expression b) {
  auto& builder = x.builder();
  if (x.type() != DataType::kFloat32) return x * per_channel(a, x) + per_channel(b, x);
  const auto zero = builder.zeros(a.shape());
  const auto one = zero + 1.0;
  return builder.node("BatchNormalization", {x, a, b, zero, one}, {x.type(), x.shape()},
                      {{"epsilon", 0.0f}});
}

struct Moments {
  Expression mean, inverse;  ///< inverse = 1 / sqrt(variance + epsilon)
};

Expression inverse_root(Expression variance, const onnx::NodeProto& node) {
  const double epsilon = float_attribute(node, "epsilon", 1e-5f);
  return 1.0 / unary("Sqrt", variance + epsilon);
}

Moments moments_of(Expression x, const std::vector<std::int64_t>& axes,
                   const onnx::NodeProto& node) {
  const auto mean = reduce("ReduceMean", x, axes, true);
  const auto centred = x - mean;
  return {mean, inverse_root(reduce("ReduceMean", centred * centred, axes, true), node)};
}

/// h = d loss / d normalised value; the gradient of the input that was normalised over `axes`.
Expression through_normalised(Expression h, Expression normalised, Expression inverse,
                              const std::vector<std::int64_t>& axes) {
  return (h - reduce("ReduceMean", h, axes, true) -
          normalised * reduce("ReduceMean", h * normalised, axes, true)) *
         inverse;
}

/// By the batch's own statistics: with h = dy * scale the usual formula is, per channel,
/// dx = A dy + B x + C, which is two affine maps and an addition.
void batch_norm_by_batch(NodeGradient& n) {
  const auto x = n.x(), scale = n.x(1), dy = n.dy();
  Expression mean, inverse;
  if (float_attribute(n.node(), "momentum", 0.9f) == 0 && n.y(1) && n.y(2)) {
    mean = n.y(1);  // With momentum 0 the running statistics are the batch's.
    inverse = inverse_root(n.y(2), n.node());
  } else {
    const auto moments = moments_of(x, all_but_channels(x), n.node());
    mean = reshape(moments.mean, scale.shape());
    inverse = reshape(moments.inverse, scale.shape());
  }
  const auto count = static_cast<double>(x.elements()) / static_cast<double>(x.size(1));
  const auto axes = all_but_channels(x);
  const auto d_bias = sum(dy, axes, false);
  const auto d_scale = (sum(dy * x, axes, false) - mean * d_bias) * inverse;
  n.add(1, d_scale);
  n.add(2, d_bias);
  if (!n.wants(0)) return;
  const auto a = scale * inverse;
  const auto b = a * inverse * d_scale * (-1 / count);
  const auto c = -(b * mean + a * d_bias * (1 / count));
  n.add(0, affine(dy, a, c) + affine(x, b, n.builder().zeros(b.shape(), b.type())));
}

Result<void> batch_norm(NodeGradient& n) {
  if (n.dy(1) || n.dy(2)) return n.refuse("the loss depends on its running statistics");
  if (n.wants(3) || n.wants(4)) return n.refuse("its statistics are trained parameters");
  if (int_attribute(n.node(), "training_mode", 0) != 0) {
    batch_norm_by_batch(n);
    return {};
  }
  const auto x = n.x(), dy = n.dy(), mean = n.x(3);
  const auto inverse = inverse_root(n.x(4), n.node());
  if (n.wants(0))
    n.add(0, affine(dy, n.x(1) * inverse, n.builder().zeros(mean.shape(), mean.type())));
  if (!n.wants(1) && !n.wants(2)) return {};
  const auto axes = all_but_channels(x);
  const auto d_bias = sum(dy, axes, false);
  if (n.wants(1)) n.add(1, (sum(dy * x, axes, false) - mean * d_bias) * inverse);
  n.add(2, d_bias);
  return {};
}

/// Our own, with the addition and the limits behind it (kernels.h).
Result<void> own_batch_norm(NodeGradient& n) {
  if (n.dy(1) || n.dy(2)) return n.refuse("the loss depends on its running statistics");
  auto attributes = norm_attributes(n.node());
  auto dy = n.dy();
  if (n.input_count() > 3) {
    const bool is_limited = find_attribute(n.node(), "floor") != nullptr;
    // Only the result tells where the sum was within the limits.
    if (is_limited)
      dy = n.builder().own_node("LimitGradient", {n.y(), dy}, {dy.type(), dy.shape()}, attributes);
    n.add(3, dy);
    attributes.resize(1);
  }
  const auto x = n.x(), scale = n.x(1), bias = n.x(2);
  const auto gradients = n.builder().own_nodes(
      "BatchNormGradient", {x, dy, scale, bias, n.y(1), n.y(2)},
      {{x.type(), x.shape()}, {scale.type(), scale.shape()}, {bias.type(), bias.shape()}},
      attributes);
  for (int i = 0; i < 3; ++i) n.add(i, gradients[static_cast<std::size_t>(i)]);
  return {};
}

Result<void> layer_norm(NodeGradient& n) {
  const auto x = n.x(), scale = n.x(1), dy = n.dy();
  auto axis = int_attribute(n.node(), "axis", -1);
  if (axis < 0) axis += x.rank();
  const auto axes = range(axis, x.rank());
  const bool has_moments = x.type() == DataType::kFloat32;
  Moments moments;
  if (has_moments) {
    auto shape = x.shape();
    std::fill(shape.begin() + axis, shape.end(), 1);
    moments = {n.ask_output(1, {x.type(), shape}), n.ask_output(2, {x.type(), shape})};
  } else {
    moments = moments_of(x, axes, n.node());
  }
  const auto normalised = (x - moments.mean) * moments.inverse;
  if (n.wants(0)) n.add(0, through_normalised(dy * scale, normalised, moments.inverse, axes));
  if (n.wants(1)) n.add(1, dy * normalised);
  n.add(2, dy);
  return {};
}

Result<void> rms_norm(NodeGradient& n) {
  const auto x = n.x(), scale = n.x(1), dy = n.dy();
  auto axis = int_attribute(n.node(), "axis", -1);
  if (axis < 0) axis += x.rank();
  const auto axes = range(axis, x.rank());
  const auto inverse = inverse_root(reduce("ReduceMean", x * x, axes, true), n.node());
  const auto normalised = x * inverse;
  if (n.wants(0)) {
    const auto h = dy * scale;
    n.add(0, (h - normalised * reduce("ReduceMean", h * normalised, axes, true)) * inverse);
  }
  if (n.wants(1)) n.add(1, dy * normalised);
  return {};
}

/// Channels in `groups` groups, each normalised over its channels and all positions.
Result<void> grouped_norm(NodeGradient& n, std::int64_t groups) {
  const auto x = n.x(), dy = n.dy();
  const auto count = x.size(0), channels = x.size(1);
  if (groups < 1 || channels % groups != 0)
    return n.refuse("its groups do not divide its channels");
  const Shape flat{count, groups, x.elements() / (count * groups)};
  const auto grouped = reshape(x, flat);
  const auto moments = moments_of(grouped, {2}, n.node());
  const auto normalised = (grouped - moments.mean) * moments.inverse;
  // Until opset 20 there is one scale per group.
  const auto spread = [&](Expression v) {
    if (v.elements() == channels) return v;
    return reshape(expand(reshape(v, {groups, 1}), {groups, channels / groups}), {channels});
  };
  if (n.wants(0)) {
    const auto h = reshape(dy * per_channel(spread(n.x(1)), x), flat);
    n.add(0, reshape(through_normalised(h, normalised, moments.inverse, {2}), x.shape()));
  }
  const auto gather_channels = [&](Expression full, Expression v) {
    const auto per = sum(full, all_but_channels(x), false);
    if (v.elements() == channels) return per;
    return sum(reshape(per, {groups, channels / groups}), {1}, false);
  };
  if (n.wants(1)) n.add(1, gather_channels(dy * reshape(normalised, x.shape()), n.x(1)));
  if (n.wants(2)) n.add(2, gather_channels(dy, n.x(2)));
  return {};
}

Result<void> group_norm(NodeGradient& n) {
  return grouped_norm(n, int_attribute(n.node(), "num_groups", 0));
}
Result<void> instance_norm(NodeGradient& n) {
  return grouped_norm(n, n.x().size(1));
}

std::vector<std::int64_t> softmax_axis(NodeGradient& n) {
  return {int_attribute(n.node(), "axis", -1)};
}
Result<void> softmax(NodeGradient& n) {
  const auto y = n.y(), dy = n.dy();
  n.add(0, y * (dy - reduce("ReduceSum", dy * y, softmax_axis(n), true)));
  return {};
}
Result<void> log_softmax(NodeGradient& n) {
  const auto dy = n.dy();
  n.add(0, dy - unary("Exp", n.y()) * reduce("ReduceSum", dy, softmax_axis(n), true));
  return {};
}

/// x / |x| along an axis.
Result<void> lp_normalization(NodeGradient& n) {
  if (int_attribute(n.node(), "p", 2) != 2) return n.refuse("it normalises by another norm than 2");
  const std::vector<std::int64_t> axes{int_attribute(n.node(), "axis", -1)};
  const auto x = n.x(), y = n.y(), dy = n.dy();
  const auto norm = reduce("ReduceL2", x, axes, true);
  const auto safe = binary("Max", norm, n.builder().scalar(1e-30, x.type()));
  n.add(0, (dy - y * reduce("ReduceSum", dy * y, axes, true)) / safe);
  return {};
}

constexpr RuleEntry kRules[] = {
    {"BatchNorm", own_batch_norm},         {"BatchNormAdd", own_batch_norm},
    {"BatchNormalization", batch_norm},    {"LayerNormalization", layer_norm},
    {"RMSNormalization", rms_norm},        {"SimplifiedLayerNormalization", rms_norm},
    {"GroupNormalization", group_norm},    {"InstanceNormalization", instance_norm},
    {"LpNormalization", lp_normalization}, {"Softmax", softmax},
    {"LogSoftmax", log_softmax},
};

}  // namespace

Attributes norm_attributes(const onnx::NodeProto& node) {
  Attributes attributes{{"epsilon", float_attribute(node, "epsilon", 1e-5f)}};
  for (const auto* name : {"floor", "ceiling"})
    if (find_attribute(node, name) != nullptr)
      attributes.emplace_back(name, float_attribute(node, name, 0));
  if (const auto open = ints_attribute(node, "open"); !open.empty())
    attributes.emplace_back("open", std::vector<std::int64_t>(open.begin(), open.end()));
  return attributes;
}

std::span<const RuleEntry> norm_rules() {
  return kRules;
}

}  // namespace selvage::learn
