#include "compress/open_weights.h"

#include <algorithm>
#include <unordered_map>
#include <unordered_set>

#include <selvage/onnx.pb.h>

#include "compress/graph_writer.h"
#include "compress/quantization.h"
#include "graph/attributes.h"
#include "graph/index.h"
#include "graph/sort.h"
#include "graph/values.h"

namespace selvage::compress {
namespace {

using graph::Index;

/// The float tensor that a stored integer tensor was made of; null if there is none.
const onnx::TensorProto* original_of(const onnx::TensorProto& stored, const graph::Model& floats,
                                     const Index& index) {
  if (!is_quantized_type(graph::type_of(stored)) || !stored.name().ends_with(kQuantizedSuffix))
    return nullptr;
  const auto stem = stored.name().substr(0, stored.name().size() - kQuantizedSuffix.size());
  const int at = index.constant(stem);
  if (at == Index::kNone) return nullptr;
  const auto& original = floats.proto().graph().initializer(at);
  const bool fits = graph::type_of(original) == DataType::kFloat32 &&
                    graph::shape_of(original) == graph::shape_of(stored);
  return fits ? &original : nullptr;
}

/// Scales and zero points of a QuantizeLinear, from the model.
Result<std::vector<QuantizationParameters>> parameters_of(const graph::Model& model,
                                                          const Index& index,
                                                          const onnx::NodeProto& node) {
  const auto& graph = model.proto().graph();
  SELVAGE_TRY(const auto scales,
              graph::read_floats(graph.initializer(index.constant(node.input(1))), model.folder()));
  std::vector<QuantizationParameters> parameters(scales.size());
  for (std::size_t i = 0; i < scales.size(); ++i) parameters[i].scale = scales[i];
  SELVAGE_TRY(
      const auto points,
      graph::read_integers(graph.initializer(index.constant(node.input(2))), model.folder()));
  for (std::size_t i = 0; i < std::min(points.size(), parameters.size()); ++i)
    parameters[i].zero_point = static_cast<std::int32_t>(points[i]);
  return parameters;
}

/// A float weight in the model, and the node that rounds it.
struct OpenWeight {
  int node = 0;
  int initialiser = 0;
  QuantizedTensor value;
};

Result<std::vector<OpenWeight>> find_open(const graph::Model& model, const Index& index) {
  const auto& graph = model.proto().graph();
  std::vector<OpenWeight> found;
  for (int i = 0; i < graph.node_size(); ++i) {
    const auto& node = graph.node(i);
    if (node.op_type() != "QuantizeLinear" || node.input_size() < 3) continue;
    const int weight = index.constant(node.input(0));
    if (weight == Index::kNone || index.constant(node.input(1)) == Index::kNone) continue;
    const int zeros = index.constant(node.input(2));
    if (zeros == Index::kNone) continue;
    const auto& tensor = graph.initializer(weight);
    SELVAGE_TRY(const auto values, graph::read_floats(tensor, model.folder()));
    if (!graph::all_finite(values))
      return fail(ErrorCode::kInvalidArgument,
                  "weight '" + tensor.name() + "' holds what is no number: it cannot be quantised");
    SELVAGE_TRY(auto parameters, parameters_of(model, index, node));
    std::optional<std::size_t> axis;
    if (parameters.size() > 1)
      axis = static_cast<std::size_t>(graph::int_attribute(node, "axis", 1));
    found.push_back(
        {i, weight,
         quantize_weight(values, graph::shape_of(tensor), graph::type_of(graph.initializer(zeros)),
                         std::move(parameters), axis)});
  }
  return found;
}

}  // namespace

Result<std::size_t> open_weights(graph::Model& quantized, const graph::Model& floats) {
  auto& graph = *quantized.proto().mutable_graph();
  const Index index(graph), original_index(floats.proto().graph());
  std::vector<onnx::NodeProto> added;
  for (const auto& node : graph.node()) {
    if (node.op_type() != "DequantizeLinear" || node.input_size() < 3) continue;
    const int at = index.constant(node.input(0));
    if (at == Index::kNone) continue;
    auto& stored = *graph.mutable_initializer(at);
    const auto* original = original_of(stored, floats, original_index);
    if (original == nullptr) continue;
    SELVAGE_TRY(const auto values, graph::read_floats(*original, floats.folder()));
    auto& rounding = added.emplace_back(node);
    rounding.set_op_type("QuantizeLinear");
    rounding.set_name(stored.name());
    rounding.set_input(0, original->name());
    rounding.set_output(0, stored.name());
    graph::store_floats(stored, DataType::kFloat32, graph::shape_of(stored), values);
    stored.set_name(original->name());
  }
  if (added.empty())
    return fail(ErrorCode::kFailedPrecondition,
                "the quantised model has no integer weights that could be trained");
  for (auto& node : added) *graph.add_node() = std::move(node);
  graph::sort_nodes(quantized);
  return added.size();
}

Result<std::size_t> close_weights(graph::Model& model) {
  auto& graph = *model.proto().mutable_graph();
  const Index index(graph);
  SELVAGE_TRY(const auto found, find_open(model, index));
  std::vector<bool> marked(static_cast<std::size_t>(graph.node_size()));
  std::unordered_set<std::string> replaced;
  for (const auto& [node, initialiser, value] : found) {
    marked[static_cast<std::size_t>(node)] = true;
    replaced.insert(graph.initializer(initialiser).name());
    add_tensor(graph, graph.node(node).output(0), value.type, value.shape, value.bytes);
  }
  erase_nodes(graph, std::move(marked));
  drop_unused_initialisers(graph, replaced);
  drop_stale_value_infos(graph);
  return found.size();
}

}  // namespace selvage::compress
