// The whole inference server: the repository behind HTTP and gRPC.
//
//   SELVAGE_TRY(auto server, Server::start(*runtime, {.repository = {.folders = {"models"}}}));
//   ...
//   server->stop(std::chrono::seconds(30));
#pragma once

#include <chrono>
#include <cstdint>
#include <filesystem>
#include <memory>
#include <string>

#include "base/result.h"
#include "infer/repository.h"
#include "serve/grpc_server.h"
#include "serve/http_server.h"
#include "serve/shared_memory.h"

namespace selvage::serve {

struct ServerOptions {
  infer::RepositoryOptions repository;
  std::string host = "127.0.0.1";
  std::uint16_t http_port = 8000;  ///< 0 = any free one, here and below.
  std::uint16_t grpc_port = 8001;
  unsigned http_threads = 0;  ///< 0 = one for each core.
  unsigned grpc_threads = 0;  ///< 0 = one for two cores.
  TlsOptions tls;
  std::filesystem::path token_file;  ///< Empty: nobody needs a token.
  std::filesystem::path access_log;  ///< Empty: none; "-": standard error.
  SharedMemoryAccess shared_memory = SharedMemoryAccess::kRefused;
  HttpLimits http_limits;
  GrpcLimits grpc_limits;
  std::uint64_t bodies_bytes_max = 1u << 30;  ///< Of all requests in flight.
  std::string version;                        ///< Of this program, for metadata.
};

class Server {
 public:
  /// Listens first, so that health can be asked while models load. kUnavailable for a taken port;
  /// errors of ModelRepository::create, Tokens::open and AccessLog::open. `runtime` must outlive
  /// it.
  [[nodiscard]] static Result<std::unique_ptr<Server>> start(infer::Runtime& runtime,
                                                             ServerOptions options);
  ~Server();  ///< stop() without patience.
  Server(const Server&) = delete;
  Server& operator=(const Server&) = delete;

  [[nodiscard]] std::uint16_t http_port() const;
  [[nodiscard]] std::uint16_t grpc_port() const;
  [[nodiscard]] infer::ModelRepository& repository();

  /// Readiness is false and new inferences are refused from here on; those in flight end until the
  /// deadline. Then the ports close. Idempotent.
  void stop(std::chrono::milliseconds deadline);

 private:
  struct State;
  explicit Server(std::unique_ptr<State> state);
  std::unique_ptr<State> state_;
};

}  // namespace selvage::serve
