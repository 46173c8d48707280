#include "graph/check_graph.h"

#include <bit>
#include <cstring>
#include <string>
#include <unordered_map>
#include <unordered_set>

#include <selvage/onnx.pb.h>

#include "base/utf8.h"
#include "graph/names.h"
#include "graph/stated_size.h"
#include "graph/tensor.h"

namespace selvage::graph {
namespace {

using google::protobuf::RepeatedPtrField;
using Nodes = RepeatedPtrField<onnx::NodeProto>;

constexpr std::string_view kExportAgain =
    ": the file was damaged or edited; export the model again";
constexpr std::size_t kCycleShownMax = 8;

std::unexpected<Error> invalid(std::string what) {
  return fail(ErrorCode::kInvalidArgument, std::move(what));
}

/// The nodes on a path along inputs from `from` back to `to`, both included; empty if there is
/// none.
std::vector<int> path_back(const Nodes& nodes, int from, int to) {
  std::unordered_map<std::string_view, int> producers;
  for (int i = 0; i < nodes.size(); ++i)
    for (const auto& output : nodes[i].output()) producers.emplace(output, i);
  std::unordered_map<int, int> reached_from{{from, from}};
  for (std::vector<int> open{from}; !open.empty();) {
    const int reader = open.back();
    open.pop_back();
    if (reader == to) {
      std::vector<int> path{to};
      while (path.back() != from) path.push_back(reached_from[path.back()]);
      return {path.rbegin(), path.rend()};
    }
    for (const auto& input : nodes[reader].input()) {
      const auto producer = producers.find(input);
      if (producer != producers.end() && reached_from.emplace(producer->second, reader).second)
        open.push_back(producer->second);
    }
  }
  return {};
}

}  // namespace

/// The values that a graph's nodes may read, as they become defined.
class GraphChecker::Scope {
 public:
  Scope(const Scope* outer, const Nodes& nodes) : outer_(outer), nodes_(nodes) {}

  [[nodiscard]] const Nodes& nodes() const { return nodes_; }
  [[nodiscard]] bool has_own(std::string_view name) const { return values_.contains(name); }
  [[nodiscard]] bool has(std::string_view name) const {
    return has_own(name) || (outer_ != nullptr && outer_->has(name));
  }
  [[nodiscard]] ConstantValue constant(std::string_view name) const {
    if (const auto found = values_.find(name); found != values_.end()) return found->second;
    return outer_ == nullptr ? ConstantValue() : outer_->constant(name);
  }
  /// False if this graph already has the name.
  bool define(std::string_view name, ConstantValue constant = {}) {
    return values_.emplace(name, constant).second;
  }
  /// An initialiser may give an input of the same name its default value.
  void define_initialiser(std::string_view name, const onnx::TensorProto* tensor) {
    values_[name] = {.tensor = tensor};
  }

  /// Why the node at `index` cannot read `name`.
  [[nodiscard]] std::string why_undefined(std::string_view name, int index) const;

 private:
  [[nodiscard]] int producer_of(std::string_view name) const {
    for (int i = 0; i < nodes_.size(); ++i)
      for (const auto& output : nodes_[i].output())
        if (output == name) return i;
    return -1;
  }

