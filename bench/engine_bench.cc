// The engine against ONNX Runtime called bare, in one process and one run.
//   engine_bench MODEL.onnx... [--load SECONDS | --control]
// For each model, with 1 and 2 threads: Binding::run against OrtApi::Run with preallocated input
// and output in the runtime's default configuration (its own thread settings for the given number).
// --load: the tail (p99.9) while two busy threads compete for the cores, the engine's default
// session against the bare default session.
// --control: a second bare session in the engine's place: how far two of the same differ here.
#include <atomic>
#include <cstdlib>
#include <cstring>
#include <memory>
#include <optional>
#include <thread>

#include <onnxruntime_c_api.h>

#include "bench/compare.h"
#include "infer/cache.h"
#include "infer/session.h"

namespace selvage::bench {
namespace {

const OrtApi& api() {
  return *OrtGetApiBase()->GetApi(ORT_API_VERSION);
}

template <typename T>
T must(Result<T> result) {
  if (!result) {
    std::fprintf(stderr, "engine_bench: %s\n", result.error().message.c_str());
    std::exit(1);
  }
  if constexpr (!std::is_void_v<T>) return *std::move(result);
}

void must(OrtStatus* status) {
  if (status == nullptr) return;
  std::fprintf(stderr, "engine_bench: %s\n", api().GetErrorMessage(status));
  std::exit(1);
}

/// ONNX Runtime as its documentation calls it, with preallocated values of the binding's shapes.
class BareSession {
 public:
  /// threads 0 = the runtime's own default.
  BareSession(const char* path, int threads, const infer::Session& like, infer::Binding& binding) {
    must(api().CreateEnv(ORT_LOGGING_LEVEL_ERROR, "bare", &environment_));
    OrtSessionOptions* options = nullptr;
    must(api().CreateSessionOptions(&options));
    if (threads > 0) must(api().SetIntraOpNumThreads(options, threads));
    must(api().CreateSession(environment_, path, options, &session_));
    api().ReleaseSessionOptions(options);
    OrtMemoryInfo* memory = nullptr;
    must(api().CreateCpuMemoryInfo(OrtDeviceAllocator, OrtMemTypeDefault, &memory));
    const auto add = [&](std::vector<OrtValue*>& values, const TensorView& view) {
      buffers_.emplace_back(view.bytes.size() + 64);
      OrtValue* value = nullptr;
      must(api().CreateTensorWithDataAsOrtValue(
          memory, buffers_.back().data(), view.bytes.size(), view.shape.data(), view.shape.size(),
          static_cast<ONNXTensorElementDataType>(view.type), &value));
      values.push_back(value);
    };
    for (std::size_t i = 0; i < like.inputs().size(); ++i) {
      add(inputs_, {like.inputs()[i].type, binding.input_shape(i), binding.input_bytes(i), {}});
      input_names_.push_back(like.inputs()[i].name.c_str());
    }
    for (std::size_t i = 0; i < like.outputs().size(); ++i) {
      add(outputs_, binding.output(i));
      output_names_.push_back(like.outputs()[i].name.c_str());
    }
    api().ReleaseMemoryInfo(memory);
  }
  ~BareSession() {
    for (auto* value : inputs_) api().ReleaseValue(value);
    for (auto* value : outputs_) api().ReleaseValue(value);
    api().ReleaseSession(session_);
    api().ReleaseEnv(environment_);
  }
  BareSession(const BareSession&) = delete;
  BareSession& operator=(const BareSession&) = delete;

  void run() {
    must(api().Run(session_, nullptr, input_names_.data(), inputs_.data(), inputs_.size(),
                   output_names_.data(), output_names_.size(), outputs_.data()));
  }

 private:
  OrtEnv* environment_ = nullptr;
  OrtSession* session_ = nullptr;
  std::vector<std::vector<std::byte>> buffers_;
  std::vector<OrtValue*> inputs_, outputs_;
  std::vector<const char*> input_names_, output_names_;
};

struct Engine {
  std::unique_ptr<infer::Session> session;
  std::unique_ptr<infer::Binding> binding;
};

Engine make_engine(infer::Runtime& runtime, const char* path,
                   const infer::SessionOptions& options) {
  Engine engine;
  engine.session = must(infer::Session::load(runtime, std::filesystem::path(path), options));
  engine.binding = must(infer::Binding::create(*engine.session));
  must(engine.binding->run());
  return engine;
}

std::string short_name(const std::filesystem::path& path) {
  return path.stem() == "model" ? path.parent_path().filename().string() : path.stem().string();
}

void overhead(infer::Runtime& runtime, const char* path, bool control) {
  for (const int threads : {1, 2}) {
    // The bare runtime at its default on as many cores; the engine at its own default profile.
    const auto engine = make_engine(runtime, path, {.threads = threads});
    BareSession bare(path, threads, *engine.session, *engine.binding);
    std::optional<BareSession> second;
    if (control) second.emplace(path, threads, *engine.session, *engine.binding);
    const Plan plan{.rounds = 60, .calls = 50};
    const auto ours = [&] { second ? second->run() : must(engine.binding->run()); };
    auto pair = compare(plan, ours, [&] { bare.run(); });
    print_pair(
        short_name(path) + ", " + std::to_string(threads) + (threads == 1 ? " thread" : " threads"),
        pair);
  }
}

void tail_under_load(infer::Runtime& runtime, const char* path, int seconds) {
  const auto engine = make_engine(runtime, path, {.cache_folder = infer::default_cache_folder()});
  BareSession bare(path, 0, *engine.session, *engine.binding);
  std::atomic<bool> stop{false};
  std::vector<std::jthread> competitors;
  for (int i = 0; i < 2; ++i)
    competitors.emplace_back([&] {
      volatile double sink = 1;
      while (!stop.load(std::memory_order_relaxed)) sink = sink * 1.0000001 + 1e-9;
    });
  const Plan plan{.rounds = 2, .calls = 200};
  Pair pair;
  const auto end = Clock::now() + std::chrono::seconds(seconds);
  while (Clock::now() < end) {
    auto more = compare(plan, [&] { must(engine.binding->run()); }, [&] { bare.run(); });
    pair.a.us.insert(pair.a.us.end(), more.a.us.begin(), more.a.us.end());
    pair.b.us.insert(pair.b.us.end(), more.b.us.begin(), more.b.us.end());
  }
  stop.store(true);
  print_pair(short_name(path) + ", two busy threads beside it", pair, {0.5, 0.99, 0.999});
}

}  // namespace
}  // namespace selvage::bench

int main(int argc, char** argv) {
  namespace bench = selvage::bench;
  std::vector<const char*> models;
  int load_seconds = 0;
  bool control = false;
  for (int i = 1; i < argc; ++i) {
    if (std::strcmp(argv[i], "--load") == 0 && i + 1 < argc) {
      load_seconds = std::atoi(argv[++i]);
    } else if (std::strcmp(argv[i], "--control") == 0) {
      control = true;
    } else {
      models.push_back(argv[i]);
    }
  }
  if (models.empty()) {
    std::fprintf(stderr, "usage: engine_bench MODEL.onnx... [--load SECONDS | --control]\n");
    return 2;
  }
  const auto runtime = bench::must(selvage::infer::Runtime::create());
  std::setvbuf(stdout, nullptr, _IOLBF, 0);  // Rows are shown as they are measured.
  bench::print_header(control ? "bare" : "engine", "bare");
  for (const auto* model : models)
    load_seconds > 0 ? bench::tail_under_load(*runtime, model, load_seconds)
                     : bench::overhead(*runtime, model, control);
  return 0;
}
