// A bar on standard error for what takes longer than a second, on terminals only.
#pragma once

#include <atomic>
#include <chrono>
#include <cstdint>
#include <memory>
#include <mutex>
#include <string>
#include <thread>

#include "cli/output.h"

namespace selvage::cli {

/// Draws from a thread of its own, so that work that blocks is shown too; without a terminal it
/// does nothing. Make it after infer::Runtime. Synchronised; `output` must outlive it.
class Progress {
 public:
  /// `total` 0: how much there is to do is not known.
  Progress(Output& output, std::string_view what, std::uint64_t total);
  ~Progress();
  Progress(const Progress&) = delete;
  Progress& operator=(const Progress&) = delete;

  void set(std::uint64_t done) { done_.store(done, std::memory_order_relaxed); }
  void advance() { done_.fetch_add(1, std::memory_order_relaxed); }
  /// Shown behind the bar: "loss 0.412, 8,200 samples/s".
  void set_status(std::string status);

 private:
  void draw_until(const std::stop_token& stop);
  [[nodiscard]] std::string line(std::chrono::steady_clock::duration elapsed);

  Output& output_;
  std::string what_;
  std::uint64_t total_;
  std::atomic<std::uint64_t> done_{0};
  std::mutex status_mutex_;
  std::string status_;
  std::jthread thread_;
};

}  // namespace selvage::cli
