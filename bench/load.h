// Clients and load for measuring servers of the Open Inference Protocol on this machine.
// Latencies are open-loop: requests are due at a fixed rate, and each is timed from the moment it
// was due, so that a server that stalls pays for everyone who waits (no coordinated omission).
#pragma once

#include <atomic>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <functional>
#include <latch>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <thread>
#include <vector>

#include <arpa/inet.h>
#include <grpcpp/create_channel.h>
#include <grpcpp/impl/codegen/client_unary_call.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/socket.h>
#include <sys/uio.h>
#include <unistd.h>

#include "base/histogram.h"
#include "base/result.h"
#include "inference.pb.h"

namespace selvage::bench {

using Clock = std::chrono::steady_clock;

[[noreturn]] inline void die(const std::string& why) {
  std::fprintf(stderr, "%s\n", why.c_str());
  std::exit(1);
}

template <typename T>
T must(Result<T> result) {
  if (!result) die(result.error().message);
  if constexpr (!std::is_void_v<T>) return *std::move(result);
}

inline void write(const std::filesystem::path& path, std::span<const std::byte> content) {
  std::filesystem::create_directories(path.parent_path());
  std::ofstream(path, std::ios::binary)
      .write(reinterpret_cast<const char*>(content.data()),
             static_cast<std::streamsize>(content.size()));
}

/// One client: sends its request and waits for the answer. Confined.
using Caller = std::function<void()>;
using MakeCaller = std::function<Caller()>;

/// A connection that sends prepared bytes and reads replies with a Content-Length. Confined.
class HttpConnection {
 public:
  explicit HttpConnection(std::uint16_t port) : fd_(::socket(AF_INET, SOCK_STREAM, 0)) {
    sockaddr_in address = {};
    address.sin_family = AF_INET;
    address.sin_port = htons(port);
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    const int on = 1;
    ::setsockopt(fd_, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on));
    if (::connect(fd_, reinterpret_cast<const sockaddr*>(&address), sizeof(address)) != 0)
      die("cannot connect to port " + std::to_string(port));
  }
  ~HttpConnection() { ::close(fd_); }
  HttpConnection(const HttpConnection&) = delete;
  HttpConnection& operator=(const HttpConnection&) = delete;

  /// The reply's body, valid until the next call. Any status but 200 ends the program.
  std::string_view call(std::string_view head, std::string_view body) {
    iovec pieces[] = {{const_cast<char*>(head.data()), head.size()},
                      {const_cast<char*>(body.data()), body.size()}};
    std::size_t sent = 0;
    while (sent < head.size() + body.size()) {
      iovec left[2];
      int count = 0;
      std::size_t skip = sent;
      for (const iovec& piece : pieces) {
        if (skip < piece.iov_len)
          left[count++] = {static_cast<char*>(piece.iov_base) + skip, piece.iov_len - skip};
        skip -= std::min(skip, piece.iov_len);
      }
      const auto more = ::writev(fd_, left, count);
      if (more <= 0) die("the server closed the connection");
      sent += static_cast<std::size_t>(more);
    }
    return read_reply();
  }

 private:
  std::string_view read_reply() {
    std::size_t have = 0, whole = 0;
    while (whole == 0 || have < whole) {
      const auto got = ::recv(fd_, buffer_ + have, sizeof(buffer_) - have, 0);
      if (got <= 0) die("the server closed the connection");
      have += static_cast<std::size_t>(got);
      if (whole == 0) whole = whole_size({buffer_, have});
    }
    const std::string_view reply(buffer_, have);
    if (!reply.starts_with("HTTP/1.1 200")) die(std::string(reply));
    return reply.substr(reply.find("\r\n\r\n") + 4);
  }
  static std::size_t whole_size(std::string_view text) {
    const auto end = text.find("\r\n\r\n");
    if (end == std::string_view::npos) return 0;
    std::string head(text.substr(0, end));
    for (char& c : head) c = static_cast<char>(std::tolower(c));
    const auto length = head.find("content-length: ");
    if (length == std::string::npos) die("a reply without Content-Length: " + head);
    return end + 4 + std::strtoul(head.c_str() + length + 16, nullptr, 10);
  }
  int fd_;
  char buffer_[64u << 10];
};

