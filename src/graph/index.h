// Who makes and who reads each value of a graph: what every edit asks first.
//
//   const Index index(model.proto().graph());
//   for (const auto& use : index.uses("relu_out")) ...
#pragma once

#include <cstddef>
#include <span>
#include <string>
#include <string_view>
#include <unordered_map>
#include <unordered_set>
#include <vector>

namespace selvage::onnx {
class GraphProto;
class NodeProto;
}  // namespace selvage::onnx

namespace selvage::graph {

/// One place where a value is read.
struct Use {
  int node = 0;   ///< Index into GraphProto::node.
  int input = 0;  ///< Index into its inputs; kCapture if a subgraph of the node reads the value.
  static constexpr int kCapture = -1;
};

/// A snapshot of one graph: built in time linear in its names, out of date after an edit of nodes,
/// inputs, outputs or initialisers. Keeps nothing of the graph but copies of its names.
class Index {
 public:
  explicit Index(const onnx::GraphProto& graph);
  Index(const Index&) = delete;
  Index& operator=(const Index&) = delete;

  /// The node that makes a value; kNone for inputs, initialisers and unknown names.
  [[nodiscard]] int producer(std::string_view value) const;
  /// The nodes that read a value, in their order. A graph output is no use: see is_output().
  [[nodiscard]] std::span<const Use> uses(std::string_view value) const;
  [[nodiscard]] bool is_input(std::string_view value) const { return inputs_.contains(value); }
  [[nodiscard]] bool is_output(std::string_view value) const { return outputs_.contains(value); }
  /// Index into GraphProto::initializer, or kNone. Sparse initialisers are not counted.
  [[nodiscard]] int initialiser(std::string_view value) const;
  /// The same if the caller of the model cannot replace it: an initialiser that is a graph input
  /// too is only a default.
  [[nodiscard]] int constant(std::string_view value) const;
  /// Whether nothing but input `input` of one node reads the value.
  [[nodiscard]] bool has_one_reader(std::string_view value) const;

  /// `stem`, or `stem_1`, `stem_2`, ...: a name that no value of this graph, of its subgraphs or of
  /// an earlier call has.
  [[nodiscard]] std::string fresh_name(std::string_view stem);

  static constexpr int kNone = -1;

 private:
  std::string_view own(std::string_view name);

  std::unordered_set<std::string> names_;  // What all views below point to.
  std::unordered_map<std::string_view, int> producers_;
  std::unordered_map<std::string_view, std::vector<Use>> uses_;
  std::unordered_map<std::string_view, int> initialisers_;
  std::unordered_set<std::string_view> inputs_, outputs_;
};

/// The names that the subgraphs of `node` read from outside of themselves, each once.
[[nodiscard]] std::vector<std::string_view> captures(const onnx::NodeProto& node);

/// Whether `node` is ONNX's own operator `type`.
[[nodiscard]] bool is_op(const onnx::NodeProto& node, std::string_view type);

}  // namespace selvage::graph
