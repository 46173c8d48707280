#include "serve/http_server.h"

#include <deque>
#include <future>
#include <thread>

#include <boost/asio/post.hpp>
#include <boost/asio/ssl/context.hpp>
#include <boost/asio/steady_timer.hpp>
#include <sys/socket.h>

#include "base/exception.h"
#include "base/log.h"
#include "serve/http_connection.h"
#include "serve/thread_name.h"

namespace selvage::serve {
namespace {

namespace asio = boost::asio;
using BoostError = boost::system::error_code;
using Acceptor = asio::basic_socket_acceptor<asio::ip::tcp, asio::io_context::executor_type>;
using Timer = asio::basic_waitable_timer<std::chrono::steady_clock,
                                         asio::wait_traits<std::chrono::steady_clock>,
                                         asio::io_context::executor_type>;

constexpr auto kCheckInterval = std::chrono::milliseconds(250);
constexpr auto kAcceptPause = std::chrono::milliseconds(100);
constexpr std::string_view kFull =
    "HTTP/1.1 503 Service Unavailable\r\nContent-Type: application/json\r\n"
    "Content-Length: 49\r\nConnection: close\r\n\r\n"
    "{\"error\":\"too many connections: try again later\"}";

// One thread with its event loop and connections.
struct Loop {
  Loop(const HttpLimits& limits, HttpHandler& handler, BodyBudget& budget, AccessLog* log,
       std::atomic<std::uint64_t>& count)
      : home{limits, handler, budget, log, count}, timer(context) {}

  ConnectionHome home;  // Outlives the connections that the context still holds when it ends.
  asio::io_context context{1};
  asio::executor_work_guard<asio::io_context::executor_type> work{context.get_executor()};
  Timer timer;
  bool checking = false;
  std::jthread thread;

  void adopt(TcpSocket socket, asio::ssl::context* tls) {
    HttpConnection::start(home, std::move(socket), tls);
    if (!std::exchange(checking, true)) check_later();
  }

  template <typename Function>
  void for_each(Function function) {
    std::vector<std::shared_ptr<HttpConnection>> connections;
    connections.reserve(home.live.size());
    for (auto* connection : home.live)
      if (auto alive = connection->weak_from_this().lock()) connections.push_back(std::move(alive));
    for (const auto& connection : connections) function(*connection);
  }

  void check_later() {
    timer.expires_after(kCheckInterval);
    timer.async_wait([this](const BoostError& error) {
      if (error) return;
      const auto now = std::chrono::steady_clock::now();
      for_each([now](HttpConnection& connection) { connection.check(now); });
      checking = !home.live.empty();
      if (checking) check_later();
    });
  }
};

Result<std::shared_ptr<asio::ssl::context>> make_tls(const TlsOptions& options) {
  return catch_to_result(
      ErrorCode::kInvalidArgument, [&]() -> Result<std::shared_ptr<asio::ssl::context>> {
        auto context = std::make_shared<asio::ssl::context>(asio::ssl::context::tls_server);
        context->set_options(asio::ssl::context::default_workarounds |
                             asio::ssl::context::no_tlsv1 | asio::ssl::context::no_tlsv1_1 |
                             asio::ssl::context::no_compression);
        context->use_certificate_chain_file(options.certificate.string());
        context->use_private_key_file(options.key.string(), asio::ssl::context::pem);
        if (!options.client_authorities.empty()) {
          context->load_verify_file(options.client_authorities.string());
          context->set_verify_mode(asio::ssl::verify_peer | asio::ssl::verify_fail_if_no_peer_cert);
        }
        return context;
      });
}

Result<asio::ip::address> address_of(const std::string& host) {
  BoostError error;
  auto address = asio::ip::make_address(host == "localhost" ? "127.0.0.1" : host, error);
  if (error)
    return fail(ErrorCode::kInvalidArgument,
                "'" + host +
                    "' is not an address to listen on: give one such as 127.0.0.1, ::1 or "
                    "0.0.0.0");
  return address;
}

}  // namespace

struct HttpServer::State {
  State(HttpServerOptions chosen, HttpHandler& h, BodyBudget& budget, AccessLog* log)
      : options(std::move(chosen)) {
    for (unsigned i = 0; i < std::max(1u, options.threads); ++i)
      loops.emplace_back(options.limits, h, budget, log, count);
    acceptor.emplace(loops.front().context);
    pause.emplace(loops.front().context);
  }

