#include "learn/opset.h"

#include <algorithm>
#include <functional>
#include <string>
#include <string_view>
#include <unordered_map>

#include <selvage/onnx.pb.h>

namespace selvage::learn {
namespace {

using onnx::NodeProto;

constexpr std::string_view kReductions[] = {"ReduceMax",    "ReduceMean",      "ReduceMin",
                                            "ReduceProd",   "ReduceL1",        "ReduceL2",
                                            "ReduceLogSum", "ReduceLogSumExp", "ReduceSumSquare"};

/// Rewrites one graph's nodes; changed nodes may need others beside them.
class Raiser {
 public:
  Raiser(onnx::GraphProto& graph, const ValueTypes& types, std::int64_t from)
      : graph_(graph), types_(types), from_(from) {}

  Result<void> run();

 private:
  using Rewrite = Result<void> (Raiser::*)(NodeProto&);

  static const onnx::AttributeProto* find(const NodeProto& node, std::string_view name) {
    for (const auto& attribute : node.attribute())
      if (attribute.name() == name) return &attribute;
    return nullptr;
  }
  static void erase(NodeProto& node, std::string_view name) {
    auto& attributes = *node.mutable_attribute();
    for (int i = attributes.size() - 1; i >= 0; --i)
      if (attributes[i].name() == name) attributes.DeleteSubrange(i, 1);
  }
  static void set_int(NodeProto& node, const char* name, std::int64_t value) {
    erase(node, name);
    auto& attribute = *node.add_attribute();
    attribute.set_name(name);
    attribute.set_type(onnx::AttributeProto::INT);
    attribute.set_i(value);
  }
  static void set_string(NodeProto& node, const char* name, const char* value) {
    erase(node, name);
    auto& attribute = *node.add_attribute();
    attribute.set_name(name);
    attribute.set_type(onnx::AttributeProto::STRING);
    attribute.set_s(value);
  }
  static void set_input(NodeProto& node, int index, const std::string& name) {
    while (node.input_size() <= index) node.add_input("");
    node.set_input(index, name);
  }
  std::string unique() { return "opset18/constant_" + std::to_string(counter_++); }
  std::string add_ints(std::span<const std::int64_t> values) {
    auto& tensor = *graph_.add_initializer();
    tensor.set_name(unique());
    tensor.set_data_type(onnx::TensorProto::INT64);
    tensor.add_dims(std::ssize(values));
    tensor.set_raw_data(values.data(), values.size_bytes());
    return tensor.name();
  }
  std::string add_float(float value) {
    auto& tensor = *graph_.add_initializer();
    tensor.set_name(unique());
    tensor.set_data_type(onnx::TensorProto::FLOAT);
    tensor.set_raw_data(&value, sizeof value);
    return tensor.name();
  }
  /// Moves an attribute of integers to input `index`, if the node has it.
  void ints_to_input(NodeProto& node, const char* name, int index) {
    const auto* attribute = find(node, name);
    if (attribute == nullptr) return;
    const std::vector<std::int64_t> values(attribute->ints().begin(), attribute->ints().end());
    set_input(node, index, add_ints(values));
    erase(node, name);
  }
  void float_to_input(NodeProto& node, const char* name, int index) {
    const auto* attribute = find(node, name);
    if (attribute == nullptr) return;
    set_input(node, index, add_float(attribute->f()));
    erase(node, name);
  }

  Result<void> rewrite(NodeProto& node);
  Result<void> rewrite_softmax(NodeProto& node);
  void rewrite_upsample(NodeProto& node);

