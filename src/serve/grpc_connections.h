// The connections of the gRPC server, which are counted and ended here: gRPC itself takes as many
// as come, and everything that they send. Internal to src/serve.
#pragma once

#include <cstddef>
#include <functional>
#include <mutex>
#include <string>
#include <string_view>
#include <thread>
#include <unordered_map>
#include <vector>

#include "base/clock.h"
#include "base/result.h"
#include "serve/grpc_server.h"
#include "serve/listen.h"

namespace selvage::serve {

/// Accepts connections, hands them to gRPC and keeps a second descriptor of each: to see its end,
/// and to bring it about. Synchronised.
class GrpcConnections {
 public:
  /// Owns the descriptor from then on.
  using HandOver = std::function<void(int fd)>;
  /// The peers, as gRPC names them, whose requests are being answered.
  using BusyPeers = std::function<std::vector<std::string>()>;
  /// By how many more calls were read than handled since it was asked last.
  using UnhandledCalls = std::function<std::int64_t()>;

  /// Serves from here on. kResourceExhausted when there are no descriptors left.
  [[nodiscard]] static Result<std::unique_ptr<GrpcConnections>> start(
      Listener listener, const GrpcLimits& limits, HandOver hand_over, BusyPeers busy_peers,
      UnhandledCalls unhandled_calls);
  ~GrpcConnections();  ///< stop().
  GrpcConnections(const GrpcConnections&) = delete;
  GrpcConnections& operator=(const GrpcConnections&) = delete;

  /// A call of `peer` was cancelled as soon as it had come. Ends the connection of a client that
  /// does so again and again (CVE-2023-44487): a cancelled call costs the client two small frames,
  /// and the server all that a call costs.
  void count_reset(const std::string& peer);
  /// Accepts no more and forgets all, which go on. Idempotent.
  void stop();

 private:
  struct Connection {
    std::string address;
    double resets_left = 0;
    SteadyTime refilled;
    std::uint64_t received = 0;  ///< Bytes, at the last look while swamped.
  };

  GrpcConnections(Listener listener, const GrpcLimits& limits, HandOver hand_over,
                  BusyPeers busy_peers, UnhandledCalls unhandled_calls);
  [[nodiscard]] Result<void> watch_listener();
  void run();
  void accept_all();
  void adopt(Socket socket);
  void look_for_attacker();
  [[nodiscard]] bool is_empty();
  // With mutex_ held:
  [[nodiscard]] bool make_room();
  void end(int fd, std::string_view why);
  void forget(int fd);

  const GrpcLimits& limits_;
  const HandOver hand_over_;
  const BusyPeers busy_peers_;
  const UnhandledCalls unhandled_calls_;
  int swamped_looks_ = 0;  // One after the other.
  Listener listener_;
  const Socket epoll_, stop_;
  std::jthread thread_;

  std::mutex mutex_;  // Guards the two below.
  std::unordered_map<int, Connection> connections_;
  std::unordered_map<std::string, int> by_address_;
};

/// "ipv4:127.0.0.1:5000", "ipv6:%5Bfe80::1%251%5D:5000", as gRPC names a peer, without what two
/// writers could write differently: "127.0.0.1:5000", "fe80::1:5000".
[[nodiscard]] std::string address_of_peer(std::string_view peer);

}  // namespace selvage::serve
