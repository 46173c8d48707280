// JSON for programs, written in the order in which it is said: RFC 8259, UTF-8, one line.
#pragma once

#include <charconv>
#include <cmath>
#include <concepts>
#include <string>
#include <string_view>
#include <vector>

namespace selvage {

/// Commas are its business, balance is the caller's. Text that is not UTF-8 (a file's name may be
/// anything) has its broken bytes replaced by U+FFFD; control characters are escaped, those above
/// ASCII too, which a terminal may obey; numbers that are not finite become null.
///
///   JsonWriter json;
///   json.begin_object().field("name", "x").key("shape").begin_array().value(1).end_array();
///   json.end_object();
class JsonWriter {
 public:
  JsonWriter& begin_object() { return begin('{'); }
  JsonWriter& end_object() { return end('}'); }
  JsonWriter& begin_array() { return begin('['); }
  JsonWriter& end_array() { return end(']'); }
  JsonWriter& key(std::string_view name);

  JsonWriter& value(std::string_view text);
  JsonWriter& value(const char* text) { return value(std::string_view(text)); }
  JsonWriter& value(const std::string& text) { return value(std::string_view(text)); }
  template <typename T>
    requires std::integral<T> || std::floating_point<T>
  JsonWriter& value(T number) {
    if constexpr (std::same_as<T, bool>) {
      return raw(number ? "true" : "false");
    } else {
      if constexpr (std::floating_point<T>)
        if (!std::isfinite(number)) return null();
      char buffer[32];
      return raw({buffer, std::to_chars(buffer, buffer + sizeof(buffer), number).ptr});
    }
  }
  JsonWriter& null() { return raw("null"); }

  template <typename T>
  JsonWriter& field(std::string_view name, const T& what) {
    return key(name).value(what);
  }
  template <typename List>
  JsonWriter& list(std::string_view name, const List& values) {
    key(name).begin_array();
    for (const auto& one : values) value(one);
    return end_array();
  }

  /// What was written so far.
  [[nodiscard]] const std::string& text() const { return text_; }

 private:
  JsonWriter& begin(char bracket);
  JsonWriter& end(char bracket);
  JsonWriter& raw(std::string_view text);
  void separate();
  void append_quoted(std::string_view text);

  std::string text_;
  bool first_ = true;  // In the innermost array or object.
  bool after_key_ = false;
};

}  // namespace selvage
