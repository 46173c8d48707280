// How long pruning takes, and what it gives.
//
//   prune_bench        a ResNet-20 at half its MACs, beside the whole one; and a model of 100 MB:
//                      pruned single weights and channels, from file to file, beside reading and
//                      writing the file alone
#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <string>

#include <unistd.h>

#include "base/check.h"
#include "base/file.h"
#include "base/random.h"
#include "bench/compare.h"
#include "compress/prune_channels.h"
#include "compress/prune_weights.h"
#include "graph/pass.h"
#include "graph/sort.h"
#include "graph/testing.h"
#include "infer/graph_runtime.h"
#include "infer/session.h"
#include "infer/shapes.h"

namespace selvage::bench {
namespace {

namespace fs = std::filesystem;
using graph::Model;
using graph::testing::ModelBuilder;
using Ints = std::vector<std::int64_t>;

constexpr int kRounds = 3;

class Network {
 public:
  std::string weight(const Shape& shape) {
    std::vector<float> values(static_cast<std::size_t>(*element_count(shape)));
    const double fan_in = static_cast<double>(values.size()) / static_cast<double>(shape[0]);
    for (auto& value : values) value = static_cast<float>(random_.normal() / std::sqrt(fan_in));
    const auto name = "w" + std::to_string(next_++);
    builder_.initialiser(name, shape, values);
    return name;
  }
  std::string node(const char* type, const std::vector<std::string>& inputs,
                   const std::vector<graph::testing::Attribute>& attributes = {}) {
    auto name = "v" + std::to_string(next_++);
    builder_.node(type, inputs, {name}, attributes);
    return name;
  }
  std::string conv(const std::string& x, std::int64_t in, std::int64_t out, std::int64_t kernel,
                   std::int64_t stride) {
    const auto pad = kernel / 2;
    return node("Conv", {x, weight({out, in, kernel, kernel}), weight({out})},
                {{"strides", Ints{stride, stride}}, {"pads", Ints{pad, pad, pad, pad}}});
  }
  ModelBuilder& builder() { return builder_; }

