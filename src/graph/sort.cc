#include "graph/sort.h"

#include <numeric>
#include <queue>

#include <selvage/onnx.pb.h>

#include "graph/index.h"

namespace selvage::graph {
namespace {

using Nodes = google::protobuf::RepeatedPtrField<onnx::NodeProto>;

/// The names that `node` reads of its own graph or those around it.
std::vector<std::string_view> reads_of(const onnx::NodeProto& node) {
  auto names = captures(node);
  for (const auto& input : node.input())
    if (!input.empty()) names.push_back(input);
  return names;
}

/// The order after A. B. Kahn (1962), of the ready nodes always the one that came first in the
/// file; then what a cycle holds back.
std::vector<int> sorted_order(const Nodes& nodes) {
  std::unordered_map<std::string_view, int> producers;
  for (int i = 0; i < nodes.size(); ++i)
    for (const auto& output : nodes[i].output())
      if (!output.empty()) producers.emplace(output, i);
  const auto count = static_cast<std::size_t>(nodes.size());
  std::vector<std::vector<int>> readers(count);
  std::vector<std::size_t> waits(count, 0);
  for (int i = 0; i < nodes.size(); ++i) {
    for (const auto name : reads_of(nodes[i])) {
      const auto producer = producers.find(name);
      if (producer == producers.end()) continue;
      readers[static_cast<std::size_t>(producer->second)].push_back(i);
      ++waits[static_cast<std::size_t>(i)];
    }
  }
  std::priority_queue<int, std::vector<int>, std::greater<>> ready;
  for (int i = 0; i < nodes.size(); ++i)
    if (waits[static_cast<std::size_t>(i)] == 0) ready.push(i);
  std::vector<int> order;
  std::vector<bool> placed(count, false);
  while (!ready.empty()) {
    const int next = ready.top();
    ready.pop();
    order.push_back(next);
    placed[static_cast<std::size_t>(next)] = true;
    for (const int reader : readers[static_cast<std::size_t>(next)])
      if (--waits[static_cast<std::size_t>(reader)] == 0) ready.push(reader);
  }
  for (int i = 0; i < nodes.size(); ++i)
    if (!placed[static_cast<std::size_t>(i)]) order.push_back(i);
  return order;
}

/// Whether every node reads only what stands before it, as in nearly all files: the quick answer.
bool is_sorted(const Nodes& nodes) {
  std::unordered_map<std::string_view, int> producers;
  for (int i = 0; i < nodes.size(); ++i)
    for (const auto& output : nodes[i].output()) producers.emplace(output, i);
  for (int i = 0; i < nodes.size(); ++i) {
    for (const auto name : reads_of(nodes[i])) {
      const auto producer = producers.find(name);
      if (producer != producers.end() && producer->second >= i) return false;
    }
  }
  return true;
}

bool sort_one(Nodes& nodes) {
  if (is_sorted(nodes)) return false;
  const auto order = sorted_order(nodes);
  if (std::ranges::is_sorted(order)) return false;  // Only cycles are out of order.
  std::vector<onnx::NodeProto*> taken(static_cast<std::size_t>(nodes.size()));
  nodes.ExtractSubrange(0, nodes.size(), taken.data());
  for (const int i : order) nodes.AddAllocated(taken[static_cast<std::size_t>(i)]);
  return true;
}

bool sort_nested(Nodes& nodes) {
  bool moved = false;
  for (auto& node : nodes) {
    for (auto& attribute : *node.mutable_attribute()) {
      if (attribute.has_g()) moved |= sort_nested(*attribute.mutable_g()->mutable_node());
      for (auto& inner : *attribute.mutable_graphs()) moved |= sort_nested(*inner.mutable_node());
    }
  }
  return sort_one(nodes) || moved;
}

}  // namespace

bool sort_nodes(Model& model) {
  bool moved =
      model.proto().has_graph() && sort_nested(*model.proto().mutable_graph()->mutable_node());
  for (auto& function : *model.proto().mutable_functions())
    moved |= sort_nested(*function.mutable_node());
  return moved;
}

Result<Model> load_checked(const std::filesystem::path& path, const LoadOptions& options,
                           const CheckOptions& limits) {
  SELVAGE_TRY(Model model, Model::load(path, options));
  sort_nodes(model);
  if (auto checked = check(model, limits); !checked)
    return std::unexpected(std::move(checked).error().with_context(path.string()));
  return model;
}

Result<Model> load_whole(const std::filesystem::path& path) {
  SELVAGE_TRY(Model model, load_checked(path));
  SELVAGE_RETURN_IF_ERROR(model.embed());
  return model;
}

}  // namespace selvage::graph
