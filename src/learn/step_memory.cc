#include "learn/step_memory.h"

#include <algorithm>
#include <string_view>
#include <unordered_set>

#include <selvage/onnx.pb.h>

namespace selvage::learn {
namespace {

/// Whose result is their input's memory.
bool is_alias(const onnx::NodeProto& node) {
  constexpr std::string_view kAliases[] = {"Identity", "Reshape", "Flatten", "Squeeze",
                                           "Unsqueeze"};
  return node.domain().empty() && std::ranges::find(kAliases, node.op_type()) != std::end(kAliases);
}

class Liveness {
 public:
  Liveness(const onnx::GraphProto& graph, const ValueTypes& types) : graph_(graph), types_(types) {
    for (int i = 0; i < graph.node_size(); ++i)
      for (const auto& output : graph.node(i).output())
        if (!output.empty()) producer_.emplace(output, i);
    for (const auto& output : graph.output()) outside_.insert(root(output.name()));
    order_nodes();
  }

  std::uint64_t peak() {
    std::unordered_map<std::string_view, std::size_t> last;  // The step that a value dies in.
    for (std::size_t step = 0; step < order_.size(); ++step) {
      const auto& node = graph_.node(order_[step]);
      for (const auto& output : node.output()) last.try_emplace(root(output), step);
      for (const auto& input : node.input()) last[root(input)] = step;
    }
    std::vector<std::uint64_t> freed(order_.size(), 0);
    std::uint64_t alive = 0, most = 0;
    for (std::size_t step = 0; step < order_.size(); ++step) {
      const auto& node = graph_.node(order_[step]);
      if (!is_alias(node))
        for (const auto& output : node.output()) {
          const auto bytes = bytes_of(output);
          alive += bytes;
          freed[last[output]] += bytes;
        }
      most = std::max(most, alive);
      alive -= freed[step];
    }
    return most;
  }

 private:
  /// The value whose memory this one is.
  std::string_view root(std::string_view value) const {
    for (;;) {
      const auto found = producer_.find(value);
      if (found == producer_.end() || !is_alias(graph_.node(found->second))) return value;
      value = graph_.node(found->second).input(0);
    }
  }

  std::uint64_t bytes_of(const std::string& value) const {
    const auto type = types_.find(value);
    if (value.empty() || outside_.contains(value) || type == types_.end()) return 0;
    return byte_size(type->second.type, type->second.shape).value_or(0);
  }

  /// As ONNX Runtime's default order: what the last leaf needs comes first, and of a node's inputs
  /// the one that stands last in the graph.
  void order_nodes() {
    std::unordered_set<std::string_view> read;
    for (const auto& node : graph_.node()) read.insert(node.input().begin(), node.input().end());
    struct Entry {
      int node;
      bool leaves;  ///< All that it needs has been taken.
    };
    std::vector<Entry> stack;
    for (int i = 0; i < graph_.node_size(); ++i)
      if (std::ranges::none_of(graph_.node(i).output(),
                               [&](const auto& output) { return read.contains(output); }))
        stack.push_back({i, false});
    std::vector<bool> visited(static_cast<std::size_t>(graph_.node_size()), false);
    while (!stack.empty()) {
      const auto [index, leaves] = stack.back();
      stack.pop_back();
      if (leaves) order_.push_back(index);
      if (leaves || visited[static_cast<std::size_t>(index)]) continue;
      visited[static_cast<std::size_t>(index)] = true;
      stack.push_back({index, true});
      std::vector<int> needed;
      for (const auto& input : graph_.node(index).input())
        if (const auto found = producer_.find(input); found != producer_.end())
          needed.push_back(found->second);
      std::ranges::sort(needed);
      for (const int node : needed)
        if (!visited[static_cast<std::size_t>(node)]) stack.push_back({node, false});
    }
  }

  const onnx::GraphProto& graph_;
  const ValueTypes& types_;
  std::unordered_map<std::string_view, int> producer_;
  std::unordered_set<std::string_view> outside_;  ///< In memory of the caller.
  std::vector<int> order_;
};

}  // namespace

std::uint64_t activation_bytes(const onnx::GraphProto& graph, const ValueTypes& types) {
  return Liveness(graph, types).peak();
}

}  // namespace selvage::learn
