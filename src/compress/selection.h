// Which nodes a quantiser takes. Internal to src/compress.
#pragma once

#include <span>
#include <string>
#include <string_view>
#include <unordered_set>

#include "base/result.h"
#include "compress/quantize_static.h"

namespace selvage::onnx {
class GraphProto;
class NodeProto;
}  // namespace selvage::onnx

namespace selvage::compress {

/// A node's name, or "#12" for the twelfth of its graph.
[[nodiscard]] std::string node_label(const onnx::NodeProto& node, int index);

/// A NodeSelection, resolved. `defaults` are the types taken when the selection names none.
class Selector {
 public:
  /// kInvalidArgument for nodes and types that the graph does not have, or types that `supported`
  /// does not list.
  [[nodiscard]] static Result<Selector> create(const NodeSelection& selection,
                                               const onnx::GraphProto& graph,
                                               std::span<const std::string> defaults,
                                               std::span<const std::string> supported);
  /// Of ONNX's own operators, and those of com.microsoft.
  [[nodiscard]] bool takes(const onnx::NodeProto& node, int index) const;
  /// Why not.
  [[nodiscard]] std::string reason(const onnx::NodeProto& node, int index) const;

 private:
  std::unordered_set<std::string> types_, nodes_, excluded_types_, excluded_nodes_;
};

}  // namespace selvage::compress
