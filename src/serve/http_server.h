// HTTP/1.1 on Boost.Asio: accepts connections, reads requests within limits, hands them to a
// handler and writes the replies in order. A connection belongs to one thread for its life.
#pragma once

#include <chrono>
#include <cstdint>
#include <memory>
#include <string>

#include "base/result.h"
#include "serve/access_log.h"
#include "serve/body.h"
#include "serve/http.h"
#include "serve/tls.h"

namespace selvage::serve {

struct HttpLimits {
  std::uint32_t head_bytes_max = 16u << 10;
  std::uint64_t body_bytes_max = 64u << 20;    ///< Before and after decompression.
  std::uint32_t connections_max = 4'096;       ///< Beyond, an idle one gives way, or it gets a 503.
  std::chrono::milliseconds idle_max{75'000};  ///< Between requests.
  std::chrono::milliseconds head_time_max{10'000};
  std::chrono::milliseconds patience{10'000};      ///< In every such interval of a body or reply...
  std::uint64_t bytes_per_second_min = 16u << 10;  ///< ...it moves at this rate, or ends.
};

struct HttpServerOptions {
  std::string host = "127.0.0.1";  ///< An address, or "localhost".
  std::uint16_t port = 8000;       ///< 0 = any free one.
  unsigned threads = 1;
  TlsOptions tls;
  HttpLimits limits;
};

class HttpServer {
 public:
  /// Listens and serves from here on. Errors of listen_on and TlsFiles::open. `handler`, `budget`
  /// and `log` (may be null) must outlive the server.
  [[nodiscard]] static Result<std::unique_ptr<HttpServer>> start(HttpServerOptions options,
                                                                 HttpHandler& handler,
                                                                 BodyBudget& budget,
                                                                 AccessLog* log);
  ~HttpServer();  ///< stop() without patience.
  HttpServer(const HttpServer&) = delete;
  HttpServer& operator=(const HttpServer&) = delete;

  [[nodiscard]] std::uint16_t port() const;
  [[nodiscard]] std::uint64_t connections() const;

  /// Accepts no more, closes idle connections, lets the others finish their request until the
  /// deadline, ends the threads. Idempotent.
  void stop(std::chrono::milliseconds deadline);

 private:
  struct State;
  explicit HttpServer(std::unique_ptr<State> state);
  std::unique_ptr<State> state_;
};

}  // namespace selvage::serve
