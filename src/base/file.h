// Whole files: bounded reads, memory maps, and writes that are there completely or not at all.
#pragma once

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <functional>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "base/result.h"

namespace selvage {

/// What to do with pipes and devices: a pipe makes its reader wait for its writer, which is right
/// for what a user names and wrong for what lies among a model's files.
enum class Pipes : std::uint8_t { kRefuse, kRead };

/// Errors name the path. kNotFound, kPermissionDenied, kInvalidArgument for what is no file,
/// kOutOfRange above `bytes_max`, kIo.
[[nodiscard]] Result<std::string> read_text(const std::filesystem::path& path,
                                            std::uint64_t bytes_max = 64u << 20,
                                            Pipes pipes = Pipes::kRefuse);
[[nodiscard]] Result<std::vector<std::byte>> read_bytes(const std::filesystem::path& path,
                                                        std::uint64_t bytes_max,
                                                        Pipes pipes = Pipes::kRefuse);

/// Calls `take` with one piece after the other, for files that need not exist in memory at once.
[[nodiscard]] Result<void> read_pieces(const std::filesystem::path& path,
                                       const std::function<void(std::span<const std::byte>)>& take);

/// Writes a temporary file beside `path`, syncs it, renames it over `path` and syncs the folder:
/// after a crash, `path` holds the old content or the new, never a part. On failure (kIo,
/// kResourceExhausted when the disk is full) `path` is untouched and the temporary file is gone.
/// A symbolic link stays, what it leads to is replaced; an existing file keeps its permissions.
/// kInvalidArgument for a device, a pipe or a folder.
[[nodiscard]] Result<void> write_atomically(const std::filesystem::path& path,
                                            std::span<const std::byte> content);
[[nodiscard]] Result<void> write_atomically(const std::filesystem::path& path,
                                            std::string_view content);

/// The same piece by piece, for content that need not exist in memory at once. Confined to one
/// thread. A writer that is destroyed before commit() leaves nothing.
class AtomicFile {
 public:
  /// Begins a temporary file beside `path`.
  [[nodiscard]] static Result<AtomicFile> create(const std::filesystem::path& path);
  AtomicFile(AtomicFile&& other) noexcept;
  AtomicFile& operator=(AtomicFile&&) = delete;
  ~AtomicFile();

  [[nodiscard]] Result<void> append(std::span<const std::byte> piece);
  /// Syncs what was appended and makes it `path`: that given to create(), or one beside it where
  /// the content decides the name. Call it once, last.
  [[nodiscard]] Result<void> commit(const std::filesystem::path& path);

 private:
  AtomicFile(std::filesystem::path path, std::string temporary, int fd)
      : path_(std::move(path)), temporary_(std::move(temporary)), fd_(fd) {}
  std::filesystem::path path_;
  std::string temporary_;  // Empty once committed.
  int fd_;
};

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
