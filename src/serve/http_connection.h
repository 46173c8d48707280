// One HTTP connection, on one thread for its life. Internal to src/serve.
#pragma once

#include <atomic>
#include <chrono>
#include <memory>
#include <optional>
#include <unordered_set>

#include <boost/asio/io_context.hpp>
#include <boost/asio/ip/tcp.hpp>
#include <boost/asio/ssl/context.hpp>

#include "serve/http_server.h"

namespace selvage::serve {

using TcpSocket =
    boost::asio::basic_stream_socket<boost::asio::ip::tcp, boost::asio::io_context::executor_type>;

class HttpConnection;

/// What the connections of one thread share. `live` is that thread's business only.
struct ConnectionHome {
  const HttpLimits& limits;
  HttpHandler& handler;
  BodyBudget& budget;
  AccessLog* log;
  std::atomic<std::uint64_t>& count;  ///< Of all threads.
  std::unordered_set<HttpConnection*> live = {};
  std::atomic<bool> ended = false;  ///< The thread is no more.
};

/// Lives as long as something is under way on it.
class HttpConnection : public std::enable_shared_from_this<HttpConnection> {
 public:
  /// Without `tls`: plain TCP. Starts to read.
  static void start(ConnectionHome& home, TcpSocket socket, boost::asio::ssl::context* tls);

  virtual ~HttpConnection() = default;

  /// Closes what is overdue, and tells the handler of a client that has left.
  virtual void check(std::chrono::steady_clock::time_point now) = 0;
  /// Since when a whole header is awaited; nothing while a request is under way.
  [[nodiscard]] virtual std::optional<std::chrono::steady_clock::time_point> waiting_since()
      const = 0;
  /// Closes when idle, otherwise after the reply under way.
  virtual void finish() = 0;
  virtual void abort() = 0;
};

}  // namespace selvage::serve
