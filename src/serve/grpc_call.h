// One gRPC call, unary or of two streams, as a state machine on a completion queue. Internal to
// src/serve.
#pragma once

#include <atomic>
#include <chrono>
#include <condition_variable>
#include <deque>
#include <memory>
#include <mutex>
#include <optional>
#include <thread>
#include <unordered_map>
#include <unordered_set>
#include <vector>

#include <grpcpp/generic/async_generic_service.h>
#include <grpcpp/server_builder.h>

#include "serve/access_log.h"
#include "serve/grpc_api.h"
#include "serve/grpc_intake.h"
#include "serve/grpc_server.h"

namespace selvage::serve {

class GrpcCall;
class GrpcConnections;

/// Ends the calls whose clients neither send nor read. Synchronised.
class CallWatch {
 public:
  explicit CallWatch(std::chrono::milliseconds interval);
  ~CallWatch();
  CallWatch(const CallWatch&) = delete;
  CallWatch& operator=(const CallWatch&) = delete;

  void add(GrpcCall& call);
  void remove(GrpcCall& call);
  [[nodiscard]] std::vector<std::shared_ptr<GrpcCall>> calls();

 private:
  void run();

  const std::chrono::milliseconds interval_;
  std::mutex mutex_;  // Guards the two below.
  std::unordered_set<GrpcCall*> calls_;
  bool stopping_ = false;
  std::condition_variable stop_asked_;
  std::jthread thread_;
};

/// What the calls of a server share.
struct CallHome {
  const GrpcLimits& limits;
  Services& services;
  AccessLog* log;
  CallWatch& watch;
  std::atomic<std::uint32_t>& open;       ///< Calls.
  std::atomic<std::uint32_t>& in_flight;  ///< Requests whose answer has not gone out.
  std::atomic<bool>& stopping;
  GrpcIntake& intake;
  std::atomic<GrpcConnections*> connections = nullptr;  ///< Null while starting.
  grpc::AsyncGenericService service = {};
};

/// An operation under way keeps its call alive.
struct CallTag {
  std::shared_ptr<GrpcCall> call;
  void (GrpcCall::*then)(bool ok) = nullptr;
  static void run(void* tag, bool ok);
};

/// Events arrive on the queue's thread, replies on any.
class GrpcCall : public std::enable_shared_from_this<GrpcCall> {
 public:
  /// Waits for a call; when it comes, waits for the next one, too.
  static void wait(CallHome& home, grpc::ServerCompletionQueue& queue);

  GrpcCall(CallHome& home, grpc::ServerCompletionQueue& queue);
  ~GrpcCall();
  GrpcCall(const GrpcCall&) = delete;
  GrpcCall& operator=(const GrpcCall&) = delete;

  // On any thread:
  /// Cancels the call when it is overdue.
  void check(std::chrono::steady_clock::time_point now);
  /// Whether a request of it waits for its answer.
  [[nodiscard]] bool is_busy();
  [[nodiscard]] std::string peer() const { return context_.peer(); }  ///< "ipv4:127.0.0.1:5000"
  /// The server is stopping: ends a stream of which nothing is in flight.
  void retire();

 private:
  using Time = std::chrono::steady_clock::time_point;
  class Exchange;

  void arrived(bool ok);
  void read(bool ok);
  void wrote(bool ok);
  void finished(bool ok);
  void left(bool ok);  ///< The call is over, or was cancelled: gRPC says so in either case.

  [[nodiscard]] grpc::Status admit() const;
  [[nodiscard]] bool was_reset() const;
  void take(std::size_t number, Result<grpc::ByteBuffer> answer);
  void take_unary(Result<grpc::ByteBuffer> answer);
  void finish(const grpc::Status& status);
  // With mutex_ held:
  void read_more();
  void advance_stream();
  /// The time in which a client must have read an answer.
  void allow(std::size_t bytes);
  [[nodiscard]] void* tag(CallTag& of, void (GrpcCall::*then)(bool));

  CallHome& home_;
  grpc::ServerCompletionQueue& queue_;
  grpc::GenericServerContext context_;
  grpc::GenericServerAsyncReaderWriter stream_{&context_};
  CallTag arrived_, read_, wrote_, finished_, left_;
  const GrpcMethod* method_ = nullptr;
  bool counted_ = false;
  Time started_;

  std::mutex mutex_;  // Guards everything below.
  grpc::ByteBuffer incoming_;
  // Of a stream: one for each request, in their order, from the first whose answer is not written.
  std::deque<std::optional<grpc::ByteBuffer>> answers_;
  std::size_t first_ = 0;         // The number of answers_.front().
  std::uint32_t unanswered_ = 0;  // Of them, those that are still empty.
  std::uint32_t requests_ = 0;    // Of this call, in home_.in_flight.
  BudgetShare share_;             // For answers that wait to be read.
  Time deadline_ = Time::max();   // For what the client has to do next.
  bool reading_ = false, writing_ = false, half_closed_ = false, done_ = false, gone_ = false;
  std::unordered_map<const Exchange*, Cancel> cancels_;  // Of requests without an answer.
  int status_ = 0;
};

}  // namespace selvage::serve
