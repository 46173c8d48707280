#include "serve/listen.h"

#include <cerrno>
#include <system_error>

#include <boost/asio/ip/tcp.hpp>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/socket.h>
#include <unistd.h>

namespace selvage::serve {
namespace {

using Endpoint = boost::asio::ip::tcp::endpoint;

// What a client has not acknowledged by then it never will: it has left without a word.
constexpr int kUnacknowledgedMsMax = 20'000;

Result<boost::asio::ip::address> address_of(const std::string& host) {
  boost::system::error_code error;
  auto address = boost::asio::ip::make_address(host == "localhost" ? "127.0.0.1" : host, error);
  if (error)
    return fail(ErrorCode::kInvalidArgument,
                "'" + host +
                    "' is not an address to listen on: give one such as 127.0.0.1, ::1 or "
                    "0.0.0.0");
  return address;
}

Error why_not(std::string_view protocol, const std::string& host, std::uint16_t port, int reason) {
  const std::string what = std::string(protocol) + " cannot listen on " +
                           (host.contains(':') ? "[" + host + "]" : host) + ":" +
                           std::to_string(port) + ": ";
  switch (reason) {
    case EADDRINUSE:
      return {ErrorCode::kUnavailable,
              what +
                  "another program has this port; end it or choose another port (0: any free "
                  "one)"};
    case EACCES:
      return {ErrorCode::kPermissionDenied,
              what + "this user may not have so low a port; choose one from 1024"};
    case EADDRNOTAVAIL:
      return {ErrorCode::kInvalidArgument, what + "this machine does not have that address"};
    default: return {ErrorCode::kUnavailable, what + std::generic_category().message(reason)};
  }
}

bool bind_and_listen(int fd, const Endpoint& endpoint) {
  const auto set = [fd](int level, int option, int value) {
    return ::setsockopt(fd, level, option, &value, sizeof(value)) == 0;
  };
  return set(SOL_SOCKET, SO_REUSEADDR, 1) && set(IPPROTO_TCP, TCP_NODELAY, 1) &&
         set(IPPROTO_TCP, TCP_USER_TIMEOUT, kUnacknowledgedMsMax) &&
         ::bind(fd, endpoint.data(), static_cast<socklen_t>(endpoint.size())) == 0 &&
         ::listen(fd, SOMAXCONN) == 0;
}

}  // namespace

Socket::~Socket() {
  if (fd_ >= 0) ::close(fd_);
}

Result<Listener> listen_on(std::string_view protocol, const std::string& host, std::uint16_t port) {
  SELVAGE_TRY(const auto address, address_of(host));
  Endpoint endpoint(address, port);
  Listener listener{
      .socket = Socket(::socket(endpoint.protocol().family(),
                                SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, IPPROTO_TCP)),
      .is_v6 = address.is_v6()};
  if (listener.socket.fd() < 0 || !bind_and_listen(listener.socket.fd(), endpoint))
    return std::unexpected(why_not(protocol, host, port, errno));
  auto size = static_cast<socklen_t>(endpoint.capacity());
  if (::getsockname(listener.socket.fd(), endpoint.data(), &size) != 0)
    return std::unexpected(why_not(protocol, host, port, errno));
  endpoint.resize(size);
  listener.port = endpoint.port();
  return listener;
}

}  // namespace selvage::serve
