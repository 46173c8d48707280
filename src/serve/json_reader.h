// Reads JSON from a buffer, value by value, without building a tree: request bodies go straight
// into tensors. Beyond RFC 8259 it takes the bare tokens NaN, Infinity, Inf and their negatives,
// which clients of the protocol send. Integers keep 64 bits. Nesting is bounded by kDepthMax,
// strings are checked to be UTF-8.
//
//   SELVAGE_RETURN_IF_ERROR(reader.begin_object());
//   std::string key;
//   while (true) {
//     SELVAGE_TRY(const bool more, reader.next_key(key));
//     if (!more) break;
//     if (key == "id") { SELVAGE_TRY(id, reader.string()); } else { SELVAGE_TRY(...,
//     reader.skip()); }
//   }
//   SELVAGE_RETURN_IF_ERROR(reader.end());
#pragma once

#include <charconv>
#include <cstdint>
#include <string>
#include <string_view>
#include <variant>

#include "base/result.h"

namespace selvage::serve {

enum class JsonKind : std::uint8_t { kObject, kArray, kString, kNumber, kBoolean, kNull };

/// A number as written. Integers that fit neither 64-bit type are doubles.
using JsonNumber = std::variant<std::int64_t, std::uint64_t, double>;

/// Confined. Every error is kInvalidArgument and names the byte where the text went wrong; after an
/// error the reader is of no use.
class JsonReader {
 public:
  static constexpr int kDepthMax = 100;  ///< As Triton's.

  /// `text` must outlive the reader.
  explicit JsonReader(std::string_view text)
      : begin_(text.data()), at_(begin_), end_(begin_ + text.size()) {}

  [[nodiscard]] Result<JsonKind> kind();  ///< Of the value that comes next.

  [[nodiscard]] Result<void> begin_object();
  /// The next member's name, or false when the object ends.
  [[nodiscard]] Result<bool> next_key(std::string& key);
  [[nodiscard]] Result<void> begin_array();
  /// Whether another element follows; false when the array ends.
  [[nodiscard]] Result<bool> next_element();

  [[nodiscard]] Result<std::string> string();
  [[nodiscard]] Result<bool> boolean();
  [[nodiscard]] Result<JsonNumber> number();
  /// The text of a number, its grammar checked: for the caller to convert.
  [[nodiscard]] Result<std::string_view> number_text();
  [[nodiscard]] Result<void> null();
  /// Checks and passes over a value of any kind; returns its text.
  [[nodiscard]] Result<std::string_view> skip();

  [[nodiscard]] Result<void> end();  ///< Nothing but white space may follow.

 private:
  [[nodiscard]] std::unexpected<Error> wrong(std::string_view what) const;
  [[nodiscard]] Result<void> enter(char bracket, std::string_view what);
  [[nodiscard]] Result<bool> next(char closing);
  [[nodiscard]] Result<void> word(std::string_view text);
  [[nodiscard]] Result<void> escape(std::string& to);
  [[nodiscard]] Result<std::uint32_t> hex4();
  [[nodiscard]] Result<void> text(std::string& to);
  void space() {
    while (at_ != end_ && (*at_ == ' ' || *at_ == '\n' || *at_ == '\t' || *at_ == '\r')) ++at_;
  }

  const char* begin_;
  const char* at_;
  const char* end_;
  int depth_ = 0;
  bool first_ = false;  // No comma is due before the next key or element.
};

/// The value of number_text() as a T. False when it does not fit: an integer with a fraction,
/// beyond the type's range, or a finite text beyond a float's. Tiny values become zero.
[[nodiscard]] bool to_number(std::string_view text, float& value);
[[nodiscard]] bool to_number(std::string_view text, double& value);
template <typename T>
[[nodiscard]] bool to_number(std::string_view text, T& value) {
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  return error == std::errc() && end == text.data() + text.size();
}

}  // namespace selvage::serve
