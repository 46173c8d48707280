#include "compress/weighted_layer.h"

#include <selvage/onnx.pb.h>

#include "graph/attributes.h"
#include "graph/values.h"

namespace selvage::compress {
namespace {

using graph::Index;

const onnx::TensorProto* float_constant(const onnx::GraphProto& graph, const Index& index,
                                        const std::string& name) {
  const int at = index.constant(name);
  if (at == Index::kNone) return nullptr;
  const auto& tensor = graph.initializer(at);
  return graph::type_of(tensor) == DataType::kFloat32 ? &tensor : nullptr;
}

}  // namespace

std::optional<WeightedLayer> weighted_layer(const onnx::GraphProto& graph, const Index& index,
                                            int at) {
  const auto& node = graph.node(at);
  const bool is_conv = graph::is_op(node, "Conv"), is_gemm = graph::is_op(node, "Gemm");
  if ((!is_conv && !is_gemm) || node.input_size() < 2 || node.output_size() != 1)
    return std::nullopt;
  const auto* weight = float_constant(graph, index, node.input(1));
  if (weight == nullptr || weight->dims_size() < 2) return std::nullopt;
  WeightedLayer layer{.node = at, .weight = node.input(1)};
  const auto size = [&](int axis) { return static_cast<std::size_t>(weight->dims(axis)); };
  if (is_gemm) {
    if (graph::int_attribute(node, "transA", 0) != 0) return std::nullopt;
    layer.outputs_first = graph::int_attribute(node, "transB", 0) != 0;
    layer.outputs = layer.outputs_first ? size(0) : size(1);
    layer.inputs = layer.outputs_first ? size(1) : size(0);
  } else {
    layer.outputs = size(0);
    layer.inputs = size(1);
    for (int axis = 2; axis < weight->dims_size(); ++axis) layer.inner *= size(axis);
    layer.groups = static_cast<std::size_t>(graph::int_attribute(node, "group", 1));
    if (layer.groups == 0 || layer.outputs % layer.groups != 0) return std::nullopt;
  }
  if (node.input_size() > 2 && !node.input(2).empty()) {
    const auto* bias = float_constant(graph, index, node.input(2));
    if (bias != nullptr && bias->dims_size() == 1 &&
        bias->dims(0) == static_cast<std::int64_t>(layer.outputs))
      layer.bias = node.input(2);
  }
  return layer;
}

}  // namespace selvage::compress
