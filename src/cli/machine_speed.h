// What a machine does, measured in about a second: memory bandwidth and how late it wakes us.
#pragma once

#include <chrono>
#include <cstdint>

#include "base/histogram.h"

namespace selvage::cli {

/// Bytes read a second by `threads` threads that each sum an array larger than any cache.
[[nodiscard]] double measure_read_bandwidth(int threads);

/// How much later than asked sleeps of 1 ms end, over `time`.
[[nodiscard]] HistogramSnapshot measure_wakeup_delay(std::chrono::nanoseconds time);

/// A thread that only looks at the clock, and how long it was kept from it: the pauses longer than
/// 50 us, over `time`.
struct Pauses {
  std::uint64_t count = 0;
  std::chrono::nanoseconds longest{};
  std::chrono::nanoseconds clock_cost{};  ///< Of looking at the clock once.
};
[[nodiscard]] Pauses measure_pauses(std::chrono::nanoseconds time);

}  // namespace selvage::cli
