#include "learn/prepare.h"

#include <algorithm>
#include <string_view>
#include <unordered_map>
#include <unordered_set>

#include <selvage/onnx.pb.h>

#include "graph/edit.h"
#include "graph/index.h"
#include "graph/tensor.h"
#include "infer/session.h"
#include "learn/opset.h"
#include "learn/recurrent.h"

namespace selvage::learn {
namespace {

using Names = std::unordered_set<std::string>;

infer::SessionOptions plain_options() {
  infer::SessionOptions options;
  options.optimization = infer::Optimization::kNone;
  options.threads = 1;
  options.arena = infer::Arena::kNone;
  return options;
}

bool is_known(const Shape& shape) {
  return std::ranges::all_of(shape, [](auto size) { return size >= 0; });
}

bool has_subgraph(const onnx::NodeProto& node) {
  return std::ranges::any_of(node.attribute(),
                             [](const auto& a) { return a.has_g() || a.graphs_size() > 0; });
}

/// Old files list every initialiser among the inputs, where a caller might override it.
void drop_initialised_inputs(onnx::GraphProto& graph) {
  Names initialised;
  for (const auto& tensor : graph.initializer()) initialised.insert(tensor.name());
  auto& inputs = *graph.mutable_input();
  for (int i = inputs.size() - 1; i >= 0; --i)
    if (initialised.contains(inputs[i].name())) inputs.DeleteSubrange(i, 1);
}

Result<void> fix_inputs(onnx::GraphProto& graph, const PrepareOptions& options) {
  for (const auto& [name, shape] : options.input_shapes)
    if (std::ranges::find(graph.input(), name, &onnx::ValueInfoProto::name) == graph.input().end())
      return fail(ErrorCode::kInvalidArgument, "the model has no input '" + name + "'");
  for (auto& input : *graph.mutable_input()) {
    if (!input.type().has_tensor_type())
      return fail(ErrorCode::kUnimplemented,
                  "input '" + input.name() + "' is no tensor: such models cannot be trained");
    auto& shape = *input.mutable_type()->mutable_tensor_type()->mutable_shape();
    const auto given = std::ranges::find(options.input_shapes, input.name(),
                                         &std::pair<std::string, Shape>::first);
    if (given != options.input_shapes.end()) {
      shape.clear_dim();
      for (const auto size : given->second) shape.add_dim()->set_dim_value(size);
    } else if (shape.dim_size() > 0 && !shape.dim(0).has_dim_value()) {
      shape.mutable_dim(0)->set_dim_value(options.batch);
    }
    for (const auto& dimension : shape.dim())
      if (!dimension.has_dim_value() || dimension.dim_value() < 1)
        return fail(ErrorCode::kInvalidArgument,
                    "input '" + input.name() + "' has open dimensions: say its whole shape");
  }
  // What was declared for other sizes would contradict these.
  graph.clear_value_info();
  for (auto& output : *graph.mutable_output())
    if (output.type().has_tensor_type())
      output.mutable_type()->mutable_tensor_type()->clear_shape();
  return {};
}

/// External data become part of the model: what is differentiated lives in memory anyway.
Result<void> embed_tensors(graph::Model& model) {
  for (auto& tensor : *model.proto().mutable_graph()->mutable_initializer()) {
    if (tensor.data_location() != onnx::TensorProto::EXTERNAL) continue;
    SELVAGE_TRY(const auto data, graph::TensorData::open(tensor, model.folder()));
    const auto bytes = data.view().bytes;
    tensor.set_raw_data(bytes.data(), bytes.size());
    tensor.clear_external_data();
    tensor.clear_data_location();
  }
  return {};
}

/// Constant nodes become initialisers, so that there is one kind of constant.
void hoist_constants(onnx::GraphProto& graph) {
  auto& nodes = *graph.mutable_node();
  google::protobuf::RepeatedPtrField<onnx::NodeProto> kept;
  for (auto& node : nodes) {
    const bool is_tensor = node.op_type() == "Constant" && node.attribute_size() == 1 &&
                           node.attribute(0).has_t() && node.output_size() == 1;
    if (!is_tensor) {
      *kept.Add() = std::move(node);
      continue;
    }
    auto& tensor = *graph.add_initializer();
    tensor = std::move(*node.mutable_attribute(0)->mutable_t());
    tensor.set_name(node.output(0));
  }
  nodes.Swap(&kept);
}

bool is_random(std::string_view op) {
  return op.starts_with("Random") || op == "Multinomial" || op == "Bernoulli" || op == "Dropout";
}

/// Computes in advance what depends on shapes and integer constants alone.
class Folder {
 public:
  Folder(infer::Runtime& runtime, graph::Model& model, const ValueTypes& types)
      : runtime_(runtime), model_(model), graph_(*model.proto().mutable_graph()), types_(types) {}

