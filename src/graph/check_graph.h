// The rules for one graph and what is in it. Internal to check().
#pragma once

#include <cstddef>
#include <filesystem>

#include "base/result.h"
#include "graph/check.h"

namespace selvage::onnx {
class AttributeProto;
class FunctionProto;
class GraphProto;
class NodeProto;
class SparseTensorProto;
}  // namespace selvage::onnx

namespace selvage::graph {

/// Checks graphs of one model, counting their nodes together. `folder` and `options` must outlive
/// it.
class GraphChecker {
 public:
  GraphChecker(const std::filesystem::path& folder, const CheckOptions& options)
      : folder_(folder), options_(options) {}

  /// The main graph: its inputs must have types.
  [[nodiscard]] Result<void> check_graph(const onnx::GraphProto& graph);
  /// A function's body, which sees nothing but its inputs.
  [[nodiscard]] Result<void> check_function(const onnx::FunctionProto& function);

 private:
  class Scope;
  Result<void> check_graph(const onnx::GraphProto& graph, const Scope* outer, std::size_t depth,
                           bool in_function);
  Result<void> define_inputs(const onnx::GraphProto& graph, Scope& scope);
  Result<void> check_nodes(Scope& scope, std::size_t depth, bool in_function);
  Result<void> check_node(const onnx::NodeProto& node, int index, Scope& scope, std::size_t depth,
                          bool in_function);
  Result<void> check_attributes(const onnx::NodeProto& node, const Scope& scope, std::size_t depth,
                                bool in_function);
  Result<void> check_attribute(const onnx::AttributeProto& attribute, const Scope& scope,
                               std::size_t depth, bool in_function);
  Result<void> check_sparse(const onnx::SparseTensorProto& tensor) const;

  const std::filesystem::path& folder_;
  const CheckOptions& options_;
  std::size_t nodes_ = 0;
};

}  // namespace selvage::graph
