#include "serve/grpc_server.h"

#include <limits>
#include <thread>

#include <google/protobuf/stubs/logging.h>
#include <grpc/support/log.h>
#include <grpcpp/resource_quota.h>
#include <grpcpp/security/server_credentials.h>
#include <grpcpp/server.h>
#include <grpcpp/server_builder.h>

#include "base/file.h"
#include "base/log.h"
#include "serve/grpc_call.h"
#include "serve/thread_name.h"

namespace selvage::serve {
namespace {

constexpr int kWaitingCalls = 8;  // On each queue, so that bursts find one.
constexpr std::uint64_t kPemBytesMax = 1u << 20;
constexpr std::chrono::milliseconds kWatchIntervalMax{5'000};
// A tensor should arrive in few frames, and without waiting for credit on the way: HTTP/2's own
// sizes, 16 KB and 64 KB, are for pages.
constexpr int kFrameBytes = 1 << 20;
constexpr int kCreditBytes = 2 << 20;

Result<std::shared_ptr<grpc::ServerCredentials>> credentials_of(const TlsOptions& tls) {
  if (!tls.enabled()) return grpc::InsecureServerCredentials();
  grpc::SslServerCredentialsOptions options;
  grpc::SslServerCredentialsOptions::PemKeyCertPair pair;
  SELVAGE_TRY(pair.cert_chain, read_text(tls.certificate, kPemBytesMax));
  SELVAGE_TRY(pair.private_key, read_text(tls.key, kPemBytesMax));
  options.pem_key_cert_pairs.push_back(std::move(pair));
  if (!tls.client_authorities.empty()) {
    SELVAGE_TRY(options.pem_root_certs, read_text(tls.client_authorities, kPemBytesMax));
    options.client_certificate_request = GRPC_SSL_REQUEST_AND_REQUIRE_CLIENT_CERTIFICATE_AND_VERIFY;
  }
  return grpc::SslServerCredentials(options);
}

// gRPC's own messages join the log; its severity "error" includes whatever a client does wrong.
void forward_log(gpr_log_func_args* args) {
  log::debug(args->message, {{"from", "grpc"}});
}

// So do protobuf's about what it cannot read.
void forward_protobuf_log(google::protobuf::LogLevel, const char*, int,
                          const std::string& message) {
  log::debug(message, {{"from", "protobuf"}});
}

std::string address_of(const std::string& host, std::uint16_t port) {
  const bool v6 = host.find(':') != std::string::npos;
  return (v6 ? "[" + host + "]" : host) + ":" + std::to_string(port);
}

}  // namespace

struct GrpcServer::State {
  State(const GrpcServerOptions& o, Services& services, AccessLog* log)
      : options(o),
        watch(std::min(options.limits.patience / 2, kWatchIntervalMax)),
        home{options.limits, services, log, watch, open, in_flight, stopping} {}

  const GrpcServerOptions options;
  std::atomic<std::uint32_t> open{0}, in_flight{0};
  std::atomic<bool> stopping{false};
  CallWatch watch;
  CallHome home;
  int port = 0;
  std::vector<std::unique_ptr<grpc::ServerCompletionQueue>> queues;
  std::unique_ptr<grpc::Server> server;
  std::vector<std::jthread> threads;

  Result<void> start() {
    ::gpr_set_log_function(forward_log);
    google::protobuf::SetLogHandler(forward_protobuf_log);
    const GrpcLimits& limits = options.limits;
    SELVAGE_TRY(const auto credentials, credentials_of(options.tls));
    grpc::ServerBuilder builder;
    builder.AddListeningPort(address_of(options.host, options.port), credentials, &port);
    builder.RegisterAsyncGenericService(&home.service);
    builder.SetMaxReceiveMessageSize(static_cast<int>(
        std::min<std::uint64_t>(limits.message_bytes_max, std::numeric_limits<int>::max())));
    builder.SetMaxSendMessageSize(-1);
    builder.AddChannelArgument(GRPC_ARG_ALLOW_REUSEPORT, 0);  // A taken port is an error.
    builder.AddChannelArgument(GRPC_ARG_MAX_CONCURRENT_STREAMS,
                               static_cast<int>(limits.calls_per_connection));
    builder.AddChannelArgument(GRPC_ARG_MAX_METADATA_SIZE,
                               static_cast<int>(limits.metadata_bytes_max));
    builder.AddChannelArgument(GRPC_ARG_MAX_CONNECTION_IDLE_MS,
                               static_cast<int>(limits.idle_max.count()));
    builder.AddChannelArgument(GRPC_ARG_KEEPALIVE_TIME_MS,
                               static_cast<int>(limits.ping_interval.count()));
    builder.AddChannelArgument(GRPC_ARG_HTTP2_MAX_FRAME_SIZE, kFrameBytes);
    builder.AddChannelArgument(GRPC_ARG_HTTP2_STREAM_LOOKAHEAD_BYTES, kCreditBytes);
    builder.SetResourceQuota(grpc::ResourceQuota("selvage").Resize(limits.memory_bytes));
    for (unsigned i = 0; i < std::max(1u, options.threads); ++i)
      queues.push_back(builder.AddCompletionQueue());
    server = builder.BuildAndStart();
    if (!server || port == 0)
      return fail(ErrorCode::kUnavailable,
                  "gRPC cannot listen on " + address_of(options.host, options.port) +
                      ": is the port taken" +
                      (options.tls.enabled() ? ", or a certificate wrong?" : "?"));
    run();
    return {};
  }

  void run() {
    for (auto& queue : queues)
      for (int i = 0; i < kWaitingCalls; ++i) GrpcCall::wait(home, *queue);
    for (std::size_t i = 0; i < queues.size(); ++i)
      threads.push_back(start_thread("grpc-" + std::to_string(i), [&queue = *queues[i]] {
        void* tag = nullptr;
        bool ok = false;
        while (queue.Next(&tag, &ok)) CallTag::run(tag, ok);
      }));
  }

  void stop(std::chrono::milliseconds deadline) {
    if (!server) return;
    stopping = true;
    for (const auto& call : watch.calls()) call->retire();
    server->Shutdown(std::chrono::system_clock::now() + deadline);
    // Calls whose answer is still due may not find their queue closed. They have been cancelled,
    // and the backend answers every request.
    while (open > 0) std::this_thread::sleep_for(std::chrono::milliseconds(1));
    for (auto& queue : queues) queue->Shutdown();
    threads.clear();  // Joins, once the queues are empty.
    server.reset();
  }
};

Result<std::unique_ptr<GrpcServer>> GrpcServer::start(const GrpcServerOptions& options,
                                                      Services& services, AccessLog* log) {
  auto state = std::make_unique<State>(options, services, log);
  SELVAGE_RETURN_IF_ERROR(state->start());
  return std::unique_ptr<GrpcServer>(new GrpcServer(std::move(state)));
}

GrpcServer::GrpcServer(std::unique_ptr<State> state) : state_(std::move(state)) {}
GrpcServer::~GrpcServer() {
  stop(std::chrono::milliseconds(0));
}

std::uint16_t GrpcServer::port() const {
  return static_cast<std::uint16_t>(state_->port);
}
void GrpcServer::stop(std::chrono::milliseconds deadline) {
  state_->stop(deadline);
}

}  // namespace selvage::serve
