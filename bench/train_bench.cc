// Steps of the networks that edge machines train: time per step (also of the processor alone, for
// machines that do other things), time to the first step, and what stays resident. Prints one line
// for each model and thread count; tools/peers/train.py prints the same for PyTorch on the same
// model file.
//
//   train_bench [--batch N] [--seconds S] [--threads T]... [--keep] [--profile PREFIX]
//   [--graph FILE] NAME|FILE.onnx...
//
// --graph writes the step as ONNX, to be looked at; --keep keeps activations that are otherwise
// computed anew.
#include <algorithm>
#include <chrono>
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <ctime>
#include <filesystem>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include <sys/resource.h>

#include "graph/model.h"
#include "learn/architecture.h"
#include "learn/training_session.h"
#include "monitor/process.h"

namespace {

using namespace selvage;
using Clock = std::chrono::steady_clock;

struct Arguments {
  std::int64_t batch = 64;
  double seconds = 3;
  std::vector<int> threads;
  std::string profile, graph;
  bool keep = false;
  std::vector<std::string> models;
};

/// The most that the process had resident, as the kernel counts it.
double peak_mb() {
  rusage use{};
  return ::getrusage(RUSAGE_SELF, &use) == 0 ? static_cast<double>(use.ru_maxrss) * 1024 / 1e6 : 0;
}

double ms_since(Clock::time_point start) {
  return std::chrono::duration<double, std::milli>(Clock::now() - start).count();
}

Result<graph::Model> load(const std::string& name) {
  if (name.ends_with(".onnx")) return graph::Model::load(name);
  learn::ArchitectureOptions options{.input = {1, 28, 28}};
  if (name == "cnn1d") options.input = {1, 256};
  if (name == "gru") options.input = {28, 28};
  return learn::make_architecture(name, options);
}

/// Numbers in [0, 1) for data, classes for targets: the same in every run.
Tensor fill(const learn::BatchInput& input, std::int64_t classes) {
  auto tensor = Tensor::create(input.type, input.shape).value();
  std::uint32_t state = 12345;
  const auto next = [&] { return (state = state * 1664525u + 1013904223u) >> 8; };
  if (input.type == DataType::kFloat32)
    for (auto& value : tensor.as<float>()) value = static_cast<float>(next()) * 0x1p-24f;
  if (input.type == DataType::kInt64)
    for (auto& value : tensor.as<std::int64_t>()) value = next() % classes;
  return tensor;
}

Result<void> measure(infer::Runtime& runtime, const std::string& name, int threads,
                     const Arguments& arguments) {
  const auto start = Clock::now();
  SELVAGE_TRY(const auto model, load(name));
  learn::TrainingGraphOptions options{.batch = arguments.batch, .recompute = !arguments.keep};
  options.optimizer = {.momentum = 0.9f};
  // An autoencoder gives back its input.
  const bool gives_back = name == "autoencoder";
  options.losses = {
      {.kind = gives_back ? learn::LossKind::kMeanSquared : learn::LossKind::kCrossEntropy,
       .output = "output"}};
  SELVAGE_TRY(auto graph, learn::build_training_graph(runtime, model, options));
  if (!arguments.graph.empty()) SELVAGE_RETURN_IF_ERROR(graph.model.save(arguments.graph));
  SELVAGE_TRY(const auto session, learn::TrainingSession::create(
                                      runtime, std::move(graph),
                                      {.threads = threads, .profile_prefix = arguments.profile}));
  std::vector<Tensor> batch;
  std::vector<TensorView> views;
  for (const auto& input : session->graph().batch) batch.push_back(fill(input, 10));
  for (const auto& tensor : batch) views.push_back(tensor.view());
  SELVAGE_TRY(float loss, session->step(views, 0.001f));
  const double first = ms_since(start);
  std::vector<double> times;
  const auto begin = Clock::now();
  const auto cpu_begin = std::clock();
  while (ms_since(begin) < arguments.seconds * 1000 || times.size() < 5) {
    const auto before = Clock::now();
    SELVAGE_TRY(loss, session->step(views, 0.001f));
    times.push_back(ms_since(before));
  }
  const double cpu = static_cast<double>(std::clock() - cpu_begin) * 1000 / CLOCKS_PER_SEC /
                     static_cast<double>(times.size());
  std::ranges::sort(times);
  const auto use = monitor::process_use();
  std::printf(
      "%-16s threads %d  step %8.3f ms (p10 %8.3f, p90 %8.3f, CPU %8.3f)  first step %6.0f ms  "
      "resident %4.0f MB, peak %4.0f MB  loss %.5f\n",
      std::filesystem::path(name).stem().c_str(), threads, times[times.size() / 2],
      times[times.size() / 10], times[times.size() * 9 / 10], cpu, first,
      static_cast<double>(use ? use->resident_bytes : 0) / 1e6, peak_mb(),
      static_cast<double>(loss));
  std::fflush(stdout);
  return {};
}

Arguments parse(int argc, char** argv) {
  Arguments arguments;
  for (int i = 1; i < argc; ++i) {
    const std::string_view word = argv[i];
    const auto next = [&] { return i + 1 < argc ? argv[++i] : "0"; };
    if (word == "--batch") {
      arguments.batch = std::atoll(next());
    } else if (word == "--seconds") {
      arguments.seconds = std::atof(next());
    } else if (word == "--threads") {
      arguments.threads.push_back(std::atoi(next()));
    } else if (word == "--keep") {
      arguments.keep = true;
    } else if (word == "--profile") {
      arguments.profile = next();
    } else if (word == "--graph") {
      arguments.graph = next();
    } else {
      arguments.models.emplace_back(word);
    }
  }
  if (arguments.threads.empty()) arguments.threads = {1, 2};
  if (arguments.models.empty()) arguments.models = {"mlp", "lenet5", "cnn1d", "resnet20"};
  return arguments;
}

}  // namespace

int main(int argc, char** argv) {
  const auto arguments = parse(argc, argv);
  const auto runtime = infer::Runtime::create();
  if (!runtime) return std::fprintf(stderr, "%s\n", runtime.error().message.c_str()), 1;
  for (const auto& model : arguments.models)
    for (const int threads : arguments.threads)
      if (const auto done = measure(**runtime, model, threads, arguments); !done)
        return std::fprintf(stderr, "%s: %s\n", model.c_str(), done.error().message.c_str()), 1;
  return 0;
}
