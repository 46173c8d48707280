#include "cli/load.h"

#include <algorithm>
#include <atomic>
#include <mutex>
#include <optional>
#include <thread>

#include <sys/resource.h>

#include "base/exception.h"
#include "cli/interrupt.h"

namespace selvage::cli {
namespace {

using std::chrono::nanoseconds;
using std::chrono::steady_clock;
using Caller = std::function<Result<void>()>;

constexpr int kWarmUpRuns = 20;
constexpr auto kWarmUpTime = std::chrono::milliseconds(500);
constexpr auto kLookInterval = std::chrono::milliseconds(100);  // While nothing is due.
constexpr std::uint64_t kRunsMax = std::uint64_t{1} << 40;

nanoseconds cpu_time() {
  rusage usage{};
  getrusage(RUSAGE_SELF, &usage);
  const auto of = [](const timeval& time) {
    return std::chrono::seconds(time.tv_sec) + std::chrono::microseconds(time.tv_usec);
  };
  return of(usage.ru_utime) + of(usage.ru_stime);
}

/// What the threads share.
class Load {
 public:
  Load(const LoadOptions& options, const std::function<void()>& on_done)
      : options_(options),
        on_done_(on_done),
        runs_max_(options.runs_max == 0 ? kRunsMax : options.runs_max),
        start_(steady_clock::now()),
        end_(start_ + options.time) {}

  void work(const Caller& caller) {
    while (!stopped_.load(std::memory_order_relaxed) && !interrupted()) {
      const auto serial = next_.fetch_add(1, std::memory_order_relaxed);
      if (serial >= runs_max_) return;
      auto begin = steady_clock::now();
      if (options_.rate > 0) {
        begin = due(serial);
        // The time that was asked for is measured to its end, also where no more calls are due.
        if (!sleep_until(std::min(begin, end_))) return;
      }
      if (steady_clock::now() >= end_) return;
      if (auto called = caller(); !called) return stop(std::move(called).error());
      histogram_.record(steady_clock::now() - begin);
      if (on_done_) on_done_();
    }
  }

  [[nodiscard]] Result<LoadResult> result() {
    if (error_) return std::unexpected(*std::move(error_));
    LoadResult result{.latency = histogram_.snapshot(), .elapsed = steady_clock::now() - start_};
    if (options_.rate > 0) {
      const auto time = std::min<nanoseconds>(result.elapsed, options_.time);
      const auto due_count = std::min(
          runs_max_,
          static_cast<std::uint64_t>(options_.rate * std::chrono::duration<double>(time).count()));
      result.waiting = due_count - std::min(due_count, result.latency.count);
    }
    return result;
  }

  [[nodiscard]] bool is_over() const { return stopped_.load() || steady_clock::now() >= end_; }

  void stop(Error error) {
    const std::scoped_lock lock(mutex_);
    if (!error_) error_ = std::move(error);
    stopped_.store(true);
  }

 private:
  [[nodiscard]] steady_clock::time_point due(std::uint64_t serial) const {
    return start_ + nanoseconds(static_cast<std::int64_t>(1e9 * static_cast<double>(serial) /
                                                          options_.rate));
  }

  /// False when the load ended meanwhile.
  [[nodiscard]] bool sleep_until(steady_clock::time_point time) const {
    while (!stopped_.load(std::memory_order_relaxed) && !interrupted()) {
      const auto now = steady_clock::now();
      if (now >= time) return true;
      std::this_thread::sleep_until(std::min(time, now + kLookInterval));
    }
    return false;
  }

  const LoadOptions& options_;
  const std::function<void()>& on_done_;
  std::uint64_t runs_max_;
  steady_clock::time_point start_, end_;
  Histogram histogram_;
  std::atomic<std::uint64_t> next_{0};
  std::atomic<bool> stopped_{false};
  std::mutex mutex_;
  std::optional<Error> error_;
};

/// Calls `work` for every caller, each on its own thread, the first on this one.
template <typename Work>
void run_together(std::span<const Caller> callers, Load& load, const Work& work) {
  std::vector<std::jthread> threads;
  auto started = catch_to_result(ErrorCode::kResourceExhausted, [&] {
    for (std::size_t i = 1; i < callers.size(); ++i)
      threads.emplace_back([&work, &caller = callers[i]] { work(caller); });
  });
  if (!started) {
    load.stop(std::move(started).error().with_context("start " + std::to_string(callers.size()) +
                                                      " callers; use a smaller --concurrency"));
  } else if (!callers.empty()) {
    work(callers.front());
  }
}

}  // namespace

double LoadResult::per_second() const {
  const auto seconds = std::chrono::duration<double>(elapsed).count();
  return seconds > 0 ? static_cast<double>(latency.count) / seconds : 0;
}

Result<LoadResult> apply_load(std::span<const Caller> callers, const LoadOptions& options,
                              const std::function<void()>& on_done) {
  const auto cpu_before = cpu_time();
  Load load(options, on_done);
  run_together(callers, load, [&load](const Caller& caller) { load.work(caller); });
  SELVAGE_TRY(auto result, load.result());
  result.cpu_time = cpu_time() - cpu_before;
  return result;
}

Result<void> warm_up(std::span<const Caller> callers) {
  const LoadOptions options{.time = kWarmUpTime};
  const std::function<void()> nothing;
  Load load(options, nothing);
  run_together(callers, load, [&load](const Caller& caller) {
    for (int i = 0; i < kWarmUpRuns && !interrupted(); ++i) {
      if (auto called = caller(); !called) return load.stop(std::move(called).error());
      if (load.is_over()) return;
    }
  });
  SELVAGE_TRY([[maybe_unused]] const auto ended, load.result());
  return {};
}

}  // namespace selvage::cli