/// Looks at an answer and ends the program if it is wrong.
using CheckHttp = std::function<void(std::string_view body)>;
using CheckGrpc = std::function<void(grpc::ByteBuffer& message)>;

inline std::string http_head(std::string_view method, const std::string& path,
                             std::size_t body_bytes, const std::string& fields = "") {
  return std::string(method) + " " + path +
         " HTTP/1.1\r\nHost: localhost\r\nContent-Length: " + std::to_string(body_bytes) + "\r\n" +
         fields + "\r\n";
}

inline MakeCaller http_caller(std::uint16_t port, const std::string& path, std::string body,
                              const std::string& fields = "", const CheckHttp& check = nullptr) {
  auto shared = std::make_shared<const std::string>(std::move(body));
  const std::string head = http_head("POST", path, shared->size(), fields);
  return [=] {
    auto connection = std::make_shared<HttpConnection>(port);
    return [=] {
      const auto reply = connection->call(head, *shared);
      if (check) check(reply);
    };
  };
}

inline std::shared_ptr<grpc::Channel> own_channel(std::uint16_t port) {
  grpc::ChannelArguments arguments;
  arguments.SetInt(GRPC_ARG_USE_LOCAL_SUBCHANNEL_POOL, 1);  // A connection of its own.
  return grpc::CreateCustomChannel("127.0.0.1:" + std::to_string(port),
                                   grpc::InsecureChannelCredentials(), arguments);
}

inline MakeCaller grpc_caller(std::uint16_t port, const inference::ModelInferRequest& request,
                              const CheckGrpc& check = nullptr) {
  const grpc::Slice slice(request.SerializeAsString());
  return [port, slice, check] {
    return [channel = own_channel(port), slice, check] {
      static const grpc::internal::RpcMethod kMethod("/inference.GRPCInferenceService/ModelInfer",
                                                     grpc::internal::RpcMethod::NORMAL_RPC);
      grpc::ClientContext context;
      grpc::ByteBuffer message(&slice, 1), reply;
      const auto status =
          grpc::internal::BlockingUnaryCall(channel.get(), kMethod, &context, message, &reply);
      if (!status.ok()) die("gRPC: " + status.error_message());
      if (check) check(reply);
    };
  };
}

/// A request for one row of an FP32 model whose input is "x", by either protocol.
inline inference::ModelInferRequest grpc_request(const std::string& model,
                                                 std::span<const float> values) {
  inference::ModelInferRequest request;
  request.set_model_name(model);
  auto& input = *request.add_inputs();
  input.set_name("x");
  input.set_datatype("FP32");
  input.add_shape(1);
  input.add_shape(static_cast<std::int64_t>(values.size()));
  request.add_raw_input_contents(values.data(), values.size_bytes());
  return request;
}

inline MakeCaller binary_caller(std::uint16_t port, const std::string& model,
                                std::span<const float> values, const CheckHttp& check = nullptr) {
  const std::string json =
      R"({"parameters":{"binary_data_output":true},"inputs":[{"name":"x","datatype":"FP32","shape":[1,)" +
      std::to_string(values.size()) + R"(],"parameters":{"binary_data_size":)" +
      std::to_string(values.size_bytes()) + "}}]}";
  std::string body = json;
  body.append(reinterpret_cast<const char*>(values.data()), values.size_bytes());
  return http_caller(port, "/v2/models/" + model + "/infer", std::move(body),
                     "Inference-Header-Content-Length: " + std::to_string(json.size()) + "\r\n",
                     check);
}