  /// Whether anything was folded.
  Result<bool> run() {
    for (const auto& tensor : graph_.initializer()) {
      initialisers_.emplace(tensor.name(), &tensor);
      // Larger floating-point constants may be what is to be trained.
      std::int64_t elements = 1;
      for (const auto size : tensor.dims()) elements *= size;
      const bool is_float = tensor.data_type() == onnx::TensorProto::FLOAT ||
                            tensor.data_type() == onnx::TensorProto::DOUBLE;
      if (!is_float || elements == 1) static_.insert(tensor.name());
    }
    split();
    if (folded_.empty()) return false;
    SELVAGE_RETURN_IF_ERROR(evaluate());
    return true;
  }

 private:
  bool is_static(const onnx::NodeProto& node) const {
    if (is_random(node.op_type()) || has_subgraph(node)) return false;
    if (is_shape(node)) return true;
    if (node.op_type() == "Constant") return true;
    return node.input_size() > 0 && std::ranges::all_of(node.input(), [&](const auto& name) {
             return name.empty() || static_.contains(name);
           });
  }
  bool is_shape(const onnx::NodeProto& node) const {
    if ((node.op_type() != "Shape" && node.op_type() != "Size") || node.input_size() != 1)
      return false;
    const auto type = types_.find(node.input(0));
    return type != types_.end() && is_known(type->second.shape);
  }

  /// Parts the nodes and finds which folded values the rest needs.
  void split() {
    google::protobuf::RepeatedPtrField<onnx::NodeProto> kept;
    for (auto& node : *graph_.mutable_node()) {
      const bool folds = is_static(node);
      if (folds)
        for (const auto& output : node.output()) static_.insert(output), produced_.insert(output);
      *(folds ? folded_.Add() : kept.Add()) = std::move(node);
    }
    graph_.mutable_node()->Swap(&kept);
    if (folded_.empty()) return;
    Names needed;
    for (const auto& node : graph_.node()) collect_inputs(node, needed);
    for (const auto& output : graph_.output()) needed.insert(output.name());
    for (const auto& node : folded_)
      for (const auto& output : node.output())
        if (needed.contains(output)) frontier_.push_back(output);
  }
  static void collect_inputs(const onnx::NodeProto& node, Names& names) {
    names.insert(node.input().begin(), node.input().end());
    for (const auto& attribute : node.attribute()) {
      if (attribute.has_g())
        for (const auto& inner : attribute.g().node()) collect_inputs(inner, names);
      for (const auto& graph : attribute.graphs())
        for (const auto& inner : graph.node()) collect_inputs(inner, names);
    }
    for (const auto& attribute : node.attribute())
      if (attribute.has_g())
        for (const auto& output : attribute.g().output()) names.insert(output.name());
  }

