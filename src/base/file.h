// Whole files: bounded reads, memory maps, and writes that are there completely or not at all.
#pragma once

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <span>
#include <string>
#include <vector>

#include "base/result.h"

namespace selvage {

/// Errors name the path. kNotFound, kPermissionDenied, kOutOfRange above `bytes_max`, kIo.
[[nodiscard]] Result<std::string> read_text(const std::filesystem::path& path,
                                            std::uint64_t bytes_max = 64u << 20);
[[nodiscard]] Result<std::vector<std::byte>> read_bytes(const std::filesystem::path& path,
                                                        std::uint64_t bytes_max);

/// Writes a temporary file beside `path`, syncs it, renames it over `path` and syncs the folder:
/// after a crash, `path` holds the old content or the new, never a part. On failure (kIo,
/// kResourceExhausted when the disk is full) `path` is untouched and the temporary file is gone.
[[nodiscard]] Result<void> write_atomically(const std::filesystem::path& path,
                                            std::span<const std::byte> content);
[[nodiscard]] Result<void> write_atomically(const std::filesystem::path& path,
                                            std::string_view content);

/// A regular file mapped for reading. Movable; the bytes stay valid until destruction. A file that
/// another process truncates while mapped raises SIGBUS: map only files nobody edits in place.
class MappedFile {
 public:
  [[nodiscard]] static Result<MappedFile> open(const std::filesystem::path& path);
  MappedFile(MappedFile&& other) noexcept;
  MappedFile& operator=(MappedFile&& other) noexcept;
  MappedFile(const MappedFile&) = delete;
  MappedFile& operator=(const MappedFile&) = delete;
  ~MappedFile();

  [[nodiscard]] std::span<const std::byte> bytes() const { return bytes_; }

 private:
  explicit MappedFile(std::span<const std::byte> bytes) : bytes_(bytes) {}
  std::span<const std::byte> bytes_;
};

}  // namespace selvage
