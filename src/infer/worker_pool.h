// The threads that run models, shared by all of them, and one that wakes sleepers in time.
#pragma once

#include <condition_variable>
#include <cstddef>
#include <deque>
#include <memory>
#include <mutex>
#include <thread>
#include <vector>

#include "base/clock.h"

namespace selvage::infer {

/// Synchronised. Tasks take turns: one that has more to do goes to the end of the line.
class WorkerPool {
 public:
  class Task {
   public:
    virtual ~Task() = default;
    /// Does one portion of work on a worker; whether to call again.
    [[nodiscard]] virtual bool work() = 0;
    /// The time given to wake_at() has come. On the timer thread: it should be quick.
    virtual void wake() = 0;
  };

  /// `workers` >= 1. `clock` must outlive the pool.
  WorkerPool(std::size_t workers, const Clock& clock);
  ~WorkerPool();  ///< stop().
  WorkerPool(const WorkerPool&) = delete;
  WorkerPool& operator=(const WorkerPool&) = delete;

  /// Lets a worker call task->work() once. Ignored after stop().
  void post(std::shared_ptr<Task> task);
  /// Calls task->wake() at `time` or soon afterwards, if the task still lives then.
  void wake_at(SteadyTime time, std::weak_ptr<Task> task);
  /// Waits for the portions in progress; what was posted and not begun is dropped. Idempotent.
  void stop();
  [[nodiscard]] std::size_t size() const { return workers_.size(); }
  [[nodiscard]] std::size_t alarms();  ///< That have not rung yet.

 private:
  struct Alarm {
    SteadyTime time;
    std::weak_ptr<Task> task;
  };
  static bool later(const Alarm& a, const Alarm& b) { return a.time > b.time; }
  /// The timer looks at the clock at least this often, so that a clock that is moved by hand works.
  static constexpr std::chrono::milliseconds kWaitMax{100};
  void run_worker();
  void run_timer();

  const Clock& clock_;
  std::mutex mutex_;  // Guards the three below.
  std::condition_variable posted_;
  std::deque<std::shared_ptr<Task>> line_;
  std::size_t idle_ = 0;
  bool stopping_ = false;

  std::mutex timer_mutex_;  // Guards the three below.
  std::condition_variable alarmed_;
  std::vector<Alarm> alarms_;  // A heap, the earliest first.
  bool timer_stopping_ = false;

  std::vector<std::thread> workers_;
  std::thread timer_;
};

}  // namespace selvage::infer
