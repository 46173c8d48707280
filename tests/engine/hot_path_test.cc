// Counts every allocation of the process: a run through the engine may make as many as the same run
// straight through ONNX Runtime's C API, and not one more.
#include <atomic>
#include <cstdlib>
#include <new>

#include <gtest/gtest.h>
#include <onnxruntime_c_api.h>
#include <unistd.h>

#include "base/file.h"
#include "graph/testing.h"
#include "infer/model.h"
#include "infer/session.h"

extern "C" {
void* __libc_malloc(std::size_t size);
void* __libc_calloc(std::size_t count, std::size_t size);
void* __libc_realloc(void* p, std::size_t size);
void* __libc_memalign(std::size_t alignment, std::size_t size);
}

namespace {
std::atomic<std::uint64_t> g_allocations{0};
}

// Everything that allocates ends in one of these, operator new of every library included.
extern "C" {
void* malloc(std::size_t size) {
  g_allocations.fetch_add(1, std::memory_order_relaxed);
  return __libc_malloc(size);
}
void* calloc(std::size_t count, std::size_t size) {
  g_allocations.fetch_add(1, std::memory_order_relaxed);
  return __libc_calloc(count, size);
}
void* realloc(void* p, std::size_t size) {
  g_allocations.fetch_add(1, std::memory_order_relaxed);
  return __libc_realloc(p, size);
}
void* aligned_alloc(std::size_t alignment, std::size_t size) {
  g_allocations.fetch_add(1, std::memory_order_relaxed);
  return __libc_memalign(alignment, size);
}
int posix_memalign(void** out, std::size_t alignment, std::size_t size) {
  g_allocations.fetch_add(1, std::memory_order_relaxed);
  *out = __libc_memalign(alignment, size);
  return *out == nullptr ? 12 : 0;
}
}

namespace selvage::infer {
namespace {

constexpr int kRuns = 200;

template <typename Run>
std::uint64_t allocations_of(Run&& run) {
  for (int i = 0; i < 20; ++i) run();  // Caches and arenas fill.
  const auto before = g_allocations.load();
  for (int i = 0; i < kRuns; ++i) run();
  return g_allocations.load() - before;
}

/// ONNX Runtime as it is, with preallocated input and output.
class BareModel {
 public:
  explicit BareModel(std::span<const std::byte> model) {
    must(api_->CreateEnv(ORT_LOGGING_LEVEL_ERROR, "bare", &environment_));
    must(api_->CreateSessionOptions(&options_));
    must(api_->SetIntraOpNumThreads(options_, 1));
    must(api_->AddSessionConfigEntry(options_, "session.use_env_allocators", "1"));
    must(api_->CreateSessionFromArray(environment_, model.data(), model.size(), options_,
                                      &session_));
    must(api_->CreateCpuMemoryInfo(OrtDeviceAllocator, OrtMemTypeDefault, &memory_));
    must(api_->CreateTensorWithDataAsOrtValue(memory_, input_.data(), input_.size() * sizeof(float),
                                              kInputShape, 4, ONNX_TENSOR_ELEMENT_DATA_TYPE_FLOAT,
                                              &x_));
    must(api_->CreateTensorWithDataAsOrtValue(memory_, output_.data(),
                                              output_.size() * sizeof(float), kOutputShape, 4,
                                              ONNX_TENSOR_ELEMENT_DATA_TYPE_FLOAT, &y_));
    must(api_->CreateRunOptions(&run_options_));
  }
  ~BareModel() {
    api_->ReleaseRunOptions(run_options_);
    api_->ReleaseValue(y_);
    api_->ReleaseValue(x_);
    api_->ReleaseMemoryInfo(memory_);
    api_->ReleaseSession(session_);
    api_->ReleaseSessionOptions(options_);
    api_->ReleaseEnv(environment_);
  }
  BareModel(const BareModel&) = delete;
  BareModel& operator=(const BareModel&) = delete;

  void run() {
    const char* const inputs[] = {"x"};
    const char* const outputs[] = {"y"};
    const OrtValue* const values[] = {x_};
    ASSERT_EQ(api_->Run(session_, run_options_, inputs, values, 1, outputs, 1, &y_), nullptr);
  }

 private:
  static void must(OrtStatus* status) { ASSERT_EQ(status, nullptr); }

