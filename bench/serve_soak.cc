// Whether the server stays what it is while its models and its clients change:
//   serve_soak swaps [N]          N hot swaps (200) under load on both protocols
//   serve_soak churn [N] [IDLE] [ACTIVE]
//                                 N connections (100,000) opened and closed by ACTIVE (200) at a
//                                 time, beside IDLE (2,000) that stay and say nothing
// The server runs in a process of its own. Fails (1) on any failed or mixed answer, or on growth.
#include <cstring>
#include <deque>

#include <sys/resource.h>

#include "bench/load.h"
#include "bench/server_process.h"
#include "graph/testing.h"

namespace selvage::bench {
namespace {

namespace fs = std::filesystem;

constexpr std::int64_t kWidth = 1'024;
constexpr double kSwapRate = 400;  // Requests a second of each protocol.
constexpr std::uint64_t kGrowthMax = 2u << 20;

// y = x * version, so that an answer shows which model made it.
struct Folder {
  fs::path path = fs::temp_directory_path() / ("selvage_serve_soak_" + std::to_string(::getpid()));
  Folder() { add(1); }
  ~Folder() {
    std::error_code ignored;
    fs::remove_all(path, ignored);
  }
  Folder(const Folder&) = delete;
  Folder& operator=(const Folder&) = delete;

