// Sizes that nodes state in attributes and constants, after channels have left.
#include <array>

#include <selvage/onnx.pb.h>

#include "compress/channel_state.h"
#include "graph/attributes.h"
#include "graph/values.h"

namespace selvage::compress {
namespace {

class Restater {
 public:
  Restater(onnx::GraphProto& graph, const std::filesystem::path& folder, std::int64_t opset,
           const Channels::State& state, const Removal& removal)
      : graph_(graph),
        index_(graph),
        rules_{graph_, index_, folder, opset},
        state_(state),
        removal_(removal) {}

  void run() {
    for (int i = 0; i < graph_.node_size(); ++i) {
      auto& node = *graph_.mutable_node(i);
      const auto is = [&node](std::string_view type) { return graph::is_op(node, type); };
      if (is("Conv") || is("ConvTranspose")) restate_groups(node);
      if (is("Reshape") || is("Expand")) restate_shape(node, 1);
      if (is("Resize")) restate_shape(node, 3);
      if (is("Split")) restate_split(node);
      if (is("Slice")) restate_slice(node);
    }
  }

 private:
  void restate_groups(onnx::NodeProto& node);
  void restate_shape(onnx::NodeProto& node, int input);
  void restate_split(onnx::NodeProto& node);
  void restate_slice(onnx::NodeProto& node);

  [[nodiscard]] const Axes* axes_of(const std::string& value) const {
    return state_.ties.atoms.find(value);
  }
  [[nodiscard]] bool shrinks(const Axis& axis) const {
    return !axis.is_open() && state_.count_kept(axis, removal_) != axis.size;
  }
  /// Gives the node a list of its own: others may share the old one.
  void set_input(onnx::NodeProto& node, int input, const Shape& values) {
    while (node.input_size() <= input) node.add_input("");
    const auto stem = node.input(input).empty() ? node.output(0) + "_sizes" : node.input(input);
    const auto name = index_.fresh_name(stem);
    graph::add_initialiser(graph_, name, {static_cast<std::int64_t>(values.size())},
                           std::span<const std::int64_t>(values));
    node.set_input(input, name);
  }

  onnx::GraphProto& graph_;
  graph::Index index_;
  const RuleGraph rules_;
  const Channels::State& state_;
  const Removal& removal_;
};

void Restater::restate_groups(onnx::NodeProto& node) {
  const auto* x = axes_of(node.input(0));
  if (x == nullptr || x->size() < 2 || !is_depthwise(node, (*x)[1].size) || !shrinks((*x)[1]))
    return;
  graph::set_attribute(node, "group", state_.count_kept((*x)[1], removal_));
}

/// Stated sizes; 0 and -1 go on meaning what they meant.
void Restater::restate_shape(onnx::NodeProto& node, int input) {
  const auto* y = axes_of(node.output(0));
  const auto* constant = rules_.constant(node, input);
  if (y == nullptr || constant == nullptr) return;
  auto sizes = rules_.integers(node, "", input);
  if (!sizes || sizes->size() != y->size()) return;
  bool changed = false;
  for (std::size_t i = 0; i < sizes->size(); ++i) {
    if ((*sizes)[i] <= 0 || !shrinks((*y)[i])) continue;
    (*sizes)[i] = state_.count_kept((*y)[i], removal_);
    changed = true;
  }
  if (changed) set_input(node, input, *sizes);
}

void Restater::restate_split(onnx::NodeProto& node) {
  const auto* x = axes_of(node.input(0));
  if (x == nullptr) return;
  auto axis = graph::int_attribute(node, "axis", 0);
  if (axis < 0) axis += static_cast<std::int64_t>(x->size());
  if (axis < 0 || axis >= static_cast<std::int64_t>(x->size())) return;
  if (!shrinks((*x)[static_cast<std::size_t>(axis)])) return;
  Shape sizes;
  for (const auto& output : node.output())
    sizes.push_back(
        state_.count_kept((*axes_of(output))[static_cast<std::size_t>(axis)], removal_));
  graph::remove_attribute(node, "num_outputs");
  if (rules_.opset < 13) return graph::set_attribute(node, "split", sizes);
  set_input(node, 1, sizes);
}

void Restater::restate_slice(onnx::NodeProto& node) {
  const auto* x = axes_of(node.input(0));
  if (x == nullptr) return;
  auto parts = sliced_axes(rules_, node, *x);
  if (!parts) return;
  bool changed = false;
  for (auto& part : *parts) {
    const auto& axis = (*x)[static_cast<std::size_t>(part.axis)];
    if (part.step != 1 || !shrinks(axis)) continue;
    std::int64_t before = 0, within = 0;
    for (std::int64_t i = 0; i < part.end; ++i) {
      if (state_.goes(axis.atom(i), removal_)) continue;
      (i < part.start ? before : within) += 1;
    }
    part.stated_start = before;
    part.stated_end = before + within;
    changed = true;
  }
  if (!changed) return;
  Shape starts, ends, axes, steps;
  for (const auto& part : *parts) {
    starts.push_back(part.stated_start);
    ends.push_back(part.stated_end);
    axes.push_back(part.axis);
    steps.push_back(part.step);
  }
  if (rules_.opset < 10) {
    graph::set_attribute(node, "starts", starts);
    graph::set_attribute(node, "ends", ends);
    return graph::set_attribute(node, "axes", axes);
  }
  const std::array<const Shape*, 4> lists{&starts, &ends, &axes, &steps};
  for (int i = 0; i < 4; ++i) set_input(node, i + 1, *lists[static_cast<std::size_t>(i)]);
}

}  // namespace

void restate_sizes(onnx::GraphProto& graph, const std::filesystem::path& folder, std::int64_t opset,
                   const Channels::State& state, const Removal& removal) {
  Restater(graph, folder, opset, state, removal).run();
}

}  // namespace selvage::compress
