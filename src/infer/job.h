// A request on its way through the scheduler. Internal to the serving core.
#pragma once

#include <atomic>
#include <chrono>
#include <cstdint>
#include <memory>
#include <mutex>
#include <optional>
#include <utility>
#include <vector>

#include "base/clock.h"
#include "base/result.h"
#include "infer/gate.h"
#include "infer/request.h"

namespace selvage::infer {

class Binding;
class Scheduler;
struct Batch;
struct SequenceSlot;

/// Made by whoever accepts the request, then owned by the scheduler until it is answered.
struct Job : std::enable_shared_from_this<Job> {
  Job() = default;
  Job(const Job&) = delete;
  Job& operator=(const Job&) = delete;
  virtual ~Job() = default;
  /// Answers with an error. Every job is answered once, by this or by its Runner.
  virtual void fail(Error error) = 0;
  virtual void cancel();  ///< See RequestHandle::cancel.

  // Set by the maker.
  GatePass pass;                         ///< Keeps drain() waiting until the job is gone.
  std::shared_ptr<Scheduler> scheduler;  ///< Keeps the model version.
  std::uint32_t priority = 0;
  std::optional<std::chrono::microseconds> timeout;
  std::int64_t rows = 1;  ///< Of the batch dimension.
  bool alone = false;     ///< Never batched with others.
  bool here = false;      ///< ComputeOn::kCallerIfQuick, and its work is that of any other.
  SequenceId sequence_id;
  SequenceFlags sequence_flags;

  // Set by the scheduler; what changes later is guarded by its lock.
  SteadyTime submitted{};
  SteadyTime deadline = SteadyTime::max();
  std::uint64_t ticket = 0;  ///< Position in the order of arrival.
  enum class State : std::uint8_t { kNew, kQueued, kRunning, kAnswered };
  State state = State::kNew;
  Batch* batch = nullptr;            ///< While running.
  SequenceSlot* sequence = nullptr;  ///< While queued or running.
  std::atomic<bool> cancelled{false};

 private:
  friend class JobList;
  std::shared_ptr<Job> next_;
  Job* previous_ = nullptr;
  class JobList* list_ = nullptr;
};

using Jobs = std::vector<std::shared_ptr<Job>>;

struct InferJob final : Job {
  InferenceRequest request;
  ResponseCallback callback;
  void fail(Error error) override { callback(std::unexpected(std::move(error))); }
};

struct PredictJob final : Job {
  PredictionRequest request;
  PredictionCallback callback;
  void fail(Error error) override { callback(std::unexpected(std::move(error))); }
};

/// A first-in-first-out list that any member can leave in constant time. Confined.
class JobList {
 public:
  JobList() = default;
  JobList(const JobList&) = delete;
  JobList& operator=(const JobList&) = delete;
  ~JobList() {
    while (first_) static_cast<void>(remove(*first_));  // Not by recursion through next_.
  }

  void push_back(std::shared_ptr<Job> job) {
    job->previous_ = last_;
    job->list_ = this;
    auto& link = last_ == nullptr ? first_ : last_->next_;
    last_ = job.get();
    link = std::move(job);
    ++size_;
  }
  /// `job` must be in some list, which it leaves.
  static std::shared_ptr<Job> remove(Job& job) {
    auto& list = *job.list_;
    auto& link = job.previous_ == nullptr ? list.first_ : job.previous_->next_;
    auto removed = std::move(link);
    link = std::move(removed->next_);
    if (link)
      link->previous_ = job.previous_;
    else
      list.last_ = job.previous_;
    job.previous_ = nullptr;
    job.list_ = nullptr;
    --list.size_;
    return removed;
  }
  [[nodiscard]] Job* first() const { return first_.get(); }
  [[nodiscard]] static Job* next(const Job& job) { return job.next_.get(); }
  [[nodiscard]] std::size_t size() const { return size_; }
  [[nodiscard]] bool empty() const { return size_ == 0; }

 private:
  std::shared_ptr<Job> first_;
  Job* last_ = nullptr;
  std::size_t size_ = 0;
};

/// What one worker runs at once. Its jobs have left the queue.
struct Batch {
  Jobs jobs;
  std::int64_t rows = 0;
  SteadyTime taken{};
  std::optional<SteadyTime> ran;  ///< By the runner: when the model was done, before the answers.

  /// Around the run: between them cancel() reaches it. False when nobody wants the answer any more.
  [[nodiscard]] bool begin_run(Binding& binding);
  /// Whether the run was cancelled; its binding is then not to be used again.
  [[nodiscard]] bool end_run();
  // For the scheduler.
  void cancel_one();  ///< One of the jobs is cancelled: the last one stops the run.
  void cancel_all();

 private:
  std::mutex mutex_;
  Binding* running_ = nullptr;
  std::size_t cancelled_jobs_ = 0;
  bool cancelled_ = false;
};

}  // namespace selvage::infer