  const HttpServerOptions options;
  std::atomic<std::uint64_t> count{0};
  std::shared_ptr<asio::ssl::context> tls;
  std::deque<Loop> loops;
  std::optional<Acceptor> acceptor;
  std::optional<Timer> pause;
  std::size_t next = 0;
  std::uint16_t port = 0;
  bool stopped = false;

  Result<void> listen() {
    SELVAGE_TRY(const auto address, address_of(options.host));
    const asio::ip::tcp::endpoint endpoint(address, options.port);
    BoostError error;
    acceptor->open(endpoint.protocol(), error);
    if (!error) acceptor->set_option(asio::socket_base::reuse_address(true), error);
    if (!error) acceptor->bind(endpoint, error);
    if (!error) acceptor->listen(SOMAXCONN, error);
    if (error)
      return fail(
          error == asio::error::access_denied ? ErrorCode::kPermissionDenied
                                              : ErrorCode::kUnavailable,
          "HTTP on " + options.host + ":" + std::to_string(options.port) + ": " + error.message());
    port = acceptor->local_endpoint(error).port();
    return {};
  }

  void accept() {
    Loop& loop = loops[next++ % loops.size()];
    acceptor->async_accept(loop.context, [this, &loop](const BoostError& error, TcpSocket socket) {
      if (error == asio::error::operation_aborted || !acceptor->is_open()) return;
      if (error) {
        // Out of descriptors, mostly: what is open goes on, and we look again in a moment.
        pause->expires_after(kAcceptPause);
        pause->async_wait([this](const BoostError& e) {
          if (!e) accept();
        });
        return;
      }
      if (count >= options.limits.connections_max) {
        if (!tls)
          ::send(socket.native_handle(), kFull.data(), kFull.size(), MSG_DONTWAIT | MSG_NOSIGNAL);
      } else {
        asio::post(loop.context, [this, &loop, s = std::move(socket)]() mutable {
          loop.adopt(std::move(s), tls.get());
        });
      }
      accept();
    });
  }

  void run() {
    accept();
    for (std::size_t i = 0; i < loops.size(); ++i)
      loops[i].thread =
          start_thread("http-" + std::to_string(i), [&loop = loops[i]] { loop.context.run(); });
  }

  void stop(std::chrono::milliseconds deadline) {
    if (std::exchange(stopped, true)) return;
    asio::post(loops.front().context, [this] {
      BoostError ignored;
      acceptor->close(ignored);
      pause->cancel();
    });
    each([](HttpConnection& connection) { connection.finish(); });
    const auto end = std::chrono::steady_clock::now() + deadline;
    while (count > 0 && std::chrono::steady_clock::now() < end)
      std::this_thread::sleep_for(std::chrono::milliseconds(5));
    each([](HttpConnection& connection) { connection.abort(); });
    for (Loop& loop : loops)
      asio::post(loop.context, [&loop] {
        loop.timer.cancel();
        loop.work.reset();
      });
    // Replies that workers still owe arrive as posts; after stop() nothing may touch the loops.
    while (count > 0 && std::chrono::steady_clock::now() < end + std::chrono::seconds(1))
      std::this_thread::sleep_for(std::chrono::milliseconds(1));
    for (Loop& loop : loops) loop.context.stop();
    for (Loop& loop : loops) {
      loop.thread.join();
      loop.home.ended = true;
    }
  }

  template <typename Function>
  void each(Function function) {
    for (Loop& loop : loops)
      asio::post(loop.context, [&loop, function] { loop.for_each(function); });
  }
};

Result<std::unique_ptr<HttpServer>> HttpServer::start(HttpServerOptions options,
                                                      HttpHandler& handler, BodyBudget& budget,
                                                      AccessLog* log) {
  auto state = std::make_unique<State>(std::move(options), handler, budget, log);
  if (state->options.tls.enabled()) {
    auto tls = make_tls(state->options.tls);
    if (!tls) return std::unexpected(std::move(tls).error().with_context("TLS certificates"));
    state->tls = *std::move(tls);
  }
  SELVAGE_RETURN_IF_ERROR(state->listen());
  state->run();
  return std::unique_ptr<HttpServer>(new HttpServer(std::move(state)));
}

HttpServer::HttpServer(std::unique_ptr<State> state) : state_(std::move(state)) {}
HttpServer::~HttpServer() {
  stop(std::chrono::milliseconds(0));
}

std::uint16_t HttpServer::port() const {
  return state_->port;
}
std::uint64_t HttpServer::connections() const {
  return state_->count;
}
void HttpServer::stop(std::chrono::milliseconds deadline) {
  state_->stop(deadline);
}

}  // namespace selvage::serve
