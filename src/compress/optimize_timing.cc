#include "compress/optimize_timing.h"

#include <algorithm>
#include <chrono>
#include <sstream>

#include <malloc.h>
#include <unistd.h>

#include "base/file.h"

namespace selvage::compress {
namespace {

using std::chrono::steady_clock;

// The 95 % interval of the median leaves out five on each side of 21 turns, and one of 11.
constexpr int kTurns = 21, kFewTurns = 11;
constexpr double kLongRunPart = 0.1;  // Of the time wanted: then few turns have to do.
constexpr int kWarmUpRuns = 3;
constexpr double kLeastSeconds = 1e-9;  // Of a coarse clock.
constexpr std::uint64_t kStatmBytesMax = 4096;

double milliseconds(const Histogram& latency, double fraction) {
  return static_cast<double>(latency.snapshot().percentile_ns(fraction)) / 1e6;
}

double seconds_of(steady_clock::duration time) {
  return std::chrono::duration<double>(time).count();
}

/// `passes` runs over all inputs.
Result<double> turn(TimedModel& model, int passes, Histogram& latency) {
  const auto begin = steady_clock::now();
  for (int i = 0; i < passes; ++i) SELVAGE_RETURN_IF_ERROR(model.run(latency));
  return seconds_of(steady_clock::now() - begin);
}

}  // namespace

Result<std::unique_ptr<TimedModel>> TimedModel::create(std::unique_ptr<infer::Model> model,
                                                       std::vector<std::vector<Tensor>> inputs,
                                                       std::uint64_t resident_before) {
  std::unique_ptr<TimedModel> timed(new TimedModel());
  timed->model_ = std::move(model);
  timed->inputs_ = std::move(inputs);
  for (const auto& tensors : timed->inputs_) {
    SELVAGE_TRY(auto binding, infer::Binding::create(timed->model_->session()));
    for (std::size_t i = 0; i < tensors.size(); ++i)
      SELVAGE_RETURN_IF_ERROR(binding->bind_input(i, tensors[i].view()));
    timed->bindings_.push_back(std::move(binding));
  }
  for (int i = 0; i < kWarmUpRuns; ++i) SELVAGE_RETURN_IF_ERROR(timed->run());
  const auto resident = resident_bytes_trimmed();
  timed->resident_bytes_ = resident > resident_before ? resident - resident_before : 0;
  return timed;
}

Result<void> TimedModel::run() {
  for (const auto& binding : bindings_) SELVAGE_RETURN_IF_ERROR(binding->run());
  return {};
}

Result<void> TimedModel::run(Histogram& latency) {
  for (const auto& binding : bindings_) {
    const auto begin = steady_clock::now();
    SELVAGE_RETURN_IF_ERROR(binding->run());
    latency.record(steady_clock::now() - begin);
  }
  return {};
}

std::uint64_t resident_bytes_trimmed() {
#ifdef __GLIBC__
  ::malloc_trim(0);
#endif
  const auto text = read_text("/proc/self/statm", kStatmBytesMax);
  if (!text) return 0;
  // Pages: total, resident, shared with files.
  std::istringstream words(*text);
  std::uint64_t total = 0, resident = 0, shared = 0;
  words >> total >> resident >> shared;
  return (resident - std::min(resident, shared)) * static_cast<std::uint64_t>(::getpagesize());
}

Result<LatencyFigures> time_in_turns(TimedModel& candidate, TimedModel& original, double seconds,
                                     const std::function<bool()>& keep_going) {
  Histogram own, others;
  std::vector<double> ratios;
  Histogram ignored;
  SELVAGE_TRY(const double once, turn(original, 1, ignored));
  const int turns = once > kLongRunPart * seconds ? kFewTurns : kTurns;
  const int passes =
      static_cast<int>(std::clamp(seconds / turns / std::max(once, kLeastSeconds), 1.0, 1e6));
  for (int i = 0; i < turns; ++i) {
    if (!keep_going()) return fail(ErrorCode::kCancelled, "interrupted");
    // Who begins alternates, so that what the first leaves behind (heat, caches) hurts both alike.
    const bool candidate_begins = i % 2 == 0;
    auto &first = candidate_begins ? candidate : original,
         &second = candidate_begins ? original : candidate;
    auto &first_times = candidate_begins ? own : others,
         &second_times = candidate_begins ? others : own;
    SELVAGE_TRY(const double first_took, turn(first, passes, first_times));
    SELVAGE_TRY(const double second_took, turn(second, passes, second_times));
    const double ratio = first_took / std::max(second_took, kLeastSeconds);
    ratios.push_back(candidate_begins ? ratio : 1 / ratio);
  }
  const auto interval = median_interval(std::move(ratios));
  return LatencyFigures{.p50_ms = milliseconds(own, 0.5),
                        .p99_ms = milliseconds(own, 0.99),
                        .original_p50_ms = milliseconds(others, 0.5),
                        .ratio = interval.median,
                        .ratio_low = interval.low,
                        .ratio_high = interval.high};
}

}  // namespace selvage::compress
