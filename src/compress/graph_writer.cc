#include "compress/graph_writer.h"

#include <algorithm>
#include <cstring>

#include <selvage/onnx.pb.h>

#include "graph/erase.h"
#include "graph/index.h"
#include "graph/values.h"

namespace selvage::compress {

onnx::TensorProto& add_tensor(onnx::GraphProto& graph, std::string_view name, DataType type,
                              const Shape& shape, std::span<const std::byte> bytes) {
  auto& tensor = *graph.add_initializer();
  tensor.set_name(std::string(name));
  graph::store(tensor, TensorView{.type = type, .shape = shape, .bytes = bytes, .strings = {}});
  return tensor;
}

std::vector<std::byte> zero_point_bytes(DataType type,
                                        std::span<const QuantizationParameters> parameters) {
  const auto width = std::max<std::size_t>(bits_of(type), 8) / 8;
  std::vector<std::byte> bytes(parameters.size() * width);
  // Little-endian: the first bytes are the low ones.
  for (std::size_t i = 0; i < parameters.size(); ++i)
    std::memcpy(bytes.data() + i * width, &parameters[i].zero_point, width);
  return bits_of(type) == 4 ? pack_4_bits(bytes) : bytes;
}

void erase_nodes(onnx::GraphProto& graph, std::vector<bool> marked) {
  marked.resize(static_cast<std::size_t>(graph.node_size()));
  graph::erase_marked(*graph.mutable_node(), marked);
}

void drop_unused_initialisers(onnx::GraphProto& graph,
                              const std::unordered_set<std::string>& candidates) {
  const graph::Index index(graph);
  std::vector<bool> marked;
  for (const auto& tensor : graph.initializer())
    marked.push_back(candidates.contains(tensor.name()) && index.uses(tensor.name()).empty() &&
                     !index.is_output(tensor.name()));
  graph::erase_marked(*graph.mutable_initializer(), marked);
}

void drop_stale_value_infos(onnx::GraphProto& graph) {
  const graph::Index index(graph);
  std::vector<bool> marked;
  for (const auto& value : graph.value_info())
    marked.push_back(index.producer(value.name()) == graph::Index::kNone &&
                     index.initialiser(value.name()) == graph::Index::kNone &&
                     !index.is_input(value.name()));
  graph::erase_marked(*graph.mutable_value_info(), marked);
}

void import_microsoft_domain(graph::Model& model) {
  auto& imports = *model.proto().mutable_opset_import();
  if (std::ranges::find(imports, kMicrosoftDomain, &onnx::OperatorSetIdProto::domain) !=
      imports.end())
    return;
  auto& added = *imports.Add();
  added.set_domain(std::string(kMicrosoftDomain));
  added.set_version(1);
}

}  // namespace selvage::compress
