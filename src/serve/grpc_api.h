// The methods of the gRPC services. Internal to src/serve.
#pragma once

#include <chrono>
#include <memory>
#include <optional>
#include <string_view>

#include <grpcpp/support/byte_buffer.h>

#include "base/exception.h"
#include "serve/infer_call.h"
#include "serve/services.h"

namespace selvage::serve {

/// One request that waits for its answer. Synchronised.
class GrpcExchange {
 public:
  virtual ~GrpcExchange() = default;
  /// Exactly once, from any thread.
  virtual void reply(Result<grpc::ByteBuffer> answer) = 0;
  /// Called when the client cancels, leaves or its deadline passes before the reply; at once if
  /// that has happened already. At most once, before or after reply().
  virtual void on_leave(Cancel cancel) = 0;
  /// What is left of the client's deadline; empty when it has none.
  [[nodiscard]] virtual std::optional<std::chrono::microseconds> time_left() const = 0;
};

enum class GrpcShape : std::uint8_t { kUnary, kBothStreams };

/// Calls `handle`; what it throws is the answer. Memory that runs out costs one request and not the
/// server.
template <typename Function>
void reply_if_thrown(GrpcExchange& exchange, Function handle) {
  auto done = catch_to_result(ErrorCode::kInternal, handle);
  if (!done) exchange.reply(std::unexpected(std::move(done).error()));
}

struct GrpcMethod {
  std::string_view path;  ///< "/inference.GRPCInferenceService/ModelInfer"
  GrpcShape shape = GrpcShape::kUnary;
  bool is_public = false;  ///< Needs no token: probes.
  void (*handle)(Services& services, grpc::ByteBuffer& message,
                 const std::shared_ptr<GrpcExchange>& exchange) = nullptr;
  /// Of a stream: an error as an answer.
  grpc::ByteBuffer (*refuse)(const Error& error) = nullptr;
};

/// Null for a path that is none of ours.
[[nodiscard]] const GrpcMethod* find_method(std::string_view path);

void handle_model_infer(Services& services, grpc::ByteBuffer& message,
                        const std::shared_ptr<GrpcExchange>& exchange);
/// The same with ModelStreamInferResponse as answer, in which errors are data.
void handle_stream_infer(Services& services, grpc::ByteBuffer& message,
                         const std::shared_ptr<GrpcExchange>& exchange);
[[nodiscard]] grpc::ByteBuffer refuse_stream_infer(const Error& error);

}  // namespace selvage::serve
