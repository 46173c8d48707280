#include "infer/repository.h"

#include <atomic>
#include <condition_variable>
#include <fstream>
#include <future>
#include <thread>

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include "base/file.h"
#include "graph/testing.h"
#include "media/picture.h"

namespace selvage::infer {
namespace {

namespace fs = std::filesystem;
using graph::testing::ModelBuilder;
using std::chrono::milliseconds;
using testing::Each;
using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;
using testing::SizeIs;

Runtime& runtime() {
  static const auto instance = Runtime::create();
  return **instance;
}

/// y = x + c, [-1, 1].
std::vector<std::byte> plus(float c) {
  return ModelBuilder()
      .input("x", DataType::kFloat32, {-1, 1})
      .initialiser("c", {1}, std::span<const float>(&c, 1))
      .node("Add", {"x", "c"}, {"y"})
      .output("y", DataType::kFloat32, {-1, 1})
      .bytes();
}

/// A running sum per sequence: y = s_out = x + s_in.
std::vector<std::byte> accumulator() {
  return ModelBuilder()
      .input("x", DataType::kFloat32, {-1, 1})
      .input("s_in", DataType::kFloat32, {-1, 1})
      .input("start", DataType::kFloat32, {-1, 1})
      .node("Add", {"x", "s_in"}, {"sum"})
      .node("Identity", {"sum"}, {"s_out"})
      .node("Add", {"sum", "start"}, {"y"})
      .output("y", DataType::kFloat32, {-1, 1})
      .output("s_out", DataType::kFloat32, {-1, 1})
      .bytes();
}

/// Sums over the batch: not independent by rows.
std::vector<std::byte> crosses_rows() {
  const std::int64_t axes[] = {0};
  return ModelBuilder()
      .input("x", DataType::kFloat32, {-1, 1})
      .initialiser("axes", {1}, axes)
      .node("ReduceSum", {"x", "axes"}, {"sum"}, {{"keepdims", std::int64_t{1}}})
      .node("Add", {"x", "sum"}, {"y"})
      .output("y", DataType::kFloat32, {-1, 1})
      .bytes();
}

void write(const fs::path& path, std::span<const std::byte> content) {
  fs::create_directories(path.parent_path());
  std::ofstream(path, std::ios::binary)
      .write(reinterpret_cast<const char*>(content.data()),
             static_cast<std::streamsize>(content.size()));
}
void write(const fs::path& path, std::string_view text) {
  write(path, std::as_bytes(std::span(text)));
}

class RepositoryTest : public testing::Test {
 protected:
  RepositoryTest() {
    fs::remove_all(folder_);
    fs::create_directories(folder_);
  }
  ~RepositoryTest() override {
    repository_.reset();
    fs::remove_all(folder_);
  }
  void open(RepositoryOptions options = {}) {
    repository_.reset();
    if (options.folders.empty()) options.folders = {folder_};
    if (options.workers == 0) options.workers = 2;
    auto created = ModelRepository::create(runtime(), std::move(options));
    ASSERT_TRUE(created) << created.error().message;
    repository_ = *std::move(created);
  }