  void add(int version) const {
    const float factor = static_cast<float>(version);
    const auto model = graph::testing::ModelBuilder()
                           .input("x", DataType::kFloat32, {-1, kWidth})
                           .initialiser("factor", {1}, std::span(&factor, 1))
                           .node("Mul", {"x", "factor"}, {"y"})
                           .output("y", DataType::kFloat32, {-1, kWidth})
                           .bytes();
    write(path / "scale" / std::to_string(version) / "model.onnx", model);
  }
  void remove(int version) const { fs::remove_all(path / "scale" / std::to_string(version)); }
};

// --- Hot swaps ----------------------------------------------------------------------------------

void check_values(std::string_view version, std::string_view values) {
  const auto factor = std::strtof(std::string(version).c_str(), nullptr);
  if (values.size() != kWidth * sizeof(float)) die("an answer of the wrong size");
  for (std::size_t i = 0; i < values.size(); i += sizeof(float)) {
    float value = 0;
    std::memcpy(&value, values.data() + i, sizeof(value));
    if (value != 0.5f * factor)
      die("mixed answer: version " + std::string(version) + " says " + std::to_string(value));
  }
}

void check_http(std::string_view body) {
  constexpr std::string_view kKey = R"("model_version":")";
  const auto at = body.find(kKey);
  const auto values = kWidth * sizeof(float);
  if (at == std::string_view::npos || body.size() < values) die("not an answer of the model");
  const auto version = body.substr(at + kKey.size());
  check_values(version.substr(0, version.find('"')), body.substr(body.size() - values));
}

void check_grpc(grpc::ByteBuffer& message) {
  grpc::Slice slice;
  inference::ModelInferResponse response;
  if (!message.DumpToSingleSlice(&slice).ok() ||
      !response.ParseFromArray(slice.begin(), static_cast<int>(slice.size())) ||
      response.raw_output_contents_size() != 1)
    die("not an answer of the model");
  check_values(response.model_version(), response.raw_output_contents(0));
}

void swap(const Folder& folder, HttpConnection& connection, int version) {
  static const std::string kLoad = http_head("POST", "/v2/repository/models/scale/load", 0,
                                             "Content-Type: application/json\r\n");
  folder.add(version);
  connection.call(kLoad, "");
  folder.remove(version - 1);
}

int swaps(int count) {
  const Folder folder;
  const ServerProcess server(folder.path);
  const std::vector<float> values(kWidth, 0.5f);
  const struct {
    const char* name;
    MakeCaller make;
  } protocols[] = {
      {"HTTP", binary_caller(server.ports().http, "scale", values, check_http)},
      {"gRPC", grpc_caller(server.ports().grpc, grpc_request("scale", values), check_grpc)}};
  std::atomic<bool> swapped{false};
  std::jthread swapper;
  int version = 1;
  for (const auto& [name, make] : protocols) {
    const auto steady = open_loop(make, kSwapRate, 3).latency;
    swapped = false;
    const auto begin = Clock::now();
    swapper = std::jthread([&] {
      HttpConnection connection(server.ports().http);
      for (int i = 0; i < count; ++i) swap(folder, connection, ++version);
      swapped = true;
    });
    HistogramSnapshot during = open_loop(make, kSwapRate, 1).latency;
    while (!swapped) during.merge(open_loop(make, kSwapRate, 1).latency);
    swapper.join();
    const std::chrono::duration<double> took = Clock::now() - begin;
    std::printf("%s: %d swaps in %.1f s, 0 failed, 0 mixed\n", name, count, took.count());
    print("steady", kSwapRate, steady, nullptr);
    print("while models change", kSwapRate, during, nullptr);
    std::printf("  p99 while models change, over steady: %+.0f us\n",
                us(during.percentile_ns(.99)) - us(steady.percentile_ns(.99)));
  }
  return 0;
}

// --- Churn
// ----------------------------------------------------------------------------------------

constexpr std::size_t kThreads = 4;
constexpr int kReports = 10;
constexpr std::size_t kFilled = 3;  // Reports until pools and caches are as full as they get.

// Connections that ask a few times each, one after the other, until `total` have been made.
void churn_http(std::uint16_t port, std::size_t active, std::atomic<std::int64_t>& left) {
  const std::vector<float> values(kWidth, 0.5f);
  const MakeCaller make = binary_caller(port, "scale", values, check_http);
  std::deque<Caller> open;
  while (left.fetch_sub(1) > 0) {
    open.push_back(make());
    open.back()();
    open[open.size() / 2]();
    if (open.size() > active) open.pop_front();
  }
}

void churn_grpc(std::uint16_t port, std::atomic<std::int64_t>& left) {
  const std::vector<float> values(kWidth, 0.5f);
  const MakeCaller make = grpc_caller(port, grpc_request("scale", values), check_grpc);
  while (left.fetch_sub(1) > 0) make()();
}

int churn(std::int64_t total, std::size_t idle, std::size_t active) {
  rlimit limit = {};
  ::getrlimit(RLIMIT_NOFILE, &limit);
  limit.rlim_cur = limit.rlim_max;
  ::setrlimit(RLIMIT_NOFILE, &limit);
  const Folder folder;
  const ServerProcess server(folder.path);
  std::deque<HttpConnection> resting;
  std::vector<std::uint64_t> resident;
  std::printf("%zu idle and %zu active connections\n", idle, active);
  for (int i = 0; i < kReports; ++i) {
    // The server closes what has been idle for long: those come again, too.
    resting.clear();
    while (resting.size() < idle) resting.emplace_back(server.ports().http);
    std::atomic<std::int64_t> left{total / kReports};
    {
      std::vector<std::jthread> clients;
      for (std::size_t c = 0; c < kThreads; ++c)
        clients.emplace_back([&, c] {
          if (c == 0)
            churn_grpc(server.ports().grpc, left);
          else
            churn_http(server.ports().http, active / (kThreads - 1), left);
        });
    }
    resident.push_back(server.resident_bytes());
    std::printf("  after %7lld connections: %6.1f MB resident\n",
                static_cast<long long>(total / kReports * (i + 1)),
                static_cast<double>(resident.back()) / 1e6);
    std::fflush(stdout);
  }
  const auto from = resident[kFilled], to = resident.back();
  if (to <= from + kGrowthMax) return 0;
  std::printf("the server grows: %.1f MB more\n", static_cast<double>(to - from) / 1e6);
  return 1;
}

int run(int argc, char** argv) {
  const auto number = [&](int at, std::int64_t otherwise) {
    const auto given = argc > at ? std::strtoll(argv[at], nullptr, 10) : otherwise;
    if (given <= 0) die("see the head of bench/serve_soak.cc");
    return given;
  };
  const std::string_view mode = argc > 1 ? argv[1] : "";
  if (mode == "swaps") return swaps(static_cast<int>(number(2, 200)));
  if (mode == "churn")
    return churn(number(2, 100'000), static_cast<std::size_t>(number(3, 2'000)),
                 static_cast<std::size_t>(number(4, 200)));
  die("see the head of bench/serve_soak.cc");
}

}  // namespace
}  // namespace selvage::bench

int main(int argc, char** argv) {
  return selvage::bench::run(argc, argv);
}
