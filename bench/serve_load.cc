// What the protocols cost over the in-process call, and how many small requests a server takes:
//   serve_load [--seconds N] [only PROTOCOL]               our server, in a process of its own;
//                                                          PROTOCOL: http, grpc or shared
//   serve_load [--seconds N] [--rate R] http PORT PATH BODY    any server on this machine
//   serve_load [--seconds N] [--rate R] grpc PORT              the same, with ModelInfer of
//                                                          "identity"; R: requests a second
//   serve_load model FILE                                  writes that model
// Latencies are open-loop: requests are due at a fixed rate, and each is timed from the moment it
// was due, so that a server that stalls pays for everyone who waits (no coordinated omission).
#include <filesystem>
#include <memory>
#include <semaphore>
#include <thread>

#include <fcntl.h>
#include <sys/mman.h>
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

void compare_protocols(infer::ModelRepository& repository, const Ports& ports, double seconds,
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
                      {"shared", "system shared memory", shared_caller(ports.http)}};
  std::printf("602 KB input, %zu clients, latencies from when each request was due\n", kClients);
  for (const Row& row : rows) {
    if (!only.empty() && only != row.key) continue;
    const double most = saturation(row.make, seconds / 2);
    for (const double share : {0.1, kBusyShare}) {
      const double rate = share * most;
      const auto base = open_loop(direct, rate, seconds);
      const auto found = open_loop(row.make, rate, seconds);
      std::printf(" at %.0f %% of %.0f/s:\n", share * 100, most);
      print("in-process", rate, base, nullptr);
      print(row.name, rate, found, &base);
    }
  }
}

// Requests a second at saturation, and latencies at `rate`, or at 70 % of saturation for rate 0.
void small_model(const char* name, const MakeCaller& make, double seconds, double rate = 0) {
  const double most = saturation(make, seconds);
  print(name, most, open_loop(make, rate > 0 ? rate : kBusyShare * most, seconds), nullptr);
}

constexpr std::string_view kSmallJson =
    R"({"inputs":[{"name":"x","shape":[1,1],"datatype":"FP32","data":[0.5]}]})";

void run_ours(double seconds, std::string_view only) {
  Folder folder;
  const ServerProcess server(folder.path);  // Before there are threads.
  const Ports& ports = server.ports();
  const auto runtime = must(infer::Runtime::create());
  const auto repository =
      must(infer::ModelRepository::create(*runtime, {.folders = {folder.path}, .control = {}}));
  compare_protocols(*repository, ports, seconds, only);
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
    run_ours(seconds, "");
  } else if (rest[0] == "only" && rest.size() == 2) {
    run_ours(seconds, rest[1]);
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
