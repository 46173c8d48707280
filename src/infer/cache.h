// Optimised models kept between starts. An entry's name is the SHA-256 of everything it depends on:
// the model's digest, the runtime's version, the CPU's features and the options that change the
// graph. Entry: 8 bytes magic, SHA-256 of the payload, payload (the optimised model as ONNX).
// Written atomically, so concurrent writers and crashes leave a whole entry or none; an entry that
// does not verify (torn, foreign, another version) is treated as absent and replaced.
#pragma once

#include <filesystem>
#include <optional>
#include <span>
#include <string>

#include "base/file.h"
#include "base/result.h"
#include "crypto/digest.h"

namespace selvage::infer {

/// $SELVAGE_CACHE, or $XDG_CACHE_HOME/selvage, or ~/.cache/selvage, or /var/cache/selvage for root
/// services without a home.
[[nodiscard]] std::filesystem::path default_cache_folder();

/// What the CPU can do, as it matters to kernels: "x86_64 avx2 avx512_vnni ..." in a fixed order.
[[nodiscard]] std::string cpu_features();

/// A verified entry: `payload` points into the map.
struct CacheEntry {
  MappedFile file;
  std::span<const std::byte> payload;
};

/// Synchronised through the file system: any number of threads and processes may share the folder.
class ModelCache {
 public:
  explicit ModelCache(std::filesystem::path folder) : folder_(std::move(folder)) {}

  [[nodiscard]] std::optional<CacheEntry> find(const crypto::Digest& key) const;
  /// Creates the folder when needed. A failure (disk full, no permission) costs only the next
  /// start.
  [[nodiscard]] Result<void> store(const crypto::Digest& key,
                                   std::span<const std::byte> payload) const;
  [[nodiscard]] const std::filesystem::path& folder() const { return folder_; }

  /// Writes a file of that content and removes it: what the system says to it. For telling why the
  /// runtime could not write here, which does not say.
  [[nodiscard]] Result<void> try_writing(std::span<const std::byte> content) const;

  /// Makes room: removes what crashed writers left behind, and the oldest entries above kBytesMax.
  /// store() calls it.
  void sweep() const;
  /// A name for a temporary file that no other thread or process uses; sweep() knows it.
  [[nodiscard]] std::filesystem::path scratch_path() const;

  static constexpr std::uint64_t kBytesMax = std::uint64_t{2} << 30;

 private:
  [[nodiscard]] Result<void> make_folder() const;
  [[nodiscard]] std::filesystem::path path_of(const crypto::Digest& key) const;
  std::filesystem::path folder_;
};

}  // namespace selvage::infer
