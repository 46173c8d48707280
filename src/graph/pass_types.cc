#include <algorithm>
#include <unordered_set>

#include <selvage/onnx.pb.h>

#include "graph/index.h"
#include "graph/passes.h"

namespace selvage::graph {
namespace {

void declare(onnx::ValueInfoProto& value, const std::string& name, const ValueType& type) {
  value.set_name(name);
  auto& tensor = *value.mutable_type()->mutable_tensor_type();
  tensor.set_elem_type(static_cast<int>(type.type));
  auto& dimensions = *tensor.mutable_shape();
  for (std::size_t i = 0; i < type.shape.size(); ++i) {
    auto& dimension = *dimensions.add_dim();
    if (type.shape[i] >= 0) {
      dimension.set_dim_value(type.shape[i]);
    } else if (i < type.symbols.size() && !type.symbols[i].empty()) {
      dimension.set_dim_param(type.symbols[i]);
    }
  }
}

}  // namespace

Result<std::size_t> declare_types(Model& model, const PassContext& context) {
  if (!context.infer_types) return 0;
  SELVAGE_TRY(const auto types, context.infer_types(model));
  auto& graph = *model.proto().mutable_graph();
  std::unordered_set<std::string_view> declared;
  std::size_t edits = 0;
  for (auto& output : *graph.mutable_output()) {
    declared.insert(output.name());
    const auto found = types.find(output.name());
    if (output.has_type() || found == types.end()) continue;
    declare(output, output.name(), found->second);
    ++edits;
  }
  for (const auto& value : graph.value_info()) declared.insert(value.name());
  for (const auto& node : graph.node()) {
    for (const auto& name : node.output()) {
      const auto found = types.find(name);
      if (found == types.end() || declared.contains(name)) continue;
      declare(*graph.add_value_info(), name, found->second);
      ++edits;
    }
  }
  return edits;
}

}  // namespace selvage::graph