  /// Runs the folded nodes once and stores the frontier as initialisers.
  Result<void> evaluate() {
    if (frontier_.empty()) return {};
    graph::Model small;
    auto& proto = small.proto();
    proto.set_ir_version(model_.proto().ir_version());
    *proto.mutable_opset_import() = model_.proto().opset_import();
    auto& graph = *proto.mutable_graph();
    graph.set_name("constants");
    Names used;
    for (auto& node : folded_) {
      if (is_shape(node)) {
        add_dimensions(*graph.add_node(), node);
        continue;
      }
      for (const auto& input : node.input())
        if (const auto found = initialisers_.find(input);
            found != initialisers_.end() && used.insert(input).second)
          *graph.add_initializer() = *found->second;
      *graph.add_node() = std::move(node);
    }
    for (const auto& name : frontier_) graph.add_output()->set_name(name);
    SELVAGE_TRY(const auto bytes, small.serialise());
    SELVAGE_TRY(const auto session, infer::Session::load(runtime_, bytes, plain_options()));
    SELVAGE_TRY(const auto values, session->run({}));
    for (std::size_t i = 0; i < values.size(); ++i) {
      const auto* tensor = std::get_if<Tensor>(&values[i]);
      if (tensor == nullptr)
        return fail(ErrorCode::kUnimplemented,
                    "'" + frontier_[i] + "' is no tensor: such models cannot be trained");
      store(frontier_[i], *tensor);
    }
    return {};
  }
  void add_dimensions(onnx::NodeProto& constant, const onnx::NodeProto& node) const {
    const auto& shape = types_.at(node.input(0)).shape;
    std::int64_t start = 0, end = std::ssize(shape);
    for (const auto& attribute : node.attribute()) {
      const auto bound = attribute.i() < 0 ? attribute.i() + std::ssize(shape) : attribute.i();
      auto& side = attribute.name() == "start" ? start : end;
      side = std::clamp<std::int64_t>(bound, 0, std::ssize(shape));
    }
    constant.set_op_type("Constant");
    constant.add_output(node.output(0));
    auto& value = *constant.add_attribute();
    value.set_name("value");
    value.set_type(onnx::AttributeProto::TENSOR);
    value.mutable_t()->set_data_type(onnx::TensorProto::INT64);
    if (node.op_type() == "Size") {
      value.mutable_t()->add_int64_data(element_count(shape).value_or(0));
      return;
    }
    value.mutable_t()->add_dims(std::max<std::int64_t>(0, end - start));
    for (auto i = start; i < end; ++i)
      value.mutable_t()->add_int64_data(shape[static_cast<std::size_t>(i)]);
  }
  void store(const std::string& name, const Tensor& tensor) {
    auto& stored = *graph_.add_initializer();
    stored.set_name(name);
    stored.set_data_type(static_cast<int>(tensor.type()));
    stored.mutable_dims()->Add(tensor.shape().begin(), tensor.shape().end());
    stored.set_raw_data(tensor.bytes().data(), tensor.bytes().size());
  }

