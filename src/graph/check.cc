#include "graph/check.h"

#include <map>
#include <string>
#include <tuple>
#include <unordered_set>

#include <selvage/onnx.pb.h>

#include "base/utf8.h"
#include "graph/check_graph.h"
#include "graph/names.h"

namespace selvage::graph {
namespace {

using google::protobuf::RepeatedPtrField;

std::string between(std::int64_t low, std::int64_t high) {
  return std::to_string(low) + " to " + std::to_string(high);
}

Result<void> check_opsets(const RepeatedPtrField<onnx::OperatorSetIdProto>& imports,
                          std::int64_t opset_max) {
  if (imports.empty())
    return fail(ErrorCode::kInvalidArgument,
                "names no operator set (opset_import): the file is cut or was edited; export the "
                "model again");
  std::unordered_set<std::string_view> seen;
  for (const auto& import : imports) {
    const auto domain = canonical_domain(import.domain());
    const auto named = "operator set " + quote(domain.empty() ? "ai.onnx" : domain);
    if (!is_utf8(import.domain()))
      return fail(ErrorCode::kInvalidArgument, named + " has a name that is not valid UTF-8");
    if (!seen.insert(domain).second)
      return fail(ErrorCode::kInvalidArgument,
                  named + " is imported twice: export the model again");
    if (import.version() < 1 || (domain.empty() && import.version() > opset_max))
      return fail(ErrorCode::kInvalidArgument,
                  named + " has version " + std::to_string(import.version()) + "; known are " +
                      (domain.empty() ? between(1, opset_max) : "1 and above") +
                      ": export the model for one of these");
  }
  return {};
}

/// Domain, name and overload: what makes a function, and what a node calls.
using FunctionKey = std::tuple<std::string_view, std::string_view, std::string_view>;

/// A function's body as the runtime inlines it.
struct Expansion {
  std::size_t nodes = 0;  ///< All calls inlined.
  std::size_t depth = 0;  ///< Of calls.
  bool is_done = false;   ///< Otherwise it is being counted.
};

class ModelChecker {
 public:
  ModelChecker(const Model& model, const CheckOptions& options)
      : model_(model.proto()), options_(options), graphs_(model.folder(), options) {}

  Result<void> run();

 private:
  Result<void> check_versions() const;
  Result<void> collect_functions();
  Result<void> check_function(const onnx::FunctionProto& function);
  Result<Expansion> expand(const onnx::FunctionProto& function, std::size_t depth);
  template <typename Nodes>
  Result<Expansion> expand_nodes(const Nodes& nodes, std::size_t depth);

