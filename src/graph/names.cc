#include "graph/names.h"

#include <cstdint>

#include <selvage/onnx.pb.h>

namespace selvage::graph {
namespace {

constexpr std::size_t kQuotedBytesMax = 120;

/// The length of the character that `text` begins with, 0 if it is not valid UTF-8 (RFC 3629: no
/// overlong forms, no surrogates, at most U+10FFFF).
std::size_t utf8_length(std::string_view text) {
  const auto byte = [&](std::size_t i) { return static_cast<std::uint8_t>(text[i]); };
  const std::uint8_t first = byte(0);
  if (first < 0x80) return 1;
  const std::size_t length = first < 0xc2 ? 0 : first < 0xe0 ? 2 : first < 0xf0 ? 3 : 4;
  if (length == 0 || first > 0xf4 || text.size() < length) return 0;
  for (std::size_t i = 1; i < length; ++i)
    if ((byte(i) & 0xc0) != 0x80) return 0;
  const bool is_overlong = (first == 0xe0 && byte(1) < 0xa0) || (first == 0xf0 && byte(1) < 0x90);
  const bool is_surrogate = first == 0xed && byte(1) >= 0xa0;
  const bool is_too_large = first == 0xf4 && byte(1) >= 0x90;
  return is_overlong || is_surrogate || is_too_large ? 0 : length;
}

}  // namespace

bool is_valid_utf8(std::string_view text) {
  while (!text.empty()) {
    const auto length = utf8_length(text);
    if (length == 0) return false;
    text.remove_prefix(length);
  }
  return true;
}

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
