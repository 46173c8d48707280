// Constants: from nodes into initialisers, and computed ahead of time.
#include <array>
#include <unordered_map>
#include <unordered_set>

#include <selvage/onnx.pb.h>

#include "graph/attributes.h"
#include "graph/check.h"
#include "graph/erase.h"
#include "graph/index.h"
#include "graph/names.h"
#include "graph/passes.h"
#include "graph/values.h"

namespace selvage::graph {
namespace {

/// The tensor that a Constant node makes; nothing for sparse ones.
std::optional<onnx::TensorProto> constant_of(onnx::NodeProto& node) {
  if (node.attribute_size() != 1) return std::nullopt;
  auto& attribute = *node.mutable_attribute(0);
  onnx::TensorProto tensor;
  const auto numbers = [&tensor](const auto& values, const Shape& shape) {
    using Number = std::remove_cvref_t<decltype(*values.data())>;
    const std::span<const Number> span(values.data(), static_cast<std::size_t>(values.size()));
    store(tensor, {data_type_of<Number>(), shape, std::as_bytes(span), {}});
  };
  const auto& name = attribute.name();
  if (name == "value" && attribute.has_t()) {
    tensor.Swap(attribute.mutable_t());
  } else if (name == "value_int") {
    numbers(std::array{attribute.i()}, {});
  } else if (name == "value_float") {
    numbers(std::array{attribute.f()}, {});
  } else if (name == "value_ints") {
    numbers(attribute.ints(), {attribute.ints_size()});
  } else if (name == "value_floats") {
    numbers(attribute.floats(), {attribute.floats_size()});
  } else if (name == "value_string" || name == "value_strings") {
    tensor.set_data_type(onnx::TensorProto::STRING);
    if (name == "value_strings") tensor.add_dims(attribute.strings_size());
    if (name == "value_string") tensor.add_string_data(attribute.s());
    for (const auto& text : attribute.strings()) tensor.add_string_data(text);
  } else {
    return std::nullopt;
  }
  return tensor;
}

/// Operators whose result is another at each run, or that must stay where they are: quantisation
/// that is folded away would come back as float weights.
constexpr std::array<std::string_view, 11> kNeverFolded = {
    "RandomNormal",      "RandomNormalLike",     "RandomUniform",
    "RandomUniformLike", "Multinomial",          "Bernoulli",
    "Dropout",           "QuantizeLinear",       "Constant",
    "DequantizeLinear",  "DynamicQuantizeLinear"};

constexpr std::uint64_t kFoldedElementsMax = 1u << 21;  // Of any input, and of a result.

/// The results of a node, or nothing if it stays: the runtime lacks it, or the result is large.
std::vector<Tensor> compute(const Model& model, const Evaluate& evaluate) {
  if (!check(model, {.stated_elements_max = kFoldedElementsMax})) return {};
  auto results = evaluate(model);
  if (!results) return {};
  std::uint64_t bytes = 0;
  for (const auto& tensor : *results) bytes += tensor.bytes().size();
  const bool grows = bytes > model.proto().ByteSizeLong() + kFoldedGrowthMax;
  return grows ? std::vector<Tensor>() : *std::move(results);
}

/// Shape of a value that is fully known.
std::vector<Tensor> known_shape(const onnx::NodeProto& node, const TypeMap& types) {
  if (!is_op(node, "Shape") || node.input_size() != 1) return {};
  const auto found = types.find(node.input(0));
  if (found == types.end()) return {};
  const auto& shape = found->second.shape;
  if (std::ranges::any_of(shape, [](std::int64_t size) { return size < 0; })) return {};
  const auto rank = static_cast<std::int64_t>(shape.size());
  const auto clamp = [rank](std::int64_t i) { return std::clamp(i < 0 ? i + rank : i, {}, rank); };
  const auto start = clamp(int_attribute(node, "start", 0));
  const auto end = std::max(start, clamp(int_attribute(node, "end", rank)));
  const std::span<const std::int64_t> part(shape.data() + start,
                                           static_cast<std::size_t>(end - start));
  std::vector<Tensor> tensors;
  if (auto tensor = Tensor::from<std::int64_t>({end - start}, part))
    tensors.push_back(*std::move(tensor));
  return tensors;
}

/// Folds in one sweep, since nodes stand in the order of their data.
class Folder {
 public:
  Folder(Model& model, const PassContext& context)
      : model_(model), graph_(*model.proto().mutable_graph()), index_(graph_), context_(context) {
    for (int i = 0; i < graph_.initializer_size(); ++i)
      if (const auto& name = graph_.initializer(i).name(); !index_.is_input(name))
        constants_.emplace(name, i);
    if (!context.infer_types) return;
    if (auto inferred = context.infer_types(model)) types_ = *std::move(inferred);
  }

