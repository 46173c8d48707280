// What the protocols cost over the in-process call, and how many small requests a server takes:
//   serve_load [--seconds N]                               our server, in this process
//   serve_load [--seconds N] http PORT PATH BODY           any server on this machine
//   serve_load [--seconds N] grpc PORT                     any server with ModelInfer of "identity"
// Latencies are open-loop: requests are due at a fixed rate, and each is timed from the moment it
// was due, so that a server that stalls pays for everyone who waits (no coordinated omission).
#include <atomic>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <functional>
#include <latch>
#include <memory>
#include <semaphore>
#include <thread>

#include <arpa/inet.h>
#include <fcntl.h>
#include <grpcpp/create_channel.h>
#include <grpcpp/impl/codegen/client_unary_call.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/uio.h>
#include <unistd.h>

#include "base/histogram.h"
#include "graph/testing.h"
#include "infer/runtime.h"
#include "inference.pb.h"
#include "serve/server.h"

namespace selvage::bench {
namespace {

namespace fs = std::filesystem;
using std::chrono::duration_cast;
using std::chrono::nanoseconds;
using Clock = std::chrono::steady_clock;

constexpr std::int64_t kWide = 150'528;  // 3 x 224 x 224 floats: 602 KB.
constexpr std::size_t kWideBytes = kWide * sizeof(float);
constexpr const char* kRegionKey = "/selvage_serve_load";
constexpr std::size_t kClients = 4;

[[noreturn]] void die(const std::string& why) {
  std::fprintf(stderr, "serve_load: %s\n", why.c_str());
  std::exit(1);
}

template <typename T>
T must(Result<T> result) {
  if (!result) die(result.error().message);
  if constexpr (!std::is_void_v<T>) return *std::move(result);
}

// --- Callers: one client each, which waits for its answer
// -------------------------------------------

using Caller = std::function<void()>;
using MakeCaller = std::function<Caller()>;

// A connection that sends prepared bytes and reads replies with a Content-Length.
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

  void call(std::string_view head, std::string_view body) {
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
    read_reply();
  }