 private:
  ModelBuilder builder_;
  Random random_{1};
  int next_ = 0;
};

/// K. He et al. (2016) for CIFAR: three stages of three blocks of 16, 32 and 64 channels.
Model resnet20() {
  Network net;
  net.builder().input("x", DataType::kFloat32, {1, 3, 32, 32});
  auto x = net.node("Relu", {net.conv("x", 3, 16, 3, 1)});
  std::int64_t channels = 16;
  for (int block = 0; block < 9; ++block) {
    const std::int64_t out = 16 << (block / 3), stride = out != channels ? 2 : 1;
    const auto inner = net.node("Relu", {net.conv(x, channels, out, 3, stride)});
    const auto branch = net.conv(inner, out, out, 3, 1);
    const auto straight = stride == 2 ? net.conv(x, channels, out, 1, 2) : x;
    x = net.node("Relu", {net.node("Add", {branch, straight})});
    channels = out;
  }
  const auto flat = net.node("Flatten", {net.node("GlobalAveragePool", {x})});
  net.builder().node("Gemm", {flat, net.weight({64, 10}), net.weight({10})}, {"y"});
  net.builder().output("y", DataType::kFloat32, {1, 10});
  return net.builder().build();
}

/// 24 layers of 1024 x 1024, a residual around each pair: 100 MB.
Model large_model() {
  Network net;
  net.builder().input("x", DataType::kFloat32, {1, 1024});
  auto x = net.node("MatMul", {"x", net.weight({1024, 1024})});
  for (int pair = 0; pair < 11; ++pair) {
    const auto inner = net.node("Relu", {net.node("MatMul", {x, net.weight({1024, 1024})})});
    x = net.node("Add", {x, net.node("MatMul", {inner, net.weight({1024, 1024})})});
  }
  net.builder().node("MatMul", {x, net.weight({1024, 1024})}, {"y"});
  net.builder().output("y", DataType::kFloat32, {1, 1024});
  return net.builder().build();
}

template <typename T>
T take(Result<T> result) {
  if (result) return *std::move(result);
  std::fprintf(stderr, "%s\n", result.error().message.c_str());
  std::exit(1);
}
void take(Result<void> result) {
  if (result) return;
  std::fprintf(stderr, "%s\n", result.error().message.c_str());
  std::exit(1);
}

double megabytes_of(std::string_view field) {
  std::ifstream status("/proc/self/status");
  for (std::string line; std::getline(status, line);)
    if (line.starts_with(field)) return std::stod(line.substr(field.size() + 1)) / 1024;
  return 0;
}

void forget_peak() {
  std::ofstream("/proc/self/clear_refs") << "5";
}

struct Folder {
  fs::path path = fs::temp_directory_path() / ("prune_bench." + std::to_string(::getpid()));
  Folder() { fs::create_directories(path); }
  ~Folder() { fs::remove_all(path); }
};

void prune_file(const fs::path& from, const fs::path& to) {
  auto model = take(graph::load_checked(from));
  take(compress::prune_weights(model, {.amount = 0.5}));
  take(model.save(to));
}

void prune_file_globally(const fs::path& from, const fs::path& to) {
  auto model = take(graph::load_checked(from));
  take(compress::prune_weights(model, {.amount = 0.5, .is_global = true}));
  take(model.save(to));
}

void prune_file_structured(infer::Runtime& runtime, const fs::path& from, const fs::path& to) {
  auto model = take(graph::load_checked(from));
  take(graph::run_passes(model, graph::standard_passes(), {.check_each = false}));
  const auto channels =
      take(compress::Channels::analyse(model, take(infer::resolve_shapes(runtime, model))));
  const auto plan =
      take(compress::plan_removal(model, channels, {compress::PruneTargetKind::kMacs, 0.5}));
  take(channels.remove(model, plan.removal));
  take(model.save(to));
}

void large_file(infer::Runtime& runtime) {
  const Folder folder;
  const auto from = folder.path / "model.onnx", to = folder.path / "pruned.onnx";
  take(large_model().save(from));
  const auto megabytes = static_cast<double>(fs::file_size(from)) / (1 << 20);
  std::printf("a model of %.0f MB, from file to file, best of %d\n", megabytes, kRounds);
  const auto copy = [&] {
    const auto bytes = take(read_bytes(from, graph::kModelBytesMax));
    take(write_atomically(to, bytes));
  };
  const auto best = [](auto&& work) {
    double least = 1e18;
    for (int i = 0; i < kRounds; ++i) least = std::min(least, time_us(work));
    return least / 1e6;
  };
  const double baseline = best(copy);
  std::printf("  %-34s %6.2f s\n", "reading and writing the bytes", baseline);
  const auto report = [&](const char* what, auto&& work) {
    forget_peak();
    const double idle = megabytes_of("VmRSS");
    const double seconds = best(work);
    const double memory = megabytes_of("VmHWM") - idle;
    std::printf("  %-34s %6.2f s  %5.2fx   memory %4.0f MB, %.2fx the file\n", what, seconds,
                seconds / baseline, memory, memory / megabytes);
  };
  report("load, check, save", [&] { take(take(graph::load_checked(from)).save(to)); });
  report("l1, 50 %", [&] { prune_file(from, to); });
  report("l1, 50 %, all together", [&] { prune_file_globally(from, to); });
  report("structured, 50 % of the MACs", [&] { prune_file_structured(runtime, from, to); });
}

std::unique_ptr<infer::Session> session_of(infer::Runtime& runtime, const Model& model) {
  return take(infer::Session::load(runtime, take(model.serialise()), {.threads = 1}));
}

void half_of_resnet20(infer::Runtime& runtime) {
  auto model = resnet20();
  const auto whole = session_of(runtime, model);
  const auto shapes = take(infer::resolve_shapes(runtime, model));
  const auto channels = take(compress::Channels::analyse(model, shapes));
  std::printf("\nResNet-20 with random weights, one thread, batch 1\n");
  const auto before = take(infer::Binding::create(*whole));
  print_header("pruned", "whole");
  for (const bool is_global : {false, true}) {
    for (const std::int64_t round_to : {8, 16}) {
      const compress::ChannelOptions options{.is_global = is_global, .round_to = round_to};
      const auto plan = take(compress::plan_removal(
          model, channels, {compress::PruneTargetKind::kMacs, 0.5}, options));
      auto pruned = model.copy();
      take(channels.remove(pruned, plan.removal));
      const auto smaller = session_of(runtime, pruned);
      const auto after = take(infer::Binding::create(*smaller));
      auto pair = compare({}, [&] { take(after->run()); }, [&] { take(before->run()); });
      char what[80];
      std::snprintf(what, sizeof what, "%s, by %d: %.1f %% of MACs",
                    is_global ? "all together" : "each layer", static_cast<int>(round_to),
                    100 * plan.reached);
      print_pair(what, pair);
    }
  }
}

}  // namespace
}  // namespace selvage::bench

int main() {
  const auto runtime = selvage::infer::Runtime::create();
  SELVAGE_CHECK(runtime.has_value());
  selvage::bench::half_of_resnet20(**runtime);
  selvage::bench::large_file(**runtime);
  return 0;
}
