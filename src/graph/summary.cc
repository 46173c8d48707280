#include "graph/summary.h"

#include <algorithm>
#include <map>
#include <set>
#include <tuple>

#include <selvage/onnx.pb.h>

#include "graph/macs.h"
#include "graph/names.h"
#include "graph/walk.h"

namespace selvage::graph {
namespace {

std::string type_name(std::int32_t number) {
  const bool is_known = number > 0 && number <= static_cast<int>(DataType::kFloat4E2M1);
  return is_known ? std::string(to_string(static_cast<DataType>(number)))
                  : "type " + std::to_string(number);
}

// Types nest at most as deep as messages may (kMessageDepthMax).
std::string type_name(const onnx::TypeProto& type) {
  switch (type.value_case()) {
    case onnx::TypeProto::kTensorType: return type_name(type.tensor_type().elem_type());
    case onnx::TypeProto::kSparseTensorType:
      return "sparse(" + type_name(type.sparse_tensor_type().elem_type()) + ")";
    case onnx::TypeProto::kSequenceType:
      return "sequence(" + type_name(type.sequence_type().elem_type()) + ")";
    case onnx::TypeProto::kOptionalType:
      return "optional(" + type_name(type.optional_type().elem_type()) + ")";
    case onnx::TypeProto::kMapType:
      return "map(" + type_name(type.map_type().key_type()) + ", " +
             type_name(type.map_type().value_type()) + ")";
    case onnx::TypeProto::VALUE_NOT_SET: break;
  }
  return "unknown";
}

const onnx::TensorShapeProto* shape_of(const onnx::TypeProto& type) {
  if (type.has_tensor_type() && type.tensor_type().has_shape()) return &type.tensor_type().shape();
  if (type.has_sparse_tensor_type() && type.sparse_tensor_type().has_shape())
    return &type.sparse_tensor_type().shape();
  return nullptr;
}

ValueSummary summarise_value(const onnx::ValueInfoProto& value) {
  ValueSummary summary{.name = value.name(), .type = type_name(value.type()), .shape = {}};
  if (const auto* shape = shape_of(value.type())) {
    summary.shape.emplace();
    for (const auto& dimension : shape->dim()) {
      const bool is_fixed = dimension.has_dim_value() && dimension.dim_value() >= 0;
      summary.shape->push_back(
          {.size = is_fixed ? dimension.dim_value() : -1, .symbol = dimension.dim_param()});
    }
  }
  return summary;
}

std::string joined(const std::string& a, const std::string& b) {
  return a.empty() || b.empty() ? a + b : a + " " + b;
}

/// Shapes of one graph's values. Names of a subgraph may repeat in its sibling with another shape,
/// so each graph has its own, and asks the one around it for the rest.
class Shapes {
 public:
  Shapes(const onnx::GraphProto& graph, const Shapes* outer, const ShapeMap& resolved)
      : outer_(outer), resolved_(resolved) {
    for (const auto* values : {&graph.input(), &graph.output(), &graph.value_info()})
      for (const auto& value : *values) declare(value);
    // What is stored is certain, so it wins over what is declared.
    for (const auto& tensor : graph.initializer())
      own_[tensor.name()] = Shape(tensor.dims().begin(), tensor.dims().end());
    for (const auto& tensor : graph.sparse_initializer())
      own_[tensor.values().name()] = Shape(tensor.dims().begin(), tensor.dims().end());
    for (const auto& node : graph.node())
      for (const auto& attribute : node.attribute())
        if (node.op_type() == "Constant" && attribute.has_t() && node.output_size() == 1)
          own_[node.output(0)] = Shape(attribute.t().dims().begin(), attribute.t().dims().end());
  }

  [[nodiscard]] std::optional<Shape> find(std::string_view name) const {
    if (outer_ == nullptr) {  // The runtime resolves values of the main graph only.
      const auto found = resolved_.find(std::string(name));
      if (found != resolved_.end()) return found->second;
    }
    if (const auto found = own_.find(name); found != own_.end()) return found->second;
    return outer_ == nullptr ? std::nullopt : outer_->find(name);
  }

