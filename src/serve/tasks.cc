#include "serve/tasks.h"

#include <utility>

#include "serve/thread_name.h"

namespace selvage::serve {

Tasks::Tasks(std::string name, std::size_t threads, std::size_t waiting_max)
    : name_(std::move(name)), threads_max_(threads), waiting_max_(waiting_max) {}

Tasks::~Tasks() {
  stop();
}

bool Tasks::submit(Task&& task) {
  const std::lock_guard lock(mutex_);
  if (stopping_ || waiting_.size() >= waiting_max_) return false;
  waiting_.push_back(std::move(task));
  if (threads_.empty())
    for (std::size_t i = 0; i < threads_max_; ++i)
      threads_.push_back(start_thread(name_ + "-" + std::to_string(i), [this] { run(); }));
  arrived_.notify_one();
  return true;
}

void Tasks::run() {
  while (true) {
    std::unique_lock lock(mutex_);
    arrived_.wait(lock, [this] { return stopping_ || !waiting_.empty(); });
    if (waiting_.empty()) return;
    Task task = std::move(waiting_.front());
    waiting_.pop_front();
    lock.unlock();
    task();
  }
}

void Tasks::stop() {
  std::vector<std::jthread> threads;
  {
    const std::lock_guard lock(mutex_);
    stopping_ = true;
    threads = std::exchange(threads_, {});
  }
  arrived_.notify_all();
  threads.clear();  // Joins.
}

}  // namespace selvage::serve
