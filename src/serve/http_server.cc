#include "serve/http_server.h"

#include <cerrno>
#include <deque>
#include <future>
#include <thread>

#include <boost/asio/post.hpp>
#include <boost/asio/steady_timer.hpp>
#include <sys/socket.h>

#include "serve/http_connection.h"
#include "serve/listen.h"
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
  bool checking = false, finishing = false;
  std::jthread thread;

  void adopt(Socket socket, const asio::ip::tcp& protocol,
             const std::shared_ptr<const TlsMaterial>& tls) {
    if (finishing) return;  // It was accepted a moment before.
    TcpSocket adopted(context);
    BoostError error;
    adopted.assign(protocol, socket.fd(), error);
    if (error) return;
    static_cast<void>(socket.release());
    HttpConnection::start(home, std::move(adopted), tls ? tls->context.get() : nullptr);
    if (!std::exchange(checking, true)) check_later();
  }

  // Closes the connection that has waited for a request for longest; false when none waits.
  bool make_room() {
    HttpConnection* idlest = nullptr;
    for (auto* connection : home.live)
      if (const auto since = connection->waiting_since();
          since && (!idlest || *since < *idlest->waiting_since()))
        idlest = connection;
    if (!idlest) return false;
    const auto held = idlest->weak_from_this().lock();
    if (held) held->abort();
    return held != nullptr;
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
  std::unique_ptr<TlsFiles> tls;
  std::deque<Loop> loops;
  std::optional<Acceptor> acceptor;
  std::optional<Timer> pause;
  asio::ip::tcp protocol = asio::ip::tcp::v4();
  std::size_t next = 0;
  std::uint16_t port = 0;
  bool stopped = false;

  Result<void> listen() {
    SELVAGE_TRY(auto listener, listen_on("HTTP", options.host, options.port));
    port = listener.port;
    BoostError error;
    if (listener.is_v6) protocol = asio::ip::tcp::v6();
    acceptor->assign(protocol, listener.socket.fd(), error);
    if (error) return fail(ErrorCode::kUnavailable, "HTTP cannot listen: " + error.message());
    static_cast<void>(listener.socket.release());  // The acceptor's from here on.
    return {};
  }

  void accept() {
    acceptor->async_wait(Acceptor::wait_read, [this](const BoostError& error) {
      if (error || !acceptor->is_open()) return;
      while (true) {
        Socket socket(::accept4(acceptor->native_handle(), nullptr, nullptr, SOCK_CLOEXEC));
        if (socket.fd() < 0) break;
        Loop& loop = loops[next++ % loops.size()];
        if (count >= options.limits.connections_max)
          make_room(std::move(socket), loop, 0);
        else
          adopt(std::move(socket), loop);
      }
      if (errno == EAGAIN || errno == EWOULDBLOCK || errno == ECONNABORTED || errno == EINTR)
        return accept();
      // Out of descriptors, mostly: what is open goes on, and we look again in a moment.
      pause->expires_after(kAcceptPause);
      pause->async_wait([this](const BoostError& stopped_waiting) {
        if (!stopped_waiting) accept();
      });
    });
  }

  // Until a loop has adopted it, a socket is a descriptor: one that belongs to a loop must not
  // outlive it in the queue of another.
  void adopt(Socket socket, Loop& loop) {
    asio::post(loop.context, [this, &loop, s = std::move(socket)]() mutable {
      loop.adopt(std::move(s), protocol, tls ? tls->current() : nullptr);
    });
  }

  // All places are taken: one loop after the other is asked for a connection that waits for
  // nothing but a request. Clients keep those in case that they want them again, while a new one
  // is wanted now: a probe that found no place would end a healthy server.
  void make_room(Socket socket, Loop& home, std::size_t asked) {
    if (asked == loops.size()) {
      if (!tls) ::send(socket.fd(), kFull.data(), kFull.size(), MSG_DONTWAIT | MSG_NOSIGNAL);
      return;
    }
    Loop& loop = loops[asked];
    asio::post(loop.context, [this, &loop, &home, asked, s = std::move(socket)]() mutable {
      if (loop.make_room())
        adopt(std::move(s), home);
      else
        make_room(std::move(s), home, asked + 1);
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
    for (Loop& loop : loops)
      asio::post(loop.context, [&loop] {
        loop.finishing = true;
        loop.for_each([](HttpConnection& connection) { connection.finish(); });
      });
    const auto end = std::chrono::steady_clock::now() + deadline;
    while (count > 0 && std::chrono::steady_clock::now() < end)
      std::this_thread::sleep_for(std::chrono::milliseconds(5));
    for (Loop& loop : loops)
      asio::post(loop.context, [&loop] {
        loop.for_each([](HttpConnection& connection) { connection.abort(); });
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
};

Result<std::unique_ptr<HttpServer>> HttpServer::start(HttpServerOptions options,
                                                      HttpHandler& handler, BodyBudget& budget,
                                                      AccessLog* log) {
  auto state = std::make_unique<State>(std::move(options), handler, budget, log);
  if (state->options.tls.enabled()) {
    SELVAGE_TRY(state->tls, TlsFiles::open(state->options.tls));
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
