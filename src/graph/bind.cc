#include "graph/bind.h"

#include <algorithm>
#include <string>

#include <selvage/onnx.pb.h>

#include "graph/index.h"
#include "graph/names.h"
#include "graph/rename.h"
#include "graph/values.h"

namespace selvage::graph {
namespace {

Result<void> check_fits(const onnx::ValueInfoProto& input, const TensorView& value) {
  const auto& type = input.type().tensor_type();
  const auto refuse = [&](std::string what) {
    return fail(ErrorCode::kInvalidArgument,
                "input " + quote(input.name()) + " " + std::move(what));
  };
  if (!input.type().has_tensor_type()) return refuse("is no tensor: it cannot be bound");
  if (type.elem_type() != static_cast<int>(value.type))
    return refuse("is not " + std::string(to_string(value.type)));
  if (!type.has_shape()) return {};
  const auto& dims = type.shape().dim();
  bool fits = static_cast<std::size_t>(dims.size()) == value.shape.size();
  for (int i = 0; fits && i < dims.size(); ++i)
    fits =
        !dims[i].has_dim_value() || dims[i].dim_value() == value.shape[static_cast<std::size_t>(i)];
  return fits ? Result<void>() : refuse("has another shape than the value");
}

}  // namespace

Result<void> bind_input(Model& model, std::string_view input, const TensorView& value) {
  auto& graph = *model.proto().mutable_graph();
  const auto found = std::ranges::find(graph.input(), input, &onnx::ValueInfoProto::name);
  if (found == graph.input().end())
    return fail(ErrorCode::kNotFound, "the model has no input " + quote(input));
  SELVAGE_RETURN_IF_ERROR(check_fits(*found, value));
  Index index(graph);
  if (index.is_output(input))
    return fail(ErrorCode::kFailedPrecondition,
                "input " + quote(input) + " is an output, too: it cannot be bound");
  const std::string name(input);
  const auto constant = index.fresh_name(name + "_bound");
  const Renames renames{{name, constant}};
  for (auto& node : *graph.mutable_node()) rename_values(node, renames);
  auto& tensor = *graph.add_initializer();
  tensor.set_name(constant);
  store(tensor, value);
  return {};
}

}  // namespace selvage::graph
