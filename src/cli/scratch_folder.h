// A folder for files that nobody needs afterwards.
#pragma once

#include <filesystem>
#include <utility>

#include "base/result.h"

namespace selvage::cli {

/// Is gone, with everything in it, when this object is. Movable.
class ScratchFolder {
 public:
  /// In $TMPDIR or /tmp. kIo when that cannot be written.
  [[nodiscard]] static Result<ScratchFolder> create();
  ScratchFolder(ScratchFolder&& other) noexcept : path_(std::exchange(other.path_, {})) {}
  ScratchFolder& operator=(ScratchFolder&&) = delete;
  ~ScratchFolder();

  [[nodiscard]] const std::filesystem::path& path() const { return path_; }

 private:
  explicit ScratchFolder(std::filesystem::path path) : path_(std::move(path)) {}
  std::filesystem::path path_;
};

}  // namespace selvage::cli