  onnx::GraphProto& graph_;
  const ValueTypes& types_;
  const std::int64_t from_;
  std::vector<NodeProto> before_, after_;  ///< Of the node that is rewritten.
  int counter_ = 0;
};

/// Until opset 12 the axes from `axis` on were one: the same as today only for the last.
Result<void> Raiser::rewrite_softmax(NodeProto& node) {
  const auto* attribute = find(node, "axis");
  const auto type = types_.find(node.input(0));
  if (type == types_.end())
    return fail(ErrorCode::kUnimplemented,
                node.op_type() + " '" + node.name() + "': the rank of '" + node.input(0) +
                    "' is not known; export the model with opset 13 or later");
  const auto& shape = type->second.shape;
  const auto rank = std::ssize(shape);
  auto axis = attribute == nullptr ? 1 : attribute->i();
  if (axis < 0) axis += rank;
  set_int(node, "axis", -1);
  if (axis >= rank - 1) return {};
  std::int64_t rows = 1;
  for (std::int64_t i = 0; i < axis; ++i) rows *= shape[static_cast<std::size_t>(i)];
  const auto reshape = [&](std::vector<NodeProto>& nodes, const std::string& from,
                           const std::string& to, std::span<const std::int64_t> target) {
    auto& added = nodes.emplace_back();
    added.set_op_type("Reshape");
    added.set_name(to);
    added.add_input(from);
    added.add_input(add_ints(target));
    added.add_output(to);
  };
  const std::string flat = unique(), result = unique();
  const std::int64_t rows_columns[] = {rows, -1};
  reshape(before_, node.input(0), flat, rows_columns);
  reshape(after_, result, node.output(0), shape);
  node.set_input(0, flat);
  node.set_output(0, result);
  return {};
}

/// Upsample, and Resize of opset 10: scales only, corners at the origin.
void Raiser::rewrite_upsample(NodeProto& node) {
  if (const auto* scales = find(node, "scales"); scales != nullptr) {
    const std::vector<float> values(scales->floats().begin(), scales->floats().end());
    auto& tensor = *graph_.add_initializer();
    tensor.set_name(unique());
    tensor.set_data_type(onnx::TensorProto::FLOAT);
    tensor.add_dims(std::ssize(values));
    tensor.set_raw_data(values.data(), values.size() * sizeof(float));
    set_input(node, 1, tensor.name());
    erase(node, "scales");
  }
  set_input(node, 2, node.input(1));
  node.set_input(1, "");
  node.set_op_type("Resize");
  set_string(node, "coordinate_transformation_mode", "asymmetric");
  set_string(node, "nearest_mode", "floor");
}

Result<void> Raiser::rewrite(NodeProto& node) {
  const std::string_view op = node.op_type();
  const auto is_before = [&](std::int64_t version) { return from_ < version; };
  for (const auto& attribute : node.attribute())
    if (attribute.has_g() || attribute.graphs_size() > 0)
      return fail(ErrorCode::kUnimplemented,
                  node.op_type() + " '" + node.name() + "' with a subgraph, in a model of opset " +
                      std::to_string(from_) + ": export it with opset 18 or later to train it");
  if ((op == "Softmax" || op == "LogSoftmax") && is_before(13)) return rewrite_softmax(node);
  if ((op == "Squeeze" || op == "Unsqueeze" || op == "ReduceSum") && is_before(13))
    ints_to_input(node, "axes", 1);
  if (std::ranges::find(kReductions, op) != std::end(kReductions)) ints_to_input(node, "axes", 1);
  if (op == "Split") {
    if (is_before(13)) ints_to_input(node, "split", 1);
    if (node.input_size() < 2 || node.input(1).empty())
      set_int(node, "num_outputs", node.output_size());
  }
  if (op == "Dropout" && is_before(12)) float_to_input(node, "ratio", 1);
  if (op == "Clip" && is_before(11)) {
    float_to_input(node, "min", 1);
    float_to_input(node, "max", 2);
  }
  if (op == "Pad" && is_before(11)) {
    ints_to_input(node, "pads", 1);
    float_to_input(node, "value", 2);
  }
  if (op == "Slice" && is_before(10)) {
    ints_to_input(node, "starts", 1);
    ints_to_input(node, "ends", 2);
    ints_to_input(node, "axes", 3);
  }
  if (op == "TopK" && is_before(10)) {
    if (const auto* k = find(node, "k"); k != nullptr) {
      const std::int64_t count[] = {k->i()};
      set_input(node, 1, add_ints(count));
      erase(node, "k");
    }
  }
  if (op == "BatchNormalization" && is_before(9)) erase(node, "spatial");
  if (op == "Scatter") node.set_op_type("ScatterElements");
  if (op == "Upsample" || (op == "Resize" && is_before(11))) rewrite_upsample(node);
  return {};
}

Result<void> Raiser::run() {
  google::protobuf::RepeatedPtrField<NodeProto> nodes;
  nodes.Swap(graph_.mutable_node());
  for (auto& node : nodes) {
    before_.clear();
    after_.clear();
    if (node.domain().empty() || node.domain() == "ai.onnx") SELVAGE_RETURN_IF_ERROR(rewrite(node));
    for (auto& added : before_) *graph_.add_node() = std::move(added);
    *graph_.add_node() = std::move(node);
    for (auto& added : after_) *graph_.add_node() = std::move(added);
  }
  return {};
}

}  // namespace

std::int64_t opset_of(const onnx::ModelProto& model) {
  for (const auto& import : model.opset_import())
    if (import.domain().empty() || import.domain() == "ai.onnx") return import.version();
  return 0;
}

Result<void> raise_opset(onnx::ModelProto& model, const ValueTypes& types) {
  const auto from = opset_of(model);
  if (from >= kGradientOpset) return {};
  if (from < kOldestOpset)
    return fail(ErrorCode::kUnimplemented, "a model of opset " + std::to_string(from) +
                                               " cannot be trained: export it with opset " +
                                               std::to_string(kOldestOpset) + " or later");
  SELVAGE_RETURN_IF_ERROR(Raiser(*model.mutable_graph(), types, from).run());
  for (auto& import : *model.mutable_opset_import())
    if (import.domain().empty() || import.domain() == "ai.onnx") import.set_version(kGradientOpset);
  model.set_ir_version(std::max<std::int64_t>(model.ir_version(), 8));
  return {};
}

}  // namespace selvage::learn
