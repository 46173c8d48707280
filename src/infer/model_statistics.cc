#include "infer/model_statistics.h"

#include <algorithm>

namespace selvage::infer {

std::string_view to_string(FailureReason reason) {
  switch (reason) {
    case FailureReason::kRejected: return "REJECTED";
    case FailureReason::kCancelled: return "CANCELED";
    case FailureReason::kBackend: return "BACKEND";
    case FailureReason::kOther: break;
  }
  return "OTHER";
}

FailureReason failure_reason(ErrorCode code) {
  switch (code) {
    case ErrorCode::kUnavailable:
    case ErrorCode::kDeadlineExceeded:
    case ErrorCode::kResourceExhausted: return FailureReason::kRejected;
    case ErrorCode::kCancelled: return FailureReason::kCancelled;
    case ErrorCode::kInternal: return FailureReason::kBackend;
    default: return FailureReason::kOther;
  }
}

void StatisticsRecorder::record_batch(std::uint64_t rows, std::span<const Request> requests,
                                      const RequestTimes& times, SystemTime now) {
  for (const auto& request : requests) {
    queue_times_.record(request.queue);
    total_times_.record(request.total);
  }
  compute_times_.record(times.compute_infer);

  const std::scoped_lock lock(mutex_);
  counters_.last_inference_ms = static_cast<std::uint64_t>(
      std::chrono::duration_cast<std::chrono::milliseconds>(now.time_since_epoch()).count());
  counters_.inference_count += rows;
  ++counters_.execution_count;
  for (const auto& request : requests) {
    counters_.success.add(request.total);
    counters_.queue.add(request.queue);
  }
  counters_.compute_input.add(times.compute_input, requests.size());
  counters_.compute_infer.add(times.compute_infer, requests.size());
  counters_.compute_output.add(times.compute_output, requests.size());
  auto batch =
      std::ranges::lower_bound(counters_.batch_stats, rows, {}, &BatchStatistics::batch_size);
  if (batch == counters_.batch_stats.end() || batch->batch_size != rows)
    batch = counters_.batch_stats.insert(batch, BatchStatistics{.batch_size = rows});
  batch->compute_input.add(times.compute_input);
  batch->compute_infer.add(times.compute_infer);
  batch->compute_output.add(times.compute_output);
}

void StatisticsRecorder::record_failure(ErrorCode code, std::chrono::nanoseconds total) {
  const std::scoped_lock lock(mutex_);
  counters_.fail.add(total);
  ++counters_.failures[static_cast<std::size_t>(failure_reason(code))];
}

ModelStatistics StatisticsRecorder::snapshot() const {
  ModelStatistics copy;
  {
    const std::scoped_lock lock(mutex_);
    copy = counters_;
  }
  copy.queue_times = queue_times_.snapshot();
  copy.compute_times = compute_times_.snapshot();
  copy.total_times = total_times_.snapshot();
  return copy;
}

}  // namespace selvage::infer
