// What the protocols cost over the in-process call, and how many small requests a server takes:
//   serve_load [--seconds N] [--rate R] [only PROTOCOL]    our server, in a process of its own;
//                                                          PROTOCOL: http, grpc, shared, or bare
//                                                          for sockets without a protocol
//   serve_load [--seconds N] [--rate R] http PORT PATH BODY    any server on this machine
//   serve_load [--seconds N] [--rate R] grpc PORT              the same, with ModelInfer of
//                                                          "identity"; R: requests a second
//   serve_load model FILE                                  writes that model
// Latencies are open-loop: requests are due at a fixed rate, and each is timed from the moment it
// was due, so that a server that stalls pays for everyone who waits (no coordinated omission).
// Loads are shares of the highest rate of such arrivals that is answered as fast as it arrives;
// those of closed clients, which overstate it, are printed beside them.
#include <csignal>
#include <filesystem>
#include <memory>
#include <numeric>
#include <semaphore>
#include <thread>

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include "bench/load.h"
#include "bench/server_process.h"
#include "graph/testing.h"
#include "infer/repository.h"

namespace selvage::bench {
namespace {

namespace fs = std::filesystem;

constexpr std::int64_t kWide = 150'528;  // 3 x 224 x 224 floats: 602 KB.
constexpr std::size_t kWideBytes = kWide * sizeof(float);
constexpr double kBusyShare = 0.7;  // Of saturation.
constexpr const char* kRegionKey = "/selvage_serve_load";

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

// y = x, of one float in each row.
std::vector<std::byte> identity() {
  return graph::testing::identity_model(DataType::kFloat32, {-1, 1}).bytes();
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
    write(path / "identity/1/model.onnx", identity());
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

/// What the machine gives to the simplest server there can be, in a process of its own: for each
/// connection a thread that reads requests of one size and sums up their floats. Make it before
/// any thread.
class BareServer {
 public:
  explicit BareServer(std::size_t body_bytes) : body_bytes_(body_bytes) {
    const std::size_t request_bytes = head().size() + body_bytes;
    const int listener = ::socket(AF_INET, SOCK_STREAM, 0);
    sockaddr_in address = {};
    address.sin_family = AF_INET;
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    socklen_t size = sizeof(address);
    if (::bind(listener, reinterpret_cast<const sockaddr*>(&address), size) != 0 ||
        ::listen(listener, SOMAXCONN) != 0 ||
        ::getsockname(listener, reinterpret_cast<sockaddr*>(&address), &size) != 0)
      die("no port for the bare server");
    port_ = ntohs(address.sin_port);
    child_ = ::fork();
    if (child_ == 0) {
      ::prctl(PR_SET_PDEATHSIG, SIGKILL);
      for (;;) std::thread(serve, ::accept(listener, nullptr, nullptr), request_bytes).detach();
    }
    ::close(listener);
  }
  ~BareServer() {
    ::kill(child_, SIGKILL);
    ::waitpid(child_, nullptr, 0);
  }
  BareServer(const BareServer&) = delete;
  BareServer& operator=(const BareServer&) = delete;
  [[nodiscard]] MakeCaller caller() const {
    return http_caller(port_, kPath, std::string(body_bytes_, '\0'));
  }

 private:
  static constexpr const char* kPath = "/";
  [[nodiscard]] std::string head() const { return http_head("POST", kPath, body_bytes_); }
  static void serve(int fd, std::size_t request_bytes) {
    const int on = 1;
    ::setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on));
    std::vector<float> request((request_bytes + sizeof(float) - 1) / sizeof(float));
    for (;;) {
      if (::recv(fd, request.data(), request_bytes, MSG_WAITALL) <
          static_cast<ssize_t>(request_bytes))
        break;
      const float sum = std::reduce(request.begin(), request.end(), 0.0f);
      const std::string text = std::to_string(sum);
      const std::string reply =
          "HTTP/1.1 200 OK\r\nContent-Length: " + std::to_string(text.size()) + "\r\n\r\n" + text;
      if (::send(fd, reply.data(), reply.size(), MSG_NOSIGNAL) < 0) break;
    }
    ::close(fd);
  }
  const std::size_t body_bytes_;
  pid_t child_ = -1;
  std::uint16_t port_ = 0;
};

MakeCaller shared_caller(std::uint16_t port) {
  const std::string region = R"({"key":")" + std::string(kRegionKey) + R"(","byte_size":)" +
                             std::to_string(kWideBytes) + "}";
  HttpConnection(port).call(
      http_head("POST", "/v2/systemsharedmemory/region/load/register", region.size()), region);
  const std::string body =
      R"({"parameters":{"binary_data_output":true},"inputs":[{"name":"x","datatype":"FP32","shape":[1,)" +
      std::to_string(kWide) +
      R"(],"parameters":{"shared_memory_region":"load","shared_memory_byte_size":)" +
      std::to_string(kWideBytes) + "}}]}";
  return http_caller(port, "/v2/models/mean/infer", body);
}

void compare_protocols(infer::ModelRepository& repository, const Ports& ports,
                       const BareServer& bare, double seconds, double fixed,
                       std::string_view only) {
  const std::vector<float> values(kWide, 0.5f);
  Region region;
  const MakeCaller direct = direct_caller(repository, "mean", values);
  struct Row {
    std::string_view key;
    const char* name;
    MakeCaller make;
  };
  const Row rows[] = {{"http", "HTTP, binary tensor", binary_caller(ports.http, "mean", values)},
                      {"grpc", "gRPC", grpc_caller(ports.grpc, grpc_request("mean", values))},
                      {"shared", "system shared memory", shared_caller(ports.http)},
                      {"bare", "bare sockets", bare.caller()}};
  std::printf("602 KB input, %zu clients, latencies from when each request was due\n", kClients);
  for (const Row& row : rows) {
    if (!only.empty() && only != row.key) continue;
    const auto at = [&](double rate) {
      const auto base = open_loop(direct, rate, seconds).latency;
      print("in-process", rate, base, nullptr);
      print(row.name, rate, open_loop(row.make, rate, seconds).latency, &base);
    };
    if (fixed > 0) {
      at(fixed);
      continue;
    }
    const double closed = closed_loop_rate(row.make, seconds / 2);
    const double most = sustained_rate(row.make, closed, seconds / 4);
    std::printf(" %s: %.0f/s sustained; %.0f/s by closed clients\n", row.name, most, closed);
    std::printf("  10 %% and %.0f %% of what is sustained, %.0f %% of closed clients:\n",
                kBusyShare * 100, kBusyShare * 100);
    for (const double rate : {0.1 * most, kBusyShare * most, kBusyShare * closed}) at(rate);
  }
}

// Requests a second at saturation, and latencies at `rate`, or at 70 % of saturation for rate 0.
void small_model(const char* name, const MakeCaller& make, double seconds, double rate = 0) {
  const double most = closed_loop_rate(make, seconds);
  print(name, most, open_loop(make, rate > 0 ? rate : kBusyShare * most, seconds).latency, nullptr);
}

constexpr std::string_view kSmallJson =
    R"({"inputs":[{"name":"x","shape":[1,1],"datatype":"FP32","data":[0.5]}]})";

void run_ours(double seconds, double rate, std::string_view only) {
  Folder folder;
  const ServerProcess server(folder.path);  // Before there are threads, as the next one.
  const BareServer bare(kWideBytes);
  const Ports& ports = server.ports();
  const auto runtime = must(infer::Runtime::create());
  const auto repository =
      must(infer::ModelRepository::create(*runtime, {.folders = {folder.path}, .control = {}}));
  compare_protocols(*repository, ports, bare, seconds, rate, only);
  if (!only.empty()) return;
  std::printf("identity of one float: requests/s at saturation, latency at %.0f %% of it\n",
              kBusyShare * 100);
  const std::vector<float> one{0.5f};
  small_model("HTTP, JSON",
              http_caller(ports.http, "/v2/models/identity/infer", std::string(kSmallJson)),
              seconds);
  small_model("HTTP, binary", binary_caller(ports.http, "identity", one), seconds);
  small_model("gRPC", grpc_caller(ports.grpc, grpc_request("identity", one)), seconds);
}

std::uint16_t port_of(const char* text) {
  return static_cast<std::uint16_t>(std::strtoul(text, nullptr, 10));
}

int run(int argc, char** argv) {
  double seconds = 5, rate = 0;
  int at = 1;
  for (; at + 1 < argc && std::string_view(argv[at]).starts_with("--"); at += 2) {
    const std::string_view option = argv[at];
    if (option != "--seconds" && option != "--rate") die("see the head of bench/serve_load.cc");
    (option == "--rate" ? rate : seconds) = std::strtod(argv[at + 1], nullptr);
  }
  const std::vector<std::string_view> rest(argv + at, argv + argc);
  if (rest.empty()) {
    run_ours(seconds, rate, "");
  } else if (rest[0] == "only" && rest.size() == 2) {
    run_ours(seconds, rate, rest[1]);
  } else if (rest[0] == "http" && rest.size() == 4) {
    small_model("HTTP",
                http_caller(port_of(argv[at + 1]), argv[at + 2], argv[at + 3],
                            "Content-Type: application/json\r\n"),
                seconds, rate);
  } else if (rest[0] == "grpc" && rest.size() == 2) {
    const std::vector<float> one{0.5f};
    small_model("gRPC", grpc_caller(port_of(argv[at + 1]), grpc_request("identity", one)), seconds,
                rate);
  } else if (rest[0] == "model" && rest.size() == 2) {
    write(rest[1], identity());
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
