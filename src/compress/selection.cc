#include "compress/selection.h"

#include <algorithm>

#include <selvage/onnx.pb.h>

namespace selvage::compress {
namespace {

constexpr std::string_view kMicrosoft = "com.microsoft";

bool is_known_domain(const onnx::NodeProto& node) {
  return node.domain().empty() || node.domain() == "ai.onnx" || node.domain() == kMicrosoft;
}

std::string listed(std::span<const std::string> words) {
  std::string text;
  for (const auto& word : words) text += (text.empty() ? "" : ", ") + word;
  return text;
}

}  // namespace

std::string node_label(const onnx::NodeProto& node, int index) {
  return node.name().empty() ? "#" + std::to_string(index + 1) : node.name();
}

Result<Selector> Selector::create(const NodeSelection& selection, const onnx::GraphProto& graph,
                                  std::span<const std::string> defaults,
                                  std::span<const std::string> supported) {
  std::unordered_set<std::string> names, types;
  for (int i = 0; i < graph.node_size(); ++i) {
    names.insert(node_label(graph.node(i), i));
    types.insert(graph.node(i).op_type());
  }
  for (const auto* list : {&selection.nodes, &selection.excluded_nodes})
    for (const auto& name : *list)
      if (!names.contains(name))
        return fail(ErrorCode::kInvalidArgument,
                    "the model has no node '" + name + "': see `selvage inspect`");
  for (const auto& type : selection.types)
    if (std::ranges::find(supported, type) == supported.end())
      return fail(
          ErrorCode::kInvalidArgument,
          "operators of type '" + type + "' cannot be quantised: choose from " + listed(supported));
  for (const auto& type : selection.excluded_types)
    if (!types.contains(type))
      return fail(ErrorCode::kInvalidArgument, "the model has no operator of type '" + type + "'");
  const auto chosen = selection.types.empty() ? defaults : std::span(selection.types);
  Selector selector;
  selector.types_.insert(chosen.begin(), chosen.end());
  selector.nodes_.insert(selection.nodes.begin(), selection.nodes.end());
  selector.excluded_types_.insert(selection.excluded_types.begin(), selection.excluded_types.end());
  selector.excluded_nodes_.insert(selection.excluded_nodes.begin(), selection.excluded_nodes.end());
  return selector;
}

bool Selector::takes(const onnx::NodeProto& node, int index) const {
  if (!is_known_domain(node) || !types_.contains(node.op_type())) return false;
  const auto label = node_label(node, index);
  return !excluded_types_.contains(node.op_type()) && !excluded_nodes_.contains(label) &&
         (nodes_.empty() || nodes_.contains(label));
}

std::string Selector::reason(const onnx::NodeProto& node, int index) const {
  if (!is_known_domain(node)) return "operators of " + node.domain() + " are not known";
  if (excluded_types_.contains(node.op_type()) || excluded_nodes_.contains(node_label(node, index)))
    return "excluded";
  if (!types_.contains(node.op_type())) return "operators of this type stay in float";
  return "not chosen";
}

}  // namespace selvage::compress
