// The Open Inference Protocol over gRPC (proto/inference.proto) and gRPC's health checks. Every
// call is handled as bytes on a few threads with a completion queue each: tensors of replies go out
// from where the model wrote them.
#pragma once

#include <chrono>
#include <cstdint>
#include <memory>
#include <string>

#include "base/result.h"
#include "serve/access_log.h"
#include "serve/http_server.h"
#include "serve/services.h"

namespace selvage::serve {

struct GrpcLimits {
  /// Longer than a busy server takes to begin what a client has sent at a stretch.
  static constexpr std::chrono::milliseconds kEarly{1'000};
  std::uint64_t message_bytes_max = 64u << 20;
  std::uint32_t metadata_bytes_max = 16u << 10;
  std::uint32_t calls_max = 1'024;           ///< Requests in flight; beyond: RESOURCE_EXHAUSTED.
  std::uint32_t open_calls_max = 8'192;      ///< Silent streams included; beyond: the same.
  std::uint32_t calls_per_connection = 256;  ///< Clients queue beyond.
  std::uint32_t connections_max = 1'024;     ///< Beyond, a silent one gives way, or it is closed.
  std::chrono::milliseconds silence_min{1'000};  ///< Of a connection that gives way.
  /// Calls that a client may cancel within kEarly of making them; beyond, its connection is ended.
  std::uint32_t resets_per_second_max = 100;
  std::uint32_t resets_burst = 500;
  std::chrono::milliseconds setup_time_max{10'000};  ///< Until TLS and HTTP/2 have begun.
  std::uint32_t stream_requests_max = 64;  ///< Whose answers are not read, before reading pauses.
  std::chrono::milliseconds message_time_max{75'000};  ///< Until a unary call has sent its message.
  std::chrono::milliseconds patience{10'000};          ///< For reading an answer, beside...
  std::uint64_t bytes_per_second_min = 16u
                                       << 10;   ///< ...the time that its size takes at this rate.
  std::chrono::milliseconds idle_max{300'000};  ///< Of a connection without calls.
  std::chrono::milliseconds ping_interval{300'000};  ///< Where calls are silent: clients vanish.
  std::uint64_t memory_bytes = 1u << 30;             ///< For gRPC's own buffers.
};

struct GrpcServerOptions {
  std::string host = "127.0.0.1";
  std::uint16_t port = 8001;  ///< 0 = any free one.
  unsigned threads = 1;
  TlsOptions tls;
  GrpcLimits limits;
};

class GrpcServer {
 public:
  /// Listens and serves from here on. Errors of listen_on and TlsFiles::open. `services` and `log`
  /// (may be null) must outlive the server.
  [[nodiscard]] static Result<std::unique_ptr<GrpcServer>> start(const GrpcServerOptions& options,
                                                                 Services& services,
                                                                 AccessLog* log);
  ~GrpcServer();  ///< stop() without patience.
  GrpcServer(const GrpcServer&) = delete;
  GrpcServer& operator=(const GrpcServer&) = delete;

  [[nodiscard]] std::uint16_t port() const;

  /// Takes no more calls, lets those in flight end until the deadline, ends the threads.
  /// Idempotent.
  void stop(std::chrono::milliseconds deadline);

 private:
  struct State;
  explicit GrpcServer(std::unique_ptr<State> state);
  std::unique_ptr<State> state_;
};

}  // namespace selvage::serve
