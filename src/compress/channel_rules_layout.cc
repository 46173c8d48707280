// Operators that move elements without computing: where index arithmetic lives.
#include <array>
#include <tuple>

#include "compress/channel_rule.h"
#include "graph/values.h"

namespace selvage::compress {
namespace {

constexpr std::string_view kMoved = "mixes it with other axes";
constexpr std::string_view kUnfit = "has shapes that do not fit";

void transpose(RuleNode& node) {
  const auto& x = node.in(0);
  const auto& y = node.out();
  auto order = graph::ints_attribute(node.proto(), "perm");
  if (order.empty())
    for (auto i = static_cast<std::int64_t>(x.size()); i-- > 0;) order.push_back(i);
  if (order.size() != x.size() || y.size() != x.size()) return node.freeze_all(kUnfit);
  for (std::size_t i = 0; i < order.size(); ++i) {
    const auto from = RuleNode::normalise(order[i], x.size());
    if (from < 0) return node.freeze_all(kUnfit);
    node.tie(x[static_cast<std::size_t>(from)], y[i]);
  }
}

void concat(RuleNode& node) {
  const auto& y = node.out();
  const auto axis = RuleNode::normalise(node.attribute("axis", 1), y.size());
  if (axis < 0) return node.freeze_all(kUnfit);
  const auto joined = static_cast<std::size_t>(axis);
  std::int64_t offset = 0;
  for (int i = 0; i < node.inputs(); ++i) {
    const auto& x = node.in(i);
    if (x.size() != y.size()) return node.freeze_all(kUnfit);
    for (std::size_t k = 0; k < x.size(); ++k)
      if (k != joined) node.tie(x[k], y[k]);
    if (x[joined].is_open() || y[joined].is_open()) return node.freeze_all("joins open sizes");
    if (offset + x[joined].size > y[joined].size) return node.freeze_all(kUnfit);
    for (std::int64_t k = 0; k < x[joined].size; ++k)
      node.atoms().tie(x[joined].atom(k), y[joined].atom(offset + k));
    offset += x[joined].size;
  }
}

void split(RuleNode& node) {
  const auto& x = node.in(0);
  const auto axis = RuleNode::normalise(node.attribute("axis", 0), x.size());
  if (axis < 0 || !node.graph().integers(node.proto(), "split", 1))
    return node.freeze_all("splits at computed places");
  const auto parted = static_cast<std::size_t>(axis);
  if (node.has(1)) (void)node.in(1);  // Rewritten afterwards.
  std::int64_t offset = 0;
  for (int i = 0; i < node.outputs(); ++i) {
    if (node.proto().output(i).empty() || node.atoms().find(node.proto().output(i)) == nullptr)
      return node.freeze_all(kUnfit);
    const auto& y = node.out(i);
    if (y.size() != x.size() || x[parted].is_open() || y[parted].is_open() ||
        offset + y[parted].size > x[parted].size)
      return node.freeze_all(kUnfit);
    for (std::size_t k = 0; k < x.size(); ++k)
      if (k != parted) node.tie(x[k], y[k]);
    for (std::int64_t k = 0; k < y[parted].size; ++k)
      node.atoms().tie(x[parted].atom(offset + k), y[parted].atom(k));
    offset += y[parted].size;
  }
}

void slice(RuleNode& node) {
  const auto& x = node.in(0);
  const auto& y = node.out();
  const auto parts = sliced_axes(node.graph(), node.proto(), x);
  if (!parts || y.size() != x.size()) return node.freeze_all("cuts at computed places");
  for (int i = 1; i < node.inputs(); ++i)
    if (node.has(i)) (void)node.in(i);  // Rewritten afterwards.
  std::vector<bool> is_cut(x.size(), false);
  for (const auto& part : *parts) {
    const auto axis = static_cast<std::size_t>(part.axis);
    is_cut[axis] = true;
    const bool fits = !x[axis].is_open() && part.step == 1 && part.start < part.end &&
                      part.end - part.start == y[axis].size;
    if (!fits) {
      node.freeze(x[axis], "cuts it in steps, or at an open end");
      node.freeze(y[axis], "cuts it in steps, or at an open end");
      continue;
    }
    for (std::int64_t i = 0; i < y[axis].size; ++i)
      node.atoms().tie(x[axis].atom(part.start + i), y[axis].atom(i));
  }
  for (std::size_t i = 0; i < x.size(); ++i)
    if (!is_cut[i]) node.tie(x[i], y[i]);
}

void pad(RuleNode& node) {
  const auto& x = node.in(0);
  const auto& y = node.out();
  const auto pads = node.graph().integers(node.proto(), "pads", 1);
  if (!pads || pads->size() != 2 * x.size() || y.size() != x.size() || node.has(3))
    return node.freeze_all("pads by computed sizes");
  for (std::size_t i = 0; i < x.size(); ++i) {
    if ((*pads)[i] == 0 && (*pads)[i + x.size()] == 0) {
      node.tie(x[i], y[i]);
    } else {
      node.freeze(x[i], "pads it");
      node.freeze(y[i], "pads it");
    }
  }
}

/// Resize and Upsample: axes that keep their size keep their elements.
void resize(RuleNode& node) {
  if (graph::string_attribute(node.proto(), "coordinate_transformation_mode", "") ==
      "tf_crop_and_resize")
    return node.freeze_all("crops");
  // Computed sizes would state channels that are gone.
  if (node.has(3) && node.graph().constant(node.proto(), 3) == nullptr)
    return node.freeze_all("has computed sizes");
  if (node.has(3)) (void)node.in(3);  // Rewritten afterwards.
  tie_same(node, node.in(0), node.out(), "changes its size");
}

void expand(RuleNode& node) {
  if (node.graph().constant(node.proto(), 1) == nullptr)
    return node.freeze_all("has a computed shape");
  const auto& x = node.in(0);
  const auto& y = node.out();
  if (x.size() > y.size()) return node.freeze_all(kUnfit);
  (void)node.in(1);  // Rewritten afterwards.
  for (std::size_t k = 1; k <= y.size(); ++k) {
    const auto& to = y[y.size() - k];
    if (k > x.size() || (x[x.size() - k].size == 1 && to.size != 1)) {
      node.freeze(to, "repeats one element along it");
    } else {
      node.tie(x[x.size() - k], to);
    }
  }
}

/// One axis that becomes several, or the reverse. Channels are whole blocks of `one`: those of one
/// index of the factor that leads, or leads but one, as heads do in attention. What is frozen
/// already cannot be that factor: the picture behind a channel, the features inside of a head.
void tie_factors(RuleNode& node, const Axis& one, const Axes& factors) {
  std::size_t chosen = factors.size() - 2;
  for (std::size_t i = 0; i < factors.size(); ++i) {
    const bool is_free = !node.atoms().is_frozen(factors[i].first);
    if (!is_free) continue;
    chosen = i;
    if (i + 2 >= factors.size()) break;
  }
  std::int64_t inner = 1;
  for (std::size_t i = chosen + 1; i < factors.size(); ++i) inner *= factors[i].size;
  for (std::size_t i = 0; i < factors.size(); ++i)
    if (i != chosen) node.freeze(factors[i], kMoved);
  for (std::int64_t i = 0; i < one.size; ++i)
    node.atoms().tie(one.atom(i), factors[chosen].atom(i / inner % factors[chosen].size));
}

/// Axes of both sides that hold the same elements in the same order. Sizes of 1 say nothing.
void tie_segment(RuleNode& node, std::span<const Axis> from, std::span<const Axis> to) {
  const auto larger = [](std::span<const Axis> axes) {
    Axes kept;
    for (const auto& axis : axes)
      if (axis.size != 1) kept.push_back(axis);
    return kept;
  };
  const auto x = larger(from), y = larger(to);
  const auto is_open = [](const Axis& axis) { return axis.size <= 0; };
  const bool has_open = std::ranges::any_of(x, is_open) || std::ranges::any_of(y, is_open);
  if (x.size() == 1 && y.size() == 1) return node.tie(x[0], y[0]);
  if (!has_open && x.size() == 1 && y.size() > 1) return tie_factors(node, x[0], y);
  if (!has_open && y.size() == 1 && x.size() > 1) return tie_factors(node, y[0], x);
  for (const auto* axes : {&x, &y})
    for (const auto& axis : *axes) node.freeze(axis, kMoved);
}

/// Product of sizes with open ones counted apart.
struct Extent {
  std::int64_t known = 1;
  int open = 0;
  void include(const Axis& axis) {
    if (axis.is_open()) {
      ++open;
    } else if (__builtin_mul_overflow(known, axis.size, &known)) {
      known = 0;
    }
  }
  friend bool operator==(const Extent&, const Extent&) = default;
};

Extent extent(std::span<const Axis> axes) {
  Extent total;
  for (const auto& axis : axes) total.include(axis);
  return total;
}

/// Cuts both sides into the shortest parts of equal size. With one open size on each side and equal
/// known ones, the open sizes are equal, too.
void tie_reshaped(RuleNode& node, std::span<const Axis> x, std::span<const Axis> y) {
  const auto whole = extent(x);
  if (!(whole == extent(y)) || whole.open > 1 || whole.known == 0) {
    tie_segment(node, x, y);
    return;
  }
  std::size_t i = 0, k = 0;
  while (i < x.size() || k < y.size()) {
    const auto first_x = i, first_y = k;
    Extent left, right;
    do {
      const bool is_shorter = std::tie(left.known, left.open) <= std::tie(right.known, right.open);
      const bool take_left = k == y.size() || (i < x.size() && is_shorter);
      if (take_left) {
        left.include(x[i++]);
      } else {
        right.include(y[k++]);
      }
    } while (!(left == right) && (i < x.size() || k < y.size()));
    tie_segment(node, x.subspan(first_x, i - first_x), y.subspan(first_y, k - first_y));
  }
}

void reshape(RuleNode& node) {
  const auto& x = node.in(0);
  const auto& y = node.out();
  const auto* shape = node.graph().constant(node.proto(), 1);
  // A computed shape states channels that are gone; only its open sizes are sure to follow.
  if (shape == nullptr) return node.freeze_all("has a computed shape");
  const auto stated = graph::read_integers(*shape, node.graph().folder);
  if (!stated || stated->size() != y.size()) return node.freeze_all(kUnfit);
  (void)node.in(1);  // Rewritten afterwards.
  // Leading zeros copy sizes, open ones included.
  std::size_t copied = 0;
  const bool copies = node.attribute("allowzero", 0) == 0;
  while (copies && copied < std::min(x.size(), y.size()) && (*stated)[copied] == 0) {
    node.tie(x[copied], y[copied]);
    ++copied;
  }
  tie_reshaped(node, std::span(x).subspan(copied), std::span(y).subspan(copied));
}

void flatten(RuleNode& node) {
  const auto& x = node.in(0);
  const auto& y = node.out();
  auto axis = node.attribute("axis", 1);
  if (axis < 0) axis += static_cast<std::int64_t>(x.size());
  if (y.size() != 2 || axis < 0 || axis > static_cast<std::int64_t>(x.size()))
    return node.freeze_all(kUnfit);
  const auto cut = static_cast<std::size_t>(axis);
  tie_segment(node, std::span(x).first(cut), std::span(y).first(1));
  tie_segment(node, std::span(x).subspan(cut), std::span(y).subspan(1));
}

/// Squeeze and Unsqueeze move axes of size 1 only: the others keep their order.
void squeeze(RuleNode& node) {
  const auto axes = node.graph().integers(node.proto(), "axes", 1);
  if (!axes) return node.freeze_all("has computed axes");
  const bool inserts = node.proto().op_type() == "Unsqueeze";
  const auto& x = node.in(0);
  const auto& y = node.out();
  if (node.has(1)) (void)node.in(1);  // Says nothing about sizes.
  const auto& longer = inserts ? y : x;
  const auto& shorter = inserts ? x : y;
  std::vector<bool> is_single(longer.size(), false);
  for (std::size_t i = 0; i < longer.size(); ++i)
    is_single[i] = axes->empty() && longer[i].size == 1;
  for (const auto raw : *axes) {
    const auto axis = RuleNode::normalise(raw, longer.size());
    if (axis < 0) return node.freeze_all(kUnfit);
    is_single[static_cast<std::size_t>(axis)] = true;
  }
  std::size_t k = 0;
  for (std::size_t i = 0; i < longer.size(); ++i) {
    if (is_single[i]) continue;
    if (k >= shorter.size()) return node.freeze_all(kUnfit);
    node.tie(longer[i], shorter[k++]);
  }
  if (k != shorter.size()) node.freeze_all(kUnfit);
}

void gather(RuleNode& node) {
  const auto& x = node.in(0);
  const auto& indices = node.in(1);
  const auto& y = node.out();
  const auto axis = RuleNode::normalise(node.attribute("axis", 0), x.size());
  if (axis < 0 || y.size() != x.size() - 1 + indices.size()) return node.freeze_all(kUnfit);
  const auto picked = static_cast<std::size_t>(axis);
  node.freeze(x[picked], "picks from it");
  for (std::size_t i = 0; i < picked; ++i) node.tie(x[i], y[i]);
  for (std::size_t i = 0; i < indices.size(); ++i) node.tie(indices[i], y[picked + i]);
  for (std::size_t i = picked + 1; i < x.size(); ++i) node.tie(x[i], y[i + indices.size() - 1]);
}

/// Channels become blocks of pixels: those of one output channel go together.
void depth_to_space(RuleNode& node) {
  const auto& x = node.in(0);
  const auto& y = node.out();
  if (x.size() != 4 || y.size() != 4 || x[1].is_open() || y[1].size < 1 ||
      x[1].size % y[1].size != 0)
    return node.freeze_all(kUnfit);
  const bool is_block_first =
      graph::string_attribute(node.proto(), "mode", "DCR") != "CRD";  // [r, r, C] or [C, r, r]
  const auto blocks = x[1].size / y[1].size;
  node.tie(x[0], y[0]);
  for (std::int64_t i = 0; i < x[1].size; ++i)
    node.atoms().tie(x[1].atom(i), y[1].atom(is_block_first ? i % y[1].size : i / blocks));
  for (const auto* axes : {&x, &y})
    for (std::size_t i = 2; i < 4; ++i) node.freeze((*axes)[i], kMoved);
}

/// A shape that is read freezes what is read of it: Gather or Slice with constants may take the
/// batch or the picture's size alone.
void shape_of_value(RuleNode& node) {
  const auto& x = node.in(0);
  (void)node.out();
  const auto& result = node.proto().output(0);
  std::vector<bool> is_read(x.size(), false);
  const auto read_all = [&] { is_read.assign(x.size(), true); };
  const auto start = node.attribute("start", 0), end = node.attribute("end", INT64_MAX);
  const auto& index = node.graph().index;
  if (index.is_output(result) || start != 0 || end != INT64_MAX) read_all();
  for (const auto& use : index.uses(result)) {
    const auto& reader = node.graph().graph.node(use.node);
    if (use.input == 0 && graph::is_op(reader, "Gather")) {
      const auto picks = node.graph().integers(reader, "", 1);
      if (!picks) read_all();
      for (const auto pick : picks.value_or(Shape())) {
        const auto axis = RuleNode::normalise(pick, x.size());
        if (axis >= 0) is_read[static_cast<std::size_t>(axis)] = true;
      }
    } else if (use.input == 0 && graph::is_op(reader, "Slice")) {
      const Axes shape{Axis{.first = 0, .size = static_cast<std::int64_t>(x.size())}};
      const auto parts = sliced_axes(node.graph(), reader, shape);
      if (!parts || parts->size() != 1 || parts->front().step != 1) {
        read_all();
        continue;
      }
      for (auto i = parts->front().start; i < parts->front().end; ++i)
        is_read[static_cast<std::size_t>(i)] = true;
    } else {
      read_all();
    }
  }
  for (std::size_t i = 0; i < x.size(); ++i)
    if (is_read[i]) node.freeze(x[i], "reads its size");
}

struct Entry {
  std::string_view type;
  Rule rule;
};
constexpr std::array kRules = {Entry{"Transpose", transpose},
                               Entry{"Concat", concat},
                               Entry{"Split", split},
                               Entry{"Slice", slice},
                               Entry{"Pad", pad},
                               Entry{"Resize", resize},
                               Entry{"Upsample", resize},
                               Entry{"Expand", expand},
                               Entry{"Reshape", reshape},
                               Entry{"Flatten", flatten},
                               Entry{"Squeeze", squeeze},
                               Entry{"Unsqueeze", squeeze},
                               Entry{"Gather", gather},
                               Entry{"DepthToSpace", depth_to_space},
                               Entry{"Shape", shape_of_value}};

}  // namespace

std::optional<std::vector<SlicedAxis>> sliced_axes(const RuleGraph& graph,
                                                   const onnx::NodeProto& node, const Axes& shape) {
  const auto starts = graph.integers(node, "starts", 1), ends = graph.integers(node, "ends", 2);
  auto axes = graph.integers(node, "axes", 3), steps = graph.integers(node, "steps", 4);
  if (!starts || !ends || !axes || !steps || starts->size() != ends->size()) return std::nullopt;
  if (axes->empty())
    for (std::size_t i = 0; i < starts->size(); ++i) axes->push_back(static_cast<std::int64_t>(i));
  steps->resize(std::max(steps->size(), starts->size()), 1);
  if (axes->size() != starts->size()) return std::nullopt;
  std::vector<SlicedAxis> parts;
  for (std::size_t i = 0; i < starts->size(); ++i) {
    const auto axis = RuleNode::normalise((*axes)[i], shape.size());
    if (axis < 0) return std::nullopt;
    const auto size = shape[static_cast<std::size_t>(axis)].size;
    const auto clamp = [size](std::int64_t at) {
      return size < 0 ? at : std::clamp<std::int64_t>(at < 0 ? at + size : at, 0, size);
    };
    parts.push_back({.axis = axis,
                     .start = clamp((*starts)[i]),
                     .end = clamp((*ends)[i]),
                     .step = (*steps)[i],
                     .stated_start = (*starts)[i],
                     .stated_end = (*ends)[i]});
  }
  return parts;
}

Rule find_layout_rule(std::string_view type) {
  const auto found = std::ranges::find(kRules, type, &Entry::type);
  return found == kRules.end() ? nullptr : found->rule;
}

}  // namespace selvage::compress
