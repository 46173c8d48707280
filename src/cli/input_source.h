// The bytes behind a path that a person typed: a file, a pipe, a device or standard input.
#pragma once

#include <cstddef>
#include <filesystem>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"

namespace selvage::cli {

inline constexpr std::uint64_t kInputBytesMax = 1u << 30;

/// Confined to one thread. Pipes and devices give their bytes only once and are read to their end
/// at open(); files are read when they are asked for; cameras are not read at all.
class InputSource {
 public:
  /// "-" is standard input. kNotFound, kPermissionDenied, kIo; kInvalidArgument for a folder and
  /// for what is empty; kOutOfRange for a pipe of more than kInputBytesMax.
  [[nodiscard]] static Result<InputSource> open(const std::filesystem::path& path);

  [[nodiscard]] const std::filesystem::path& path() const { return path_; }  ///< As typed.
  [[nodiscard]] const std::filesystem::path& file() const { return file_; }  ///< What is opened.
  /// The first bytes, by which kinds of files are told apart; "" for a camera.
  [[nodiscard]] const std::string& head() const { return head_; }
  /// All bytes, at most kInputBytesMax. Call it once.
  [[nodiscard]] Result<std::vector<std::byte>> read();
  /// Whether read() is the only way to the bytes.
  [[nodiscard]] bool is_pipe() const { return piped_.has_value(); }

 private:
  InputSource() = default;
  [[nodiscard]] Result<void> read_head();

  std::filesystem::path path_, file_;
  std::string head_;
  std::optional<std::vector<std::byte>> piped_;
};

}  // namespace selvage::cli
