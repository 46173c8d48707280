#include "infer/worker_pool.h"

#include <algorithm>
#include <string>
#include <utility>

#include <pthread.h>

namespace selvage::infer {
namespace {

/// At most 15 characters, as Linux wants it.
void name_thread(const std::string& name) {
  ::pthread_setname_np(::pthread_self(), name.c_str());
}

}  // namespace

WorkerPool::WorkerPool(std::size_t workers, const Clock& clock) : clock_(clock) {
  for (std::size_t i = 0; i < workers; ++i)
    workers_.emplace_back([this, i] {
      name_thread("worker-" + std::to_string(i));
      run_worker();
    });
  timer_ = std::thread([this] {
    name_thread("worker-timer");
    run_timer();
  });
}

WorkerPool::~WorkerPool() {
  stop();
}

void WorkerPool::post(std::shared_ptr<Task> task) {
  bool wake = false;
  {
    const std::scoped_lock lock(mutex_);
    if (stopping_) return;
    line_.push_back(std::move(task));
    wake = idle_ > 0;
  }
  if (wake) posted_.notify_one();
}

void WorkerPool::wake_at(SteadyTime time, std::weak_ptr<Task> task) {
  bool first = false;
  {
    const std::scoped_lock lock(timer_mutex_);
    first = alarms_.empty() || time < alarms_.front().time;
    alarms_.push_back({time, std::move(task)});
    std::ranges::push_heap(alarms_, later);
  }
  if (first) alarmed_.notify_one();
}

std::size_t WorkerPool::alarms() {
  const std::scoped_lock lock(timer_mutex_);
  return alarms_.size();
}

void WorkerPool::run_worker() {
  std::unique_lock lock(mutex_);
  for (;;) {
    while (line_.empty() && !stopping_) {
      ++idle_;
      posted_.wait(lock);
      --idle_;
    }
    if (stopping_) return;
    auto task = std::move(line_.front());
    line_.pop_front();
    lock.unlock();
    const bool again = task->work();
    if (!again) task.reset();  // Perhaps the last reference: not under the lock.
    lock.lock();
    if (again) line_.push_back(std::move(task));
  }
}

void WorkerPool::run_timer() {
  std::unique_lock lock(timer_mutex_);
  while (!timer_stopping_) {
    if (alarms_.empty()) {
      alarmed_.wait(lock);
      continue;
    }
    const auto remaining = alarms_.front().time - clock_.steady_now();
    if (remaining > std::chrono::nanoseconds(0)) {
      // By duration and not by time point: an injected clock has its own epoch.
      alarmed_.wait_for(lock, std::min<std::chrono::nanoseconds>(remaining, kWaitMax));
      continue;
    }
    std::ranges::pop_heap(alarms_, later);
    auto task = alarms_.back().task.lock();
    alarms_.pop_back();
    lock.unlock();
    if (task) task->wake();
    task.reset();
    lock.lock();
  }
}

void WorkerPool::stop() {
  std::deque<std::shared_ptr<Task>> dropped;
  {
    const std::scoped_lock lock(mutex_);
    stopping_ = true;
    dropped.swap(line_);
  }
  {
    const std::scoped_lock lock(timer_mutex_);
    timer_stopping_ = true;
  }
  posted_.notify_all();
  alarmed_.notify_all();
  for (auto& worker : workers_)
    if (worker.joinable()) worker.join();
  if (timer_.joinable()) timer_.join();
  const std::scoped_lock lock(mutex_);
  dropped.insert(dropped.end(), line_.begin(), line_.end());
  line_.clear();
}

}  // namespace selvage::infer
