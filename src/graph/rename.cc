#include "graph/rename.h"

#include <selvage/onnx.pb.h>

#include "graph/index.h"

namespace selvage::graph {
namespace {

void rename_to(std::string& name, const Renames& renames) {
  if (const auto found = renames.find(name); found != renames.end()) name = found->second;
}

/// Calls `visit` with every name that the graph itself defines.
template <typename Visit>
void for_each_definition(const onnx::GraphProto& graph, const Visit& visit) {
  for (const auto& input : graph.input()) visit(input.name());
  for (const auto& tensor : graph.initializer()) visit(tensor.name());
  for (const auto& tensor : graph.sparse_initializer()) visit(tensor.values().name());
  for (const auto& node : graph.node())
    for (const auto& output : node.output())
      if (!output.empty()) visit(output);
}

/// `names` null: definitions keep their names.
void rename_inside(onnx::NodeProto& node, const Renames& renames, Index* names);

void rename_all(onnx::GraphProto& graph, const Renames& renames, Index* names) {
  for (auto& input : *graph.mutable_input()) rename_to(*input.mutable_name(), renames);
  for (auto& output : *graph.mutable_output()) rename_to(*output.mutable_name(), renames);
  for (auto& info : *graph.mutable_value_info()) rename_to(*info.mutable_name(), renames);
  for (auto& tensor : *graph.mutable_initializer()) rename_to(*tensor.mutable_name(), renames);
  for (auto& tensor : *graph.mutable_sparse_initializer())
    rename_to(*tensor.mutable_values()->mutable_name(), renames);
  for (auto& annotation : *graph.mutable_quantization_annotation())
    rename_to(*annotation.mutable_tensor_name(), renames);
  for (auto& node : *graph.mutable_node()) rename_inside(node, renames, names);
}

/// A subgraph: what it defines hides what `renames` says of the same name.
void rename_subgraph(onnx::GraphProto& graph, Renames renames, Index* names) {
  for_each_definition(graph, [&](const std::string& name) {
    if (names != nullptr)
      renames.insert_or_assign(name, names->fresh_name(name));
    else
      renames.erase(name);
  });
  if (!renames.empty()) rename_all(graph, renames, names);
}

void rename_inside(onnx::NodeProto& node, const Renames& renames, Index* names) {
  for (auto& name : *node.mutable_input()) rename_to(name, renames);
  for (auto& name : *node.mutable_output()) rename_to(name, renames);
  for (auto& attribute : *node.mutable_attribute()) {
    if (attribute.has_g()) rename_subgraph(*attribute.mutable_g(), renames, names);
    for (auto& graph : *attribute.mutable_graphs()) rename_subgraph(graph, renames, names);
  }
}

}  // namespace

void rename_values(onnx::NodeProto& node, const Renames& renames) {
  rename_inside(node, renames, nullptr);
}

void rename_definitions(onnx::GraphProto& graph, Renames renames, Index& names) {
  for_each_definition(graph, [&](const std::string& name) {
    if (!renames.contains(name)) renames.emplace(name, names.fresh_name(name));
  });
  rename_all(graph, renames, &names);
}

}  // namespace selvage::graph