  infer::Runtime& runtime_;
  graph::Model& model_;
  onnx::GraphProto& graph_;
  const ValueTypes& types_;
  std::unordered_map<std::string, const onnx::TensorProto*> initialisers_;
  Names static_, produced_;
  google::protobuf::RepeatedPtrField<onnx::NodeProto> folded_;
  std::vector<std::string> frontier_;
};

/// The branch that a constant condition takes, or null.
onnx::GraphProto* decided_branch(onnx::NodeProto& node, const onnx::GraphProto& graph) {
  if (node.op_type() != "If" || node.input_size() != 1) return nullptr;
  for (const auto& tensor : graph.initializer()) {
    if (tensor.name() != node.input(0)) continue;
    const auto data = graph::TensorData::open(tensor, {});
    if (!data || data->view().type != DataType::kBool || data->view().bytes.size() != 1)
      return nullptr;
    const bool holds = data->view().bytes[0] != std::byte{0};
    for (auto& attribute : *node.mutable_attribute())
      if (attribute.name() == (holds ? "then_branch" : "else_branch") && attribute.has_g())
        return attribute.mutable_g();
  }
  return nullptr;
}

void add_identity(onnx::GraphProto& graph, const std::string& from, const std::string& to) {
  auto& identity = *graph.add_node();
  identity.set_op_type("Identity");
  identity.set_name(to);
  identity.add_input(from);
  identity.add_output(to);
}

/// Puts decided branches in the place of their If. ONNX keeps names unique across subgraphs of one
/// model, so the branch's names need not change.
bool inline_branches(onnx::GraphProto& graph) {
  google::protobuf::RepeatedPtrField<onnx::NodeProto> nodes;
  nodes.Swap(graph.mutable_node());
  bool changed = false;
  for (auto& node : nodes) {
    auto* branch = decided_branch(node, graph);
    if (branch == nullptr) {
      *graph.add_node() = std::move(node);
      continue;
    }
    changed = true;
    for (auto& tensor : *branch->mutable_initializer())
      *graph.add_initializer() = std::move(tensor);
    for (auto& inner : *branch->mutable_node()) *graph.add_node() = std::move(inner);
    for (int i = 0; i < node.output_size() && i < branch->output_size(); ++i)
      if (!node.output(i).empty()) add_identity(graph, branch->output(i).name(), node.output(i));
  }
  return changed;
}

/// Nodes and initialisers that no output needs.
void drop_dead(onnx::GraphProto& graph) {
  Names needed;
  for (const auto& output : graph.output()) needed.insert(output.name());
  google::protobuf::RepeatedPtrField<onnx::NodeProto> kept;
  auto& nodes = *graph.mutable_node();
  std::vector<onnx::NodeProto*> live;
  for (int i = nodes.size() - 1; i >= 0; --i) {
    auto& node = nodes[i];
    const bool is_live = std::ranges::any_of(
        node.output(), [&](const auto& output) { return needed.contains(output); });
    if (!is_live) continue;
    needed.insert(node.input().begin(), node.input().end());
    for (const auto name : graph::captures(node)) needed.emplace(name);
    live.push_back(&node);
  }
  for (auto node = live.rbegin(); node != live.rend(); ++node) *kept.Add() = std::move(**node);
  nodes.Swap(&kept);
}

/// The runtime tells no dimensions both of scalars and of tensors whose rank it does not know, but
/// a Shape of such a value tells them apart: it has as many elements as the rank. Takes what is no
/// scalar out of `types`.
Result<void> drop_unknown_ranks(infer::Runtime& runtime, const graph::Model& model,
                                ValueTypes& types) {
  constexpr std::string_view kRank = "/selvage/rank";
  auto probe = model.copy();
  auto& graph = *probe.proto().mutable_graph();
  graph.clear_output();
  for (const auto& node : model.proto().graph().node())
    for (const auto& output : node.output()) {
      const auto type = types.find(output);
      if (type == types.end() || !type->second.shape.empty()) continue;
      auto& shape = *graph.add_node();
      shape.set_op_type("Shape");
      shape.add_input(output);
      shape.add_output(output + std::string(kRank));
      graph.add_output()->set_name(shape.output(0));
    }
  if (graph.output_size() == 0) return {};
  SELVAGE_TRY(const auto bytes, probe.serialise());
  SELVAGE_TRY(const auto session, infer::Session::load(runtime, bytes, plain_options()));
  for (const auto& rank : session->outputs())
    if (rank.shape != Shape{0}) types.erase(rank.name.substr(0, rank.name.size() - kRank.size()));
  return {};
}

}  // namespace

Result<ValueTypes> infer_types(infer::Runtime& runtime, const graph::Model& model) {
  SELVAGE_TRY(const auto bytes, graph::expose_all_values(model));
  SELVAGE_TRY(const auto session, infer::Session::load(runtime, bytes, plain_options()));
  ValueTypes types;
  const auto add = [&](const infer::ValueInfo& info) {
    if (info.kind == infer::ValueKind::kTensor && is_known(info.shape))
      types.insert_or_assign(info.name, ValueType{info.type, info.shape});
  };
  std::ranges::for_each(session->inputs(), add);
  std::ranges::for_each(session->outputs(), add);
  SELVAGE_RETURN_IF_ERROR(drop_unknown_ranks(runtime, model, types));
  for (const auto& tensor : model.proto().graph().initializer())
    types.insert_or_assign(tensor.name(),
                           ValueType{static_cast<DataType>(tensor.data_type()),
                                     Shape(tensor.dims().begin(), tensor.dims().end())});
  return types;
}

Result<PreparedModel> prepare(infer::Runtime& runtime, const graph::Model& model,
                              const PrepareOptions& options) {
  PreparedModel prepared{.model = model.copy(), .types = {}};
  auto& proto = prepared.model.proto();
  auto& graph = *proto.mutable_graph();
  drop_initialised_inputs(graph);
  SELVAGE_RETURN_IF_ERROR(fix_inputs(graph, options));
  SELVAGE_RETURN_IF_ERROR(embed_tensors(prepared.model));
  // Each round may reveal shapes and conditions to the next; there are fewer rounds than nodes.
  for (bool changed = true; changed;) {
    hoist_constants(graph);
    SELVAGE_TRY(prepared.types, infer_types(runtime, prepared.model));
    SELVAGE_TRY(changed, Folder(runtime, prepared.model, prepared.types).run());
    changed |= inline_branches(graph);
  }
  drop_dead(graph);
  SELVAGE_RETURN_IF_ERROR(raise_opset(prepared.model));
  SELVAGE_RETURN_IF_ERROR(lower_recurrent(prepared.model, prepared.types));
  SELVAGE_TRY(prepared.types, infer_types(runtime, prepared.model));
  return prepared;
}

}  // namespace selvage::learn
