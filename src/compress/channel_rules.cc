#include "compress/channel_rules.h"

#include "compress/channel_rule.h"
#include "graph/names.h"
#include "graph/values.h"

namespace selvage::compress {

const onnx::TensorProto* RuleGraph::constant(const onnx::NodeProto& node, int input) const {
  if (input >= node.input_size() || node.input(input).empty()) return nullptr;
  const int found = index.constant(node.input(input));
  return found == graph::Index::kNone ? nullptr : &graph.initializer(found);
}

std::optional<Shape> RuleGraph::integers(const onnx::NodeProto& node, std::string_view attribute,
                                         int input) const {
  if (graph::find_attribute(node, attribute) != nullptr)
    return graph::ints_attribute(node, attribute);
  if (input >= node.input_size() || node.input(input).empty()) return Shape();
  const auto* tensor = constant(node, input);
  if (tensor == nullptr) return std::nullopt;
  auto values = graph::read_integers(*tensor, folder);
  if (!values) return std::nullopt;
  return *std::move(values);
}

RuleNode::RuleNode(const RuleGraph& graph, int index, Ties& ties)
    : graph_(graph),
      proto_(graph.graph.node(index)),
      index_(index),
      ties_(ties),
      answered_in_(static_cast<std::size_t>(proto_.input_size()), false),
      answered_out_(static_cast<std::size_t>(proto_.output_size()), false) {}

const Axes& RuleNode::in(int input) {
  answered_in_[static_cast<std::size_t>(input)] = true;
  return *ties_.atoms.find(proto_.input(input));
}

const Axes& RuleNode::out(int output) {
  answered_out_[static_cast<std::size_t>(output)] = true;
  return *ties_.atoms.find(proto_.output(output));
}

bool RuleNode::is_output_used(int output) const {
  if (output >= proto_.output_size() || proto_.output(output).empty()) return false;
  const auto& name = proto_.output(output);
  return graph_.index.is_output(name) || !graph_.index.uses(name).empty();
}

void RuleNode::freeze_all(std::string_view what) {
  const auto text = reason(what);
  for (const auto& name : proto_.input()) ties_.atoms.freeze(name, text);
  for (const auto& name : proto_.output()) ties_.atoms.freeze(name, text);
}

std::string RuleNode::reason(std::string_view what) const {
  return graph::describe(proto_, index_) + " " + std::string(what);
}

int RuleNode::weight(int input) const {
  return has(input) ? graph_.index.constant(proto_.input(input)) : graph::Index::kNone;
}

std::int64_t RuleNode::normalise(std::int64_t axis, std::size_t rank) {
  const auto count = static_cast<std::int64_t>(rank);
  if (axis < 0) axis += count;
  return axis >= 0 && axis < count ? axis : -1;
}

void RuleNode::finish() {
  const auto text = reason("decides by it");
  for (int i = 0; i < proto_.input_size(); ++i)
    if (!answered_in_[static_cast<std::size_t>(i)]) ties_.atoms.freeze(proto_.input(i), text);
  for (int i = 0; i < proto_.output_size(); ++i)
    if (!answered_out_[static_cast<std::size_t>(i)]) ties_.atoms.freeze(proto_.output(i), text);
}

void tie_same(RuleNode& node, const Axes& x, const Axes& y, std::string_view what) {
  for (std::size_t i = 0; i < std::max(x.size(), y.size()); ++i) {
    if (i < x.size() && i < y.size() && x[i].size == y[i].size) {
      node.tie(x[i], y[i]);
      continue;
    }
    if (i < x.size()) node.freeze(x[i], what);
    if (i < y.size()) node.freeze(y[i], what);
  }
}

bool is_depthwise(const onnx::NodeProto& node, std::int64_t channels) {
  return channels > 1 && graph::int_attribute(node, "group", 1) == channels;
}

void tie_node(const RuleGraph& graph, int index, Ties& ties) {
  RuleNode node(graph, index, ties);
  const auto& proto = node.proto();
  const auto freeze_captures = [&] {
    for (const auto name : graph::captures(proto))
      ties.atoms.freeze(name, node.reason("reads it in a subgraph"));
  };
  freeze_captures();
  for (const auto* names : {&proto.input(), &proto.output()}) {
    for (const auto& name : *names) {
      if (name.empty() || ties.atoms.find(name) != nullptr) continue;
      const bool is_used = graph.index.is_output(name) || !graph.index.uses(name).empty();
      if (is_used) return node.freeze_all("has a value of unknown shape");
    }
  }
  Rule rule = nullptr;
  if (graph::canonical_domain(proto.domain()).empty())
    for (const auto find : {find_weight_rule, find_pointwise_rule, find_layout_rule})
      if (rule == nullptr) rule = find(proto.op_type());
  if (rule == nullptr || proto.output_size() == 0 || proto.output(0).empty())
    return node.freeze_all("is not understood");
  rule(node);
  node.finish();
}

}  // namespace selvage::compress