  std::size_t run() {
    std::vector<bool> folded(static_cast<std::size_t>(graph_.node_size()), false);
    for (int i = 0; i < graph_.node_size(); ++i)
      folded[static_cast<std::size_t>(i)] = fold(graph_.node(i));
    erase_marked(*graph_.mutable_node(), folded);
    return static_cast<std::size_t>(std::ranges::count(folded, true));
  }

 private:
  bool fold(const onnx::NodeProto& node);
  [[nodiscard]] bool is_foldable(const onnx::NodeProto& node) const;
  [[nodiscard]] bool is_small(const onnx::NodeProto& node) const;
  [[nodiscard]] Model model_of(const onnx::NodeProto& node) const;

  Model& model_;
  onnx::GraphProto& graph_;
  const Index index_;
  const PassContext& context_;
  TypeMap types_;
  std::unordered_map<std::string, int> constants_;  // Indices of initialisers.
};

bool Folder::fold(const onnx::NodeProto& node) {
  std::vector<std::string> names;
  for (const auto& name : node.output()) {
    if (index_.is_output(name)) return false;
    if (!name.empty()) names.push_back(name);
  }
  auto results = known_shape(node, types_);
  if (results.empty() && is_foldable(node)) results = compute(model_of(node), context_.evaluate);
  if (results.empty() || results.size() != names.size()) return false;
  for (std::size_t k = 0; k < names.size(); ++k) {
    constants_.emplace(names[k], graph_.initializer_size());
    auto& tensor = *graph_.add_initializer();
    tensor.set_name(names[k]);
    store(tensor, results[k].view());
  }
  return true;
}

bool Folder::is_foldable(const onnx::NodeProto& node) const {
  if (!canonical_domain(node.domain()).empty() || node.input_size() == 0) return false;
  if (std::ranges::find(kNeverFolded, node.op_type()) != kNeverFolded.end()) return false;
  for (const auto& attribute : node.attribute())
    if (attribute.has_g() || attribute.graphs_size() > 0) return false;
  for (const auto& name : node.input())
    if (!name.empty() && !constants_.contains(name)) return false;
  return is_small(node);
}

/// Whether the node's result is bounded by what its inputs are: of inputs that broadcast, at most
/// the product of their sizes. What a shape or a count states, check() bounds.
bool Folder::is_small(const onnx::NodeProto& node) const {
  std::uint64_t bound = 1;
  Shape first;
  for (const auto& name : node.input()) {
    if (name.empty()) continue;
    const auto shape = shape_of(graph_.initializer(constants_.at(name)));
    const auto elements = static_cast<std::uint64_t>(element_count(shape).value_or(INT64_MAX));
    if (elements <= 1 || shape == first) continue;
    if (first.empty()) first = shape;
    if (elements > kFoldedElementsMax || bound * elements > kFoldedElementsMax) return false;
    bound *= elements;
  }
  return true;
}

/// A model of one node whose inputs are all constants.
Model Folder::model_of(const onnx::NodeProto& node) const {
  Model model;
  auto& proto = model.proto();
  proto.set_ir_version(model_.proto().ir_version());
  *proto.mutable_opset_import() = model_.proto().opset_import();
  auto& graph = *proto.mutable_graph();
  graph.set_name("constant");
  *graph.add_node() = node;
  std::unordered_set<std::string_view> added;
  for (const auto& name : node.input())
    if (!name.empty() && added.insert(name).second)
      *graph.add_initializer() = graph_.initializer(constants_.at(name));
  for (const auto& name : node.output())
    if (!name.empty()) graph.add_output()->set_name(name);
  return model;
}

}  // namespace

Result<std::size_t> store_constant_nodes(Model& model, const PassContext&) {
  if (model.proto().ir_version() < 4) return 0;  // Every initialiser would have to be an input.
  auto& graph = *model.proto().mutable_graph();
  const Index index(graph);
  std::vector<bool> stored(static_cast<std::size_t>(graph.node_size()), false);
  std::size_t edits = 0;
  for (int i = 0; i < graph.node_size(); ++i) {
    auto& node = *graph.mutable_node(i);
    if (!is_op(node, "Constant") || node.output_size() != 1 || index.is_output(node.output(0)))
      continue;
    auto tensor = constant_of(node);
    if (!tensor) continue;
    tensor->set_name(node.output(0));
    graph.add_initializer()->Swap(&*tensor);
    stored[static_cast<std::size_t>(i)] = true;
    ++edits;
  }
  erase_marked(*graph.mutable_node(), stored);
  return edits;
}

Result<std::size_t> fold_constants(Model& model, const PassContext& context) {
  if (!context.evaluate || model.proto().ir_version() < 4) return 0;
  return Folder(model, context).run();
}

}  // namespace selvage::graph
