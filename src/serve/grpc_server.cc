#include "serve/grpc_server.h"

#include <limits>
#include <thread>

#include <google/protobuf/stubs/logging.h>
#include <grpc/support/log.h>
#include <grpcpp/resource_quota.h>
#include <grpcpp/server.h>
#include <grpcpp/server_builder.h>

#include "base/log.h"
#include "serve/grpc_call.h"
#include "serve/grpc_connections.h"
#include "serve/grpc_credentials.h"
#include "serve/listen.h"
#include "serve/thread_name.h"

namespace selvage::serve {
namespace {

constexpr int kWaitingCalls = 8;  // On each queue, so that bursts find one.
constexpr std::chrono::milliseconds kWatchIntervalMax{5'000};
// A tensor should arrive in few frames, and without waiting for credit on the way: HTTP/2's own
// sizes, 16 KB and 64 KB, are for pages.
constexpr int kFrameBytes = 1 << 20;
constexpr int kCreditBytes = 2 << 20;

// gRPC's own messages join the log; its severity "error" includes whatever a client does wrong.
void forward_log(gpr_log_func_args* args) {
  log::debug(args->message, {{"from", "grpc"}});
}

// So do protobuf's about what it cannot read.
void forward_protobuf_log(google::protobuf::LogLevel, const char*, int,
                          const std::string& message) {
  log::debug(message, {{"from", "protobuf"}});
}

}  // namespace

struct GrpcServer::State {
  State(const GrpcServerOptions& o, Services& services, AccessLog* log)
      : options(o),
        watch(std::min(options.limits.patience / 2, kWatchIntervalMax)),
        home{options.limits, services, log, watch, open, in_flight, stopping, intake} {}

  const GrpcServerOptions options;
  std::atomic<std::uint32_t> open{0}, in_flight{0};
  std::atomic<bool> stopping{false};
  GrpcIntake intake;
  CallWatch watch;
  CallHome home;
  std::uint16_t port = 0;
  std::vector<std::unique_ptr<grpc::ServerCompletionQueue>> queues;
  std::shared_ptr<grpc::ServerCredentials> credentials;
  std::unique_ptr<grpc::experimental::ExternalConnectionAcceptor> acceptor;
  std::unique_ptr<grpc::Server> server;
  std::vector<std::jthread> threads;
  std::unique_ptr<GrpcConnections> connections;

  Result<void> start() {
    ::gpr_set_log_function(forward_log);
    google::protobuf::SetLogHandler(forward_protobuf_log);
    const GrpcLimits& limits = options.limits;
    SELVAGE_TRY(credentials, make_credentials(options.tls, intake));
    SELVAGE_TRY(auto listener, listen_on("gRPC", options.host, options.port));
    port = listener.port;
    grpc::ServerBuilder builder;
    using External = grpc::ServerBuilder::experimental_type::ExternalConnectionType;
    acceptor = builder.experimental().AddExternalConnectionAcceptor(External::FROM_FD, credentials);
    builder.RegisterAsyncGenericService(&home.service);
    builder.SetMaxReceiveMessageSize(static_cast<int>(
        std::min<std::uint64_t>(limits.message_bytes_max, std::numeric_limits<int>::max())));
    builder.SetMaxSendMessageSize(-1);
    builder.AddChannelArgument(GRPC_ARG_MAX_CONCURRENT_STREAMS,
                               static_cast<int>(limits.calls_per_connection));
    builder.AddChannelArgument(GRPC_ARG_MAX_METADATA_SIZE,
                               static_cast<int>(limits.metadata_bytes_max));
    builder.AddChannelArgument(GRPC_ARG_MAX_CONNECTION_IDLE_MS,
                               static_cast<int>(limits.idle_max.count()));
    builder.AddChannelArgument(GRPC_ARG_KEEPALIVE_TIME_MS,
                               static_cast<int>(limits.ping_interval.count()));
    builder.AddChannelArgument(GRPC_ARG_SERVER_HANDSHAKE_TIMEOUT_MS,
                               static_cast<int>(limits.setup_time_max.count()));
    builder.AddChannelArgument(GRPC_ARG_HTTP2_MAX_FRAME_SIZE, kFrameBytes);
    builder.AddChannelArgument(GRPC_ARG_HTTP2_STREAM_LOOKAHEAD_BYTES, kCreditBytes);
    builder.SetResourceQuota(grpc::ResourceQuota("selvage").Resize(limits.memory_bytes));
    for (unsigned i = 0; i < std::max(1u, options.threads); ++i)
      queues.push_back(builder.AddCompletionQueue());
    server = builder.BuildAndStart();
    if (!server) return fail(ErrorCode::kInternal, "gRPC does not start");
    run();
    SELVAGE_TRY(connections,
                GrpcConnections::start(
                    std::move(listener), limits, [this](int fd) { hand_over(fd); },
                    [this] { return busy_peers(); }, [this] { return intake.look(); }));
    home.connections = connections.get();
    return {};
  }

  void hand_over(int fd) {
    grpc::experimental::ExternalConnectionAcceptor::NewConnectionParameters connection;
    connection.fd = fd;
    acceptor->HandleNewConnection(&connection);
  }

  std::vector<std::string> busy_peers() {
    std::vector<std::string> peers;
    for (const auto& call : watch.calls())
      if (call->is_busy()) peers.push_back(call->peer());
    return peers;
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
    if (connections) connections->stop();
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
  if (auto started = state->start(); !started) {
    state->stop(std::chrono::milliseconds(0));
    return std::unexpected(std::move(started).error());
  }
  return std::unique_ptr<GrpcServer>(new GrpcServer(std::move(state)));
}

GrpcServer::GrpcServer(std::unique_ptr<State> state) : state_(std::move(state)) {}
GrpcServer::~GrpcServer() {
  stop(std::chrono::milliseconds(0));
}

std::uint16_t GrpcServer::port() const {
  return state_->port;
}
void GrpcServer::stop(std::chrono::milliseconds deadline) {
  state_->stop(deadline);
}

}  // namespace selvage::serve
