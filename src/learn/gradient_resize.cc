// Resize is linear and works axis by axis: y = x . M along each. The runtime makes each M itself,
// by resizing an identity matrix, so that all its modes and roundings are its own.
#include <algorithm>

#include "learn/gradient_rules.h"

namespace selvage::learn {
namespace {

/// [in, out] for one axis.
Result<Expression> matrix_of(NodeGradient& n, std::size_t axis, std::span<const float> scales) {
  auto& builder = n.builder();
  const auto in = n.x().shape()[axis], out = n.y().shape()[axis];
  auto eye = Tensor::create(DataType::kFloat32, {in, in});
  if (!eye) return std::unexpected(eye.error());
  for (std::int64_t i = 0; i < in; ++i) eye->as<float>()[static_cast<std::size_t>(i * in + i)] = 1;
  const auto identity = builder.constant(*eye, "identity");
  const ValueType type{DataType::kFloat32, {in, out}};
  Attributes attributes;
  for (const auto* name : {"coordinate_transformation_mode", "mode", "nearest_mode"})
    if (const auto* attribute = find_attribute(n.node(), name))
      attributes.emplace_back(name, attribute->s());
  for (const auto* name : {"cubic_coeff_a", "extrapolation_value"})
    if (const auto* attribute = find_attribute(n.node(), name))
      attributes.emplace_back(name, attribute->f());
  for (const auto* name : {"antialias", "exclude_outside"})
    if (const auto* attribute = find_attribute(n.node(), name))
      attributes.emplace_back(name, attribute->i());
  if (scales.empty())
    return builder.node("Resize", {identity, {}, {}, builder.integers({in, out})}, type,
                        attributes);
  const float pair[] = {1, scales[axis]};
  SELVAGE_TRY(const auto tensor, (Tensor::from<float>({2}, pair)));
  return builder.node("Resize", {identity, {}, builder.constant(tensor, "scales")}, type,
                      attributes);
}

/// dy . M transposed along an axis.
Expression along(Expression dy, std::int64_t axis, Expression matrix) {
  if (axis == dy.rank() - 1) return matmul(dy, swap_last(matrix));
  if (axis == dy.rank() - 2) return matmul(matrix, dy);
  std::vector<std::int64_t> order(dy.shape().size());
  for (std::size_t i = 0; i < order.size(); ++i) order[i] = static_cast<std::int64_t>(i);
  std::swap(order[static_cast<std::size_t>(axis)], order.back());
  return transpose(matmul(transpose(dy, order), swap_last(matrix)), order);
}

/// Every element repeated `factor` times along an axis: the sum of each run.
Expression sum_of_blocks(Expression dy, std::int64_t axis, std::int64_t factor) {
  auto shape = dy.shape();
  shape[static_cast<std::size_t>(axis)] /= factor;
  shape.insert(shape.begin() + axis + 1, factor);
  return reduce("ReduceSum", reshape(dy, shape), {axis + 1}, false);
}

Result<void> resize(NodeGradient& n) {
  const auto& node = n.node();
  if (string_attribute(node, "coordinate_transformation_mode", "half_pixel") ==
      "tf_crop_and_resize")
    return n.refuse("it crops");
  if (find_attribute(node, "axes") != nullptr ||
      string_attribute(node, "keep_aspect_ratio_policy", "stretch") != "stretch")
    return n.refuse("it has `axes` or an aspect ratio policy");
  std::vector<float> scales;
  if (n.x(2) && n.x(2).elements() > 0) {
    const auto tensor = n.builder().constant_value(n.x(2));
    if (!tensor) return n.refuse("its scales depend on the data");
    scales.assign(tensor->as<float>().begin(), tensor->as<float>().end());
    if (scales.size() != n.x().shape().size()) return n.refuse("its scales do not fit its input");
  }
  const auto mode = string_attribute(node, "mode", "nearest");
  const auto coordinates = string_attribute(node, "coordinate_transformation_mode", "half_pixel");
  auto dy = n.dy();
  for (std::size_t axis = 0; axis < n.x().shape().size(); ++axis) {
    const auto in = n.x().shape()[axis], out = n.y().shape()[axis];
    const auto place = static_cast<std::int64_t>(axis);
    if (in == out && (scales.empty() || scales[axis] == 1)) continue;
    const bool repeats =
        mode == "nearest" && out % in == 0 &&
        (coordinates == "asymmetric"
             ? string_attribute(node, "nearest_mode", "round_prefer_floor") == "floor"
             : coordinates == "half_pixel" &&
                   string_attribute(node, "nearest_mode", "round_prefer_floor")
                       .starts_with("round"));
    if (repeats) {
      dy = sum_of_blocks(dy, place, out / in);
      continue;
    }
    SELVAGE_TRY(const auto matrix, matrix_of(n, axis, scales));
    dy = along(dy, place, cast(matrix, dy.type()));
  }
  n.add(0, dy);
  return {};
}

constexpr RuleEntry kRules[] = {{"Resize", resize}};

}  // namespace

std::span<const RuleEntry> resize_rules() {
  return kRules;
}

}  // namespace selvage::learn
