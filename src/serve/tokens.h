// Bearer tokens (RFC 6750) from a file: one a line; empty lines and lines that begin with # are
// skipped. The file is read again when it changes, so tokens come and go without a restart.
#pragma once

#include <chrono>
#include <filesystem>
#include <memory>
#include <mutex>
#include <string_view>
#include <vector>

#include "base/clock.h"
#include "base/result.h"
#include "crypto/digest.h"

namespace selvage::serve {

/// Synchronised.
class Tokens {
 public:
  static constexpr std::size_t kFileBytesMax = 1u << 20;
  static constexpr std::size_t kTokenBytesMin = 16;  ///< Shorter ones can be guessed.
  static constexpr auto kLookInterval = std::chrono::seconds(1);

  /// Errors of read_text; kInvalidArgument for a short token or none at all. `clock` must outlive
  /// it.
  [[nodiscard]] static Result<std::unique_ptr<Tokens>> open(std::filesystem::path file,
                                                            const Clock& clock = machine_clock());

  /// Whether the value of an Authorization field is "Bearer " and one of the tokens. Compares
  /// digests, all of them, in constant time. A file that has become unreadable or wrong lets nobody
  /// in and logs why, once.
  [[nodiscard]] bool admits(std::string_view authorization);

 private:
  Tokens(std::filesystem::path file, const Clock& clock) : file_(std::move(file)), clock_(clock) {}
  [[nodiscard]] Result<void> read();
  void look();

  const std::filesystem::path file_;
  const Clock& clock_;
  std::mutex mutex_;
  std::vector<crypto::Digest> digests_;
  std::filesystem::file_time_type changed_{};
  SteadyTime looked_{};
};

}  // namespace selvage::serve
