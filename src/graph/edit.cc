#include "graph/edit.h"

#include <string>
#include <unordered_set>

#include <selvage/onnx.pb.h>

namespace selvage::graph {

Result<std::vector<std::byte>> expose_all_values(const Model& model) {
  const auto& graph = model.proto().graph();
  std::unordered_set<std::string_view> known;
  for (const auto& output : graph.output()) known.insert(output.name());
  // Protobuf merges a field that comes twice, so the outputs alone can follow the model: no copy of
  // its tensors is needed.
  onnx::ModelProto addition;
  for (const auto& node : graph.node()) {
    if (node.op_type() == "Constant") continue;
    for (const auto& output : node.output())
      if (!output.empty() && known.insert(output).second)
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

}  // namespace selvage::graph