constexpr std::size_t kClients = 4;

/// Requests a second of clients that ask again as soon as they are answered. More than arrivals
/// that do not wait for answers can be: no thread ever sleeps, and the next request is never late.
inline double closed_loop_rate(const MakeCaller& make, double seconds) {
  std::atomic<std::uint64_t> calls{0};
  std::atomic<bool> stop{false};
  std::latch ready(kClients + 1);
  {
    std::vector<std::jthread> clients;
    for (std::size_t c = 0; c < kClients; ++c)
      clients.emplace_back([&] {
        const Caller call = make();
        for (int i = 0; i < 20; ++i) call();
        ready.arrive_and_wait();
        while (!stop) call(), ++calls;
      });
    ready.arrive_and_wait();
    calls = 0;
    std::this_thread::sleep_for(std::chrono::duration<double>(seconds));
    stop = true;
  }
  return static_cast<double>(calls) / seconds;
}

struct OpenLoop {
  HistogramSnapshot latency;
  double achieved = 0;  ///< Requests a second until the last answer.
};

/// Latencies at a fixed rate; client c sends every kClients-th request.
inline OpenLoop open_loop(const MakeCaller& make, double rate, double seconds) {
  Histogram latency;
  const auto total = static_cast<std::uint64_t>(rate * seconds);
  std::latch ready(kClients + 1);
  const auto ahead = std::chrono::milliseconds(20);
  Clock::time_point begin;
  {
    std::vector<std::jthread> clients;
    for (std::size_t c = 0; c < kClients; ++c)
      clients.emplace_back([&, c] {
        const Caller call = make();
        for (int i = 0; i < 20; ++i) call();
        ready.arrive_and_wait();
        for (std::uint64_t i = c; i < total; i += kClients) {
          const auto due =
              begin + std::chrono::duration_cast<std::chrono::nanoseconds>(
                          std::chrono::duration<double>(static_cast<double>(i) / rate));
          std::this_thread::sleep_until(due);
          call();
          latency.record(Clock::now() - due);
        }
      });
    begin = Clock::now() + ahead;
    ready.arrive_and_wait();
  }
  const double took = std::chrono::duration<double>(Clock::now() - begin).count();
  return {latency.snapshot(), static_cast<double>(total) / took};
}

/// The highest rate of arrivals that is answered as fast as it arrives, to about 2 %: below, no
/// backlog grows. By bisection under what closed clients reach; a rate is refused when it fails
/// twice, since a machine that stands still for a moment says nothing about the server.
inline double sustained_rate(const MakeCaller& make, double closed, double seconds) {
  constexpr double kAchieved = 0.99;
  const auto holds = [&](double rate) {
    return open_loop(make, rate, seconds).achieved >= kAchieved * rate;
  };
  double low = 0, high = closed;
  for (int step = 0; step < 6; ++step) {
    const double rate = low > 0 ? (low + high) / 2 : 0.8 * closed;
    (holds(rate) || holds(rate) ? low : high) = rate;
    if (low == 0) low = rate / 4;  // Where nobody has looked, and far below.
  }
  return low;
}

inline double us(std::uint64_t ns) {
  return static_cast<double>(ns) / 1e3;
}

inline void print(const char* name, double rate, const HistogramSnapshot& found,
                  const HistogramSnapshot* base) {
  std::printf("  %-22s %7.0f/s  p50 %8.0f us  p99 %8.0f us  p99.9 %8.0f us", name, rate,
              us(found.percentile_ns(.5)), us(found.percentile_ns(.99)),
              us(found.percentile_ns(.999)));
  if (base)
    std::printf("   over in-process: p50 %+6.0f us, p99 %+6.0f us",
                us(found.percentile_ns(.5)) - us(base->percentile_ns(.5)),
                us(found.percentile_ns(.99)) - us(base->percentile_ns(.99)));
  std::printf("\n");
}

}  // namespace selvage::bench
