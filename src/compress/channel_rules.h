// What each operator ties together. Internal to src/compress.
#pragma once

#include <cstdint>
#include <filesystem>
#include <optional>
#include <set>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "compress/channel_atoms.h"
#include "graph/index.h"

namespace selvage::onnx {
class GraphProto;
class NodeProto;
class TensorProto;
}  // namespace selvage::onnx

namespace selvage::compress {

/// An axis of an initialiser, by the initialiser's index.
using WeightAxis = std::pair<int, int>;

/// What the rules find out.
struct Ties {
  Atoms atoms;
  struct Maker {
    int node = 0;
    WeightAxis axis;
  };
  std::vector<Maker> makers;        ///< Output axes of weights, in the nodes' order.
  std::set<WeightAxis> contracted;  ///< Input axes: a weighted sum over them ends a channel.
};

/// The graph as rules read it. References must outlive it.
struct RuleGraph {
  const onnx::GraphProto& graph;
  const graph::Index& index;
  const std::filesystem::path& folder;
  std::int64_t opset = 0;

  /// The initialiser that an input names, unless a caller of the model may replace it.
  [[nodiscard]] const onnx::TensorProto* constant(const onnx::NodeProto& node, int input) const;
  /// A list of integers that is an attribute in older operator sets and an input in newer ones;
  /// nothing where it is computed at run time. Empty where it is left out.
  [[nodiscard]] std::optional<Shape> integers(const onnx::NodeProto& node,
                                              std::string_view attribute, int input) const;
};

/// Ties the axes of everything that the node at `index` reads and makes, or freezes them.
void tie_node(const RuleGraph& graph, int index, Ties& ties);

/// A Slice with constant bounds along one axis: the elements start, start + 1, ... end - 1.
struct SlicedAxis {
  std::int64_t axis = 0;
  std::int64_t start = 0, end = 0;  ///< Counted from 0, unless the axis is open.
  std::int64_t step = 1;
  std::int64_t stated_start = 0, stated_end = 0;  ///< As the node has them.
};
/// Nothing where a bound is computed. `shape` is the input's.
[[nodiscard]] std::optional<std::vector<SlicedAxis>> sliced_axes(const RuleGraph& graph,
                                                                 const onnx::NodeProto& node,
                                                                 const Axes& shape);

/// One group for each channel of the input.
[[nodiscard]] bool is_depthwise(const onnx::NodeProto& node, std::int64_t channels);

}  // namespace selvage::compress