 private:
  void declare(const onnx::ValueInfoProto& value) {
    const auto* declared = shape_of(value.type());
    if (declared == nullptr) return;
    Shape shape;
    for (const auto& dimension : declared->dim())
      shape.push_back(dimension.has_dim_value() ? dimension.dim_value() : -1);
    own_[value.name()] = std::move(shape);
  }

  const Shapes* outer_;
  const ShapeMap& resolved_;
  std::unordered_map<std::string_view, Shape> own_;
};

using FunctionKey = std::tuple<std::string_view, std::string_view, std::string_view>;

FunctionKey key_of(const onnx::FunctionProto& function) {
  return {canonical_domain(function.domain()), function.name(), function.overload()};
}

FunctionKey called_by(const onnx::NodeProto& node) {
  return {canonical_domain(node.domain()), node.op_type(), node.overload()};
}

/// The functions of a model that multiply, themselves or through others.
std::set<FunctionKey> multiplying_functions(const onnx::ModelProto& model) {
  std::map<FunctionKey, std::vector<FunctionKey>> callers;
  std::vector<FunctionKey> open;
  const FindShape no_shapes = [](std::string_view) { return std::nullopt; };
  for (const auto& function : model.functions()) {
    bool multiplies = false;
    auto visit = [&](const onnx::NodeProto& node) {
      multiplies = multiplies || count_macs(node, no_shapes, 1).kind != MacKind::kNone;
      callers[called_by(node)].push_back(key_of(function));
    };
    for (const auto& node : function.node()) for_each_node(node, visit);
    if (multiplies) open.push_back(key_of(function));
  }
  std::set<FunctionKey> found;
  while (!open.empty()) {
    const auto key = open.back();
    open.pop_back();
    if (!found.insert(key).second) continue;
    const auto& more = callers[key];
    open.insert(open.end(), more.begin(), more.end());
  }
  return found;
}

/// Adds up one model.
class Summariser {
 public:
  Summariser(const onnx::ModelProto& model, const ShapeMap& shapes, const SummaryOptions& options)
      : model_(model),
        shapes_(shapes),
        options_(options),
        multiplying_(multiplying_functions(model)) {}

  Summary run() {
    describe();
    add_graph(model_.graph(), nullptr);
    finish();
    return std::move(summary_);
  }

 private:
  void describe();
  void add_graph(const onnx::GraphProto& graph, const Shapes* outer);
  void add_node(const onnx::NodeProto& node, const FindShape& find);
  void add_parameter(const onnx::TensorProto& tensor);
  void finish();

