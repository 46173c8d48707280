#include "graph/edit.h"

#include <functional>
#include <string>
#include <unordered_set>

#include <selvage/onnx.pb.h>

#include "graph/values.h"

namespace selvage::graph {
namespace {

/// Whether a value is to become an output.
using Wanted = std::function<bool(const onnx::NodeProto& node, const std::string& value)>;

Result<std::vector<std::byte>> expose(const Model& model, const Wanted& wanted) {
  const auto& graph = model.proto().graph();
  std::unordered_set<std::string_view> known;
  for (const auto& output : graph.output()) known.insert(output.name());
  // Protobuf merges a field that comes twice, so the outputs alone can follow the model: no copy of
  // its tensors is needed.
  onnx::ModelProto addition;
  for (const auto& node : graph.node()) {
    for (const auto& output : node.output())
      if (!output.empty() && wanted(node, output) && known.insert(output).second)
        addition.mutable_graph()->add_output()->set_name(output);
  }
  const auto count = static_cast<std::size_t>(addition.graph().output_size());
  if (count > kExposedValuesMax)
    return fail(ErrorCode::kOutOfRange, "the model has " + std::to_string(count) +
                                            " values, more than the limit of " +
                                            std::to_string(kExposedValuesMax));
  SELVAGE_TRY(auto bytes, model.serialise());
  if (bytes.size() + addition.ByteSizeLong() > kModelBytesMax)
    return fail(ErrorCode::kOutOfRange,
                "with its values as outputs, the model is larger than 2 GB");
  const auto added = addition.SerializeAsString();
  const auto tail = std::as_bytes(std::span(added));
  bytes.insert(bytes.end(), tail.begin(), tail.end());
  return bytes;
}

}  // namespace

Result<std::vector<std::byte>> expose_all_values(const Model& model) {
  return expose(model, [](const onnx::NodeProto& node, const std::string&) {
    return node.op_type() != "Constant";
  });
}

Result<std::vector<std::byte>> expose_outline(const Model& model) {
  const auto& whole = model.proto();
  const auto& from = whole.graph();
  Model outline;
  auto& proto = outline.proto();
  proto.set_ir_version(whole.ir_version());
  *proto.mutable_opset_import() = whole.opset_import();
  *proto.mutable_functions() = whole.functions();
  auto& graph = *proto.mutable_graph();
  graph.set_name(from.name());
  *graph.mutable_node() = from.node();
  *graph.mutable_input() = from.input();
  *graph.mutable_output() = from.output();
  *graph.mutable_value_info() = from.value_info();
  *graph.mutable_sparse_initializer() = from.sparse_initializer();
  std::unordered_set<std::string_view> inputs;
  for (const auto& input : from.input()) inputs.insert(input.name());
  for (const auto& tensor : from.initializer()) {
    const auto bytes = byte_size(type_of(tensor), shape_of(tensor));
    if (!bytes || *bytes < kExternalTensorBytesMin) {
      auto& small = *graph.add_initializer();
      small = tensor;
      if (tensor.data_location() == onnx::TensorProto::EXTERNAL)
        SELVAGE_RETURN_IF_ERROR(edit_bytes(small, model.folder()));
    } else if (!inputs.contains(tensor.name())) {
      auto& input = *graph.add_input();
      input.set_name(tensor.name());
      auto& type = *input.mutable_type()->mutable_tensor_type();
      type.set_elem_type(tensor.data_type());
      for (const auto size : tensor.dims()) type.mutable_shape()->add_dim()->set_dim_value(size);
    }
  }
  return expose_all_values(outline);
}

Result<std::vector<std::byte>> expose_values(const Model& model,
                                             std::span<const std::string> values) {
  const std::unordered_set<std::string_view> chosen(values.begin(), values.end());
  return expose(model, [&](const onnx::NodeProto&, const std::string& value) {
    return chosen.contains(value);
  });
}

}  // namespace selvage::graph
