// One node with its axes, as a rule sees it. Internal to src/compress.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include <selvage/onnx.pb.h>

#include "compress/channel_rules.h"
#include "graph/attributes.h"

namespace selvage::compress {

/// Whatever a rule does not ask for stays frozen: a tensor that it forgets cannot lose channels.
class RuleNode {
 public:
  RuleNode(const RuleGraph& graph, int index, Ties& ties);

  [[nodiscard]] const onnx::NodeProto& proto() const { return proto_; }
  [[nodiscard]] const RuleGraph& graph() const { return graph_; }
  [[nodiscard]] Atoms& atoms() { return ties_.atoms; }
  [[nodiscard]] std::int64_t opset() const { return graph_.opset; }
  [[nodiscard]] bool has(int input) const {
    return input < proto_.input_size() && !proto_.input(input).empty();
  }
  [[nodiscard]] int inputs() const { return proto_.input_size(); }
  [[nodiscard]] int outputs() const { return proto_.output_size(); }
  /// Axes of an input or output that exists. The rule answers for them from now on.
  [[nodiscard]] const Axes& in(int input);
  [[nodiscard]] const Axes& out(int output = 0);
  [[nodiscard]] bool is_output_used(int output) const;

  void tie(const Axis& a, const Axis& b) { ties_.atoms.tie(a, b); }
  void freeze(const Axis& axis, std::string_view what) { ties_.atoms.freeze(axis, reason(what)); }
  void freeze_all(std::string_view what);
  /// "Softmax 'name' runs over it".
  [[nodiscard]] std::string reason(std::string_view what) const;

  /// The initialiser behind an input; Index::kNone for a computed one.
  [[nodiscard]] int weight(int input) const;
  void make(int weight, int axis) { ties_.makers.push_back({index_, {weight, axis}}); }
  void contract(int weight, int axis) { ties_.contracted.insert({weight, axis}); }

  [[nodiscard]] std::int64_t attribute(std::string_view name, std::int64_t otherwise) const {
    return graph::int_attribute(proto_, name, otherwise);
  }
  /// A negative axis counts from the end of `rank`. -1 if it is outside.
  [[nodiscard]] static std::int64_t normalise(std::int64_t axis, std::size_t rank);

  /// After the rule: freezes what it did not ask for.
  void finish();

 private:
  const RuleGraph& graph_;
  const onnx::NodeProto& proto_;
  int index_;
  Ties& ties_;
  std::vector<bool> answered_in_, answered_out_;
};

using Rule = void (*)(RuleNode& node);
/// Null for an operator that nobody understands.
[[nodiscard]] Rule find_weight_rule(std::string_view type);     // channel_rules_weights.cc
[[nodiscard]] Rule find_pointwise_rule(std::string_view type);  // channel_rules_pointwise.cc
[[nodiscard]] Rule find_layout_rule(std::string_view type);     // channel_rules_layout.cc

/// Ties axes of the same position, freezing those of other sizes.
void tie_same(RuleNode& node, const Axes& x, const Axes& y, std::string_view what);

}  // namespace selvage::compress
