#include "serve/server.h"

#include <algorithm>
#include <thread>

#include <malloc.h>
#include <sys/resource.h>

#include "base/log.h"
#include "serve/http_api.h"
#include "serve/repository_backend.h"
#include "serve/services.h"

namespace selvage::serve {
namespace {

constexpr std::size_t kLoadsWaitingMax = 64;
constexpr std::size_t kDecodesWaitingMax = 256;

unsigned default_threads() {
  return std::max(1u, std::thread::hardware_concurrency() / 2);
}

bool is_loopback(const std::string& host) {
  return host == "localhost" || host == "::1" || host.starts_with("127.");
}

// A connection is a descriptor, and the usual soft limit of 1,024 is less than ours.
void allow_descriptors() {
  rlimit limit = {};
  if (::getrlimit(RLIMIT_NOFILE, &limit) != 0 || limit.rlim_cur == limit.rlim_max) return;
  limit.rlim_cur = limit.rlim_max;
  if (::setrlimit(RLIMIT_NOFILE, &limit) != 0)
    log::warning("the limit of open files stays as it is");
}

// What one request frees the next one asks for again: do not give it back to the system in between.
void keep_freed_memory() {
#ifdef __GLIBC__
  constexpr int kBlockBytesMax = 1 << 20;       // Larger ones are mapped and unmapped.
  constexpr int kTopBytesMax = 4 << 20;         // Free at the end of each thread's heap.
  ::mallopt(M_MMAP_THRESHOLD, kBlockBytesMax);  // NOLINT(concurrency-mt-unsafe): glibc locks it
  ::mallopt(M_TRIM_THRESHOLD, kTopBytesMax);    // NOLINT(concurrency-mt-unsafe): the same
#endif
}

}  // namespace

// Members in the order of their dependencies: what is used outlives its users.
struct Server::State {
  explicit State(ServerOptions chosen)
      : options(std::move(chosen)),
        shared(options.shared_memory),
        budget(options.bodies_bytes_max) {}

  ServerOptions options;
  SharedMemory shared;
  BodyBudget budget;
  std::unique_ptr<AccessLog> access_log;
  std::unique_ptr<Tokens> tokens;
  std::unique_ptr<infer::ModelRepository> repository;
  std::unique_ptr<Backend> backend;
  Tasks loading{"load", 1, kLoadsWaitingMax};
  Tasks decoding{"decode", default_threads(), kDecodesWaitingMax};
  std::unique_ptr<Services> services;
  std::unique_ptr<HttpApi> api;
  std::unique_ptr<HttpServer> http;
  std::unique_ptr<GrpcServer> grpc;

  Result<void> start(infer::Runtime& runtime) {
    allow_descriptors();
    keep_freed_memory();
    if (!options.access_log.empty()) {
      SELVAGE_TRY(access_log, AccessLog::open(options.access_log));
    }
    if (!options.token_file.empty()) {
      SELVAGE_TRY(tokens, Tokens::open(options.token_file));
    }
    if (!is_loopback(options.host) && !tokens && options.tls.client_authorities.empty())
      log::warning(
          "whoever reaches this address may use and load models: give a token file or "
          "demand client certificates",
          {{"address", options.host}});
    SELVAGE_TRY(repository, infer::ModelRepository::create(runtime, options.repository));
    backend = make_backend(*repository);
    services.reset(
        new Services{*backend, shared, budget, tokens.get(), loading, decoding, options.version});
    api = std::make_unique<HttpApi>(*services);
    return listen();
  }

  Result<void> listen() {
    const auto threads = [](unsigned chosen) { return chosen > 0 ? chosen : default_threads(); };
    // Quick models run where their requests arrive: every core should be able to.
    const unsigned cores = std::max(1u, std::thread::hardware_concurrency());
    SELVAGE_TRY(
        http, HttpServer::start({.host = options.host,
                                 .port = options.http_port,
                                 .threads = options.http_threads > 0 ? options.http_threads : cores,
                                 .tls = options.tls,
                                 .limits = options.http_limits},
                                *api, budget, access_log.get()));
    SELVAGE_TRY(grpc, GrpcServer::start({.host = options.host,
                                         .port = options.grpc_port,
                                         .threads = threads(options.grpc_threads),
                                         .tls = options.tls,
                                         .limits = options.grpc_limits},
                                        *services, access_log.get()));
    return {};
  }

  void stop(std::chrono::milliseconds deadline) {
    const auto end = std::chrono::steady_clock::now() + deadline;
    const auto left = [end] {
      const auto rest = std::chrono::duration_cast<std::chrono::milliseconds>(
          end - std::chrono::steady_clock::now());
      return std::max(rest, std::chrono::milliseconds(0));
    };
    if (repository && !repository->drain(left()))
      log::warning("some requests had not ended at the deadline");
    if (http) http->stop(left());
    // Answers that are still due arrive while gRPC waits for them.
    if (repository) repository->stop();
    if (grpc) grpc->stop(left());
    loading.stop();
    decoding.stop();
  }
};

Result<std::unique_ptr<Server>> Server::start(infer::Runtime& runtime, ServerOptions options) {
  options.repository.initial_load = infer::InitialLoad::kInBackground;
  auto server = std::unique_ptr<Server>(new Server(std::make_unique<State>(std::move(options))));
  SELVAGE_RETURN_IF_ERROR(server->state_->start(runtime));
  return server;
}

Server::Server(std::unique_ptr<State> state) : state_(std::move(state)) {}
Server::~Server() {
  stop(std::chrono::milliseconds(0));
}

std::uint16_t Server::http_port() const {
  return state_->http->port();
}
std::uint16_t Server::grpc_port() const {
  return state_->grpc->port();
}
infer::ModelRepository& Server::repository() {
  return *state_->repository;
}
void Server::stop(std::chrono::milliseconds deadline) {
  state_->stop(deadline);
}

}  // namespace selvage::serve
