// How many calls have been read that nobody could handle yet. Internal to src/serve.
#pragma once

#include <atomic>
#include <cstdint>

namespace selvage::serve {

/// Of all completion queues together: their threads also read the connections, each also what is
/// handed to another's queue. gRPC goes on reading for as long as a connection has more, and hands
/// over what came afterwards. Tensors wait for the client's credit in between, but a client may
/// begin and cancel calls without end (CVE-2023-44487). Synchronised.
class GrpcIntake {
 public:
  /// Of calls that are read at a stretch. More than honest clients can begin at once...
  static constexpr std::uint32_t kSwampedFrom = 1'024;
  static constexpr std::uint32_t kCallsMax = 4'096;  ///< ...and where calls are refused.

  /// The calls that this thread reads count here.
  void begin_on_this_thread();
  /// A thread handles what has been read.
  void turn() { calls_.store(0, std::memory_order_relaxed); }
  [[nodiscard]] bool swamped() const {
    return calls_.load(std::memory_order_relaxed) >= kSwampedFrom;
  }
  /// Counts a call that this thread has read; false when it is one too many.
  [[nodiscard]] static bool admit();

 private:
  std::atomic<std::uint32_t> calls_{0};
};

}  // namespace selvage::serve
