#include "graph/names.h"

#include <algorithm>

#include <selvage/onnx.pb.h>

#include "base/utf8.h"

namespace selvage::graph {
namespace {

constexpr std::size_t kQuotedBytesMax = 120;

}  // namespace

std::string quote(std::string_view name) {
  std::string quoted = "'";
  while (!name.empty()) {
    if (quoted.size() > kQuotedBytesMax) return quoted + "...'";
    const auto length = utf8_length(name);
    const bool is_control = length == 1 && (name[0] < 0x20 || name[0] == 0x7f);
    if (length == 0 || is_control) {
      quoted += '?';
    } else {
      quoted += name.substr(0, length);
    }
    name.remove_prefix(std::max<std::size_t>(length, 1));
  }
  return quoted + "'";
}

std::string describe(const onnx::NodeProto& node, int index) {
  std::string text = "node ";
  text += node.name().empty() ? std::to_string(index) : quote(node.name());
  const auto type = quote(node.op_type());
  return text + " (" + type.substr(1, type.size() - 2) + ")";
}

std::string describe(const onnx::TensorProto& tensor) {
  return tensor.name().empty() ? "a tensor without a name" : "tensor " + quote(tensor.name());
}

}  // namespace selvage::graph
