// Writes JSON text. NaN and infinities become the bare tokens NaN, Infinity and -Infinity, as
// Triton writes them: not standard, but what clients of the protocol read.
#pragma once

#include <charconv>
#include <cmath>
#include <string>
#include <string_view>
#include <type_traits>

namespace selvage::serve {

/// `text` with quotes and escapes. Bytes that are not UTF-8 are copied as they are: check before.
void append_json_string(std::string& to, std::string_view text);

/// The shortest text that reads back as the same value.
template <typename T>
void append_json_number(std::string& to, T value) {
  if constexpr (std::is_floating_point_v<T>) {
    if (std::isnan(value)) {
      to += "NaN";
      return;
    }
    if (std::isinf(value)) {
      to += value < 0 ? "-Infinity" : "Infinity";
      return;
    }
  }
  char digits[32];
  const auto [end, error] = std::to_chars(digits, digits + sizeof(digits), value);
  to.append(digits, end);
  // Readers that tell integers from floats by their text would change the type.
  if constexpr (std::is_floating_point_v<T>)
    if (std::string_view(digits, static_cast<std::size_t>(end - digits)).find_first_of(".e") ==
        std::string_view::npos)
      to += ".0";
}

}  // namespace selvage::serve
