// What a model version has done so far: the counters of the Open Inference Protocol's statistics
// extension, with the same meaning, and histograms beside them.
#pragma once

#include <array>
#include <chrono>
#include <cstdint>
#include <mutex>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/clock.h"
#include "base/histogram.h"
#include "base/result.h"
#include "infer/request.h"

namespace selvage::infer {

struct DurationCount {
  std::uint64_t count = 0;
  std::uint64_t ns = 0;

  void add(std::chrono::nanoseconds duration, std::uint64_t times = 1) {
    count += times;
    ns += times * static_cast<std::uint64_t>(duration.count() > 0 ? duration.count() : 0);
  }
};

struct BatchStatistics {
  std::uint64_t batch_size = 0;  ///< Rows in one execution.
  DurationCount compute_input, compute_infer, compute_output;
};

/// Why requests failed, in the words of Triton's metric nv_inference_request_failure.
enum class FailureReason : std::uint8_t { kRejected, kCancelled, kBackend, kOther };
inline constexpr std::size_t kFailureReasonCount = 4;
[[nodiscard]] std::string_view to_string(FailureReason reason);  ///< "REJECTED", ...
[[nodiscard]] FailureReason failure_reason(ErrorCode code);

/// Counters since the version was loaded; all belong to one moment.
struct ModelStatistics {
  std::string model;
  std::string version;
  std::uint64_t last_inference_ms = 0;  ///< Since the epoch; 0 = never.
  std::uint64_t inference_count = 0;    ///< A batch of n counts n.
  std::uint64_t execution_count = 0;
  DurationCount success, fail, queue, compute_input, compute_infer, compute_output;
  DurationCount cache_hit, cache_miss;  ///< Zeros: there is no response cache.
  std::vector<BatchStatistics> batch_stats;
  std::array<std::uint64_t, kFailureReasonCount> failures{};  ///< By FailureReason.
  std::uint64_t pending = 0;                                  ///< Waiting in the queue now.
  HistogramSnapshot queue_times, compute_times, total_times;
};

/// Synchronised. One short lock for a batch, so that the counters agree with each other.
class StatisticsRecorder {
 public:
  /// One successful execution. `rows` in all, and for each of its requests how long it waited and
  /// how long it took in all.
  struct Request {
    std::chrono::nanoseconds queue{0}, total{0};
  };
  void record_batch(std::uint64_t rows, std::span<const Request> requests,
                    const RequestTimes& times, SystemTime now);
  void record_failure(ErrorCode code, std::chrono::nanoseconds total);

  /// Everything but `model`, `version` and `pending`.
  [[nodiscard]] ModelStatistics snapshot() const;

 private:
  mutable std::mutex mutex_;
  ModelStatistics counters_;  // Without histograms. batch_stats is sorted by batch_size.
  Histogram queue_times_, compute_times_, total_times_;
};

}  // namespace selvage::infer