  const Scope* outer_;
  const Nodes& nodes_;
  std::unordered_map<std::string_view, ConstantValue> values_;
};

std::string GraphChecker::Scope::why_undefined(std::string_view name, int index) const {
  const std::string reads = "reads " + quote(name) + ", which ";
  const int producer = producer_of(name);
  if (producer == index) return reads + "it produces itself" + std::string(kExportAgain);
  if (producer >= 0) {
    const auto cycle = path_back(nodes_, producer, index);
    const auto later = reads + "is produced later by " + describe(nodes_[producer], producer);
    if (cycle.empty()) return later + ": nodes must be in the order of their data; export again";
    std::string text = later + ", and they form a cycle: " + describe(nodes_[index], index);
    for (std::size_t i = 0; i < std::min(cycle.size(), kCycleShownMax); ++i)
      text += " <- " + describe(nodes_[cycle[i]], cycle[i]);
    return text + (cycle.size() > kCycleShownMax ? " <- ..." : "");
  }
  for (const auto* scope = outer_; scope != nullptr; scope = scope->outer_)
    if (const int later = scope->producer_of(name); later >= 0)
      return reads + "is produced later, outside its subgraph, by " +
             describe(scope->nodes_[later], later);
  return reads + "nothing produces" + std::string(kExportAgain);
}

Result<void> GraphChecker::check_graph(const onnx::GraphProto& graph) {
  for (const auto& input : graph.input()) {
    if (input.type().value_case() == onnx::TypeProto::VALUE_NOT_SET)
      return invalid("input " + quote(input.name()) + " has no type" + std::string(kExportAgain));
  }
  return check_graph(graph, nullptr, 0, false);
}

Result<void> GraphChecker::check_function(const onnx::FunctionProto& function) {
  Scope scope(nullptr, function.node());
  for (const auto& input : function.input()) {
    if (input.empty() || !is_utf8(input) || !scope.define(input))
      return invalid("input " + quote(input) + " has no name, an invalid one, or one twice");
  }
  SELVAGE_RETURN_IF_ERROR(check_nodes(scope, 0, true));
  for (const auto& output : function.output())
    if (!scope.has_own(output)) return invalid("nothing produces its output " + quote(output));
  return {};
}

Result<void> GraphChecker::define_inputs(const onnx::GraphProto& graph, Scope& scope) {
  for (const auto& input : graph.input()) {
    if (input.name().empty() || !is_utf8(input.name()))
      return invalid("input " + quote(input.name()) + " has no valid name");
    if (!scope.define(input.name()))
      return invalid("there are two inputs " + quote(input.name()) + std::string(kExportAgain));
  }
  std::unordered_set<std::string_view> seen;
  const auto define = [&](const onnx::TensorProto& tensor, bool is_dense) -> Result<void> {
    if (tensor.name().empty() || !is_utf8(tensor.name()))
      return invalid("initialiser " + quote(tensor.name()) + " has no valid name");
    if (!seen.insert(tensor.name()).second)
      return invalid("there are two initialisers " + quote(tensor.name()) +
                     std::string(kExportAgain));
    scope.define_initialiser(tensor.name(), is_dense ? &tensor : nullptr);
    return {};
  };
  for (const auto& tensor : graph.initializer()) {
    SELVAGE_RETURN_IF_ERROR(define(tensor, true));
    SELVAGE_RETURN_IF_ERROR(check_tensor(tensor, folder_, options_.rank_max));
  }
  for (const auto& tensor : graph.sparse_initializer()) {
    SELVAGE_RETURN_IF_ERROR(define(tensor.values(), false));
    SELVAGE_RETURN_IF_ERROR(check_sparse(tensor));
  }
  return {};
}

Result<void> GraphChecker::check_graph(const onnx::GraphProto& graph, const Scope* outer,
                                       std::size_t depth, bool in_function) {
  if (depth > options_.depth_max)
    return fail(ErrorCode::kOutOfRange,
                "subgraphs nest deeper than the limit of " + std::to_string(options_.depth_max));
  Scope scope(outer, graph.node());
  SELVAGE_RETURN_IF_ERROR(define_inputs(graph, scope));
  SELVAGE_RETURN_IF_ERROR(check_nodes(scope, depth, in_function));
  for (const auto& output : graph.output()) {
    if (!scope.has_own(output.name()))
      return invalid("nothing in graph " + quote(graph.name()) + " produces its output " +
                     quote(output.name()) + std::string(kExportAgain));
  }
  return {};
}

Result<void> GraphChecker::check_nodes(Scope& scope, std::size_t depth, bool in_function) {
  for (int i = 0; i < scope.nodes().size(); ++i) {
    if (++nodes_ > options_.nodes_max)
      return fail(ErrorCode::kOutOfRange,
                  "more nodes than the limit of " + std::to_string(options_.nodes_max));
    const auto& node = scope.nodes()[i];
    if (auto checked = check_node(node, i, scope, depth, in_function); !checked)
      return std::unexpected(std::move(checked).error().with_context(describe(node, i)));
  }
  return {};
}

Result<void> GraphChecker::check_node(const onnx::NodeProto& node, int index, Scope& scope,
                                      std::size_t depth, bool in_function) {
  if (node.op_type().empty()) return invalid("has no operator type" + std::string(kExportAgain));
  for (const auto* text : {&node.name(), &node.op_type(), &node.domain(), &node.overload()})
    if (!is_utf8(*text)) return invalid("has a name that is not valid UTF-8");
  for (const auto& input : node.input())  // An empty name is an optional input left out.
    if (!input.empty() && !scope.has(input)) return invalid(scope.why_undefined(input, index));
  SELVAGE_RETURN_IF_ERROR(check_attributes(node, scope, depth, in_function));
  const auto find = [&scope](std::string_view name) { return scope.constant(name); };
  SELVAGE_RETURN_IF_ERROR(
      check_stated_size(node, find, folder_, options_.stated_elements_max, options_.rank_max));
  const bool is_constant = node.op_type() == "Constant" && canonical_domain(node.domain()).empty();
  for (const auto& output : node.output()) {
    if (output.empty()) continue;
    if (!is_utf8(output))
      return invalid("has an output " + quote(output) + " that is not valid UTF-8");
    if (scope.has(output))
      return invalid("produces " + quote(output) + ", which already exists" +
                     std::string(kExportAgain));
    scope.define(output, {.node = is_constant ? &node : nullptr});
  }
  return {};
}

Result<void> GraphChecker::check_attributes(const onnx::NodeProto& node, const Scope& scope,
                                            std::size_t depth, bool in_function) {
  std::unordered_set<std::string_view> seen;
  for (const auto& attribute : node.attribute()) {
    if (attribute.name().empty() || !is_utf8(attribute.name()))
      return invalid("attribute " + quote(attribute.name()) + " has no valid name");
    if (!seen.insert(attribute.name()).second)
      return invalid("has attribute " + quote(attribute.name()) + " twice");
    if (auto checked = check_attribute(attribute, scope, depth, in_function); !checked)
      return std::unexpected(
          std::move(checked).error().with_context("attribute " + quote(attribute.name())));
  }
  return {};
}

namespace {

/// One bit for each type whose field is filled.
std::uint32_t filled_types(const onnx::AttributeProto& attribute) {
  std::uint32_t filled = 0;
  const auto set = [&](onnx::AttributeProto::AttributeType type, bool is_filled) {
    filled |= is_filled ? 1u << type : 0u;
  };
  set(onnx::AttributeProto::FLOAT, attribute.has_f());
  set(onnx::AttributeProto::INT, attribute.has_i());
  set(onnx::AttributeProto::STRING, attribute.has_s());
  set(onnx::AttributeProto::TENSOR, attribute.has_t());
  set(onnx::AttributeProto::GRAPH, attribute.has_g());
  set(onnx::AttributeProto::SPARSE_TENSOR, attribute.has_sparse_tensor());
  set(onnx::AttributeProto::TYPE_PROTO, attribute.has_tp());
  set(onnx::AttributeProto::FLOATS, !attribute.floats().empty());
  set(onnx::AttributeProto::INTS, !attribute.ints().empty());
  set(onnx::AttributeProto::STRINGS, !attribute.strings().empty());
  set(onnx::AttributeProto::TENSORS, !attribute.tensors().empty());
  set(onnx::AttributeProto::GRAPHS, !attribute.graphs().empty());
  set(onnx::AttributeProto::SPARSE_TENSORS, !attribute.sparse_tensors().empty());
  set(onnx::AttributeProto::TYPE_PROTOS, !attribute.type_protos().empty());
  return filled;
}

Result<void> check_attribute_type(const onnx::AttributeProto& attribute, bool in_function) {
  const auto type = attribute.type();
  const auto filled = filled_types(attribute);
  if (!attribute.ref_attr_name().empty()) {
    if (!in_function) return invalid("refers to a function's attribute outside of a function");
    if (filled != 0) return invalid("has both a value and a reference");
    return {};
  }
  if (type == onnx::AttributeProto::UNDEFINED) {  // Very old files leave the type to the field.
    if (std::popcount(filled) == 1) return {};
    return invalid("has no type" + std::string(kExportAgain));
  }
  if ((filled & ~(1u << type)) != 0)
    return invalid("is declared as " + onnx::AttributeProto::AttributeType_Name(type) +
                   " but holds another type" + std::string(kExportAgain));
  // Zero may be left out of a file, and a list may be empty; these cannot.
  static constexpr std::uint32_t kNeverEmpty =
      1u << onnx::AttributeProto::TENSOR | 1u << onnx::AttributeProto::GRAPH |
      1u << onnx::AttributeProto::SPARSE_TENSOR | 1u << onnx::AttributeProto::TYPE_PROTO;
  if (filled == 0 && (kNeverEmpty >> type & 1) != 0)
    return invalid("is declared as " + onnx::AttributeProto::AttributeType_Name(type) +
                   " but is empty" + std::string(kExportAgain));
  return {};
}

}  // namespace

Result<void> GraphChecker::check_attribute(const onnx::AttributeProto& attribute,
                                           const Scope& scope, std::size_t depth,
                                           bool in_function) {
  SELVAGE_RETURN_IF_ERROR(check_attribute_type(attribute, in_function));
  if (attribute.has_t())
    SELVAGE_RETURN_IF_ERROR(check_tensor(attribute.t(), folder_, options_.rank_max));
  for (const auto& tensor : attribute.tensors())
    SELVAGE_RETURN_IF_ERROR(check_tensor(tensor, folder_, options_.rank_max));
  if (attribute.has_sparse_tensor())
    SELVAGE_RETURN_IF_ERROR(check_sparse(attribute.sparse_tensor()));
  for (const auto& tensor : attribute.sparse_tensors())
    SELVAGE_RETURN_IF_ERROR(check_sparse(tensor));
  if (attribute.has_g())
    SELVAGE_RETURN_IF_ERROR(check_graph(attribute.g(), &scope, depth + 1, in_function));
  for (const auto& graph : attribute.graphs())
    SELVAGE_RETURN_IF_ERROR(check_graph(graph, &scope, depth + 1, in_function));
  return {};
}

namespace {

/// Each index must lie inside `shape`: linear ones (rank 1) below the number of elements,
/// coordinates (rank 2) below their dimension.
Result<void> check_sparse_indices(const TensorData& indices, std::span<const std::int64_t> shape,
                                  std::int64_t elements, const std::string& named) {
  const auto bytes = indices.view().bytes;
  const bool is_linear = indices.view().shape.size() == 1;
  for (std::size_t i = 0; i < bytes.size() / sizeof(std::int64_t); ++i) {
    std::int64_t index;
    std::memcpy(&index, bytes.data() + i * sizeof index, sizeof index);
    const auto bound = is_linear ? elements : shape[i % shape.size()];
    if (index < 0 || index >= bound)
      return invalid(named + " has an index outside its shape" + std::string(kExportAgain));
  }
  return {};
}

}  // namespace

Result<void> GraphChecker::check_sparse(const onnx::SparseTensorProto& tensor) const {
  const auto named = "sparse " + describe(tensor.values());
  SELVAGE_RETURN_IF_ERROR(check_tensor(tensor.values(), folder_, options_.rank_max));
  SELVAGE_RETURN_IF_ERROR(check_tensor(tensor.indices(), folder_, options_.rank_max));
  const auto shape = std::span(tensor.dims().data(), static_cast<std::size_t>(tensor.dims_size()));
  const auto elements = element_count(shape);
  if (shape.empty() || !elements) return invalid(named + " has impossible dimensions");
  if (shape.size() > options_.rank_max ||
      static_cast<std::uint64_t>(*elements) > options_.stated_elements_max)
    return fail(ErrorCode::kOutOfRange,
                named + " of shape " + to_string(shape) + " is larger than the limit of " +
                    std::to_string(options_.stated_elements_max) + " elements");
  SELVAGE_TRY(const auto indices, TensorData::open(tensor.indices(), folder_));
  const auto& view = indices.view();
  const auto stored = tensor.values().dims_size() == 1 ? tensor.values().dims(0) : -1;
  const bool is_linear = view.shape.size() == 1 && view.shape[0] == stored;
  const bool is_coordinates = view.shape.size() == 2 && view.shape[0] == stored &&
                              view.shape[1] == static_cast<std::int64_t>(shape.size());
  if (view.type != DataType::kInt64 || !(is_linear || is_coordinates))
    return invalid(named + " has indices that do not fit its values" + std::string(kExportAgain));
  return check_sparse_indices(indices, shape, *elements, named);
}

}  // namespace selvage::graph
