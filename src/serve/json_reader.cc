#include "serve/json_reader.h"

#include <cmath>
#include <cstdlib>
#include <system_error>

#include "base/utf8.h"

namespace selvage::serve {
namespace {

bool is_digit(char c) {
  return c >= '0' && c <= '9';
}

void append_utf8(std::string& to, std::uint32_t point) {
  const auto put = [&to](std::uint32_t byte) { to += static_cast<char>(byte); };
  if (point < 0x80) return put(point);
  if (point < 0x800) {
    put(0xC0 | (point >> 6));
    return put(0x80 | (point & 0x3F));
  }
  if (point < 0x10000) {
    put(0xE0 | (point >> 12));
  } else {
    put(0xF0 | (point >> 18));
    put(0x80 | ((point >> 12) & 0x3F));
  }
  put(0x80 | ((point >> 6) & 0x3F));
  put(0x80 | (point & 0x3F));
}

// from_chars does not tell overflow from underflow, and only one of them is an error: strtod does,
// on a path that only extreme numbers take.
template <typename T>
bool to_floating(std::string_view text, T& value) {
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (error == std::errc()) return end == text.data() + text.size();
  if (error != std::errc::result_out_of_range) return false;
  value = static_cast<T>(std::strtod(std::string(text).c_str(), nullptr));
  return std::isfinite(value);
}

}  // namespace

bool to_number(std::string_view text, float& value) {
  return to_floating(text, value);
}
bool to_number(std::string_view text, double& value) {
  return to_floating(text, value);
}

std::unexpected<Error> JsonReader::wrong(std::string_view what) const {
  return fail(ErrorCode::kInvalidArgument,
              "not valid JSON at byte " + std::to_string(at_ - begin_) + ": " + std::string(what));
}

Result<JsonKind> JsonReader::kind() {
  space();
  if (at_ == end_) return wrong("the text ends too early");
  switch (*at_) {
    case '{': return JsonKind::kObject;
    case '[': return JsonKind::kArray;
    case '"': return JsonKind::kString;
    case 't':
    case 'f': return JsonKind::kBoolean;
    case 'n': return JsonKind::kNull;
    default: return JsonKind::kNumber;
  }
}

Result<void> JsonReader::enter(char bracket, std::string_view what) {
  space();
  if (at_ == end_ || *at_ != bracket) return wrong(what);
  if (++depth_ > kDepthMax)
    return wrong("nested deeper than " + std::to_string(kDepthMax) + " levels");
  ++at_;
  first_ = true;
  return {};
}

Result<void> JsonReader::begin_object() {
  return enter('{', "an object is expected here");
}
Result<void> JsonReader::begin_array() {
  return enter('[', "an array is expected here");
}

Result<bool> JsonReader::next(char closing) {
  space();
  if (at_ == end_) return wrong("the text ends too early");
  if (*at_ == closing) {
    ++at_;
    --depth_;
    first_ = false;
    return false;
  }
  if (!first_) {
    if (*at_ != ',') return wrong("a comma or the closing bracket is expected here");
    ++at_;
    space();
  }
  first_ = false;
  return true;
}

Result<bool> JsonReader::next_element() {
  return next(']');
}

Result<bool> JsonReader::next_key(std::string& key) {
  SELVAGE_TRY(const bool more, next('}'));
  if (!more) return false;
  key.clear();
  SELVAGE_RETURN_IF_ERROR(text(key));
  space();
  if (at_ == end_ || *at_ != ':') return wrong("a colon is expected here");
  ++at_;
  return true;
}

Result<std::uint32_t> JsonReader::hex4() {
  std::uint32_t value = 0;
  if (end_ - at_ < 4) return wrong("the text ends within an escape");
  const auto [stop, error] = std::from_chars(at_, at_ + 4, value, 16);
  if (error != std::errc() || stop != at_ + 4) return wrong("\\u needs four hexadecimal digits");
  at_ += 4;
  return value;
}

Result<void> JsonReader::escape(std::string& to) {
  if (at_ == end_) return wrong("the text ends within an escape");
  constexpr std::string_view kFrom = "\"\\/bfnrt";
  constexpr std::string_view kTo = "\"\\/\b\f\n\r\t";
  if (const auto i = kFrom.find(*at_); i != std::string_view::npos) {
    to += kTo[i];
    ++at_;
    return {};
  }
  if (*at_ != 'u') return wrong("an unknown escape");
  ++at_;
  SELVAGE_TRY(std::uint32_t point, hex4());
  if (point >= 0xDC00 && point <= 0xDFFF) return wrong("half of a surrogate pair");
  if (point >= 0xD800 && point <= 0xDBFF) {
    if (end_ - at_ < 2 || at_[0] != '\\' || at_[1] != 'u') return wrong("half of a surrogate pair");
    at_ += 2;
    SELVAGE_TRY(const std::uint32_t low, hex4());
    if (low < 0xDC00 || low > 0xDFFF) return wrong("half of a surrogate pair");
    point = 0x10000 + ((point - 0xD800) << 10) + (low - 0xDC00);
  }
  append_utf8(to, point);
  return {};
}

Result<void> JsonReader::text(std::string& to) {
  space();
  if (at_ == end_ || *at_ != '"') return wrong("a string is expected here");
  ++at_;
  while (true) {
    const char* const from = at_;
    while (at_ != end_ && *at_ != '"' && *at_ != '\\') {
      const auto byte = static_cast<std::uint8_t>(*at_);
      if (byte < 0x20) return wrong("a control character within a string");
      if (byte < 0x80) {
        ++at_;
        continue;
      }
      const std::size_t length = utf8_length({at_, static_cast<std::size_t>(end_ - at_)});
      if (length == 0) return wrong("a string that is not UTF-8: send it as a binary tensor");
      at_ += length;
    }
    to.append(from, at_);
    if (at_ == end_) return wrong("the text ends within a string");
    if (*at_++ == '"') return {};
    SELVAGE_RETURN_IF_ERROR(escape(to));
  }
}

Result<std::string> JsonReader::string() {
  std::string value;
  SELVAGE_RETURN_IF_ERROR(text(value));
  return value;
}

Result<void> JsonReader::word(std::string_view expected) {
  if (std::string_view(at_, static_cast<std::size_t>(end_ - at_)).substr(0, expected.size()) !=
      expected)
    return wrong("'" + std::string(expected) + "' is expected here");
  at_ += expected.size();
  return {};
}

Result<bool> JsonReader::boolean() {
  space();
  if (at_ == end_ || (*at_ != 't' && *at_ != 'f')) return wrong("true or false is expected here");
  const bool value = *at_ == 't';
  SELVAGE_RETURN_IF_ERROR(word(value ? "true" : "false"));
  return value;
}

Result<void> JsonReader::null() {
  space();
  return word("null");
}

Result<std::string_view> JsonReader::number_text() {
  space();
  const char* const from = at_;
  const auto here = [this](char c) { return at_ != end_ && *at_ == c; };
  const auto digits = [this] {
    const char* const start = at_;
    while (at_ != end_ && is_digit(*at_)) ++at_;
    return at_ != start;
  };
  const auto taken = [&] { return std::string_view(from, static_cast<std::size_t>(at_ - from)); };
  if (here('-')) ++at_;
  if (here('N') || here('I')) {
    const bool nan = here('N');
    const bool full =
        std::string_view(at_, static_cast<std::size_t>(end_ - at_)).starts_with("Infinity");
    SELVAGE_RETURN_IF_ERROR(word(nan ? "NaN" : full ? "Infinity" : "Inf"));
    return taken();
  }
  const bool zero = here('0');
  if (!digits()) return wrong("a value is expected here");
  if (zero && at_ - from > (*from == '-' ? 2 : 1)) return wrong("a number with a leading zero");
  if (here('.')) {
    ++at_;
    if (!digits()) return wrong("a number without digits after its point");
  }
  if (here('e') || here('E')) {
    ++at_;
    if (here('+') || here('-')) ++at_;
    if (!digits()) return wrong("a number without digits in its exponent");
  }
  return taken();
}

Result<JsonNumber> JsonReader::number() {
  SELVAGE_TRY(const std::string_view text, number_text());
  if (std::int64_t value = 0; to_number(text, value)) return value;
  if (std::uint64_t value = 0; to_number(text, value)) return value;
  if (double value = 0; to_number(text, value)) return value;
  return wrong("a number that no 64-bit type holds");
}

// Without recursion: what is open is one character a level.
Result<std::string_view> JsonReader::skip() {
  space();
  const char* const from = at_;
  const int outer = depth_;
  std::string scratch;
  std::string open;
  do {
    if (!open.empty()) {
      const bool object = open.back() == '{';
      SELVAGE_TRY(const bool more, object ? next_key(scratch) : next_element());
      if (!more) {
        open.pop_back();
        continue;
      }
    }
    SELVAGE_TRY(const JsonKind next_kind, kind());
    scratch.clear();
    switch (next_kind) {
      case JsonKind::kObject:
        SELVAGE_RETURN_IF_ERROR(begin_object());
        open += '{';
        break;
      case JsonKind::kArray:
        SELVAGE_RETURN_IF_ERROR(begin_array());
        open += '[';
        break;
      case JsonKind::kString: SELVAGE_RETURN_IF_ERROR(text(scratch)); break;
      case JsonKind::kBoolean: SELVAGE_RETURN_IF_ERROR(boolean()); break;
      case JsonKind::kNull: SELVAGE_RETURN_IF_ERROR(null()); break;
      case JsonKind::kNumber: SELVAGE_RETURN_IF_ERROR(number_text()); break;
    }
  } while (depth_ > outer);
  return std::string_view(from, static_cast<std::size_t>(at_ - from));
}

Result<void> JsonReader::end() {
  space();
  if (at_ != end_) return wrong("text after the end of the document");
  return {};
}

}  // namespace selvage::serve