  static constexpr std::int64_t kInputShape[] = {1, 3, 8, 8};
  static constexpr std::int64_t kOutputShape[] = {1, 4, 8, 8};
  const OrtApi* api_ = OrtGetApiBase()->GetApi(ORT_API_VERSION);
  OrtEnv* environment_ = nullptr;
  OrtSessionOptions* options_ = nullptr;
  OrtSession* session_ = nullptr;
  OrtMemoryInfo* memory_ = nullptr;
  OrtRunOptions* run_options_ = nullptr;
  OrtValue *x_ = nullptr, *y_ = nullptr;
  std::vector<float> input_ = std::vector<float>(192, 1.0f);
  std::vector<float> output_ = std::vector<float>(256);
};

TEST(HotPath, AllocatesNothingOfOurs) {
  const auto runtime = Runtime::create();
  ASSERT_TRUE(runtime);
  const auto model = graph::testing::conv_model().bytes();
  const auto session = Session::load(**runtime, model, {.threads = 1});
  ASSERT_TRUE(session) << session.error().message;
  const auto binding = Binding::create(**session);
  ASSERT_TRUE(binding);
  BareModel bare(model);

  const auto bare_count = allocations_of([&] { bare.run(); });
  const auto our_count = allocations_of([&] { ASSERT_TRUE((*binding)->run()); });
  EXPECT_LE(our_count, bare_count);

  // The counter counts: the convenient call, which allocates its outputs, shows in it.
  const Value input = Tensor::create(DataType::kFloat32, {1, 3, 8, 8}).value();
  EXPECT_GT(allocations_of([&] { ASSERT_TRUE((*session)->run({&input, 1})); }), our_count + kRuns);
}

/// A model and its card in a folder of their own, loaded.
Result<std::unique_ptr<Model>> load_with_card(Runtime& runtime, std::span<const std::byte> model,
                                              std::string_view card) {
  const auto folder =
      std::filesystem::temp_directory_path() / ("selvage-hot-path-" + std::to_string(::getpid()));
  std::filesystem::create_directories(folder);
  SELVAGE_RETURN_IF_ERROR(write_atomically(folder / "model.onnx", model));
  SELVAGE_RETURN_IF_ERROR(write_atomically(folder / "model.yaml", card));
  auto loaded = Model::load(runtime, folder, {.session = {.threads = 1}});
  std::filesystem::remove_all(folder);
  return loaded;
}

TEST(HotPath, APictureCostsNoAllocationButItsAnswer) {
  const auto runtime = Runtime::create();
  ASSERT_TRUE(runtime);
  const auto bytes = graph::testing::conv_model().bytes();
  const auto model =
      load_with_card(**runtime, bytes, "input: {kind: image}\noutput: {kind: embedding}\n");
  ASSERT_TRUE(model) << model.error().message;
  const auto predictor = Predictor::create(**model);
  ASSERT_TRUE(predictor) << predictor.error().message;
  BareModel bare(bytes);
  const media::Picture picture(64, 48);

  const auto bare_count = allocations_of([&] { bare.run(); });
  const auto our_count =
      allocations_of([&] { ASSERT_TRUE((*predictor)->predict(picture.view())); });
  EXPECT_LE(our_count, bare_count + kRuns) << "the embedding is one allocation";
}

TEST(HotPath, AStreamCostsNoAllocation) {
  const auto runtime = Runtime::create();
  ASSERT_TRUE(runtime);
  const auto bytes = graph::testing::conv_model().bytes();
  const auto model =
      load_with_card(**runtime, bytes,
                     "input: {kind: audio, window: 160, context: 32}\noutput: {kind: activity}\n");
  ASSERT_TRUE(model) << model.error().message;
  const auto predictor = Predictor::create(**model);
  ASSERT_TRUE(predictor) << predictor.error().message;
  BareModel bare(bytes);
  const std::vector<float> samples(160);

  const auto bare_count = allocations_of([&] { bare.run(); });
  EXPECT_LE(allocations_of([&] { ASSERT_TRUE((*predictor)->push(samples)); }), bare_count);
}

TEST(HotPath, CopiesNothingOfOurs) {
  const auto runtime = Runtime::create();
  ASSERT_TRUE(runtime);
  const auto session = Session::load(**runtime, graph::testing::conv_model().bytes());
  ASSERT_TRUE(session);
  const auto binding = Binding::create(**session);
  ASSERT_TRUE(binding);
  // What the caller fills is what the runtime reads, and what it writes is what the caller reads.
  const auto* input = (*binding)->input_bytes(0).data();
  const auto* output = (*binding)->output(0).bytes.data();
  for (int i = 0; i < 3; ++i) {
    ASSERT_TRUE((*binding)->run());
    EXPECT_EQ((*binding)->input_bytes(0).data(), input);
    EXPECT_EQ((*binding)->output(0).bytes.data(), output);
  }
  EXPECT_EQ(reinterpret_cast<std::uintptr_t>(input) % 64, 0u);
}

}  // namespace
}  // namespace selvage::infer
