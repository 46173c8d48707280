// Numbers out of foreign bytes, each read checked. Private to this folder.
#pragma once

#include <algorithm>
#include <concepts>
#include <cstddef>
#include <cstring>
#include <optional>
#include <span>
#include <string_view>

namespace selvage::media {

/// Reads from the front. The files that this folder reads, and the machines that it runs on, are
/// little-endian.
class ByteReader {
 public:
  explicit ByteReader(std::span<const std::byte> bytes) : rest_(bytes) {}

  [[nodiscard]] std::span<const std::byte> rest() const { return rest_; }
  [[nodiscard]] std::size_t remaining() const { return rest_.size(); }

  /// Empty when fewer bytes remain; then nothing is taken.
  [[nodiscard]] std::optional<std::span<const std::byte>> take(std::size_t count) {
    if (rest_.size() < count) return std::nullopt;
    const auto taken = rest_.first(count);
    rest_ = rest_.subspan(count);
    return taken;
  }
  template <std::integral Number>
  [[nodiscard]] std::optional<Number> number() {
    const auto bytes = take(sizeof(Number));
    if (!bytes) return std::nullopt;
    Number value;
    std::memcpy(&value, bytes->data(), sizeof value);
    return value;
  }
  [[nodiscard]] bool skip(std::size_t count) { return take(count).has_value(); }

 private:
  std::span<const std::byte> rest_;
};

[[nodiscard]] inline std::string_view as_text(std::span<const std::byte> bytes) {
  return {reinterpret_cast<const char*>(bytes.data()), bytes.size()};
}

}  // namespace selvage::media
