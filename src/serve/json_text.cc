#include "serve/json_text.h"

#include <cstdint>

namespace selvage::serve {

void append_json_string(std::string& to, std::string_view text) {
  constexpr std::string_view kHex = "0123456789abcdef";
  to += '"';
  std::size_t from = 0;
  for (std::size_t i = 0; i < text.size(); ++i) {
    const auto byte = static_cast<std::uint8_t>(text[i]);
    if (byte >= 0x20 && byte != '"' && byte != '\\') continue;
    to.append(text, from, i - from);
    from = i + 1;
    switch (byte) {
      case '"': to += "\\\""; break;
      case '\\': to += "\\\\"; break;
      case '\n': to += "\\n"; break;
      case '\r': to += "\\r"; break;
      case '\t': to += "\\t"; break;
      default:
        to += "\\u00";
        to += kHex[byte >> 4];
        to += kHex[byte & 15];
    }
  }
  to.append(text, from);
  to += '"';
}

}  // namespace selvage::serve