 private:
  void read_reply() {
    std::size_t have = 0, whole = 0;
    while (whole == 0 || have < whole) {
      const auto got = ::recv(fd_, buffer_ + have, sizeof(buffer_) - have, 0);
      if (got <= 0) die("the server closed the connection");
      have += static_cast<std::size_t>(got);
      if (whole == 0) whole = whole_size({buffer_, have});
    }
    if (std::string_view(buffer_, 12) != "HTTP/1.1 200") die(std::string(buffer_, have));
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

MakeCaller http_caller(std::uint16_t port, const std::string& path, std::string body,
                       const std::string& fields = "") {
  auto shared = std::make_shared<const std::string>(std::move(body));
  const std::string head = "POST " + path + " HTTP/1.1\r\nHost: localhost\r\nContent-Length: " +
                           std::to_string(shared->size()) + "\r\n" + fields + "\r\n";
  return [=] {
    auto connection = std::make_shared<HttpConnection>(port);
    return [=] { connection->call(head, *shared); };
  };
}

MakeCaller grpc_caller(std::uint16_t port, const inference::ModelInferRequest& request) {
  const grpc::Slice slice(request.SerializeAsString());
  return [port, slice] {
    grpc::ChannelArguments arguments;
    arguments.SetInt(GRPC_ARG_USE_LOCAL_SUBCHANNEL_POOL, 1);  // A connection of its own.
    std::shared_ptr<grpc::Channel> channel = grpc::CreateCustomChannel(
        "127.0.0.1:" + std::to_string(port), grpc::InsecureChannelCredentials(), arguments);
    return [channel, slice] {
      static const grpc::internal::RpcMethod kMethod("/inference.GRPCInferenceService/ModelInfer",
                                                     grpc::internal::RpcMethod::NORMAL_RPC);
      grpc::ClientContext context;
      grpc::ByteBuffer message(&slice, 1), reply;
      const auto status =
          grpc::internal::BlockingUnaryCall(channel.get(), kMethod, &context, message, &reply);
      if (!status.ok()) die(status.error_message());
    };
  };
}

MakeCaller direct_caller(infer::ModelRepository& repository, const std::string& model,
                         std::span<const float> values) {
  return [&repository, model, values] {
    auto shape = std::make_shared<Shape>(Shape{1, static_cast<std::int64_t>(values.size())});
    auto done = std::make_shared<std::binary_semaphore>(0);
    return [&repository, model, values, shape, done] {
      infer::InferenceRequest request;
      request.model = model;
      request.inputs.push_back({"x", {DataType::kFloat32, *shape, std::as_bytes(values), {}}});
      repository.submit(std::move(request), [&](Result<infer::InferenceResponse> response) {
        must(std::move(response));
        done->release();
      });
      done->acquire();
    };
  };
}

// --- Load
// -------------------------------------------------------------------------------------------

// Requests a second of clients that ask again as soon as they are answered.
double saturation(const MakeCaller& make, double seconds) {
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

// Latencies at a fixed rate; client c sends every kClients-th request.
HistogramSnapshot open_loop(const MakeCaller& make, double rate, double seconds) {
  Histogram latency;
  const auto total = static_cast<std::uint64_t>(rate * seconds);
  std::latch ready(kClients + 1);
  {
    std::vector<std::jthread> clients;
    for (std::size_t c = 0; c < kClients; ++c)
      clients.emplace_back([&, c] {
        const Caller call = make();
        for (int i = 0; i < 20; ++i) call();
        ready.arrive_and_wait();
        ready.wait();
        const auto begin = Clock::now();
        for (std::uint64_t i = c; i < total; i += kClients) {
          const auto due = begin + duration_cast<nanoseconds>(std::chrono::duration<double>(
                                       static_cast<double>(i) / rate));
          std::this_thread::sleep_until(due);
          call();
          latency.record(Clock::now() - due);
        }
      });
    ready.arrive_and_wait();
  }
  return latency.snapshot();
}

double us(std::uint64_t ns) {
  return static_cast<double>(ns) / 1e3;
}

void print(const char* name, double rate, const HistogramSnapshot& found,
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

// --- Our server
// -------------------------------------------------------------------------------------

void write(const fs::path& path, std::span<const std::byte> content) {
  fs::create_directories(path.parent_path());
  std::ofstream(path, std::ios::binary)
      .write(reinterpret_cast<const char*>(content.data()),
             static_cast<std::streamsize>(content.size()));
}

struct Folder {
  fs::path path = fs::temp_directory_path() / ("selvage_serve_load_" + std::to_string(::getpid()));
  Folder() {
    using graph::testing::ModelBuilder;
    write(path / "mean/1/model.onnx",
          ModelBuilder()
              .input("x", DataType::kFloat32, {1, kWide})
              .node("ReduceMean", {"x"}, {"y"}, {{"axes", std::vector<std::int64_t>{1}}})
              .output("y", DataType::kFloat32, {1, 1})
              .bytes());
    write(path / "identity/1/model.onnx",
          graph::testing::identity_model(DataType::kFloat32, {-1, 1}).bytes());
  }
  ~Folder() { fs::remove_all(path); }
  Folder(const Folder&) = delete;
  Folder& operator=(const Folder&) = delete;
};

struct Region {
  float* memory = nullptr;
  Region() {
    const int fd = ::shm_open(kRegionKey, O_RDWR | O_CREAT, 0600);
    if (fd < 0 || ::ftruncate(fd, kWideBytes) != 0) die("no shared memory");
    memory =
        static_cast<float*>(::mmap(nullptr, kWideBytes, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0));
    ::close(fd);
    std::fill_n(memory, kWide, 0.5f);
  }
  ~Region() { ::shm_unlink(kRegionKey); }
  Region(const Region&) = delete;
  Region& operator=(const Region&) = delete;
};

inference::ModelInferRequest message(const std::string& model, std::span<const float> values) {
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

MakeCaller binary_caller(std::uint16_t port, const std::string& model,
                         std::span<const float> values) {
  const std::string json =
      R"({"parameters":{"binary_data_output":true},"inputs":[{"name":"x","datatype":"FP32","shape":[1,)" +
      std::to_string(values.size()) + R"(],"parameters":{"binary_data_size":)" +
      std::to_string(values.size_bytes()) + "}}]}";
  std::string body = json;
  body.append(reinterpret_cast<const char*>(values.data()), values.size_bytes());
  return http_caller(port, "/v2/models/" + model + "/infer", std::move(body),
                     "Inference-Header-Content-Length: " + std::to_string(json.size()) + "\r\n");
}

MakeCaller shared_caller(std::uint16_t port) {
  HttpConnection(port).call(
      "POST /v2/systemsharedmemory/region/load/register HTTP/1.1\r\nHost: x\r\nContent-Length: " +
          std::to_string(64) + "\r\n\r\n",
      [] {
        std::string body = R"({"key":")" + std::string(kRegionKey) + R"(","byte_size":)" +
                           std::to_string(kWideBytes) + "}";
        body.resize(64, ' ');
        return body;
      }());
  const std::string body =
      R"({"parameters":{"binary_data_output":true},"inputs":[{"name":"x","datatype":"FP32","shape":[1,)" +
      std::to_string(kWide) +
      R"(],"parameters":{"shared_memory_region":"load","shared_memory_byte_size":)" +
      std::to_string(kWideBytes) + "}}]}";
  return http_caller(port, "/v2/models/mean/infer", body);
}

void compare_protocols(serve::Server& server, double seconds) {
  const std::vector<float> values(kWide, 0.5f);
  Region region;
  const MakeCaller direct = direct_caller(server.repository(), "mean", values);
  struct Row {
    const char* name;
    MakeCaller make;
  };
  const Row rows[] = {{"HTTP, binary tensor", binary_caller(server.http_port(), "mean", values)},
                      {"gRPC", grpc_caller(server.grpc_port(), message("mean", values))},
                      {"system shared memory", shared_caller(server.http_port())}};
  std::printf("602 KB input, %zu clients, latencies from when each request was due\n", kClients);
  for (const Row& row : rows) {
    const double most = saturation(row.make, seconds / 2);
    for (const double share : {0.1, 0.7}) {
      const double rate = share * most;
      const auto base = open_loop(direct, rate, seconds);
      const auto found = open_loop(row.make, rate, seconds);
      std::printf(" at %.0f %% of %.0f/s:\n", share * 100, most);
      print("in-process", rate, base, nullptr);
      print(row.name, rate, found, &base);
    }
  }
}

void small_model(const char* name, const MakeCaller& make, double seconds) {
  const double most = saturation(make, seconds);
  print(name, most, open_loop(make, 0.9 * most, seconds), nullptr);
}

constexpr std::string_view kSmallJson =
    R"({"inputs":[{"name":"x","shape":[1,1],"datatype":"FP32","data":[0.5]}]})";

void run_ours(double seconds) {
  Folder folder;
  const auto runtime = must(infer::Runtime::create());
  serve::ServerOptions options;
  options.repository.folders = {folder.path};
  options.http_port = options.grpc_port = 0;
  options.shared_memory = serve::SharedMemoryAccess::kAllowed;
  const auto server = must(serve::Server::start(*runtime, std::move(options)));
  while (!server->repository().ready()) std::this_thread::sleep_for(std::chrono::milliseconds(1));
  compare_protocols(*server, seconds);
  std::printf("identity of one float: requests/s at saturation, latency at 90 %% of it\n");
  const std::vector<float> one{0.5f};
  small_model(
      "HTTP, JSON",
      http_caller(server->http_port(), "/v2/models/identity/infer", std::string(kSmallJson)),
      seconds);
  small_model("HTTP, binary", binary_caller(server->http_port(), "identity", one), seconds);
  small_model("gRPC", grpc_caller(server->grpc_port(), message("identity", one)), seconds);
}

std::uint16_t port_of(const char* text) {
  return static_cast<std::uint16_t>(std::strtoul(text, nullptr, 10));
}

int run(int argc, char** argv) {
  double seconds = 5;
  int at = 1;
  if (argc > 2 && std::string_view(argv[1]) == "--seconds") {
    seconds = std::strtod(argv[2], nullptr);
    at = 3;
  }
  const std::vector<std::string_view> rest(argv + at, argv + argc);
  if (rest.empty()) {
    run_ours(seconds);
  } else if (rest[0] == "http" && rest.size() == 4) {
    small_model("HTTP",
                http_caller(port_of(argv[at + 1]), argv[at + 2], argv[at + 3],
                            "Content-Type: application/json\r\n"),
                seconds);
  } else if (rest[0] == "grpc" && rest.size() == 2) {
    const std::vector<float> one{0.5f};
    small_model("gRPC", grpc_caller(port_of(argv[at + 1]), message("identity", one)), seconds);
  } else {
    die("see the head of bench/serve_load.cc");
  }
  return 0;
}

}  // namespace
}  // namespace selvage::bench

int main(int argc, char** argv) {
  return selvage::bench::run(argc, argv);
}
