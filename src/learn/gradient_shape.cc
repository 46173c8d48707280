// Operators that move elements without changing them.
#include <algorithm>
#include <numeric>

#include "learn/gradient_rules.h"

namespace selvage::learn {
namespace {

Result<void> reshaped(NodeGradient& n) {
  n.add(0, reshape(n.dy(), n.x().shape()));
  return {};
}

Result<void> transpose_rule(NodeGradient& n) {
  auto order = ints_attribute(n.node(), "perm");
  if (order.empty()) {
    order.resize(n.x().shape().size());
    std::iota(order.rbegin(), order.rend(), 0);
  }
  std::vector<std::int64_t> back(order.size());
  for (std::size_t i = 0; i < order.size(); ++i)
    back[static_cast<std::size_t>(order[i])] = static_cast<std::int64_t>(i);
  n.add(0, transpose(n.dy(), back));
  return {};
}

Result<void> expand_rule(NodeGradient& n) {
  n.add(0, n.dy());
  return {};
}

Result<void> tile(NodeGradient& n) {
  // [r0, d0, r1, d1, ...], summed over the repeats.
  Shape shape;
  std::vector<std::int64_t> axes;
  for (std::int64_t i = 0; i < n.x().rank(); ++i) {
    axes.push_back(std::ssize(shape));
    shape.push_back(n.y().size(i) / n.x().size(i));
    shape.push_back(n.x().size(i));
  }
  if (axes.empty()) return reshaped(n);
  n.add(0, reshape(reduce("ReduceSum", reshape(n.dy(), shape), axes, false), n.x().shape()));
  return {};
}

Result<void> concat_rule(NodeGradient& n) {
  const auto axis = int_attribute(n.node(), "axis", 0);
  const auto dy = n.dy();
  std::vector<std::int64_t> sizes;
  std::vector<ValueType> types;
  for (int i = 0; i < n.input_count(); ++i) {
    sizes.push_back(n.x(i).size(axis));
    types.push_back({dy.type(), n.x(i).shape()});
  }
  if (n.input_count() == 1) {
    n.add(0, dy);
    return {};
  }
  const Expression inputs[] = {dy, n.builder().integers(sizes)};
  const auto parts = n.builder().node("Split", inputs, types, {{"axis", axis}});
  for (int i = 0; i < n.input_count(); ++i) n.add(i, parts[static_cast<std::size_t>(i)]);
  return {};
}

Result<void> split(NodeGradient& n) {
  std::vector<Expression> parts;
  for (int i = 0; i < n.output_count(); ++i) {
    const auto dy = n.dy(i);
    parts.push_back(dy ? dy : n.builder().zeros(n.y(i).shape(), n.y(i).type()));
  }
  n.add(0, concat(parts, int_attribute(n.node(), "axis", 0)));
  return {};
}

/// Puts each element of `dy` where the slice start + i * step of an axis of `size` took it from.
Expression unslice(Expression dy, std::int64_t axis, std::int64_t start, std::int64_t step,
                   std::int64_t size) {
  const auto count = dy.size(axis);
  if (step < 0) {
    // Read backwards, the slice goes forwards from its last element.
    dy = slice(dy, axis, count - 1, -1, -1);
    start += step * (count - 1);
    step = -step;
  }
  const auto place = static_cast<std::size_t>(axis);
  if (step > 1) {
    // Zeros after each element: [.., n, ..] -> [.., n, 1, ..] -> [.., n, step, ..] -> [.., n *
    // step, ..]
    auto apart = unsqueeze(dy, axis + 1);
    std::vector<std::int64_t> pads(2 * apart.shape().size(), 0);
    pads[apart.shape().size() + place + 1] = step - 1;
    auto shape = dy.shape();
    shape[place] *= step;
    dy = reshape(pad(apart, pads), shape);
  }
  std::vector<std::int64_t> pads(2 * dy.shape().size(), 0);
  pads[place] = start;
  pads[dy.shape().size() + place] = size - start - dy.size(axis);
  return pad(dy, pads);
}

Result<void> slice_rule(NodeGradient& n) {
  const auto starts = n.constant_ints(1);
  const auto axes = n.x(3) ? n.constant_ints(3) : std::nullopt;
  const auto steps = n.x(4) ? n.constant_ints(4) : std::nullopt;
  if (!starts || (n.x(3) && !axes) || (n.x(4) && !steps))
    return n.refuse("where it cuts depends on the data");
  auto dy = n.dy();
  for (std::size_t i = 0; i < starts->size(); ++i) {
    auto axis = axes ? axes->at(i) : static_cast<std::int64_t>(i);
    if (axis < 0) axis += n.x().rank();
    const auto step = steps ? steps->at(i) : 1;
    const auto size = n.x().size(axis);
    auto start = (*starts)[i] < 0 ? (*starts)[i] + size : (*starts)[i];
    start = std::clamp<std::int64_t>(start, 0, step < 0 ? size - 1 : size);
    if (dy.elements() == 0) return n.refuse("it cuts everything away");
    dy = unslice(dy, axis, start, step, size);
  }
  n.add(0, dy);
  return {};
}

/// The positions along one axis that edge, reflect and wrap padding copy from.
std::int64_t source(std::int64_t position, std::int64_t size, std::string_view mode) {
  if (mode == "edge") return std::clamp<std::int64_t>(position, 0, size - 1);
  if (mode == "wrap") return ((position % size) + size) % size;
  if (size == 1) return 0;
  const auto period = 2 * (size - 1);
  const auto folded = ((position % period) + period) % period;
  return folded < size ? folded : period - folded;
}

/// Adds up along an axis: result[targets[i]] += dy[i].
Expression scatter_axis(Expression dy, std::int64_t axis, const std::vector<std::int64_t>& targets,
                        std::int64_t size) {
  auto& builder = dy.builder();
  Shape shape = dy.shape(), ones(dy.shape().size(), 1);
  shape[static_cast<std::size_t>(axis)] = size;
  ones[static_cast<std::size_t>(axis)] = std::ssize(targets);
  const auto indices = expand(reshape(builder.integers(targets), ones), dy.shape());
  return builder.node("ScatterElements", {builder.zeros(shape, dy.type()), indices, dy},
                      {dy.type(), shape}, {{"axis", axis}, {"reduction", std::string("add")}});
}

Result<void> pad_rule(NodeGradient& n) {
  if (n.wants(2)) return n.refuse("its padding value is a trained parameter");
  const auto given = n.constant_ints(1);
  if (!given) return n.refuse("its sizes depend on the data");
  const auto rank = n.x().rank();
  std::vector<std::int64_t> axes(n.x().shape().size());
  std::iota(axes.begin(), axes.end(), 0);
  if (n.x(3)) {
    const auto chosen = n.constant_ints(3);
    if (!chosen) return n.refuse("its axes depend on the data");
    axes = *chosen;
  }
  if (given->size() != 2 * axes.size()) return n.refuse("its sizes do not fit its axes");
  const auto mode = string_attribute(n.node(), "mode", "constant");
  auto dy = n.dy();
  std::vector<std::int64_t> back(static_cast<std::size_t>(2 * rank), 0);
  for (std::size_t i = 0; i < axes.size(); ++i) {
    const auto axis = axes[i] < 0 ? axes[i] + rank : axes[i];
    const auto before = (*given)[i], after = (*given)[i + axes.size()];
    if (mode == "constant") {
      back[static_cast<std::size_t>(axis)] = -before;
      back[static_cast<std::size_t>(axis + rank)] = -after;
    } else if (before != 0 || after != 0) {
      std::vector<std::int64_t> targets;
      for (std::int64_t k = 0; k < dy.size(axis); ++k)
        targets.push_back(source(k - before, n.x().size(axis), mode));
      dy = scatter_axis(dy, axis, targets, n.x().size(axis));
    }
  }
  n.add(0, pad(dy, back));
  return {};
}

Result<void> trilu(NodeGradient& n) {
  n.add(0, n.builder().node("Trilu", {n.dy(), n.x(1)}, {n.dy().type(), n.dy().shape()},
                            {{"upper", int_attribute(n.node(), "upper", 1)}}));
  return {};
}

Result<void> depth_to_space(NodeGradient& n) {
  const auto block = int_attribute(n.node(), "blocksize", 1);
  const auto x = n.x(), dy = n.dy();
  if (string_attribute(n.node(), "mode", "DCR") == "CRD") {
    // y[n, c, h, i, w, j] = x[n, c, i, j, h, w]
    const auto channels = dy.size(1);
    const std::int64_t order[] = {0, 1, 3, 5, 2, 4};
    const auto blocks = reshape(dy, {x.size(0), channels, x.size(2), block, x.size(3), block});
    n.add(0, reshape(transpose(blocks, order), x.shape()));
    return {};
  }
  n.add(0, n.builder().node("SpaceToDepth", {dy}, {dy.type(), x.shape()}, {{"blocksize", block}}));
  return {};
}
Result<void> space_to_depth(NodeGradient& n) {
  const auto block = int_attribute(n.node(), "blocksize", 1);
  n.add(0, n.builder().node("DepthToSpace", {n.dy()}, {n.dy().type(), n.x().shape()},
                            {{"blocksize", block}}));
  return {};
}

constexpr RuleEntry kRules[] = {
    {"Reshape", reshaped},
    {"Flatten", reshaped},
    {"Squeeze", reshaped},
    {"Unsqueeze", reshaped},
    {"Transpose", transpose_rule},
    {"Expand", expand_rule},
    {"Tile", tile},
    {"Concat", concat_rule},
    {"Split", split},
    {"Slice", slice_rule},
    {"Pad", pad_rule},
    {"Trilu", trilu},
    {"DepthToSpace", depth_to_space},
    {"SpaceToDepth", space_to_depth},
};

}  // namespace

std::span<const RuleEntry> shape_rules() {
  return kRules;
}

}  // namespace selvage::learn