  using Change = std::function<void(InferenceRequest&)>;
  struct Rows {
    std::vector<float> values;
    Shape shape;
  };
  static InferenceRequest request_of(std::string model, std::vector<float> values,
                                     const Change& change = {}) {
    auto rows = std::make_shared<Rows>();
    rows->values = std::move(values);
    rows->shape = {static_cast<std::int64_t>(rows->values.size()), 1};
    InferenceRequest request{.model = std::move(model), .keepalive = rows};
    request.inputs = {{"x",
                       {DataType::kFloat32,
                        rows->shape,
                        std::as_bytes(std::span(std::as_const(rows->values))),
                        {}}}};
    if (change) change(request);
    return request;
  }
  Result<InferenceResponse> ask(InferenceRequest request) {
    std::promise<Result<InferenceResponse>> promise;
    auto future = promise.get_future();
    repository_->submit(std::move(request), [&promise](Result<InferenceResponse> response) {
      promise.set_value(std::move(response));
    });
    return future.get();
  }
  /// The first output's values, or the error's message.
  std::string answer(const std::string& model, std::vector<float> values,
                     const Change& change = {}) {
    const auto response = ask(request_of(model, std::move(values), change));
    if (!response) return response.error().message;
    std::string text;
    for (const float value : response->outputs.at(0).tensor.as<float>())
      text += (text.empty() ? "" : " ") + std::to_string(std::lround(value));
    return text;
  }
  /// When what is being unloaded is gone: a worker may hold on to it for a moment.
  std::vector<std::string> states() {
    const auto leaving = [](const IndexEntry& entry) {
      return entry.state == ModelState::kUnloading;
    };
    for (int i = 0; i < 1'000 && std::ranges::any_of(repository_->index(), leaving); ++i)
      std::this_thread::sleep_for(milliseconds(5));
    std::vector<std::string> states;
    for (const auto& entry : repository_->index())
      states.push_back(entry.name + ":" + entry.version + ":" +
                       std::string(to_string(entry.state)));
    return states;
  }
  std::string reason(const std::string& name) {
    std::string reasons;
    for (const auto& entry : repository_->index())
      if (entry.name == name) reasons += entry.reason;
    return reasons;
  }

  const fs::path folder_ =
      fs::temp_directory_path() / ("selvage-repository-test-" + std::to_string(::getpid()));
  std::unique_ptr<ModelRepository> repository_;
};

TEST_F(RepositoryTest, ServesWhatLiesInTheFolder) {
  write(folder_ / "versioned/1/model.onnx", plus(1));
  write(folder_ / "versioned/3/model.onnx", plus(3));
  write(folder_ / "versioned/notes/readme.txt", "not a version");
  write(folder_ / "bare/model.onnx", plus(7));
  write(folder_ / ".hidden/model.onnx", plus(7));
  open();
  EXPECT_TRUE(repository_->ready());
  EXPECT_THAT(states(), ElementsAre("bare:1:READY", "versioned:3:READY"));
  EXPECT_EQ(answer("versioned", {1, 2}), "4 5");
  EXPECT_EQ(answer("bare", {1}), "8");
  const auto response = ask(request_of("versioned", {1}, [](auto& r) { r.id = "seven"; }));
  ASSERT_TRUE(response);
  EXPECT_EQ(response->version, "3");
  EXPECT_EQ(response->id, "seven");
  EXPECT_THAT(response->outputs[0].tensor.shape, ElementsAre(1, 1));
  const auto metadata = repository_->metadata("versioned");
  EXPECT_THAT(metadata->versions, ElementsAre("3"));
  EXPECT_EQ(metadata->platform, "onnxruntime_onnx");
  EXPECT_THAT(metadata->inputs[0].shape, ElementsAre(-1, 1));
}

TEST_F(RepositoryTest, RefusesRequestsThatDoNotFit) {
  write(folder_ / "m/1/model.onnx", plus(1));
  open();
  struct Case {
    const char* name;
    Change change;
    ErrorCode code;
    const char* message;
  };
  static constexpr std::int64_t kWide[] = {1, 2}, kNegative[] = {-1, 1}, kHuge[] = {1 << 30, 1},
                                kRank[] = {1}, kNone[] = {0, 1};
  const auto shaped = [](std::span<const std::int64_t> shape) {
    return [shape](InferenceRequest& r) { r.inputs[0].tensor.shape = shape; };
  };
  const Case cases[] = {
      {"model", [](auto& r) { r.model = "n"; }, ErrorCode::kNotFound, "'n'"},
      {"path", [](auto& r) { r.model = "../m"; }, ErrorCode::kNotFound, "'../m'"},
      {"version", [](auto& r) { r.version = "2"; }, ErrorCode::kNotFound, "'2'"},
      {"version text", [](auto& r) { r.version = "01"; }, ErrorCode::kNotFound, "'01'"},
      {"input name", [](auto& r) { r.inputs[0].name = "z"; }, ErrorCode::kInvalidArgument,
       "'x' is missing"},
      {"no input", [](auto& r) { r.inputs.clear(); }, ErrorCode::kInvalidArgument,
       "'x' is missing"},
      {"twice", [](auto& r) { r.inputs.push_back(r.inputs[0]); }, ErrorCode::kInvalidArgument,
       "no further input 'x'"},
      {"type", [](auto& r) { r.inputs[0].tensor.type = DataType::kInt32; },
       ErrorCode::kInvalidArgument, "not int32"},
      {"dimension", shaped(kWide), ErrorCode::kInvalidArgument, "not float32 [1,2]"},
      {"negative", shaped(kNegative), ErrorCode::kInvalidArgument, "'x'"},
      {"rank", shaped(kRank), ErrorCode::kInvalidArgument, "'x'"},
      {"bytes", shaped(kHuge), ErrorCode::kInvalidArgument, "does not hold 4 bytes"},
      {"empty batch",
       [](auto& r) {
         r.inputs[0].tensor.shape = kNone;
         r.inputs[0].tensor.bytes = {};
       },
       ErrorCode::kInvalidArgument, "a batch of 0"},
      {"output", [](auto& r) { r.outputs = {{"z"}}; }, ErrorCode::kInvalidArgument, "'z'"},
      {"output twice", [](auto& r) { r.outputs = {{"y"}, {"y"}}; }, ErrorCode::kInvalidArgument,
       "twice"},
  };
  for (const auto& [name, change, code, message] : cases) {
    const auto response = ask(request_of("m", {1}, change));
    ASSERT_FALSE(response) << name;
    EXPECT_EQ(response.error().code, code) << name;
    EXPECT_THAT(response.error().message, HasSubstr(message)) << name;
  }
  EXPECT_EQ(answer("m", {1}), "2");
}

TEST_F(RepositoryTest, WritesOutputsWhereTheClientWantsThem) {
  write(folder_ / "m/1/model.onnx", plus(1));
  open();
  std::array<float, 4> memory{};
  const auto into = [&](std::size_t floats) {
    return [&memory, floats](InferenceRequest& r) {
      r.outputs = {{"y", std::as_writable_bytes(std::span(memory)).first(floats * sizeof(float))}};
    };
  };
  const auto response = ask(request_of("m", {1, 2}, into(4)));
  ASSERT_TRUE(response) << response.error().message;
  EXPECT_THAT(memory, ElementsAre(2, 3, 0, 0));
  EXPECT_EQ(static_cast<const void*>(response->outputs[0].tensor.bytes.data()), memory.data());
  EXPECT_THAT(answer("m", {1, 2}, into(1)), HasSubstr("'y' takes 8 bytes; its memory has 4"));
  // The next request without a target does not write there any more.
  EXPECT_EQ(answer("m", {5, 6}), "6 7");
  EXPECT_THAT(memory, ElementsAre(2, 3, 0, 0));
}

TEST_F(RepositoryTest, BatchesWhatWaitsAndGivesEveryRequestItsRows) {
  write(folder_ / "m/1/model.onnx", plus(1));
  write(folder_ / "m/config.pbtxt",
        "max_batch_size: 16 dynamic_batching { max_queue_delay_microseconds: 20000 } "
        "instance_group { count: 1 }");
  open();
  constexpr int kRequests = 30;
  std::atomic<int> wrong{0}, answered{0};
  for (int i = 0; i < kRequests; ++i) {
    std::vector<float> values(static_cast<std::size_t>(i % 3 + 1), static_cast<float>(i));
    repository_->submit(request_of("m", values), [&, i](Result<InferenceResponse> response) {
      const bool right = response && response->outputs[0].tensor.shape[0] == i % 3 + 1 &&
                         std::ranges::all_of(response->outputs[0].tensor.as<float>(), [&](float y) {
                           return y == static_cast<float>(i + 1);
                         });
      wrong += !right;
      ++answered;
    });
  }
  EXPECT_TRUE(repository_->drain(std::chrono::seconds(20)));
  EXPECT_EQ(answered, kRequests);
  EXPECT_EQ(wrong, 0);
  const auto statistics = repository_->statistics("m")->at(0);
  EXPECT_EQ(statistics.inference_count, 60u);
  EXPECT_EQ(statistics.success.count, 30u);
  EXPECT_EQ(statistics.queue.count, 30u);
  EXPECT_EQ(statistics.compute_infer.count, 30u);
  EXPECT_LT(statistics.execution_count, 15u);
  std::uint64_t executions = 0, rows = 0;
  for (const auto& batch : statistics.batch_stats) {
    executions += batch.compute_infer.count;
    rows += batch.compute_infer.count * batch.batch_size;
  }
  EXPECT_EQ(executions, statistics.execution_count);
  EXPECT_EQ(rows, 60u);
  EXPECT_EQ(statistics.total_times.count, 30u);
  EXPECT_GT(statistics.last_inference_ms, 0u);
}

TEST_F(RepositoryTest, ARequestThatFailsDoesNotFailItsBatch) {
  // Picks a row of a table of 3: other indexes fail in the runtime.
  const float table[] = {10, 20, 30};
  auto model = ModelBuilder();
  model.input("x", DataType::kInt64, {-1})
      .initialiser("table", {3}, table)
      .node("Gather", {"table", "x"}, {"y"})
      .output("y", DataType::kFloat32, {-1});
  write(folder_ / "m/1/model.onnx", model.bytes());
  write(folder_ / "m/config.pbtxt",
        "max_batch_size: 16 dynamic_batching { max_queue_delay_microseconds: 20000 } "
        "instance_group { count: 1 }");
  open();
  static constexpr std::int64_t kIndexes[] = {0, 1, 99, 2};
  static constexpr std::int64_t kShape[] = {1};
  std::array<std::string, 4> answers;
  for (std::size_t i = 0; i < 4; ++i) {
    InferenceRequest request{.model = "m"};
    request.inputs = {
        {"x", {DataType::kInt64, kShape, std::as_bytes(std::span(kIndexes).subspan(i, 1)), {}}}};
    repository_->submit(std::move(request), [&answers, i](Result<InferenceResponse> response) {
      answers[i] = response
                       ? std::to_string(std::lround(response->outputs[0].tensor.as<float>()[0]))
                       : "failed";
    });
  }
  EXPECT_TRUE(repository_->drain(std::chrono::seconds(20)));
  EXPECT_THAT(answers, ElementsAre("10", "20", "failed", "30"));
}

TEST_F(RepositoryTest, WithoutAConfigurationBatchesOnlyWhatIsIndependent) {
  write(folder_ / "crosses/1/model.onnx", crosses_rows());
  open();
  EXPECT_EQ(answer("crosses", {1, 2}), "4 5");
  EXPECT_THAT(answer("crosses", std::vector<float>(5'000)), HasSubstr("say max_batch_size: 0"));
  std::atomic<int> wrong{0};
  for (int i = 0; i < 100; ++i)
    repository_->submit(request_of("crosses", {3}), [&](Result<InferenceResponse> response) {
      wrong += !response || response->outputs[0].tensor.as<float>()[0] != 6;
    });
  EXPECT_TRUE(repository_->drain(std::chrono::seconds(20)));
  EXPECT_EQ(wrong, 0);
  EXPECT_THAT(repository_->statistics("crosses")->at(0).batch_stats, SizeIs(2))
      << "batches of 2 and 1, as the requests were";
}

TEST_F(RepositoryTest, VersionPolicies) {
  for (int version = 1; version <= 4; ++version)
    write(folder_ / "m" / std::to_string(version) / "model.onnx",
          plus(static_cast<float>(version)));
  const auto with = [&](const char* policy) {
    write(folder_ / "m/config.pbtxt", policy);
    open();
    return states();
  };
  EXPECT_THAT(with(""), ElementsAre("m:4:READY"));
  EXPECT_THAT(with("version_policy { latest { num_versions: 2 } }"),
              ElementsAre("m:3:READY", "m:4:READY"));
  EXPECT_THAT(with("version_policy { all { } }"), SizeIs(4));
  EXPECT_THAT(with("version_policy { specific { versions: [1, 3] } }"),
              ElementsAre("m:1:READY", "m:3:READY"));
  EXPECT_EQ(answer("m", {0}), "3");
  EXPECT_EQ(answer("m", {0}, [](auto& r) { r.version = "1"; }), "1");
  EXPECT_THAT(repository_->metadata("m", "1")->versions, ElementsAre("1", "3"));
  EXPECT_THAT(with("version_policy { specific { versions: [9] } }"), ElementsAre("m::UNAVAILABLE"));
  EXPECT_THAT(reason("m"), HasSubstr("no version 9"));
}

TEST_F(RepositoryTest, TheConfigurationMustAgreeWithTheModel) {
  write(folder_ / "m/1/model.onnx", plus(1));
  const auto fixed = ModelBuilder()
                         .input("x", DataType::kFloat32, {2, 3})
                         .node("Identity", {"x"}, {"y"})
                         .output("y", DataType::kFloat32, {2, 3})
                         .bytes();
  write(folder_ / "fixed/1/model.onnx", fixed);
  struct Case {
    const char* model;
    const char* config;
    const char* reason;
  };
  const Case cases[] = {
      {"m", "max_batch: 1", "max_batch: is not a field"},
      {"m", "name: \"other\"", "name is 'other'"},
      {"m", "max_batch_size: 4 input { name: \"z\" data_type: TYPE_FP32 dims: 1 }",
       "no input 'z'; it has 'x'"},
      {"m", "max_batch_size: 4 input { name: \"x\" data_type: TYPE_INT32 dims: 1 }",
       "TYPE_INT32 in the configuration and float32 in the model"},
      {"m", "max_batch_size: 4 input { name: \"x\" data_type: TYPE_FP32 dims: 2 }",
       "[2] in the configuration (without the batch dimension) and [?,1] in the model"},
      {"m", "max_batch_size: 4 output { name: \"w\" data_type: TYPE_FP32 dims: 1 }",
       "no output 'w'"},
      {"m", "default_model_filename: \"absent.onnx\"", "absent.onnx"},
      {"m", "parameters { key: \"execution_mode\" value { string_value: \"1\" } }",
       "parameters.execution_mode"},
      {"m", "output { name: \"y\" data_type: TYPE_FP32 dims: [-1, 1] label_filename: \"../l\" }",
       "label_filename of 'y'"},
      {"m", "max_batch_size: 4 model_warmup { name: \"w\" inputs { } }", "input"},
      {"m",
       "max_batch_size: 4 model_warmup { name: \"w\" batch_size: 8 inputs { key: \"x\" value { "
       "data_type: TYPE_FP32 dims: 1 zero_data: true } } }",
       "model_warmup 'w': input 'x' has a batch of 8"},
      {"fixed", "max_batch_size: 4", "its first dimension must be open"},
  };
  for (const auto& [model, config, why] : cases) {
    write(folder_ / model / "config.pbtxt", config);
    open({.control = LoadExplicitly{{model}}});
    EXPECT_FALSE(repository_->ready(model)) << config;
    EXPECT_THAT(reason(model), HasSubstr(why)) << config;
    const auto response = ask(request_of(model, {1}));
    EXPECT_EQ(response.error().code, ErrorCode::kUnavailable);
  }
}

TEST_F(RepositoryTest, ReshapesBetweenClientAndModel) {
  write(folder_ / "m/1/model.onnx", plus(1));
  write(folder_ / "m/config.pbtxt", R"(max_batch_size: 4
    input { name: "x" data_type: TYPE_FP32 dims: [ 1, 1 ] reshape { shape: [ 1 ] } }
    output { name: "y" data_type: TYPE_FP32 dims: [ 1, 1, 1 ] reshape { shape: [ 1 ] } })");
  open();
  static constexpr std::int64_t kShape[] = {2, 1, 1};
  const auto response =
      ask(request_of("m", {1, 2}, [](auto& r) { r.inputs[0].tensor.shape = kShape; }));
  ASSERT_TRUE(response) << response.error().message;
  EXPECT_THAT(response->outputs[0].tensor.shape, ElementsAre(2, 1, 1, 1));
  EXPECT_THAT(response->outputs[0].tensor.as<float>(), ElementsAre(2, 3));
}

TEST_F(RepositoryTest, CarriesStringsInBatches) {
  auto model = graph::testing::identity_model(DataType::kString, {-1, 1});
  write(folder_ / "m/1/model.onnx", model.bytes());
  write(folder_ / "m/config.pbtxt",
        "max_batch_size: 8 dynamic_batching { max_queue_delay_microseconds: 20000 }");
  open();
  const auto input = repository_->metadata("m")->inputs.at(0).name;
  static constexpr std::int64_t kShape[] = {1, 1};
  const std::vector<std::string> words = {"a", std::string("b\0c", 3), "",
                                          "long enough to allocate"};
  std::vector<std::string> got(words.size());
  for (std::size_t i = 0; i < words.size(); ++i) {
    InferenceRequest request{.model = "m"};
    request.inputs = {{input, {DataType::kString, kShape, {}, std::span(words).subspan(i, 1)}}};
    repository_->submit(std::move(request), [&got, i](Result<InferenceResponse> response) {
      if (response) got[i] = response->outputs[0].tensor.strings[0];
    });
  }
  EXPECT_TRUE(repository_->drain(std::chrono::seconds(20)));
  EXPECT_EQ(got, words);
}

TEST_F(RepositoryTest, LoadsAndUnloadsOnRequest) {
  write(folder_ / "a/1/model.onnx", plus(1));
  write(folder_ / "b/1/model.onnx", plus(2));
  open({.control = LoadExplicitly{{"a"}}});
  EXPECT_THAT(states(), ElementsAre("a:1:READY", "b::UNKNOWN"));
  EXPECT_EQ(ask(request_of("b", {1})).error().code, ErrorCode::kNotFound);
  EXPECT_TRUE(repository_->load("b"));
  EXPECT_EQ(answer("b", {1}), "3");
  EXPECT_TRUE(repository_->unload("b", Dependents::kKeep));
  EXPECT_EQ(ask(request_of("b", {1})).error().code, ErrorCode::kUnavailable);
  EXPECT_THAT(states(), ElementsAre("a:1:READY", "b:1:UNAVAILABLE"));
  EXPECT_EQ(reason("b"), "unloaded");
  EXPECT_THAT(repository_->index(true), SizeIs(1));
  EXPECT_EQ(repository_->load("none").error().code, ErrorCode::kNotFound);
  EXPECT_EQ(repository_->unload("none", Dependents::kKeep).error().code, ErrorCode::kNotFound);
  for (const char* name : {"", "..", ".", "a/b", "/etc", "a\\b", "a\nb", ".hidden", "stats"})
    EXPECT_EQ(repository_->load(name).error().code, ErrorCode::kInvalidArgument) << name;
}

TEST_F(RepositoryTest, LinksMayNotLeadOutOfTheRepository) {
  const auto outside = folder_ / "outside";
  const auto inside = folder_ / "inside";
  write(outside / "m/1/model.onnx", plus(1));
  write(inside / "linked-file/keep.txt", "");
  fs::create_directories(inside / "linked-file/1");
  fs::create_symlink(outside / "m", inside / "linked-model");
  fs::create_symlink(outside / "m/1/model.onnx", inside / "linked-file/1/model.onnx");
  write(inside / "real/data/model.onnx", plus(1));
  fs::create_symlink("data", inside / "real/1");  // Within: fine.
  open({.folders = {inside}});
  EXPECT_THAT(states(),
              ElementsAre("linked-file::UNAVAILABLE", "linked-model::UNAVAILABLE", "real:1:READY"));
  EXPECT_THAT(reason("linked-file"), HasSubstr("leads out of"));
  EXPECT_THAT(reason("linked-model"), HasSubstr("leads out of"));
}

TEST_F(RepositoryTest, LoadTakesAConfigurationAndFiles) {
  write(folder_ / "m/1/model.onnx", plus(1));
  open({.control = LoadExplicitly{{"m"}}});
  EXPECT_TRUE(repository_->load("m", {.config_json = R"({"max_batch_size": 2})"}));
  EXPECT_EQ(repository_->config("m")->max_batch_size, 2);
  EXPECT_THAT(answer("m", {1, 2, 3}), HasSubstr("the model takes 1 to 2"));

  LoadOverrides files{.config_json = "{}", .files = {{"7/model.onnx", plus(70)}}};
  EXPECT_TRUE(repository_->load("m", files));
  EXPECT_THAT(states(), ElementsAre("m:1:UNAVAILABLE", "m:7:READY"));
  EXPECT_EQ(answer("m", {1}), "71");
  files.config_json = "";
  EXPECT_EQ(repository_->load("m", files).error().code, ErrorCode::kInvalidArgument);
  for (const char* path : {"model.onnx", "../model.onnx", "1/../x", "1/", "0/m", "1/a/b"}) {
    const LoadOverrides bad{.config_json = "{}", .files = {{path, plus(1)}}};
    EXPECT_EQ(repository_->load("m", bad).error().code, ErrorCode::kInvalidArgument) << path;
  }
  EXPECT_EQ(answer("m", {1}), "71");

  open();
  files.config_json = "{}";
  EXPECT_EQ(repository_->load("m", files).error().code, ErrorCode::kPermissionDenied);
  EXPECT_EQ(repository_->load("m", {.config_json = "{}"}).error().code,
            ErrorCode::kPermissionDenied);
  EXPECT_TRUE(repository_->load("m"));
}

TEST_F(RepositoryTest, AFailedReloadLeavesWhatServes) {
  write(folder_ / "m/1/model.onnx", plus(1));
  open();
  write(folder_ / "m/1/model.onnx", "this is not a model");
  EXPECT_FALSE(repository_->load("m"));
  EXPECT_EQ(answer("m", {1}), "2");
  EXPECT_THAT(states(), ElementsAre("m:1:READY"));
  EXPECT_THAT(reason("m"), HasSubstr("model.onnx"));
  // Nor does one that does not warm up: there is no row 5.
  const float table[] = {1};
  auto model = ModelBuilder();
  model.input("x", DataType::kInt64, {1})
      .initialiser("table", {1}, table)
      .initialiser("five", {1}, std::array<std::int64_t, 1>{5})
      .node("Add", {"x", "five"}, {"index"})
      .node("Gather", {"table", "index"}, {"y"})
      .output("y", DataType::kFloat32, {1});
  write(folder_ / "m/1/model.onnx", model.bytes());
  EXPECT_THAT(repository_->load("m").error().message, HasSubstr("warm-up"));
  EXPECT_EQ(answer("m", {1}), "2");
  write(folder_ / "m/1/model.onnx", plus(5));
  EXPECT_TRUE(repository_->load("m"));
  EXPECT_EQ(answer("m", {1}), "6");
  EXPECT_EQ(reason("m"), "");
}

TEST_F(RepositoryTest, EveryBatchSizeIsWarmedUp) {
  // Three rows fail: there is no value 9.
  auto model = ModelBuilder();
  model.input("x", DataType::kInt64, {-1, 1})
      .initialiser("first", {1}, std::array<std::int64_t, 1>{0})
      .initialiser("steps", {5}, std::array<std::int64_t, 5>{0, 0, 0, 9, 0})
      .initialiser("values", {1}, std::array<std::int64_t, 1>{0})
      .node("Shape", {"x"}, {"shape"})
      .node("Gather", {"shape", "first"}, {"rows"})
      .node("Gather", {"steps", "rows"}, {"step"})
      .node("Gather", {"values", "step"}, {"value"})
      .node("Add", {"x", "value"}, {"y"})
      .output("y", DataType::kInt64, {-1, 1});
  write(folder_ / "m/1/model.onnx", model.bytes());
  write(folder_ / "m/config.pbtxt", "max_batch_size: 4");
  open();
  EXPECT_THAT(reason("m"), HasSubstr("warm-up"));
  write(folder_ / "m/config.pbtxt", "max_batch_size: 2");
  EXPECT_TRUE(repository_->load("m"));
}

TEST_F(RepositoryTest, WhatNobodyConfiguredIsWarmedUpAsFarAsItIsMerged) {
  // More than 40 rows fail: clients may send more than the server itself would merge.
  auto model = ModelBuilder();
  model.input("x", DataType::kInt64, {-1, 1})
      .initialiser("first", {1}, std::array<std::int64_t, 1>{0})
      .initialiser("zeros", {41}, std::array<std::int64_t, 41>{})
      .node("Shape", {"x"}, {"shape"})
      .node("Gather", {"shape", "first"}, {"rows"})
      .node("Gather", {"zeros", "rows"}, {"zero"})
      .node("Add", {"x", "zero"}, {"y"})
      .output("y", DataType::kInt64, {-1, 1});
  write(folder_ / "m/1/model.onnx", model.bytes());
  open();
  EXPECT_EQ(reason("m"), "");
}

TEST_F(RepositoryTest, PollingTakesUpChangesOnceTheyStandStill) {
  write(folder_ / "m/1/model.onnx", plus(1));
  open({.control = LoadByPolling{std::chrono::hours(1)}});
  EXPECT_EQ(repository_->load("m").error().code, ErrorCode::kFailedPrecondition);
  const auto bytes = plus(2);
  // A copy that grows between looks is left alone; what serves goes on.
  for (std::size_t part = 1; part <= 4; ++part) {
    write(folder_ / "m/2/model.onnx", std::span(bytes).first(bytes.size() * part / 5));
    repository_->poll();
    EXPECT_EQ(answer("m", {0}), "1");
    EXPECT_EQ(reason("m"), "");
  }
  repository_->poll();  // It stands still, but it is only four fifths of a model.
  EXPECT_EQ(answer("m", {0}), "1");
  EXPECT_THAT(reason("m"), HasSubstr("version 2"));
  write(folder_ / "m/2/model.onnx", bytes);
  repository_->poll();
  EXPECT_EQ(answer("m", {0}), "1");
  repository_->poll();
  EXPECT_EQ(answer("m", {0}), "2");
  EXPECT_EQ(ask(request_of("m", {0}, [](auto& r) { r.version = "1"; })).error().code,
            ErrorCode::kUnavailable);

  write(folder_ / "new/model.onnx", plus(9));
  repository_->poll();
  repository_->poll();
  EXPECT_EQ(answer("new", {0}), "9");
}

TEST_F(RepositoryTest, DeletingModelsWhileServing) {
  write(folder_ / "root/m/1/model.onnx", plus(1));
  write(folder_ / "root/n/1/model.onnx", plus(2));
  open({.folders = {folder_ / "root"}, .control = LoadByPolling{std::chrono::hours(1)}});
  // Empty or gone for one look: perhaps it is being replaced.
  fs::remove_all(folder_ / "root/m");
  repository_->poll();
  EXPECT_EQ(answer("m", {0}), "1");
  repository_->poll();
  EXPECT_EQ(ask(request_of("m", {0})).error().code, ErrorCode::kUnavailable);
  EXPECT_EQ(answer("n", {0}), "2");
  // Once it has ended, nothing of it is left: names that come and go would be ever more.
  states();
  repository_->poll();
  EXPECT_EQ(ask(request_of("m", {0})).error().code, ErrorCode::kNotFound);
  EXPECT_THAT(states(), ElementsAre("n:1:READY"));
  // The whole disk is away: that says nothing about the models.
  fs::rename(folder_ / "root", folder_ / "away");
  repository_->poll();
  repository_->poll();
  EXPECT_EQ(answer("n", {0}), "2");
}

TEST_F(RepositoryTest, SwapsUnderLoadWithoutAFailedOrMixedAnswer) {
  write(folder_ / "m/1/model.onnx", plus(1));
  write(folder_ / "m/config.pbtxt", "max_batch_size: 8 dynamic_batching { }");
  open({.control = LoadExplicitly{{"m"}}});
  std::atomic<bool> done{false};
  std::atomic<std::uint64_t> failed{0}, mixed{0}, answered{0};
  std::vector<std::thread> clients;
  for (int c = 0; c < 3; ++c)
    clients.emplace_back([&] {
      while (!done) {
        const auto response = ask(request_of("m", {0, 0}));
        failed += !response;
        if (!response) continue;
        const auto y = response->outputs[0].tensor.as<float>();
        // Version 1 answers 1, version 2 answers 2; all rows of an answer come from one version.
        mixed += y[0] != y[1] || std::to_string(std::lround(y[0])) != response->version;
        ++answered;
      }
    });
  int failures = 0;
  for (int i = 0; i < 200; ++i) {
    const bool second = i % 2 == 0;
    const LoadOverrides version{
        .config_json = R"({"max_batch_size": 8, "dynamic_batching": {}})",
        .files = {{second ? "2/model.onnx" : "1/model.onnx", plus(second ? 2 : 1)}}};
    failures += !repository_->load("m", version);
  }
  done = true;
  for (auto& client : clients) client.join();
  EXPECT_EQ(failures, 0);
  EXPECT_EQ(failed, 0u);
  EXPECT_EQ(mixed, 0u);
  EXPECT_GT(answered, 200u);
}

TEST_F(RepositoryTest, KeepsTheStateOfEverySequence) {
  write(folder_ / "sum/1/model.onnx", accumulator());
  write(folder_ / "sum/config.pbtxt", R"(max_batch_size: 4
    sequence_batching {
      control_input { name: "start" control { kind: CONTROL_SEQUENCE_START
                                              fp32_false_true: [ 0, 1000 ] } }
      state { input_name: "s_in" output_name: "s_out" data_type: TYPE_FP32 dims: [ 1 ]
              initial_state { data_type: TYPE_FP32 dims: [ 1 ] data_file: "hundred" } } })");
  const float hundred = 100;
  write(folder_ / "sum/initial_state/hundred", std::as_bytes(std::span(&hundred, 1)));
  open();
  const auto metadata = repository_->metadata("sum");
  ASSERT_TRUE(metadata) << metadata.error().message;
  EXPECT_THAT(metadata->inputs, SizeIs(1));
  EXPECT_THAT(metadata->outputs, SizeIs(1));
  const auto in = [](SequenceId id, SequenceFlags flags = {}) {
    return [id, flags](InferenceRequest& r) {
      r.sequence = id;
      r.flags = flags;
    };
  };
  const std::uint64_t one = 1;
  EXPECT_EQ(answer("sum", {1}, in(one, {.start = true})), "1101");
  EXPECT_EQ(answer("sum", {5}, in("text", {.start = true})), "1105");
  EXPECT_EQ(answer("sum", {2}, in(one)), "103");
  EXPECT_EQ(answer("sum", {6}, in("text")), "111");
  EXPECT_EQ(answer("sum", {3}, in(one, {.end = true})), "106");
  EXPECT_EQ(answer("sum", {7}, in("text", {.start = true})), "1107") << "starts anew";
  EXPECT_THAT(answer("sum", {3}, in(one)), HasSubstr("sequence_start"));
  EXPECT_THAT(answer("sum", {3}), HasSubstr("sequence_id"));
  EXPECT_THAT(answer("sum", {3, 4}, in(one, {.start = true})), HasSubstr("a batch of 2"));
}

TEST_F(RepositoryTest, InterleavedSequencesUnderLoadKeepTheirSums) {
  write(folder_ / "sum/1/model.onnx", accumulator());
  write(folder_ / "sum/config.pbtxt", R"(max_batch_size: 8
    sequence_batching { oldest { max_candidate_sequences: 16 }
      control_input { name: "start" control { kind: CONTROL_SEQUENCE_START
                                              fp32_false_true: [ 0, 0 ] } }
      state { input_name: "s_in" output_name: "s_out" data_type: TYPE_FP32 dims: [ 1 ] } })");
  open();
  constexpr std::uint64_t kSequences = 20;
  constexpr int kSteps = 30;
  std::atomic<int> wrong{0};
  for (int step = 1; step <= kSteps; ++step)
    for (std::uint64_t id = 1; id <= kSequences; ++id) {
      auto request = request_of("sum", {static_cast<float>(id)}, [&](auto& r) {
        r.sequence = id;
        r.flags = {.start = step == 1, .end = step == kSteps};
      });
      repository_->submit(std::move(request), [&, step, id](Result<InferenceResponse> response) {
        wrong += !response || response->outputs[0].tensor.as<float>()[0] !=
                                  static_cast<float>(id) * static_cast<float>(step);
      });
    }
  EXPECT_TRUE(repository_->drain(std::chrono::seconds(20)));
  EXPECT_EQ(wrong, 0);
  const auto statistics = repository_->statistics("sum")->at(0);
  EXPECT_LT(statistics.execution_count, kSequences * kSteps) << "sequences run together";
}

class EnsembleRepositoryTest : public RepositoryTest {
 protected:
  EnsembleRepositoryTest() {
    write(folder_ / "one/1/model.onnx", plus(1));
    write(folder_ / "ten/1/model.onnx", plus(10));
  }
  void write_ensemble(const std::string& name, const std::string& steps) {
    write(folder_ / name / "config.pbtxt", R"(platform: "ensemble" max_batch_size: 8
      input { name: "x" data_type: TYPE_FP32 dims: [ 1 ] }
      output { name: "y" data_type: TYPE_FP32 dims: [ 1 ] }
      ensemble_scheduling { )" + steps + " }");
    fs::create_directories(folder_ / name / "1");
  }
  static std::string step(const std::string& model, const std::string& in, const std::string& out) {
    return "step { model_name: \"" + model + "\" input_map { key: \"x\" value: \"" + in +
           "\" } output_map { key: \"y\" value: \"" + out + "\" } } ";
  }
};

TEST_F(EnsembleRepositoryTest, RunsItsSteps) {
  write_ensemble("a_both", step("ten", "between", "y") + step("one", "x", "between"));
  write_ensemble("a_outer", step("a_both", "x", "z") + step("one", "z", "y"));
  open({.control = LoadExplicitly{{"a_outer"}}});
  EXPECT_THAT(states(),
              ElementsAre("a_both:1:READY", "a_outer:1:READY", "one:1:READY", "ten:1:READY"));
  EXPECT_EQ(answer("a_both", {1, 2}), "12 13");
  EXPECT_EQ(answer("a_outer", {1}), "13");
  EXPECT_EQ(repository_->metadata("a_both")->platform, "ensemble");
  const auto statistics = repository_->statistics("a_both")->at(0);
  EXPECT_EQ(statistics.success.count, 2u);
  EXPECT_EQ(statistics.inference_count, 3u);
  EXPECT_EQ(repository_->statistics("one")->at(0).success.count, 3u);
  EXPECT_TRUE(repository_->ready("a_outer"));
  EXPECT_TRUE(repository_->unload("one", Dependents::kKeep));
  EXPECT_FALSE(repository_->ready("a_outer"));
  EXPECT_THAT(answer("a_both", {1}), HasSubstr("step 'one'"));
  EXPECT_TRUE(repository_->unload("a_both", Dependents::kUnload));
  EXPECT_FALSE(repository_->ready("ten"));
}

TEST_F(EnsembleRepositoryTest, RefusesGraphsThatCannotRun) {
  struct Case {
    std::string steps;
    const char* reason;
  };
  const Case cases[] = {
      {step("one", "x", "z"), "tensor 'y' for the ensemble's output is neither"},
      {step("one", "w", "y"), "tensor 'w'"},
      {step("one", "x", "y") + step("ten", "x", "y"), "made twice"},
      {step("one", "b", "a") + step("ten", "a", "b") + step("one", "x", "y"), "in a circle"},
      {step("none", "x", "y"), "no model 'none'"},
      {step("e", "x", "y"), "needs this ensemble itself"},
      {"step { model_name: \"one\" output_map { key: \"y\" value: \"y\" } }", "'x'"},
      {"step { model_name: \"one\" input_map { key: \"q\" value: \"x\" } "
       "output_map { key: \"y\" value: \"y\" } }",
       "no input 'q'"},
      {"step { model_name: \"../one\" input_map { key: \"x\" value: \"x\" } }", "a model name"},
  };
  for (const auto& [steps, why] : cases) {
    write_ensemble("e", steps);
    open();
    EXPECT_FALSE(repository_->ready("e")) << steps;
    EXPECT_THAT(reason("e"), HasSubstr(why)) << steps;
  }
}

TEST_F(RepositoryTest, CancelStopsARunThatNobodyWants) {
  // Many matrix products: a run is stopped between operators.
  constexpr std::int64_t kSide = 512;
  const std::vector<float> weights(kSide * kSide, 0.001f);
  auto model = ModelBuilder();
  model.input("x", DataType::kFloat32, {kSide, kSide}).initialiser("w", {kSide, kSide}, weights);
  std::string last = "x";
  for (int i = 0; i < 60; ++i) {
    const auto next = "t" + std::to_string(i);
    model.node("MatMul", {last, "w"}, {next});
    last = next;
  }
  model.node("Identity", {last}, {"y"}).output("y", DataType::kFloat32, {kSide, kSide});
  write(folder_ / "long/1/model.onnx", model.bytes());
  write(folder_ / "long/config.pbtxt",
        "model_warmup { name: \"none\" inputs { key: \"x\" value { data_type: TYPE_FP32 dims: "
        "[512, 512] zero_data: true } } }");
  open();
  ASSERT_TRUE(repository_->ready("long")) << reason("long");
  static constexpr std::int64_t kShape[] = {kSide, kSide};
  std::promise<ErrorCode> promise;
  InferenceRequest request{.model = "long"};
  request.inputs = {{"x", {DataType::kFloat32, kShape, std::as_bytes(std::span(weights)), {}}}};
  const auto handle =
      repository_->submit(std::move(request), [&promise](Result<InferenceResponse> response) {
        promise.set_value(response ? ErrorCode::kInternal : response.error().code);
      });
  while (repository_->statistics("long")->at(0).pending > 0)
    std::this_thread::sleep_for(milliseconds(1));
  handle.cancel();  // It runs.
  EXPECT_EQ(promise.get_future().get(), ErrorCode::kCancelled);
  const auto whole = repository_->statistics("long")->at(0);
  EXPECT_EQ(whole.success.count, 0u);
  EXPECT_EQ(whole.failures[static_cast<std::size_t>(FailureReason::kCancelled)], 1u);
}

TEST_F(RepositoryTest, ResponsesOutliveTheirModelAndTheRepository) {
  write(folder_ / "m/1/model.onnx", plus(1));
  open();
  const auto response = ask(request_of("m", {41}));
  ASSERT_TRUE(response);
  EXPECT_TRUE(repository_->unload("m", Dependents::kKeep));
  repository_.reset();
  EXPECT_EQ(response->outputs[0].tensor.as<float>()[0], 42);
}

TEST_F(RepositoryTest, StopRefusesAndEnds) {
  write(folder_ / "m/1/model.onnx", plus(1));
  open({.control = LoadByPolling{milliseconds(1)}});
  EXPECT_TRUE(repository_->drain(milliseconds(1'000)));
  EXPECT_FALSE(repository_->ready());
  EXPECT_EQ(ask(request_of("m", {1})).error().code, ErrorCode::kUnavailable);
  repository_->stop();
  repository_->stop();
  EXPECT_EQ(ask(request_of("m", {1})).error().code, ErrorCode::kUnavailable);
}

TEST_F(RepositoryTest, LoadsInTheBackground) {
  write(folder_ / "m/1/model.onnx", plus(1));
  write(folder_ / "slow/1/model.onnx", plus(1));
  write(folder_ / "slow/config.pbtxt",
        "max_batch_size: 8 model_warmup [{ name: 'w' batch_size: 1 count: 10000 "
        "inputs { key: 'x' value { data_type: TYPE_FP32 dims: [1] zero_data: true } } }]");
  open({.initial_load = InitialLoad::kInBackground});
  while (answer("m", {1}) != "2") std::this_thread::sleep_for(milliseconds(1));
  EXPECT_TRUE(repository_->ready("m")) << "it answers";
  for (int i = 0; i < 2'000 && !repository_->ready(); ++i)
    std::this_thread::sleep_for(milliseconds(10));
  EXPECT_EQ(answer("m", {1}), "2");
}

TEST_F(RepositoryTest, PredictsInTheWordsOfTheCard) {
  write(folder_ / "m/1/model.onnx", plus(1));
  write(folder_ / "m/model.yaml", "input: {kind: table}\noutput: {kind: regression, names: [y]}\n");
  open();
  const auto model = repository_->model("m");
  ASSERT_TRUE(model) << model.error().message << reason("m");
  const double row[] = {4};
  std::promise<Result<PredictionResponse>> promise;
  repository_->predict(
      {.model = "m", .input = RowView{row}},
      [&promise](Result<PredictionResponse> response) { promise.set_value(std::move(response)); });
  const auto response = promise.get_future().get();
  ASSERT_TRUE(response) << response.error().message;
  EXPECT_THAT(std::get<Regression>(response->prediction).values, ElementsAre(5));
  EXPECT_EQ(repository_->statistics("m")->at(0).success.count, 1u);
}

TEST_F(RepositoryTest, ServesChainsOfModels) {
  const fs::path deps = SELVAGE_DEPS_DIR;
  open({.folders = {deps / "models"}, .control = LoadExplicitly{{"ppocr"}}});
  const auto card = repository_->card("ppocr");
  ASSERT_TRUE(card) << card.error().message << reason("ppocr");
  EXPECT_TRUE(std::holds_alternative<ImageInput>((*card)->input.kind));
  EXPECT_EQ(repository_->metadata("ppocr")->platform, "ensemble");
  EXPECT_THAT(answer("ppocr", {1}), HasSubstr("by :predict"));
  EXPECT_FALSE(repository_->model("ppocr"));

  const auto file = read_bytes(deps / "data/opencv/scenetext01.jpg", 1u << 20);
  ASSERT_TRUE(file) << file.error().message;
  const auto picture = media::decode_picture(*file);
  ASSERT_TRUE(picture) << picture.error().message;
  const auto predict = [&](const Input& input) {
    std::promise<Result<PredictionResponse>> promise;
    repository_->predict({.model = "ppocr", .input = input},
                         [&](Result<PredictionResponse> r) { promise.set_value(std::move(r)); });
    return promise.get_future().get();
  };
  const auto response = predict(picture->view());
  ASSERT_TRUE(response) << response.error().message;
  const auto& regions = std::get<TextRegions>(response->prediction).regions;
  ASSERT_FALSE(regions.empty());
  EXPECT_FALSE(regions.front().text.empty());
  EXPECT_EQ(repository_->statistics("ppocr")->at(0).success.count, 1u);
  EXPECT_EQ(predict(RowView{}).error().code, ErrorCode::kInvalidArgument);
}

TEST_F(RepositoryTest, ChainsMayNotLeadOutOfTheRepository) {
  write(folder_ / "outside/m/model.onnx", plus(1));
  write(folder_ / "inside/chain/ensemble.yaml", "steps:\n  look: {model: ../../outside/m}\n");
  open({.folders = {folder_ / "inside"}});
  EXPECT_THAT(reason("chain"), HasSubstr("leads out of"));
}

TEST_F(RepositoryTest, RefusesOptionsThatMakeNoSense) {
  const auto code = [](RepositoryOptions options) {
    return ModelRepository::create(runtime(), std::move(options)).error().code;
  };
  EXPECT_EQ(code({.folders = {folder_ / "none"}}), ErrorCode::kNotFound);
  EXPECT_EQ(code({.workers = 100'000}), ErrorCode::kInvalidArgument);
  EXPECT_EQ(code({.queue_requests = 0}), ErrorCode::kInvalidArgument);
}

}  // namespace
}  // namespace selvage::infer
