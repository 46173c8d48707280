// How many calls have been read that nobody handles. Internal to src/serve.
#pragma once

#include <atomic>
#include <cstdint>

namespace selvage::serve {

/// gRPC goes on reading for as long as a connection has more, on threads of ours and of its own,
/// and calls that are cancelled before one of ours asks for them never show. Tensors wait for the
/// client's credit in between, but a client may begin and cancel calls without end
/// (CVE-2023-44487). Synchronised.
class GrpcIntake {
 public:
  /// Between two looks; beyond, calls are refused.
  static constexpr std::int64_t kCallsMax = 4'096;

  /// Counts a call that has been read; false when it is one too many.
  [[nodiscard]] bool admit() { return calls_.fetch_add(1, std::memory_order_relaxed) < kCallsMax; }
  /// It is being handled.
  void handled() { calls_.fetch_sub(1, std::memory_order_relaxed); }
  /// It was cancelled before that could be of use.
  void lost() { calls_.fetch_add(1, std::memory_order_relaxed); }
  /// By how many more calls were read than handled since the last look.
  [[nodiscard]] std::int64_t look() { return calls_.exchange(0, std::memory_order_relaxed); }

 private:
  std::atomic<std::int64_t> calls_{0};
};

}  // namespace selvage::serve