  const onnx::ModelProto& model_;
  const ShapeMap& shapes_;
  const SummaryOptions& options_;
  std::set<FunctionKey> multiplying_;
  Summary summary_;
  std::map<std::pair<std::string_view, std::string_view>, OperatorSummary> operators_;
  std::map<DataType, ParameterSummary> parameters_;
};

void Summariser::describe() {
  const auto& graph = model_.graph();
  summary_.ir_version = model_.ir_version();
  for (const auto& import : model_.opset_import())
    summary_.opsets.emplace_back(import.domain(), import.version());
  summary_.producer = joined(model_.producer_name(), model_.producer_version());
  summary_.domain = model_.domain();
  summary_.model_version = model_.model_version();
  summary_.description = model_.doc_string();
  for (const auto& entry : model_.metadata_props())
    summary_.metadata.emplace_back(entry.key(), entry.value());
  summary_.graph_name = graph.name();
  std::set<std::string_view> initialised;
  for (const auto& tensor : graph.initializer()) initialised.insert(tensor.name());
  for (const auto& input : graph.input())
    if (!initialised.contains(input.name())) summary_.inputs.push_back(summarise_value(input));
  for (const auto& output : graph.output()) summary_.outputs.push_back(summarise_value(output));
  for (const auto& function : model_.functions())
    summary_.functions.push_back(function.domain() + ":" + function.name());
}

void Summariser::add_graph(const onnx::GraphProto& graph, const Shapes* outer) {
  const Shapes shapes(graph, outer, shapes_);
  const FindShape find = [&shapes](std::string_view name) { return shapes.find(name); };
  for (const auto& tensor : graph.initializer()) add_parameter(tensor);
  for (const auto& tensor : graph.sparse_initializer()) add_parameter(tensor.values());
  for (const auto& node : graph.node()) {
    add_node(node, find);
    const bool is_constant =
        node.op_type() == "Constant" && canonical_domain(node.domain()).empty();
    for (const auto& attribute : node.attribute()) {
      if (is_constant && attribute.has_t()) add_parameter(attribute.t());
      if (attribute.has_g()) add_graph(attribute.g(), &shapes);
      for (const auto& inner : attribute.graphs()) add_graph(inner, &shapes);
    }
  }
}

void Summariser::add_node(const onnx::NodeProto& node, const FindShape& find) {
  ++summary_.nodes;
  auto macs = count_macs(node, find, options_.batch);
  if (multiplying_.contains(called_by(node))) macs = {.kind = MacKind::kUnknown, .count = 0};
  const auto domain = canonical_domain(node.domain());
  auto& sum = operators_[{domain, node.op_type()}];
  sum.domain = domain;
  sum.type = node.op_type();
  ++sum.count;
  if (macs.kind == MacKind::kNone) return;
  const bool is_known = macs.kind == MacKind::kKnown;
  for (auto* total : {&sum.macs, &summary_.macs})
    if (is_known && __builtin_add_overflow(*total, macs.count, total)) *total = UINT64_MAX;
  sum.macs_unknown += is_known ? 0u : 1u;
  summary_.macs_unknown += is_known ? 0u : 1u;
  summary_.multipliers.push_back({.name = node.name(),
                                  .domain = std::string(domain),
                                  .type = node.op_type(),
                                  .macs = is_known ? std::optional(macs.count) : std::nullopt});
}

void Summariser::add_parameter(const onnx::TensorProto& tensor) {
  const auto number = tensor.data_type();
  const bool is_known = number > 0 && number <= static_cast<int>(DataType::kFloat4E2M1);
  const auto type = is_known ? static_cast<DataType>(number) : DataType::kUndefined;
  const auto shape = std::span(tensor.dims().data(), static_cast<std::size_t>(tensor.dims_size()));
  std::uint64_t bytes = byte_size(type, shape).value_or(0);
  for (const auto& text : tensor.string_data()) bytes += text.size();
  auto& sum = parameters_[type];
  sum.type = type;
  ++sum.tensors;
  sum.elements += static_cast<std::uint64_t>(element_count(shape).value_or(0));
  sum.bytes += bytes;
  if (tensor.data_location() == onnx::TensorProto::EXTERNAL) summary_.external_bytes += bytes;
}

void Summariser::finish() {
  for (auto& [key, sum] : operators_) summary_.operators.push_back(std::move(sum));
  std::ranges::sort(summary_.operators, [](const auto& a, const auto& b) {
    return std::tie(b.count, a.domain, a.type) < std::tie(a.count, b.domain, b.type);
  });
  for (const auto& [type, sum] : parameters_) {
    summary_.parameters.push_back(sum);
    summary_.parameter_count += sum.elements;
    summary_.parameter_bytes += sum.bytes;
  }
  std::ranges::sort(summary_.parameters, [](const auto& a, const auto& b) {
    return std::tie(b.bytes, a.type) < std::tie(a.bytes, b.type);
  });
}

}  // namespace

Summary summarise(const Model& model, const ShapeMap& shapes, const SummaryOptions& options) {
  return Summariser(model.proto(), shapes, options).run();
}

std::vector<Operator> operators(const Model& model) {
  std::set<FunctionKey> local;
  for (const auto& function : model.proto().functions()) local.insert(key_of(function));
  std::set<Operator> found;
  auto visit = [&](const onnx::NodeProto& node) {
    if (!local.contains(called_by(node)))
      found.insert({std::string(canonical_domain(node.domain())), node.op_type()});
  };
  for_each_node(model.proto().graph(), visit);
  for (const auto& function : model.proto().functions())
    for (const auto& node : function.node()) for_each_node(node, visit);
  return {found.begin(), found.end()};
}

}  // namespace selvage::graph
