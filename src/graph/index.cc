#include "graph/index.h"

#include <selvage/onnx.pb.h>

#include "graph/names.h"
#include "graph/walk.h"

namespace selvage::graph {
namespace {

/// Names that one graph defines: the scope for the graphs inside it.
struct Scope {
  const Scope* outer = nullptr;
  std::unordered_set<std::string_view> names = {};

  [[nodiscard]] bool has(std::string_view name) const {
    return names.contains(name) || (outer != nullptr && outer->has(name));
  }
};

class CaptureFinder {
 public:
  std::vector<std::string_view> take() { return std::move(found_); }

  void visit(const onnx::GraphProto& graph, const Scope* outer) {
    Scope scope{.outer = outer};
    for (const auto& input : graph.input()) scope.names.insert(input.name());
    for (const auto& tensor : graph.initializer()) scope.names.insert(tensor.name());
    for (const auto& tensor : graph.sparse_initializer())
      scope.names.insert(tensor.values().name());
    for (const auto& node : graph.node())
      for (const auto& output : node.output()) scope.names.insert(output);
    for (const auto& node : graph.node()) {
      for (const auto& input : node.input()) add(input, scope);
      for (const auto& attribute : node.attribute()) {
        if (attribute.has_g()) visit(attribute.g(), &scope);
        for (const auto& inner : attribute.graphs()) visit(inner, &scope);
      }
    }
    for (const auto& output : graph.output()) add(output.name(), scope);
  }

 private:
  void add(std::string_view name, const Scope& scope) {
    if (!name.empty() && !scope.has(name) && seen_.insert(name).second) found_.push_back(name);
  }

  std::unordered_set<std::string_view> seen_;
  std::vector<std::string_view> found_;
};

}  // namespace

std::vector<std::string_view> captures(const onnx::NodeProto& node) {
  CaptureFinder finder;
  for (const auto& attribute : node.attribute()) {
    if (attribute.has_g()) finder.visit(attribute.g(), nullptr);
    for (const auto& inner : attribute.graphs()) finder.visit(inner, nullptr);
  }
  return finder.take();
}

bool is_op(const onnx::NodeProto& node, std::string_view type) {
  return node.op_type() == type && canonical_domain(node.domain()).empty();
}

std::string_view Index::own(std::string_view name) {
  return *names_.emplace(name).first;
}

Index::Index(const onnx::GraphProto& graph) {
  for (const auto& input : graph.input()) inputs_.insert(own(input.name()));
  for (const auto& output : graph.output()) outputs_.insert(own(output.name()));
  for (int i = 0; i < graph.initializer_size(); ++i)
    initialisers_.emplace(own(graph.initializer(i).name()), i);
  for (int i = 0; i < graph.node_size(); ++i) {
    const auto& node = graph.node(i);
    for (int k = 0; k < node.input_size(); ++k)
      if (!node.input(k).empty()) uses_[own(node.input(k))].push_back({.node = i, .input = k});
    for (const auto name : captures(node))
      uses_[own(name)].push_back({.node = i, .input = Use::kCapture});
    for (const auto& output : node.output())
      if (!output.empty()) producers_.emplace(own(output), i);
  }
  auto own_names = [this](const onnx::GraphProto& inner) {
    for (const auto& input : inner.input()) own(input.name());
    for (const auto& output : inner.output()) own(output.name());
    for (const auto& tensor : inner.initializer()) own(tensor.name());
    for (const auto& tensor : inner.sparse_initializer()) own(tensor.values().name());
    for (const auto& node : inner.node())
      for (const auto& output : node.output()) own(output);
  };
  for_each_graph(graph, own_names);
}

int Index::producer(std::string_view value) const {
  const auto found = producers_.find(value);
  return found == producers_.end() ? kNone : found->second;
}

std::span<const Use> Index::uses(std::string_view value) const {
  const auto found = uses_.find(value);
  return found == uses_.end() ? std::span<const Use>() : found->second;
}

int Index::initialiser(std::string_view value) const {
  const auto found = initialisers_.find(value);
  return found == initialisers_.end() ? kNone : found->second;
}

int Index::constant(std::string_view value) const {
  return is_input(value) ? kNone : initialiser(value);
}

bool Index::has_one_reader(std::string_view value) const {
  const auto readers = uses(value);
  return readers.size() == 1 && readers[0].input != Use::kCapture && !is_output(value);
}

std::string Index::fresh_name(std::string_view stem) {
  std::string name(stem);
  for (int i = 1; !names_.insert(name).second; ++i)
    name = std::string(stem) + "_" + std::to_string(i);
  return name;
}

}  // namespace selvage::graph
