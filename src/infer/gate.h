// Counts what is inside, can be closed, and can be waited for until it is empty.
#pragma once

#include <atomic>
#include <chrono>
#include <condition_variable>
#include <cstdint>
#include <memory>
#include <mutex>
#include <utility>

namespace selvage::infer {

/// Synchronised. While it is open, entering and leaving cost one atomic operation each.
class Gate {
 public:
  /// False when the gate is closed.
  [[nodiscard]] bool enter() {
    if ((count_.fetch_add(1, std::memory_order_acquire) & kClosed) == 0) return true;
    leave();
    return false;
  }
  void leave() {
    // Whoever waits has closed the gate first, so only a closed one needs the lock.
    if (count_.fetch_sub(1, std::memory_order_release) != (kClosed | 1)) return;
    const std::scoped_lock lock(mutex_);
    empty_.notify_all();
  }
  void close() { count_.fetch_or(kClosed); }
  [[nodiscard]] bool closed() const { return (count_.load() & kClosed) != 0; }

  /// After close(). False when something is still inside after `deadline`.
  [[nodiscard]] bool wait_empty(std::chrono::milliseconds deadline) {
    std::unique_lock lock(mutex_);
    return empty_.wait_for(lock, deadline, [this] { return count_.load() == kClosed; });
  }

 private:
  static constexpr std::uint64_t kClosed = std::uint64_t{1} << 63;
  std::atomic<std::uint64_t> count_{0};
  std::mutex mutex_;
  std::condition_variable empty_;
};

/// Leaves when destroyed. Keeps the gate, since a response may end after its repository.
class GatePass {
 public:
  GatePass() = default;
  /// Empty when the gate is closed.
  static GatePass enter(std::shared_ptr<Gate> gate) {
    GatePass pass;
    if (gate->enter()) pass.gate_ = std::move(gate);
    return pass;
  }
  GatePass(GatePass&& other) noexcept : gate_(std::exchange(other.gate_, nullptr)) {}
  GatePass& operator=(GatePass&& other) noexcept {
    std::swap(gate_, other.gate_);
    return *this;
  }
  ~GatePass() {
    if (gate_) gate_->leave();
  }
  explicit operator bool() const { return gate_ != nullptr; }

 private:
  std::shared_ptr<Gate> gate_;
};

}  // namespace selvage::infer
