// Visits everything of a kind in a model, subgraphs included. Internal to this folder. Recursion is
// bounded for every model that was loaded: kMessageDepthMax.
#pragma once

#include <concepts>

#include <selvage/onnx.pb.h>

namespace selvage::graph {

template <std::invocable<const onnx::NodeProto&> Visit>
void for_each_node(const onnx::NodeProto& node, Visit& visit);

/// Calls `visit` for every node in the file's order, a node before those of its subgraphs.
template <std::invocable<const onnx::NodeProto&> Visit>
void for_each_node(const onnx::GraphProto& graph, Visit& visit) {
  for (const auto& node : graph.node()) for_each_node(node, visit);
}

template <std::invocable<const onnx::NodeProto&> Visit>
void for_each_node(const onnx::NodeProto& node, Visit& visit) {
  visit(node);
  for (const auto& attribute : node.attribute()) {
    if (attribute.has_g()) for_each_node(attribute.g(), visit);
    for (const auto& graph : attribute.graphs()) for_each_node(graph, visit);
  }
}

/// Calls `visit` for the main graph and every graph in it, outer before inner.
template <std::invocable<const onnx::GraphProto&> Visit>
void for_each_graph(const onnx::GraphProto& graph, Visit& visit) {
  visit(graph);
  for (const auto& node : graph.node()) {
    for (const auto& attribute : node.attribute()) {
      if (attribute.has_g()) for_each_graph(attribute.g(), visit);
      for (const auto& inner : attribute.graphs()) for_each_graph(inner, visit);
    }
  }
}

/// Calls `visit` for every tensor that a model stores: initialisers, sparse ones' parts, and those
/// in attributes; of graphs, functions and training information.
template <std::invocable<const onnx::TensorProto&> Visit>
void for_each_tensor(const onnx::ModelProto& model, Visit visit) {
  const auto sparse = [&](const onnx::SparseTensorProto& tensor) {
    visit(tensor.values());
    visit(tensor.indices());
  };
  auto attributes = [&](const onnx::NodeProto& node) {
    for (const auto& attribute : node.attribute()) {
      if (attribute.has_t()) visit(attribute.t());
      for (const auto& tensor : attribute.tensors()) visit(tensor);
      if (attribute.has_sparse_tensor()) sparse(attribute.sparse_tensor());
      for (const auto& tensor : attribute.sparse_tensors()) sparse(tensor);
    }
  };
  auto initialisers = [&](const onnx::GraphProto& graph) {
    for (const auto& tensor : graph.initializer()) visit(tensor);
    for (const auto& tensor : graph.sparse_initializer()) sparse(tensor);
    for (const auto& node : graph.node()) attributes(node);
  };
  for_each_graph(model.graph(), initialisers);
  for (const auto& training : model.training_info()) {
    for_each_graph(training.initialization(), initialisers);
    for_each_graph(training.algorithm(), initialisers);
  }
  for (const auto& function : model.functions()) {
    for (const auto& node : function.node()) {
      attributes(node);
      for (const auto& attribute : node.attribute()) {
        if (attribute.has_g()) for_each_graph(attribute.g(), initialisers);
        for (const auto& graph : attribute.graphs()) for_each_graph(graph, initialisers);
      }
    }
  }
}

}  // namespace selvage::graph
