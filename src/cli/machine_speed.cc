#include "cli/machine_speed.h"

#include <algorithm>
#include <atomic>
#include <thread>
#include <vector>

namespace selvage::cli {
namespace {

using std::chrono::nanoseconds;
using std::chrono::steady_clock;

constexpr std::size_t kBytesOfAll = std::size_t{64} << 20;  // Together; edge machines have 512 MB.
constexpr int kRounds = 3;
constexpr auto kPauseMin = std::chrono::microseconds(50);

/// Wide enough for the memory to be the limit: four sums that do not wait for each other.
std::uint64_t sum_of(const std::vector<std::uint64_t>& values) {
  std::uint64_t a = 0, b = 0, c = 0, d = 0;
  for (std::size_t i = 0; i + 4 <= values.size(); i += 4) {
    a += values[i];
    b += values[i + 1];
    c += values[i + 2];
    d += values[i + 3];
  }
  return a + b + c + d;
}

}  // namespace

double measure_read_bandwidth(int threads) {
  const auto count = static_cast<std::size_t>(std::max(1, threads));
  std::vector<std::vector<std::uint64_t>> arrays(count);
  std::atomic<std::uint64_t> total{0};  // Keeps the sums from being optimised away.
  double best_s = 1e9;
  for (auto& array : arrays) array.assign(kBytesOfAll / count / sizeof(std::uint64_t), 1);
  for (int round = 0; round < kRounds; ++round) {
    const auto start = steady_clock::now();
    {
      std::vector<std::jthread> workers;
      workers.reserve(count);
      for (const auto& array : arrays) workers.emplace_back([&] { total += sum_of(array); });
    }
    best_s = std::min(best_s, std::chrono::duration<double>(steady_clock::now() - start).count());
  }
  return total > 0 ? static_cast<double>(kBytesOfAll) / best_s : 0;
}

HistogramSnapshot measure_wakeup_delay(nanoseconds time) {
  Histogram delays;
  const auto end = steady_clock::now() + time;
  for (auto due = steady_clock::now(); due < end; due = steady_clock::now()) {
    due += std::chrono::milliseconds(1);
    std::this_thread::sleep_until(due);
    delays.record(steady_clock::now() - due);
  }
  return delays.snapshot();
}

Pauses measure_pauses(nanoseconds time) {
  Pauses pauses;
  const auto start = steady_clock::now();
  auto last = start;
  std::int64_t looks = 0;
  while (last - start < time) {
    const auto now = steady_clock::now();
    ++looks;
    if (now - last > kPauseMin) ++pauses.count;
    pauses.longest = std::max<nanoseconds>(pauses.longest, now - last);
    last = now;
  }
  pauses.clock_cost = (last - start) / std::max<std::int64_t>(1, looks);
  return pauses;
}

}  // namespace selvage::cli
