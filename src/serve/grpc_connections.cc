#include "serve/grpc_connections.h"

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstring>
#include <set>

#include <arpa/inet.h>
#include <fcntl.h>
#include <linux/tcp.h>
#include <netinet/in.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/log.h"
#include "serve/thread_name.h"

namespace selvage::serve {
namespace {

constexpr auto kAcceptPause = std::chrono::milliseconds(100);
constexpr auto kLookInterval = std::chrono::milliseconds(100);
constexpr std::size_t kEventsAtOnce = 64;
// Calls that wait at one look are handled by the next, unless they are cancelled all the time.
constexpr std::int64_t kSwampedFrom = 256;
constexpr int kSwampedLooksMax = 5;

struct Peer {
  sockaddr_storage storage = {};
  socklen_t size = sizeof(storage);
  sockaddr* address() { return reinterpret_cast<sockaddr*>(&storage); }
};

// As address_of_peer() has it.
std::string address_of(const Peer& peer) {
  std::array<char, INET6_ADDRSTRLEN> text{};
  const auto& storage = peer.storage;
  if (storage.ss_family == AF_INET) {
    const auto& v4 = reinterpret_cast<const sockaddr_in&>(storage);
    ::inet_ntop(AF_INET, &v4.sin_addr, text.data(), text.size());
    return std::string(text.data()) + ":" + std::to_string(ntohs(v4.sin_port));
  }
  const auto& v6 = reinterpret_cast<const sockaddr_in6&>(storage);
  if (IN6_IS_ADDR_V4MAPPED(&v6.sin6_addr))
    ::inet_ntop(AF_INET, &v6.sin6_addr.s6_addr[12], text.data(), text.size());
  else
    ::inet_ntop(AF_INET6, &v6.sin6_addr, text.data(), text.size());
  return std::string(text.data()) + ":" + std::to_string(ntohs(v6.sin6_port));
}

// The kernel knows it, so that nobody has to count.
tcp_info info_of(int fd) {
  tcp_info info = {};
  socklen_t size = sizeof(info);
  return ::getsockopt(fd, IPPROTO_TCP, TCP_INFO, &info, &size) == 0 ? info : tcp_info{};
}

// How long nothing has come or gone.
std::chrono::milliseconds silence_of(int fd) {
  const auto info = info_of(fd);
  return std::chrono::milliseconds(std::min(info.tcpi_last_data_recv, info.tcpi_last_data_sent));
}

// At once and with what is still under way: after shutdown() the peer's bytes would go on filling
// buffers until gRPC looks.
void reset(int fd) {
  sockaddr none = {};
  none.sa_family = AF_UNSPEC;
  if (::connect(fd, &none, sizeof(none)) != 0) ::shutdown(fd, SHUT_RDWR);
}

bool watch(const Socket& epoll, int fd, std::uint32_t events) {
  epoll_event event = {};
  event.events = events;
  event.data.fd = fd;
  return ::epoll_ctl(epoll.fd(), EPOLL_CTL_ADD, fd, &event) == 0;
}

}  // namespace

std::string address_of_peer(std::string_view peer) {
  std::string address;
  peer.remove_prefix(std::min(peer.find(':') + 1, peer.size()));
  for (std::size_t i = 0; i < peer.size(); ++i) {
    if (peer[i] != '%') {
      address += peer[i];
    } else if (peer.substr(i, 3) == "%25") {  // A scope, up to the bracket.
      i = std::min(peer.find("%5D", i), peer.size()) - 1;
    } else {
      i += 2;  // A bracket.
    }
  }
  return address;
}

GrpcConnections::GrpcConnections(Listener listener, const GrpcLimits& limits, HandOver hand_over,
                                 BusyPeers busy_peers, UnhandledCalls unhandled_calls)
    : limits_(limits),
      hand_over_(std::move(hand_over)),
      busy_peers_(std::move(busy_peers)),
      unhandled_calls_(std::move(unhandled_calls)),
      listener_(std::move(listener)),
      epoll_(::epoll_create1(EPOLL_CLOEXEC)),
      stop_(::eventfd(0, EFD_CLOEXEC)) {}

Result<std::unique_ptr<GrpcConnections>> GrpcConnections::start(Listener listener,
                                                                const GrpcLimits& limits,
                                                                HandOver hand_over,
                                                                BusyPeers busy_peers,
                                                                UnhandledCalls unhandled_calls) {
  auto connections = std::unique_ptr<GrpcConnections>(
      new GrpcConnections(std::move(listener), limits, std::move(hand_over), std::move(busy_peers),
                          std::move(unhandled_calls)));
  SELVAGE_RETURN_IF_ERROR(connections->watch_listener());
  connections->thread_ = start_thread("grpc-accept", [self = connections.get()] { self->run(); });
  return connections;
}

Result<void> GrpcConnections::watch_listener() {
  if (watch(epoll_, listener_.socket.fd(), EPOLLIN) && watch(epoll_, stop_.fd(), EPOLLIN))
    return {};
  return fail(ErrorCode::kResourceExhausted,
              std::string("gRPC cannot wait for connections: ") +
                  std::strerror(errno));  // NOLINT(concurrency-mt-unsafe): glibc's is safe
}

GrpcConnections::~GrpcConnections() {
  stop();
}

void GrpcConnections::stop() {
  if (!thread_.joinable()) return;
  ::eventfd_write(stop_.fd(), 1);
  thread_.join();
  listener_ = {};  // Clients go elsewhere at once.
  const std::lock_guard lock(mutex_);
  while (!connections_.empty()) forget(connections_.begin()->first);
}

void GrpcConnections::run() {
  std::array<epoll_event, kEventsAtOnce> events{};
  auto looked = std::chrono::steady_clock::now();
  while (true) {
    const int count = ::epoll_wait(epoll_.fd(), events.data(), kEventsAtOnce,
                                   is_empty() ? -1 : static_cast<int>(kLookInterval.count()));
    for (int i = 0; i < count; ++i) {
      const int fd = events[static_cast<std::size_t>(i)].data.fd;
      if (fd == stop_.fd()) return;
      if (fd == listener_.socket.fd()) {
        accept_all();
      } else {
        const std::lock_guard lock(mutex_);
        forget(fd);
      }
    }
    if (const auto now = std::chrono::steady_clock::now(); now - looked >= kLookInterval) {
      looked = now;
      look_for_attacker();
    }
  }
}

bool GrpcConnections::is_empty() {
  const std::lock_guard lock(mutex_);
  return connections_.empty();
}

// It is the connection that sends most while the server is swamped, from one look to the next.
void GrpcConnections::look_for_attacker() {
  swamped_looks_ = unhandled_calls_() >= kSwampedFrom ? swamped_looks_ + 1 : 0;
  if (swamped_looks_ == 0) return;
  const std::lock_guard lock(mutex_);
  int attacker = -1;
  std::uint64_t most = 0;
  for (auto& [fd, connection] : connections_) {
    const std::uint64_t received = info_of(fd).tcpi_bytes_received;
    const std::uint64_t sent = received - std::exchange(connection.received, received);
    if (sent <= most) continue;
    attacker = fd;
    most = sent;
  }
  if (swamped_looks_ < kSwampedLooksMax || attacker < 0) return;
  end(attacker, "begins more calls than can be handled");
  swamped_looks_ = 0;  // What it has sent already is worked off first.
}

void GrpcConnections::accept_all() {
  while (true) {
    Socket socket(::accept4(listener_.socket.fd(), nullptr, nullptr, SOCK_NONBLOCK | SOCK_CLOEXEC));
    if (socket.fd() >= 0) {
      adopt(std::move(socket));
    } else if (errno == EAGAIN || errno == EWOULDBLOCK) {
      return;
    } else if (errno != ECONNABORTED && errno != EINTR) {
      // Out of descriptors, mostly: what is open goes on, and we look again in a moment.
      return std::this_thread::sleep_for(kAcceptPause);
    }
  }
}

void GrpcConnections::adopt(Socket socket) {
  Peer peer;
  Socket second(::fcntl(socket.fd(), F_DUPFD_CLOEXEC, 0));
  if (second.fd() < 0 || ::getpeername(socket.fd(), peer.address(), &peer.size) != 0) return;
  {
    const std::lock_guard lock(mutex_);
    if (connections_.size() >= limits_.connections_max && !make_room()) return;
    // Only its end wakes us, not what is sent.
    if (!watch(epoll_, second.fd(), EPOLLRDHUP)) return;
    const int fd = second.release();
    const auto address = address_of(peer);
    connections_[fd] = {address, static_cast<double>(limits_.resets_burst),
                        std::chrono::steady_clock::now()};
    by_address_[address] = fd;
  }
  hand_over_(socket.release());
}

// Ends the connection that has been silent for longest and owes nobody an answer.
bool GrpcConnections::make_room() {
  std::set<std::string> busy;
  for (const auto& peer : busy_peers_()) busy.insert(address_of_peer(peer));
  int idlest = -1;
  auto longest = limits_.silence_min;
  for (const auto& [fd, connection] : connections_) {
    const auto silence = silence_of(fd);
    if (silence < longest || busy.contains(connection.address)) continue;
    idlest = fd;
    longest = silence;
  }
  if (idlest < 0) return false;
  reset(idlest);
  forget(idlest);
  return true;
}

void GrpcConnections::count_reset(const std::string& peer) {
  const std::lock_guard lock(mutex_);
  const auto found = by_address_.find(address_of_peer(peer));
  if (found == by_address_.end()) return;
  auto& connection = connections_.at(found->second);
  const auto now = std::chrono::steady_clock::now();
  const std::chrono::duration<double> since = now - connection.refilled;
  connection.refilled = now;
  connection.resets_left = std::min<double>(
      limits_.resets_burst, connection.resets_left + since.count() * limits_.resets_per_second_max);
  if (--connection.resets_left > 0) return;
  end(found->second, "cancels its calls as soon as it has made them");
}

// gRPC sees the end as if the client had brought it about.
void GrpcConnections::end(int fd, std::string_view why) {
  log::warning("the connection of a gRPC client is ended: it " + std::string(why),
               {{"peer", connections_.at(fd).address}});
  reset(fd);
  forget(fd);
}

void GrpcConnections::forget(int fd) {
  const auto found = connections_.find(fd);
  if (found == connections_.end()) return;
  // The peer may have a new connection by the same address already.
  const auto newest = by_address_.find(found->second.address);
  if (newest != by_address_.end() && newest->second == fd) by_address_.erase(newest);
  connections_.erase(found);
  // Closing is not enough: gRPC's descriptor keeps the same connection open.
  ::epoll_ctl(epoll_.fd(), EPOLL_CTL_DEL, fd, nullptr);
  ::close(fd);
}

}  // namespace selvage::serve
