// What waits for one model version, and which of it runs next. Internal to the serving core.
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <vector>

#include "infer/job.h"
#include "infer/model_config.h"

namespace selvage::infer {

/// Whether two jobs can be parts of one batch: their shapes agree but for the batch dimension.
using Compatible = std::function<bool(const Job&, const Job&)>;

/// How large batches may become.
struct BatchLimits {
  /// Whether every worker should get its fair share: unless somebody has said what is preferred.
  [[nodiscard]] bool shared() const { return preferred.empty() && delay.count() == 0; }

  std::int64_t rows_max = 0;            ///< 0: every job runs alone.
  std::vector<std::int32_t> preferred;  ///< Ascending. Cut at these sizes rather than elsewhere.
  std::chrono::microseconds delay{0};   ///< How long the oldest may wait for company.
};

/// What the model's workers do while one of them takes a batch.
struct Load {
  std::int64_t running_rows = 0;
  std::size_t instances = 1;

  /// Of `queued` rows, what one worker should take. If it took all, the next one to come would find
  /// a few, run those, and so on: one worker with large batches and one with small ones is a steady
  /// state, and slower than equal ones.
  [[nodiscard]] std::int64_t fair_share(std::int64_t queued) const {
    const auto workers = static_cast<std::int64_t>(instances);
    return (queued + running_rows + workers - 1) / workers;
  }
};

/// Confined: the scheduler's lock guards it.
class JobQueue {
 public:
  virtual ~JobQueue() = default;
  /// Sets job->deadline. kUnavailable when full; kInvalidArgument for a job that makes no sense.
  [[nodiscard]] virtual Result<void> push(std::shared_ptr<Job> job) = 0;
  /// Moves what should run now into `batch`. When it would rather wait for more, the time until
  /// which; nothing when there is nothing to run.
  virtual std::optional<SteadyTime> take(SteadyTime now, const Load& load, Batch& batch) = 0;
  /// A queued job leaves.
  virtual std::shared_ptr<Job> remove(Job& job) = 0;
  /// A job that was taken has run.
  virtual void ended(Job& job, SteadyTime now) = 0;
  /// Moves what must no longer run into `expired` and forgets what has been idle too long; when to
  /// call again.
  virtual SteadyTime expire(SteadyTime now, Jobs& expired) = 0;
  /// When expire() should be called for what was pushed or ended last.
  [[nodiscard]] virtual SteadyTime next_expiry() const = 0;
  virtual void take_all(Jobs& jobs) = 0;
  [[nodiscard]] virtual std::size_t size() const = 0;
  /// Whether take() would find something.
  [[nodiscard]] virtual bool runnable() const = 0;
};

/// By priority level, then by arrival. Jobs that do not fit a batch are passed over, and stay in
/// front.
class PriorityQueue final : public JobQueue {
 public:
  struct Options {
    BatchLimits limits;
    std::uint64_t levels = 1;
    std::uint64_t default_level = 1;
    std::optional<QueuePolicy> policy;  ///< Of levels without their own.
    std::map<std::uint64_t, QueuePolicy> level_policies;
    std::size_t jobs_max = 0;  ///< In all levels together, where no policy says otherwise.
  };
  PriorityQueue(Options options, Compatible compatible);

  [[nodiscard]] Result<void> push(std::shared_ptr<Job> job) override;
  std::optional<SteadyTime> take(SteadyTime now, const Load& load, Batch& batch) override;
  std::shared_ptr<Job> remove(Job& job) override;
  void ended(Job&, SteadyTime) override {}
  SteadyTime expire(SteadyTime now, Jobs& expired) override;
  [[nodiscard]] SteadyTime next_expiry() const override { return next_deadline_; }
  void take_all(Jobs& jobs) override;
  [[nodiscard]] std::size_t size() const override { return size_; }
  [[nodiscard]] bool runnable() const override { return size_ > 0; }

  /// Jobs looked at to fill one batch.
  static constexpr std::size_t kScanMax = 256;

 private:
  struct Level {
    JobList waiting;
    JobList delayed;  ///< Past a deadline that only delays.
    std::optional<QueuePolicy> policy;
  };
  [[nodiscard]] Level& level_of(const Job& job);
  [[nodiscard]] static SteadyTime deadline_of(const Job& job, const Level& level);
  /// Chooses jobs for a batch in order; how many of them make a preferred size (0: none do).
  std::size_t choose(std::int64_t rows_max, std::int64_t& rows);
  std::shared_ptr<Job> leave(Job& job);

  Options options_;
  Compatible compatible_;
  std::vector<Level> levels_;
  std::vector<Job*> chosen_;  // Scratch of take().
  std::size_t size_ = 0;
  std::int64_t rows_ = 0;
  SteadyTime next_deadline_ = SteadyTime::max();
};

/// `from` + `timeout`; never for no timeout (0), and for one of more than a year.
[[nodiscard]] SteadyTime deadline_after(SteadyTime from, std::chrono::microseconds timeout);

/// The longest beginning of `rows` jobs of one row each that ends at a preferred size; 0 for none.
[[nodiscard]] std::size_t preferred_cut(const std::vector<std::int32_t>& preferred,
                                        std::size_t rows);

}  // namespace selvage::infer
