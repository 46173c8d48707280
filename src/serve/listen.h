// Sockets that listen for TCP connections, the same for both protocols.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <utility>

#include "base/result.h"

namespace selvage::serve {

/// Owns a descriptor. Movable.
class Socket {
 public:
  Socket() = default;
  explicit Socket(int fd) : fd_(fd) {}
  Socket(Socket&& other) noexcept : fd_(other.release()) {}
  Socket& operator=(Socket&& other) noexcept {
    std::swap(fd_, other.fd_);
    return *this;
  }
  ~Socket();
  [[nodiscard]] int fd() const { return fd_; }  ///< -1: none.
  [[nodiscard]] int release() { return std::exchange(fd_, -1); }

 private:
  int fd_ = -1;
};

struct Listener {
  Socket socket;  ///< Does not block.
  bool is_v6 = false;
  std::uint16_t port = 0;
};

/// Listens on `host`, an address or "localhost"; port 0 = any free one. Messages begin with
/// `protocol`. kInvalidArgument for a host that is none or not of this machine, kUnavailable for a
/// port that is taken, kPermissionDenied for one that this user may not have.
[[nodiscard]] Result<Listener> listen_on(std::string_view protocol, const std::string& host,
                                         std::uint16_t port);

}  // namespace selvage::serve