  const onnx::ModelProto& model_;
  const CheckOptions& options_;
  GraphChecker graphs_;
  std::map<FunctionKey, const onnx::FunctionProto*> functions_;
  std::map<const onnx::FunctionProto*, Expansion> expansions_;
};

std::string describe(const onnx::FunctionProto& function) {
  return "function " + quote(function.domain() + ":" + function.name());
}

Result<void> ModelChecker::check_versions() const {
  if (!model_.has_graph())
    return fail(ErrorCode::kInvalidArgument,
                "has no graph: not an ONNX model, or cut short; export the model again");
  if (!model_.has_ir_version() || model_.ir_version() < options_.ir_version_min ||
      model_.ir_version() > options_.ir_version_max)
    return fail(ErrorCode::kInvalidArgument,
                "has IR version " + std::to_string(model_.ir_version()) + "; known are " +
                    between(options_.ir_version_min, options_.ir_version_max) +
                    ": export the model for one of these");
  return check_opsets(model_.opset_import(), options_.opset_max);
}

Result<void> ModelChecker::collect_functions() {
  for (const auto& function : model_.functions()) {
    if (function.name().empty() || !is_utf8(function.name()) || !is_utf8(function.domain()) ||
        !is_utf8(function.overload()))
      return fail(ErrorCode::kInvalidArgument, describe(function) + " has no valid name");
    const FunctionKey key(canonical_domain(function.domain()), function.name(),
                          function.overload());
    if (!functions_.emplace(key, &function).second)
      return fail(ErrorCode::kInvalidArgument, describe(function) + " is defined twice");
  }
  return {};
}

Result<void> ModelChecker::check_function(const onnx::FunctionProto& function) {
  SELVAGE_RETURN_IF_ERROR(check_opsets(function.opset_import(), options_.opset_max));
  SELVAGE_RETURN_IF_ERROR(graphs_.check_function(function));
  SELVAGE_RETURN_IF_ERROR(expand(function, 1));
  return {};
}

Result<Expansion> ModelChecker::expand(const onnx::FunctionProto& function, std::size_t depth) {
  if (depth > options_.call_depth_max)
    return fail(ErrorCode::kOutOfRange, describe(function) +
                                            " calls functions deeper than the limit of " +
                                            std::to_string(options_.call_depth_max));
  const auto [entry, is_new] = expansions_.try_emplace(&function);
  if (!is_new) {
    if (!entry->second.is_done)
      return fail(
          ErrorCode::kInvalidArgument,
          describe(function) + " calls itself, perhaps through others: ONNX has no recursion");
    return entry->second;
  }
  SELVAGE_TRY(auto expansion, expand_nodes(function.node(), depth));
  expansion.depth += 1;
  expansion.is_done = true;
  if (depth + expansion.depth > options_.call_depth_max + 1)
    return fail(ErrorCode::kOutOfRange, describe(function) +
                                            " calls functions deeper than the limit of " +
                                            std::to_string(options_.call_depth_max));
  entry->second = expansion;
  return expansion;
}

/// Counts nodes, those of subgraphs and of called functions included. The runtime inlines
/// functions, and calls can double at each level: a few hundred bytes may stand for 2^60 nodes.
template <typename Nodes>
Result<Expansion> ModelChecker::expand_nodes(const Nodes& nodes, std::size_t depth) {
  Expansion sum;
  const auto add = [&](const Expansion& part) -> Result<void> {
    sum.nodes += part.nodes;
    sum.depth = std::max(sum.depth, part.depth);
    if (sum.nodes > options_.nodes_max)
      return fail(ErrorCode::kOutOfRange, "more nodes than the limit of " +
                                              std::to_string(options_.nodes_max) +
                                              " once functions are expanded");
    return {};
  };
  for (const auto& node : nodes) {
    SELVAGE_RETURN_IF_ERROR(add({.nodes = 1}));
    const auto called = functions_.find(
        FunctionKey(canonical_domain(node.domain()), node.op_type(), node.overload()));
    if (called != functions_.end()) {
      SELVAGE_TRY(const auto part, expand(*called->second, depth + 1));
      SELVAGE_RETURN_IF_ERROR(add(part));
    }
    for (const auto& attribute : node.attribute()) {
      SELVAGE_TRY(const auto part, expand_nodes(attribute.g().node(), depth));
      SELVAGE_RETURN_IF_ERROR(add(part));
      for (const auto& graph : attribute.graphs()) {
        SELVAGE_TRY(const auto inner, expand_nodes(graph.node(), depth));
        SELVAGE_RETURN_IF_ERROR(add(inner));
      }
    }
  }
  return sum;
}

Result<void> ModelChecker::run() {
  SELVAGE_RETURN_IF_ERROR(check_versions());
  SELVAGE_RETURN_IF_ERROR(collect_functions());
  for (const auto& function : model_.functions()) {
    if (auto checked = check_function(function); !checked)
      return std::unexpected(std::move(checked).error().with_context(describe(function)));
  }
  SELVAGE_RETURN_IF_ERROR(graphs_.check_graph(model_.graph()));
  SELVAGE_RETURN_IF_ERROR(expand_nodes(model_.graph().node(), 0));
  return {};
}

}  // namespace

Result<void> check(const Model& model, const CheckOptions& options) {
  if (auto checked = ModelChecker(model, options).run(); !checked)
    return std::unexpected(std::move(checked).error().with_context("invalid model"));
  return {};
}

}  // namespace selvage::graph
