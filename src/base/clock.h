// Time comes from an injected clock, so that every domain can be tested without waiting.
#pragma once

#include <atomic>
#include <chrono>

namespace selvage {

using SteadyTime = std::chrono::steady_clock::time_point;
using SystemTime = std::chrono::system_clock::time_point;

/// Safe from any thread.
class Clock {
 public:
  virtual ~Clock() = default;
  [[nodiscard]] virtual SteadyTime steady_now() const = 0;  ///< For durations and deadlines.
  [[nodiscard]] virtual SystemTime system_now() const = 0;  ///< For time stamps people read.
};

/// The machine's clock. Lives as long as the process.
[[nodiscard]] const Clock& machine_clock();

/// A clock that stands still until told, for tests. Safe from any thread.
class FakeClock final : public Clock {
 public:
  [[nodiscard]] SteadyTime steady_now() const override { return SteadyTime(elapsed_.load()); }
  [[nodiscard]] SystemTime system_now() const override {
    return SystemTime(std::chrono::seconds(1'700'000'000)) +
           std::chrono::duration_cast<SystemTime::duration>(elapsed_.load());
  }
  void advance(std::chrono::nanoseconds by) { elapsed_.store(elapsed_.load() + by); }

 private:
  std::atomic<std::chrono::nanoseconds> elapsed_{std::chrono::nanoseconds(0)};
};

}  // namespace selvage
