// Load on a model, and the latency that callers see under it.
#pragma once

#include <chrono>
#include <cstdint>
#include <functional>
#include <span>
#include <vector>

#include "base/histogram.h"
#include "base/result.h"

namespace selvage::cli {

struct LoadOptions {
  std::chrono::nanoseconds time = std::chrono::seconds(3);
  std::uint64_t runs_max = 0;  ///< Over all callers; 0 = as many as the time allows.
  /// Calls a second over all callers. 0: closed loop, each caller calls again as soon as it has its
  /// answer. Otherwise open loop: calls are due at fixed times whether or not earlier ones are
  /// answered, and latency counts from when a call was due (no coordinated omission: G. Tene,
  /// "How NOT to Measure Latency").
  double rate = 0;
};

struct LoadResult {
  HistogramSnapshot latency;
  std::chrono::nanoseconds elapsed{};
  std::chrono::nanoseconds cpu_time{};  ///< Of the whole process, all threads.
  std::uint64_t waiting = 0;  ///< Open loop: calls that were due and not begun at the end.

  [[nodiscard]] double per_second() const;
};

/// Each caller runs on a thread of its own, the first on this one. Stops early when interrupted().
/// `on_done`, if any, is called after every call, from any of the threads. The first error of a
/// caller ends the load.
[[nodiscard]] Result<LoadResult> apply_load(std::span<const std::function<Result<void>()>> callers,
                                            const LoadOptions& options,
                                            const std::function<void()>& on_done = {});

/// Calls all callers together, each a few times, for about half a second, and forgets how long it
/// took.
[[nodiscard]] Result<void> warm_up(std::span<const std::function<Result<void>()>> callers);

}  // namespace selvage::cli
