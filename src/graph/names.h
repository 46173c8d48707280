// Names in messages, and what a name may be. Internal to this folder.
#pragma once

#include <string>
#include <string_view>

namespace selvage::onnx {
class NodeProto;
class TensorProto;
}  // namespace selvage::onnx

namespace selvage::graph {

/// 'name', for a message: bytes that are not printable UTF-8 become '?', long names are cut.
[[nodiscard]] std::string quote(std::string_view name);

/// "node 'conv1' (Conv)", or "node 12 (Conv)" for one without a name.
[[nodiscard]] std::string describe(const onnx::NodeProto& node, int index);
/// "tensor 'w'", or "a tensor without a name".
[[nodiscard]] std::string describe(const onnx::TensorProto& tensor);

/// "ai.onnx" is another spelling of "", ONNX's own domain.
[[nodiscard]] inline std::string_view canonical_domain(std::string_view domain) {
  return domain == "ai.onnx" ? std::string_view() : domain;
}

}  // namespace selvage::graph
