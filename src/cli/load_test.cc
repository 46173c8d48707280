#include "cli/load.h"

#include <atomic>
#include <thread>

#include <gtest/gtest.h>

namespace selvage::cli {
namespace {

using namespace std::chrono_literals;
using Caller = std::function<Result<void>()>;

Caller sleeper(std::chrono::nanoseconds time) {
  return [time]() -> Result<void> {
    std::this_thread::sleep_for(time);
    return {};
  };
}

TEST(Load, ClosedLoopCountsRunsOverAllCallers) {
  std::atomic<int> calls{0};
  const Caller caller = [&]() -> Result<void> { return ++calls, Result<void>{}; };
  const std::vector<Caller> callers(3, caller);
  std::atomic<int> done{0};
  const auto load = apply_load(callers, {.time = 10s, .runs_max = 100}, [&] { ++done; });
  ASSERT_TRUE(load);
  EXPECT_EQ(load->latency.count, 100u);
  EXPECT_EQ(calls.load(), 100);
  EXPECT_EQ(done.load(), 100);
  EXPECT_EQ(load->waiting, 0u);
}

TEST(Load, StopsWhenTheTimeIsOver) {
  const std::vector<Caller> callers{sleeper(1ms)};
  const auto load = apply_load(callers, {.time = 50ms});
  ASSERT_TRUE(load);
  EXPECT_GT(load->latency.count, 0u);
  EXPECT_LE(load->latency.count, 50u);
  EXPECT_GE(load->elapsed, 45ms);
}

TEST(Load, OpenLoopCountsTheWaiting) {
  // 100 calls a second are due, one takes 20 ms: the n-th waits about 10 n ms. A closed loop, or an
  // open one that omits the waiting, would say 20 ms.
  const std::vector<Caller> callers{sleeper(20ms)};
  const auto load = apply_load(callers, {.time = 400ms, .rate = 100});
  ASSERT_TRUE(load);
  EXPECT_GE(load->latency.min_ns, 19'000'000u);
  EXPECT_GT(load->latency.max_ns, 120'000'000u);
  EXPECT_GT(load->waiting, 10u);
  EXPECT_EQ(load->latency.count + load->waiting, 40u);
}

TEST(Load, OpenLoopAtALowRateWaitsForItsTurn) {
  const std::vector<Caller> callers{sleeper(0ms)};
  const auto load = apply_load(callers, {.time = 100ms, .rate = 50});
  ASSERT_TRUE(load);
  EXPECT_EQ(load->latency.count, 5u);
}

TEST(Load, OpenLoopLastsItsTimeAlsoWhenNothingMoreIsDue) {
  // The second call would be due after 10 s.
  const std::vector<Caller> callers{sleeper(0ms), sleeper(0ms)};
  const auto load = apply_load(callers, {.time = 150ms, .rate = 0.1});
  ASSERT_TRUE(load);
  EXPECT_EQ(load->latency.count, 1u);
  EXPECT_EQ(load->waiting, 0u);
  EXPECT_GE(load->elapsed, 150ms);
  EXPECT_LT(load->elapsed, 5s);
}

TEST(Load, AnErrorEndsTheSleepOfTheOthers) {
  const std::vector<Caller> callers(
      2, []() -> Result<void> { return fail(ErrorCode::kUnavailable, "gone"); });
  const auto start = std::chrono::steady_clock::now();
  EXPECT_FALSE(apply_load(callers, {.time = 60s, .rate = 0.01}));
  EXPECT_LT(std::chrono::steady_clock::now() - start, 20s);
}

TEST(Load, TheFirstErrorEndsIt) {
  std::atomic<int> calls{0};
  const Caller failing = [&]() -> Result<void> {
    if (++calls == 3) return fail(ErrorCode::kUnavailable, "gone");
    return {};
  };
  const std::vector<Caller> callers(2, failing);
  const auto load = apply_load(callers, {.time = 10s});
  ASSERT_FALSE(load);
  EXPECT_EQ(load.error().message, "gone");
  EXPECT_LT(calls.load(), 10);
}

TEST(Load, WarmUpReportsErrors) {
  const std::vector<Caller> callers{
      []() -> Result<void> { return fail(ErrorCode::kInternal, "broken"); }};
  EXPECT_FALSE(warm_up(callers));
}

}  // namespace
}  // namespace selvage::cli
