// Requests that belong together by a correlation id: of each sequence one at a time, in order, with
// the state that the last one left. Internal to the serving core.
#pragma once

#include <cstddef>
#include <deque>
#include <map>
#include <memory>
#include <set>
#include <utility>
#include <vector>

#include "infer/job_queue.h"

namespace selvage::infer {

/// A sequence that is being served or waits to be. While one of its jobs runs, `state` belongs to
/// the Runner, otherwise to nobody.
struct SequenceSlot {
  SequenceId id;
  std::vector<Tensor> state;  ///< By SequenceBatching::states; empty = the initial one.

 private:
  friend class SequenceQueue;
  JobList pending_;
  bool active_ = false;   ///< Has a place among the candidates.
  bool running_ = false;  ///< One of its jobs runs.
  bool ending_ = false;   ///< The job pushed last ends it.
  SteadyTime idle_since_{};
};

/// At most `candidates` sequences are active; others wait in the order of their first request.
/// Sequences without a request for `max_idle` are forgotten.
class SequenceQueue final : public JobQueue {
 public:
  struct Options {
    BatchLimits limits;
    std::size_t candidates = 1;
    std::size_t slots_wanted = 0;  ///< With `limits.delay`: how many ready ones need not wait.
    std::chrono::microseconds max_idle{0};
    std::size_t jobs_max = 0;
  };
  SequenceQueue(Options options, Compatible compatible);

  /// kInvalidArgument without a correlation id, and for one that no START has begun.
  [[nodiscard]] Result<void> push(std::shared_ptr<Job> job) override;
  std::optional<SteadyTime> take(SteadyTime now, const Load& load, Batch& batch) override;
  std::shared_ptr<Job> remove(Job& job) override;
  void ended(Job& job, SteadyTime now) override;
  SteadyTime expire(SteadyTime now, Jobs& expired) override;
  [[nodiscard]] SteadyTime next_expiry() const override;
  void take_all(Jobs& jobs) override;
  [[nodiscard]] std::size_t size() const override { return size_; }
  [[nodiscard]] bool runnable() const override { return !ready_.empty(); }
  [[nodiscard]] std::size_t sequences() const { return slots_.size(); }

 private:
  void make_idle(SequenceSlot& slot, SteadyTime now);
  void make_ready(SequenceSlot& slot);
  void forget(SequenceSlot& slot);
  void fill_candidates();

  Options options_;
  Compatible compatible_;
  std::map<SequenceId, std::unique_ptr<SequenceSlot>> slots_;
  std::deque<SequenceSlot*> ready_;    // Active, not running, with a pending job; oldest first.
  std::deque<SequenceSlot*> backlog_;  // Not active.
  std::set<std::pair<SteadyTime, SequenceSlot*>> idle_;  // Active, not running, without a job.
  std::size_t active_ = 0;
  std::size_t size_ = 0;
  SteadyTime next_deadline_ = SteadyTime::max();
};

}  // namespace selvage::infer
