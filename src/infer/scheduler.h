// Runs what waits for one model version on the shared workers: takes batches, counts instances,
// keeps deadlines, cancels. Internal to the serving core.
#pragma once

#include <condition_variable>
#include <cstddef>
#include <cstdint>
#include <deque>
#include <functional>
#include <memory>
#include <mutex>
#include <utility>
#include <vector>

#include "infer/job.h"
#include "infer/job_queue.h"
#include "infer/model_statistics.h"
#include "infer/worker_pool.h"

namespace selvage::infer {

class Scheduler;

/// Does the work of a batch. Called by up to `instances` workers at once.
class Runner {
 public:
  virtual ~Runner() = default;
  /// Answers every job of the batch through Scheduler::succeed or Scheduler::fail.
  virtual void run(Scheduler& scheduler, Batch& batch) = 0;
};

/// Answers in the order of tickets, whoever finishes first. Synchronised.
class OrderedAnswers {
 public:
  using Deliver = std::move_only_function<void()>;
  /// Calls `deliver` once all earlier tickets have been delivered, on the thread of the last one.
  void deliver(std::uint64_t ticket, Deliver deliver);

 private:
  std::mutex mutex_;
  std::uint64_t first_ = 0;      // The ticket of waiting_.front().
  std::deque<Deliver> waiting_;  // Empty functions for those that are not finished.
  bool delivering_ = false;
};

/// Synchronised. Shared by the model version, its jobs and the workers that run them.
///
/// A submitted job is run by the next free worker, together with whatever waits by then; the only
/// lock is held while jobs enter and leave the queue, never while they run. At most `instances`
/// workers serve the model; of those, as many are called as there is work for.
class Scheduler final : public WorkerPool::Task, public std::enable_shared_from_this<Scheduler> {
 public:
  /// Clients that were answered together tend to ask together again, but a worker that takes the
  /// next batch at once finds the first few of them only. So after a batch of several requests it
  /// gives the others up to this part of the time that the batch took. Runs for which that is less
  /// than kCompanyWaitMin are not worth a sleep. A lone request never waits.
  static constexpr int kCompanyWaitPart = 8;
  static constexpr std::chrono::microseconds kCompanyWaitMin{20};
  static constexpr std::chrono::microseconds kCompanyWaitMax{1'000};
  /// Handing a request to a worker and the answer back takes two wake-ups of threads, and the
  /// tensor moves to another core's cache. Models whose lone runs take less than this on average
  /// are done sooner where the request has arrived.
  static constexpr std::chrono::microseconds kQuickRun{200};
  /// A thread computes so for two thirds of its time at most, for all models together, but for
  /// bursts of about this length: its other connections go on, and idle workers get the rest.
  static constexpr std::chrono::microseconds kCallerBurst = 2 * kQuickRun;

  /// The furthest that a wake-up is asked for ahead; what is later is asked for again then.
  static constexpr std::chrono::minutes kAlarmMax{1};

  struct Options {
    std::size_t instances = 1;
    bool preserve_ordering = false;
  };
  /// `clock` must outlive the scheduler; `pool` need not outlive close().
  Scheduler(Options options, std::unique_ptr<JobQueue> queue, std::unique_ptr<Runner> runner,
            WorkerPool& pool, const Clock& clock);

  /// job->scheduler must be this. Refuses by failing the job before it returns.
  void submit(const std::shared_ptr<Job>& job);
  /// See RequestHandle::cancel.
  void cancel(Job& job);
  /// Refuses everything from here on: fails what waits with kUnavailable and cancels what runs.
  void close();
  [[nodiscard]] std::size_t pending() const;
  [[nodiscard]] StatisticsRecorder& statistics() { return statistics_; }
  [[nodiscard]] const Clock& clock() const { return clock_; }

  /// For the runner: answers a job with an error, and counts it.
  void fail(Job& job, Error error);
  /// For the runner: lets `deliver` answer the job, in order where the configuration wants it.
  template <typename Deliver>
  void succeed(const Job& job, Deliver&& deliver) {
    if (ordered_)
      ordered_->deliver(job.ticket, OrderedAnswers::Deliver(std::forward<Deliver>(deliver)));
    else
      deliver();
  }

  [[nodiscard]] bool work() override;
  void wake() override;

 private:
  // The caller holds mutex_.
  [[nodiscard]] bool claim_worker();
  [[nodiscard]] bool claim_caller(const Job& job);
  [[nodiscard]] std::optional<SteadyTime> claim_alarm(SteadyTime time);
  void expire(SteadyTime now, Jobs& expired);

  void fail_expired(const Jobs& expired);
  /// Lets the clients of a batch that took `ran` come back before the next batch is taken.
  void await_company(std::size_t jobs, std::chrono::nanoseconds ran);
  void note_run(std::chrono::nanoseconds took);
  void work_here(SteadyTime began);
  /// After a batch has run; whether its worker is wanted again.
  [[nodiscard]] bool end(Batch& batch);

  const Options options_;
  const std::unique_ptr<JobQueue> queue_;
  const std::unique_ptr<Runner> runner_;
  WorkerPool& pool_;
  const Clock& clock_;
  const std::unique_ptr<OrderedAnswers> ordered_;
  StatisticsRecorder statistics_;

  mutable std::mutex mutex_;  // Guards queue_, what changes in queued jobs, and everything below.
  std::vector<Batch*> running_;
  std::size_t called_ = 0;  // Workers that were called and have not come yet.
  std::uint64_t tickets_ = 0;
  SteadyTime alarm_ = SteadyTime::max();  // When wake() will be called.
  std::size_t awaited_ = SIZE_MAX;        // Queue length that the worker in await_company wants.
  std::condition_variable company_;
  // Moving average of lone runs. One run counts as 2 * kQuickRun at most, so that a thread that was
  // interrupted does not make a quick model slow.
  std::chrono::nanoseconds run_time_{2 * kQuickRun};
  bool closed_ = false;
};

}  // namespace selvage::infer
