// One gRPC call, unary or of two streams, as a state machine on a completion queue. Internal to
// src/serve.
#pragma once

#include <atomic>
#include <chrono>
#include <deque>
#include <memory>
#include <mutex>
#include <unordered_map>

#include <grpcpp/generic/async_generic_service.h>
#include <grpcpp/server_builder.h>

#include "serve/access_log.h"
#include "serve/grpc_api.h"
#include "serve/grpc_server.h"

namespace selvage::serve {

/// What the calls of a server share.
struct CallHome {
  const GrpcLimits& limits;
  Services& services;
  AccessLog* log;
  std::atomic<std::uint32_t>& in_flight;
  grpc::AsyncGenericService service = {};
};

class GrpcCall;

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

 private:
  class Exchange;

  void arrived(bool ok);
  void read(bool ok);
  void wrote(bool ok);
  void finished(bool ok);
  void left(bool ok);  ///< The call is over, or was cancelled: gRPC says so in either case.

  [[nodiscard]] grpc::Status admit() const;
  void read_more();
  void take(Result<grpc::ByteBuffer> answer);
  void take_unary(Result<grpc::ByteBuffer> answer);
  void advance_stream();  ///< With mutex_ held.
  void finish(const grpc::Status& status);
  [[nodiscard]] void* tag(CallTag& of, void (GrpcCall::*then)(bool));

  CallHome& home_;
  grpc::ServerCompletionQueue& queue_;
  grpc::GenericServerContext context_;
  grpc::GenericServerAsyncReaderWriter stream_{&context_};
  CallTag arrived_, read_, wrote_, finished_, left_;
  const GrpcMethod* method_ = nullptr;
  bool counted_ = false;
  std::chrono::steady_clock::time_point started_;

  std::mutex mutex_;
  grpc::ByteBuffer incoming_;
  std::deque<grpc::ByteBuffer> outgoing_;  // Of a stream.
  std::uint32_t unanswered_ = 0;
  bool reading_ = false, writing_ = false, half_closed_ = false, done_ = false, gone_ = false;
  std::unordered_map<const Exchange*, Cancel> cancels_;  // Of requests without an answer.
  int status_ = 0;
};

}  // namespace selvage::serve
