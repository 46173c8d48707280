// Threads for work that takes long (loading a model, decoding a picture), so that the threads of
// the network never wait.
#pragma once

#include <condition_variable>
#include <deque>
#include <functional>
#include <mutex>
#include <string>
#include <thread>
#include <vector>

namespace selvage::serve {

/// Synchronised. A bounded queue that rejects when full.
class Tasks {
 public:
  using Task = std::move_only_function<void()>;

  /// Threads start with the first task, so that a server that never needs them has none.
  Tasks(std::string name, std::size_t threads, std::size_t waiting_max);
  ~Tasks();  ///< stop().
  Tasks(const Tasks&) = delete;
  Tasks& operator=(const Tasks&) = delete;

  /// False, and `task` untouched, when the queue is full or stopped.
  [[nodiscard]] bool submit(Task&& task);
  /// Runs what waits, then ends the threads. Idempotent.
  void stop();

 private:
  void run();

  const std::string name_;
  const std::size_t threads_max_;
  const std::size_t waiting_max_;
  std::mutex mutex_;
  std::condition_variable arrived_;
  std::deque<Task> waiting_;
  bool stopping_ = false;
  std::vector<std::jthread> threads_;
};

}  // namespace selvage::serve
