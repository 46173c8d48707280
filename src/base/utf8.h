// UTF-8 as RFC 3629 has it: no overlong forms, no surrogates, nothing above U+10FFFF.
#pragma once

#include <cstddef>
#include <string>
#include <string_view>

namespace selvage {

/// Bytes of the character at the beginning; 0 when it is not well-formed or `text` is empty.
[[nodiscard]] std::size_t utf8_length(std::string_view text);
[[nodiscard]] bool is_utf8(std::string_view text);

/// Foreign text on one line of a terminal: a file's name or a label may hold escape sequences that
/// move the cursor, recolour or reorder what is read. Control characters (C0, DEL, C1), line and
/// paragraph separators and bidirectional controls become their code ("\n", "\x1b", "\u202e"),
/// bytes that are not UTF-8 their value ("\xff"). Other text stays as it is.
[[nodiscard]] std::string printable(std::string_view text);

}  // namespace selvage
