// From nothing to the first answer: measured on child processes of this very program.
#pragma once

#include <chrono>
#include <cstdint>
#include <string>
#include <vector>

#include "base/result.h"

namespace selvage::cli {

struct ColdStart {
  std::chrono::nanoseconds first{};  ///< With an empty cache: optimises, measures threads.
  std::chrono::nanoseconds later{};  ///< With what the first left in the cache: median of several.
  std::uint64_t resident_bytes = 0;  ///< At most, of a later start.
};

/// Starts this program with `arguments`, which must make it write a line once it has an answer.
/// The cache is a folder of its own. kDeadlineExceeded after a minute; kCancelled when interrupted.
[[nodiscard]] Result<ColdStart> measure_cold_start(const std::vector<std::string>& arguments);

}  // namespace selvage::cli
