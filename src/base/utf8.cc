#include "base/utf8.h"

#include <algorithm>
#include <cstdint>

namespace selvage {
namespace {

char hex_digit(unsigned value) {
  return "0123456789abcdef"[value & 15u];
}

std::string escaped_byte(char byte) {
  if (byte == '\n') return "\\n";
  if (byte == '\t') return "\\t";
  const auto value = static_cast<unsigned char>(byte);
  return {'\\', 'x', hex_digit(value >> 4u), hex_digit(value)};
}

/// The code point of a well-formed sequence of two or three bytes, which hold all that is escaped.
unsigned code_point(std::string_view sequence) {
  const auto bits = [&](std::size_t i, unsigned mask) {
    return static_cast<unsigned char>(sequence[i]) & mask;
  };
  if (sequence.size() == 2) return bits(0, 0x1F) << 6u | bits(1, 0x3F);
  return bits(0, 0x0F) << 12u | bits(1, 0x3F) << 6u | bits(2, 0x3F);
}

/// C1 controls, line and paragraph separators, and Unicode's Bidi_Control characters.
bool acts_on_terminal(unsigned code) {
  return (code >= 0x80 && code <= 0x9F) || code == 0x61C || code == 0x200E || code == 0x200F ||
         (code >= 0x2028 && code <= 0x202E) || (code >= 0x2066 && code <= 0x2069);
}

}  // namespace

// The table of well-formed sequences: RFC 3629, section 4.
std::size_t utf8_length(std::string_view text) {
  if (text.empty()) return 0;
  const auto byte = [text](std::size_t i) { return static_cast<std::uint8_t>(text[i]); };
  const auto tails = [&](std::size_t count) {
    if (text.size() <= count) return false;
    for (std::size_t i = 1; i <= count; ++i)
      if ((byte(i) & 0xC0) != 0x80) return false;
    return true;
  };
  const std::uint8_t lead = byte(0);
  if (lead < 0x80) return 1;
  if (lead >= 0xC2 && lead <= 0xDF) return tails(1) ? 2 : 0;
  if (lead >= 0xE0 && lead <= 0xEF) {
    if (!tails(2)) return 0;
    const bool overlong = lead == 0xE0 && byte(1) < 0xA0;
    const bool surrogate = lead == 0xED && byte(1) > 0x9F;
    return overlong || surrogate ? 0 : 3;
  }
  if (lead >= 0xF0 && lead <= 0xF4) {
    if (!tails(3)) return 0;
    const bool overlong = lead == 0xF0 && byte(1) < 0x90;
    const bool beyond = lead == 0xF4 && byte(1) > 0x8F;
    return overlong || beyond ? 0 : 4;
  }
  return 0;
}

bool is_utf8(std::string_view text) {
  while (!text.empty()) {
    const std::size_t length = utf8_length(text);
    if (length == 0) return false;
    text.remove_prefix(length);
  }
  return true;
}

std::string printable(std::string_view text) {
  std::string shown;
  shown.reserve(text.size());
  while (!text.empty()) {
    const std::size_t length = utf8_length(text);
    const auto first = text.substr(0, std::max<std::size_t>(1, length));
    text.remove_prefix(first.size());
    const auto byte = static_cast<unsigned char>(first[0]);
    if (length == 0 || byte < 0x20 || byte == 0x7F) {
      shown += escaped_byte(first[0]);
    } else if (const unsigned code = length == 2 || length == 3 ? code_point(first) : 0;
               acts_on_terminal(code)) {
      shown += {'\\', 'u'};
      for (const unsigned shift : {12u, 8u, 4u, 0u}) shown += hex_digit(code >> shift);
    } else {
      shown += first;
    }
  }
  return shown;
}

}  // namespace selvage
