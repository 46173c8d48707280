#include "infer/session.h"

#include <cmath>
#include <csignal>
#include <fstream>
#include <limits>
#include <thread>

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/file.h"
#include "graph/testing.h"
#include "infer/cache.h"
#include "infer/session_options.h"

namespace selvage::infer {
namespace {

namespace fs = std::filesystem;
using graph::testing::ModelBuilder;
using testing::ElementsAre;
using testing::HasSubstr;

Runtime& runtime() {
  static const auto instance = Runtime::create();
  return **instance;
}

class SessionTest : public testing::Test {
 protected:
  SessionTest() { fs::create_directories(folder_); }
  ~SessionTest() override { fs::remove_all(folder_); }
  [[nodiscard]] std::size_t files_in(const fs::path& folder) const {
    return static_cast<std::size_t>(
        std::distance(fs::directory_iterator(folder), fs::directory_iterator()));
  }
  fs::path folder_ =
      fs::temp_directory_path() / ("selvage-session-test-" + std::to_string(::getpid()));
};

/// A model's whole answer to one float input.
std::vector<float> answer(const Session& session, const Shape& shape,
                          std::span<const float> values) {
  const Value input = Tensor::from<float>(shape, values).value();
  const auto outputs = session.run({&input, 1});
  if (!outputs) ADD_FAILURE() << outputs.error().message;
  if (!outputs) return {};
  const auto got = std::get<Tensor>(outputs->front()).as<float>();
  return {got.begin(), got.end()};
}

constexpr float kOnes[] = {1, 1, 1, 1};
constexpr float kTwoRows[] = {1, 0, 0, 0, 0, 1, 0, 0};

TEST_F(SessionTest, TellsWhatAModelTakesAndGives) {
  const auto session = Session::load(runtime(), graph::testing::matmul_model().bytes());
  ASSERT_TRUE(session) << session.error().message;
  ASSERT_EQ((*session)->inputs().size(), 1u);
  EXPECT_EQ((*session)->inputs()[0].name, "x");
  EXPECT_EQ((*session)->inputs()[0].type, DataType::kFloat32);
  EXPECT_THAT((*session)->inputs()[0].shape, ElementsAre(-1, 4));
  EXPECT_EQ((*session)->output_index("y"), 0u);
  EXPECT_EQ((*session)->output_index("x"), std::nullopt);
  EXPECT_GE((*session)->options().threads, 1);
}

TEST_F(SessionTest, RunsAnyBatchOfAnOpenDimension) {
  const auto session = Session::load(runtime(), graph::testing::matmul_model().bytes());
  ASSERT_TRUE(session);
  EXPECT_THAT(answer(**session, {1, 4}, kOnes), ElementsAre(16, 20));
  EXPECT_THAT(answer(**session, {2, 4}, kTwoRows), ElementsAre(1, 2, 3, 4));
}

TEST_F(SessionTest, RefusesInputsThatDoNotFitByName) {
  const auto session = Session::load(runtime(), graph::testing::matmul_model().bytes());
  ASSERT_TRUE(session);
  struct Case {
    const char* name;
    Value input;
  };
  const Case cases[] = {
      {"type", Tensor::create(DataType::kInt32, {1, 4}).value()},
      {"rank", Tensor::create(DataType::kFloat32, {4}).value()},
      {"fixed dimension", Tensor::create(DataType::kFloat32, {1, 5}).value()},
      {"string", Tensor::from_strings({1, 4}, std::vector<std::string>(4)).value()},
  };
  for (const auto& [name, input] : cases) {
    const auto got = (*session)->run({&input, 1});
    ASSERT_FALSE(got) << name;
    EXPECT_EQ(got.error().code, ErrorCode::kInvalidArgument) << name;
    EXPECT_THAT(got.error().message, HasSubstr("'x'")) << name;
  }
  EXPECT_EQ((*session)->run({}).error().code, ErrorCode::kInvalidArgument);
}

TEST_F(SessionTest, CarriesEveryElementType) {
  const DataType types[] = {DataType::kFloat32, DataType::kUint8,  DataType::kInt8,
                            DataType::kUint16,  DataType::kInt16,  DataType::kInt32,
                            DataType::kInt64,   DataType::kBool,   DataType::kFloat16,
                            DataType::kFloat64, DataType::kUint32, DataType::kUint64,
                            DataType::kBfloat16};
  for (const auto type : types) {
    const auto session =
        Session::load(runtime(), graph::testing::identity_model(type, {2, 3}).bytes());
    ASSERT_TRUE(session) << to_string(type) << session.error().message;
    auto tensor = Tensor::create(type, {2, 3}).value();
    for (std::size_t i = 0; i < tensor.bytes().size(); ++i)
      tensor.bytes()[i] = static_cast<std::byte>(type == DataType::kBool ? i % 2 : i * 7);
    const std::vector<std::byte> sent(tensor.bytes().begin(), tensor.bytes().end());
    const Value input = std::move(tensor);
    const auto outputs = (*session)->run({&input, 1});
    ASSERT_TRUE(outputs) << to_string(type) << outputs.error().message;
    const auto& got = std::get<Tensor>(outputs->front());
    EXPECT_EQ(got.type(), type);
    EXPECT_THAT(got.bytes(), testing::ElementsAreArray(sent)) << to_string(type);
  }
}

TEST_F(SessionTest, CarriesTheTypesOfQuantisedTensors) {
  // All that the runtime computes with these: to float32 and back.
  for (const auto type :
       {DataType::kInt4, DataType::kUint4, DataType::kFloat8E4M3Fn, DataType::kFloat8E5M2}) {
    ModelBuilder builder;
    const float one[] = {1};
    builder.opset("", 21).input("x", type, {2, 3}).initialiser("scale", {}, one);
    builder.node("DequantizeLinear", {"x", "scale"}, {"wide"});
    builder.node("QuantizeLinear", {"wide", "scale"}, {"y"},
                 {{"output_dtype", static_cast<std::int64_t>(type)}});
    builder.output("wide", DataType::kFloat32, {2, 3}).output("y", type, {2, 3});
    const auto session = Session::load(runtime(), builder.bytes());
    ASSERT_TRUE(session) << to_string(type) << session.error().message;
    auto tensor = Tensor::create(type, {2, 3}).value();
    const bool packed = type == DataType::kInt4 || type == DataType::kUint4;
    ASSERT_EQ(tensor.bytes().size(), packed ? 3u : 6u);
    for (std::size_t i = 0; i < tensor.bytes().size(); ++i)
      tensor.bytes()[i] = static_cast<std::byte>(0x18 + 0x11 * i);
    const std::vector<std::byte> sent(tensor.bytes().begin(), tensor.bytes().end());
    const Value input = std::move(tensor);
    const auto outputs = (*session)->run({&input, 1});
    ASSERT_TRUE(outputs) << to_string(type) << outputs.error().message;
    const auto wide = std::get<Tensor>(outputs->front()).as<float>();
    if (type == DataType::kInt4) {
      EXPECT_THAT(wide, ElementsAre(-8, 1, -7, 2, -6, 3));
    } else if (type == DataType::kUint4) {
      EXPECT_THAT(wide, ElementsAre(8, 1, 9, 2, 10, 3));
    }
    const auto& got = std::get<Tensor>(outputs->back());
    EXPECT_EQ(got.type(), type);
    EXPECT_THAT(got.bytes(), testing::ElementsAreArray(sent)) << to_string(type);
  }
}

TEST_F(SessionTest, WeightsExistOnce) {
  constexpr std::int64_t kSide = 2048;
  constexpr std::size_t kWeightBytes = kSide * kSide * sizeof(float);
  ModelBuilder builder;
  builder.input("x", DataType::kFloat32, {1, kSide});
  builder.initialiser("w", {kSide, kSide}, std::vector<float>(kSide * kSide, 0.5f));
  builder.node("MatMul", {"x", "w"}, {"y"}).output("y", DataType::kFloat32, {1, kSide});
  const auto session = Session::load(runtime(), builder.bytes(), {.threads = 1});
  ASSERT_TRUE(session) << session.error().message;
  const auto resident = [] {
    std::ifstream statm("/proc/self/statm");
    std::size_t pages = 0;
    statm >> pages >> pages;
    return pages * static_cast<std::size_t>(::sysconf(_SC_PAGESIZE));
  };
  ASSERT_TRUE((*Binding::create(**session, {}))->run());
  const auto before = resident();
  std::vector<std::unique_ptr<Binding>> callers;
  for (int i = 0; i < 8; ++i) {
    callers.push_back(Binding::create(**session, {}).value());
    std::jthread([&] { EXPECT_TRUE(callers.back()->run()); }).join();
  }
  EXPECT_LT(resident(), before + kWeightBytes / 2);
}

TEST_F(SessionTest, CarriesStringsWithZeroBytes) {
  const auto session =
      Session::load(runtime(), graph::testing::identity_model(DataType::kString, {3}).bytes());
  ASSERT_TRUE(session) << session.error().message;
  const std::vector<std::string> texts = {"", std::string("a\0b", 3), "Gänsefüßchen"};
  const Value input = Tensor::from_strings({3}, texts).value();
  const auto outputs = (*session)->run({&input, 1});
  ASSERT_TRUE(outputs) << outputs.error().message;
  EXPECT_THAT(std::get<Tensor>(outputs->front()).strings(), testing::ElementsAreArray(texts));

  const auto binding = Binding::create(**session);
  ASSERT_TRUE(binding) << binding.error().message;
  ASSERT_TRUE((*binding)->set_strings(0, texts));
  ASSERT_TRUE((*binding)->run());
  EXPECT_THAT((*binding)->output(0).strings, testing::ElementsAreArray(texts));
  EXPECT_FALSE((*binding)->set_strings(0, std::span(texts).first(2)));
}

TEST_F(SessionTest, BindingGivesTheSameAnswersInPreparedMemory) {
  const auto session = Session::load(runtime(), graph::testing::matmul_model().bytes());
  ASSERT_TRUE(session);
  const Shape shape = {2, 4};
  const auto binding = Binding::create(**session, {&shape, 1});
  ASSERT_TRUE(binding) << binding.error().message;
  std::ranges::copy(kTwoRows, (*binding)->input<float>(0).begin());
  ASSERT_TRUE((*binding)->run());
  EXPECT_THAT((*binding)->output(0).as<float>(), ElementsAre(1, 2, 3, 4));

  ASSERT_TRUE((*binding)->set_shape(0, {1, 4}));
  std::ranges::copy(kOnes, (*binding)->input<float>(0).begin());
  ASSERT_TRUE((*binding)->run());
  EXPECT_THAT((*binding)->output(0).shape, ElementsAre(1, 2));
  EXPECT_THAT((*binding)->output(0).as<float>(), ElementsAre(16, 20));
}

TEST_F(SessionTest, OutputsThatAreInputsOrTwiceThere) {
  const Shape shape = {1, 4};
  const auto session = Session::load(runtime(), graph::testing::add_model(shape)
                                                    .output("a", DataType::kFloat32, shape)
                                                    .output("y", DataType::kFloat32, shape)
                                                    .bytes());
  ASSERT_TRUE(session) << session.error().message;
  const auto binding = Binding::create(**session);
  ASSERT_TRUE(binding);
  float third[4] = {};
  ASSERT_TRUE((*binding)->bind_output(2, shape, std::as_writable_bytes(std::span(third))));
  for (const float value : {1.0f, 3.0f}) {
    std::ranges::fill((*binding)->input<float>(0), value);
    std::ranges::fill((*binding)->input<float>(1), value);
    ASSERT_TRUE((*binding)->run());
    EXPECT_THAT((*binding)->output(0).as<float>(), testing::Each(2 * value));
    EXPECT_THAT((*binding)->output(1).as<float>(), testing::Each(value));
    EXPECT_THAT(third, testing::Each(2 * value));
  }
}

TEST_F(SessionTest, BindingReadsAndWritesTheCallersMemory) {
  const auto session = Session::load(runtime(), graph::testing::add_model({1, 4}).bytes());
  ASSERT_TRUE(session);
  const auto binding = Binding::create(**session);
  ASSERT_TRUE(binding);
  const Shape shape = {1, 4};
  alignas(64) float sum[4] = {};
  const TensorView ones{DataType::kFloat32, shape, std::as_bytes(std::span(kOnes)), {}};
  ASSERT_TRUE((*binding)->bind_input(0, ones));
  ASSERT_TRUE((*binding)->bind_input(1, ones));
  ASSERT_TRUE((*binding)->bind_output(0, shape, std::as_writable_bytes(std::span(sum))));
  ASSERT_TRUE((*binding)->run());
  EXPECT_THAT(sum, ElementsAre(2, 2, 2, 2));

  EXPECT_FALSE((*binding)->bind_output(0, shape, std::as_writable_bytes(std::span(sum)).first(8)));
  const TensorView short_one{DataType::kFloat32, shape, ones.bytes.first(8), {}};
  EXPECT_EQ((*binding)->bind_input(0, short_one).error().code, ErrorCode::kInvalidArgument);
}

TEST_F(SessionTest, StateFeedsBackWithoutACopy) {
  // y = x + s, s' = y: a running sum.
  const auto session = Session::load(runtime(), graph::testing::add_model({1, 4}).bytes());
  ASSERT_TRUE(session);
  const auto binding = Binding::create(**session);
  ASSERT_TRUE(binding);
  std::ranges::copy(kOnes, (*binding)->input<float>(0).begin());
  for (int step = 1; step <= 5; ++step) {
    ASSERT_TRUE((*binding)->run());
    EXPECT_THAT((*binding)->output(0).as<float>(), testing::Each(static_cast<float>(step)));
    ASSERT_TRUE((*binding)->feed_back(0, 1));
  }
}

TEST_F(SessionTest, OutputsOfUnknownShapeComeFromTheRuntime) {
  const auto model = ModelBuilder()
                         .input("x", DataType::kFloat32, {-1})
                         .node("NonZero", {"x"}, {"y"})
                         .output("y", DataType::kInt64, {1, -1})
                         .build();
  const auto session = Session::load(runtime(), model.serialise().value());
  ASSERT_TRUE(session) << session.error().message;
  const Shape shape = {4};
  const auto binding = Binding::create(**session, {&shape, 1});
  ASSERT_TRUE(binding);
  for (const std::vector<float>& values :
       {std::vector<float>{0, 5, 0, 7}, std::vector<float>{1, 1, 1, 0}, std::vector<float>(4)}) {
    std::ranges::copy(values, (*binding)->input<float>(0).begin());
    ASSERT_TRUE((*binding)->run());
    std::vector<std::int64_t> expected;
    for (std::size_t i = 0; i < values.size(); ++i)
      if (values[i] != 0) expected.push_back(static_cast<std::int64_t>(i));
    EXPECT_THAT((*binding)->output(0).as<std::int64_t>(), testing::ElementsAreArray(expected));
  }
}

TEST_F(SessionTest, AModelThatBreaksItsOwnDeclarationStillRuns) {
  // Shape inference cannot see that NonZero finds only two: the declaration says four.
  const auto model = ModelBuilder()
                         .input("x", DataType::kFloat32, {4})
                         .node("NonZero", {"x"}, {"y"})
                         .output("y", DataType::kInt64, {1, 4})
                         .build();
  const auto session = Session::load(runtime(), model.serialise().value());
  ASSERT_TRUE(session) << session.error().message;
  const auto binding = Binding::create(**session);
  ASSERT_TRUE(binding);
  (*binding)->input<float>(0)[1] = 1;
  (*binding)->input<float>(0)[3] = 1;
  for (int i = 0; i < 2; ++i) {
    const auto ran = (*binding)->run();
    ASSERT_TRUE(ran) << ran.error().message;
    EXPECT_THAT((*binding)->output(0).as<std::int64_t>(), ElementsAre(1, 3));
  }
}

TEST_F(SessionTest, OneSessionServesManyThreads) {
  const auto session = Session::load(runtime(), graph::testing::matmul_model().bytes());
  ASSERT_TRUE(session);
  std::vector<std::jthread> threads;
  for (int t = 0; t < 4; ++t)
    threads.emplace_back([&] {
      const auto binding = Binding::create(**session);
      ASSERT_TRUE(binding);
      for (int i = 0; i < 500; ++i) {
        const auto value = static_cast<float>(i % 10);
        std::ranges::fill((*binding)->input<float>(0), value);
        ASSERT_TRUE((*binding)->run());
        ASSERT_THAT((*binding)->output(0).as<float>(), ElementsAre(16 * value, 20 * value));
      }
    });
}

TEST_F(SessionTest, NumbersThatAreNoneComeOutAsTheyWentIn) {
  const auto session = Session::load(runtime(), graph::testing::identity_model().bytes());
  ASSERT_TRUE(session);
  constexpr auto kInfinity = std::numeric_limits<float>::infinity();
  const float values[] = {std::nanf(""), kInfinity, -kInfinity, 1e38f};
  const auto got = answer(**session, {1, 4}, values);
  EXPECT_TRUE(std::isnan(got[0]));
  EXPECT_EQ(got[1], kInfinity);
  EXPECT_EQ(got[2], -kInfinity);
}

TEST_F(SessionTest, DenormalsAreZeroOnlyDuringARun) {
  const auto session = Session::load(runtime(), graph::testing::add_model({1, 4}).bytes());
  ASSERT_TRUE(session);
  volatile float small = 1e-39f;
  EXPECT_NE(small * 1.0f, 0.0f);
  const auto binding = Binding::create(**session);
  ASSERT_TRUE(binding);
  std::ranges::fill((*binding)->input<float>(0), 1e-39f);
  ASSERT_TRUE((*binding)->run());
  EXPECT_EQ((*binding)->output(0).as<float>()[0], 0.0f);
  EXPECT_NE(small * 1.0f, 0.0f);
}

TEST_F(SessionTest, BadModelsEndInAnErrorThatNamesTheFile) {
  const auto good = graph::testing::conv_model().bytes();
  const auto path = folder_ / "cut.onnx";
  ASSERT_TRUE(write_atomically(path, std::span(good).first(good.size() / 2)));
  const auto cut = Session::load(runtime(), path);
  ASSERT_FALSE(cut);
  EXPECT_THAT(cut.error().message, HasSubstr("cut.onnx"));
  EXPECT_EQ(Session::load(runtime(), folder_ / "none.onnx").error().code, ErrorCode::kNotFound);
  EXPECT_FALSE(Session::load(runtime(), std::span<const std::byte>()));

  const auto unknown = ModelBuilder()
                           .input("x", DataType::kFloat32, {1})
                           .node("NoSuchOperator", {"x"}, {"y"})
                           .output("y", DataType::kFloat32, {1})
                           .build();
  const auto refused = Session::load(runtime(), unknown.serialise().value());
  ASSERT_FALSE(refused);
  EXPECT_THAT(refused.error().message, HasSubstr("NoSuchOperator"));
  EXPECT_EQ(refused.error().code, ErrorCode::kUnimplemented);
}

TEST_F(SessionTest, OptionsAreChecked) {
  const auto model = graph::testing::identity_model().bytes();
  EXPECT_EQ(Session::load(runtime(), model, {.threads = -1}).error().code,
            ErrorCode::kInvalidArgument);
  EXPECT_EQ(Session::load(runtime(), model, {.threads = 1000}).error().code,
            ErrorCode::kInvalidArgument);
  EXPECT_FALSE(Session::load(runtime(), model, {.threads = 2, .thread_affinities = "nonsense"}));
}

TEST_F(SessionTest, EverySettingComputesTheSame) {
  const auto model = graph::testing::conv_model().bytes();
  std::vector<float> picture(3 * 8 * 8);
  for (std::size_t i = 0; i < picture.size(); ++i) picture[i] = static_cast<float>(i % 17) - 8;
  const auto plain = Session::load(runtime(), model, {.optimization = Optimization::kNone});
  ASSERT_TRUE(plain);
  const auto expected = answer(**plain, {1, 3, 8, 8}, picture);
  const SessionOptions settings[] = {
      {.optimization = Optimization::kAll, .threads = 1},
      {.optimization = Optimization::kBasic, .power = PowerProfile::kLatency, .threads = 2},
      {.providers = {"no-such-provider", "cpu"}},
      {.power = PowerProfile::kLowPower, .arena = Arena::kNone, .flush_denormals = false},
      {.cache_folder = folder_ / "cache"},
      {.config = {{"session.disable_prepacking", "1"}}},
  };
  for (const auto& options : settings) {
    for (int load = 0; load < 2; ++load) {
      const auto session = Session::load(runtime(), model, options);
      ASSERT_TRUE(session) << session.error().message;
      EXPECT_THAT(answer(**session, {1, 3, 8, 8}, picture),
                  testing::Pointwise(testing::FloatNear(1e-4f), expected));
    }
  }
}

TEST_F(SessionTest, TheCacheSparesTheSecondStartTheWork) {
  const auto model = graph::testing::conv_model().bytes();
  const SessionOptions options{.threads = 1, .cache_folder = folder_ / "cache"};
  const auto first = Session::load(runtime(), model, options);
  ASSERT_TRUE(first) << first.error().message;
  EXPECT_FALSE((*first)->loaded_from_cache());
  EXPECT_EQ(files_in(options.cache_folder), 1u);
  const auto second = Session::load(runtime(), model, options);
  ASSERT_TRUE(second);
  EXPECT_TRUE((*second)->loaded_from_cache());
  // Other options make another graph.
  const auto basic = Session::load(
      runtime(), model,
      {.optimization = Optimization::kBasic, .threads = 1, .cache_folder = options.cache_folder});
  ASSERT_TRUE(basic);
  EXPECT_FALSE((*basic)->loaded_from_cache());
  EXPECT_EQ(files_in(options.cache_folder), 2u);
}

TEST_F(SessionTest, ADamagedCacheEntryIsReplaced) {
  const auto model = graph::testing::conv_model().bytes();
  const SessionOptions options{.threads = 1, .cache_folder = folder_ / "cache"};
  const auto first = Session::load(runtime(), model, options);
  ASSERT_TRUE(first);
  const auto entry = fs::directory_iterator(options.cache_folder)->path();
  const auto whole = read_bytes(entry, 1 << 20).value();
  for (const std::size_t kept :
       {std::size_t{0}, std::size_t{7}, std::size_t{40}, whole.size() - 1}) {
    std::ofstream(entry, std::ios::binary | std::ios::trunc)
        .write(reinterpret_cast<const char*>(whole.data()), static_cast<std::streamsize>(kept));
    const auto torn = Session::load(runtime(), model, options);
    ASSERT_TRUE(torn) << torn.error().message;
    EXPECT_FALSE((*torn)->loaded_from_cache()) << kept;
    const auto mended = Session::load(runtime(), model, options);
    ASSERT_TRUE(mended);
    EXPECT_TRUE((*mended)->loaded_from_cache()) << kept;
  }
  auto flipped = whole;
  flipped[whole.size() / 2] ^= std::byte{1};
  ASSERT_TRUE(write_atomically(entry, flipped));
  EXPECT_FALSE(Session::load(runtime(), model, options).value()->loaded_from_cache());
  // Another version of ours wrote it, or one of the runtime that this one does not read.
  auto other = whole;
  other[7] = std::byte{'0'};
  ASSERT_TRUE(write_atomically(entry, other));
  EXPECT_FALSE(Session::load(runtime(), model, options).value()->loaded_from_cache());
  const auto key = cache_key(crypto::sha256(model), (*first)->options());
  const ModelCache cache(options.cache_folder);
  ASSERT_TRUE(cache.find(key));
  ASSERT_TRUE(cache.store(key, std::as_bytes(std::span("ORTM?"))));
  EXPECT_FALSE(Session::load(runtime(), model, options).value()->loaded_from_cache());
  EXPECT_TRUE(Session::load(runtime(), model, options).value()->loaded_from_cache());
}

TEST_F(SessionTest, WaitsForNoPipeAmongTheFiles) {
  const auto model = graph::testing::conv_model().bytes();
  const SessionOptions options{.threads = 1, .cache_folder = folder_ / "cache"};
  ASSERT_TRUE(Session::load(runtime(), model, options));
  const auto entry = fs::directory_iterator(options.cache_folder)->path();
  fs::remove(entry);
  ASSERT_EQ(::mkfifo(entry.c_str(), 0600), 0);
  EXPECT_FALSE(Session::load(runtime(), model, options).value()->loaded_from_cache());
  const auto pipe = folder_ / "model.onnx";
  ASSERT_EQ(::mkfifo(pipe.c_str(), 0600), 0);
  EXPECT_THAT(Session::load(runtime(), pipe).error().message, HasSubstr("a pipe or a device"));
}

TEST_F(SessionTest, ConcurrentStartsShareOneCache) {
  const auto model = graph::testing::conv_model().bytes();
  const SessionOptions options{.threads = 1, .cache_folder = folder_ / "cache"};
  {
    std::vector<std::jthread> threads;
    for (int t = 0; t < 4; ++t)
      threads.emplace_back([&] {
        for (int i = 0; i < 5; ++i) EXPECT_TRUE(Session::load(runtime(), model, options));
      });
  }
  EXPECT_EQ(files_in(options.cache_folder), 1u);
  EXPECT_TRUE(Session::load(runtime(), model, options).value()->loaded_from_cache());
}

TEST_F(SessionTest, ACacheThatCannotBeWrittenCostsOnlyTime) {
  const auto file = folder_ / "file";
  ASSERT_TRUE(write_atomically(file, "in the way"));
  const auto session = Session::load(runtime(), graph::testing::conv_model().bytes(),
                                     {.cache_folder = file / "cache"});
  ASSERT_TRUE(session) << session.error().message;
  EXPECT_FALSE((*session)->loaded_from_cache());
}

TEST_F(SessionTest, WhatACrashLeftInTheCacheIsSweptAway) {
  const auto cache_folder = folder_ / "cache";
  const ModelCache cache(cache_folder);
  ASSERT_TRUE(cache.store(crypto::sha256("a"), std::as_bytes(std::span("payload"))));
  const auto old_scratch = cache.scratch_path(), new_scratch = cache.scratch_path();
  ASSERT_TRUE(write_atomically(old_scratch, "left behind"));
  ASSERT_TRUE(write_atomically(new_scratch, "being written"));
  fs::last_write_time(old_scratch, fs::file_time_type::clock::now() - std::chrono::hours(2));
  cache.sweep();
  EXPECT_FALSE(fs::exists(old_scratch));
  EXPECT_TRUE(fs::exists(new_scratch));
  EXPECT_TRUE(cache.find(crypto::sha256("a")));
}

TEST_F(SessionTest, OptionsOfDifferentKindsNeverShareAnEntry) {
  const auto model = crypto::sha256("model");
  EXPECT_NE(cache_key(model, {.dimensions = {{"a", 1}}}),
            cache_key(model, {.config = {{"a", "1"}}}));
  EXPECT_NE(cache_key(model, {.dimensions = {{"a", 11}}}),
            cache_key(model, {.dimensions = {{"a1", 1}}}));
}

TEST_F(SessionTest, MisspeltNamesAreRefusedAndNotIgnored) {
  const auto model = graph::testing::conv_model().bytes();
  const auto setting =
      Session::load(runtime(), model, {.config = {{"session.disable_prepackin", "1"}}});
  ASSERT_FALSE(setting);
  EXPECT_THAT(setting.error().message, HasSubstr("did you mean 'session.disable_prepacking'?"));
  for (const auto& cache : {fs::path(), folder_ / "cache"}) {
    const auto dimension =
        Session::load(runtime(), model, {.dimensions = {{"batch", 1}}, .cache_folder = cache});
    ASSERT_FALSE(dimension);
    EXPECT_EQ(dimension.error().code, ErrorCode::kInvalidArgument);
    EXPECT_THAT(dimension.error().message, HasSubstr("no input has an open dimension 'batch'"));
  }
}

TEST_F(SessionTest, AFullCacheCostsOnlyTimeAndIsCalledFull) {
  const std::vector<float> weights(std::size_t{64} * 64, 0.5f);
  const auto model = ModelBuilder()
                         .input("x", DataType::kFloat32, {1, 64})
                         .initialiser("w", {64, 64}, std::span<const float>(weights))
                         .node("MatMul", {"x", "w"}, {"y"})
                         .output("y", DataType::kFloat32, {1, 64})
                         .bytes();
  // A file-size limit fails the write exactly as a full disk does, without needing one.
  rlimit before{};
  ASSERT_EQ(::getrlimit(RLIMIT_FSIZE, &before), 0);
  const auto handler = std::signal(SIGXFSZ, SIG_IGN);
  const rlimit small{.rlim_cur = 4096, .rlim_max = before.rlim_max};
  ASSERT_EQ(::setrlimit(RLIMIT_FSIZE, &small), 0);
  testing::internal::CaptureStderr();
  const auto session =
      Session::load(runtime(), model, {.threads = 1, .cache_folder = folder_ / "full"});
  const auto log = testing::internal::GetCapturedStderr();
  ASSERT_EQ(::setrlimit(RLIMIT_FSIZE, &before), 0);
  std::signal(SIGXFSZ, handler);
  ASSERT_TRUE(session) << session.error().message;
  EXPECT_EQ(files_in(folder_ / "full"), 0u);
  EXPECT_THAT(log, HasSubstr("the disk of the cache is full"));
}

TEST_F(SessionTest, OpenSidesAreMeasuredAtTheirUsualSizeOrNotAtAll) {
  auto builder = ModelBuilder();
  builder.input("x", DataType::kFloat32, {1, 1, -1, -1})
      .node("Relu", {"x"}, {"y"})
      .output("y", DataType::kFloat32, {1, 1, -1, -1});
  const auto model = builder.bytes();
  const SessionOptions unknown{.cache_folder = folder_ / "cache"};
  EXPECT_EQ(Session::load(runtime(), model, unknown).value()->options().threads, 1);
  EXPECT_EQ(files_in(unknown.cache_folder), 2u);  // The graph, and that nothing can be measured.
  ASSERT_TRUE(
      Session::load(runtime(), model, {.usual_side = 64, .cache_folder = unknown.cache_folder}));
  EXPECT_EQ(files_in(unknown.cache_folder), 3u);
}

TEST_F(SessionTest, CancelBetweenRunsDoesNothing) {
  const auto session = Session::load(runtime(), graph::testing::conv_model().bytes());
  ASSERT_TRUE(session);
  const auto binding = Binding::create(**session);
  ASSERT_TRUE(binding);
  (*binding)->cancel();
  EXPECT_TRUE((*binding)->run());
}

TEST_F(SessionTest, MeasuredThreadsAreRemembered) {
  const SessionOptions options{.cache_folder = folder_ / "cache"};
  const auto model = graph::testing::conv_model().bytes();
  const auto first = Session::load(runtime(), model, options);
  ASSERT_TRUE(first);
  const auto before = files_in(options.cache_folder);
  const auto second = Session::load(runtime(), model, options);
  ASSERT_TRUE(second);
  EXPECT_EQ((*second)->options().threads, (*first)->options().threads);
  EXPECT_EQ(files_in(options.cache_folder), before);
}

TEST_F(SessionTest, CancelEndsARunAndTheNextOneWorks) {
  // A loop of about a second: the cancel arrives in its middle.
  auto builder = ModelBuilder();
  builder.input("x", DataType::kFloat32, {512, 512});
  std::string previous = "x";
  for (int i = 0; i < 400; ++i) {
    const auto next = "v" + std::to_string(i);
    builder.node("MatMul", {previous, "x"}, {next});
    previous = next;
  }
  builder.output(previous, DataType::kFloat32, {512, 512});
  const auto session = Session::load(runtime(), builder.bytes(), {.threads = 1});
  ASSERT_TRUE(session) << session.error().message;
  const auto binding = Binding::create(**session);
  ASSERT_TRUE(binding);
  std::jthread canceller([&] {
    std::this_thread::sleep_for(std::chrono::milliseconds(20));
    (*binding)->cancel();
  });
  const auto cancelled = (*binding)->run();
  ASSERT_FALSE(cancelled);
  EXPECT_EQ(cancelled.error().code, ErrorCode::kCancelled);
  canceller.join();
  EXPECT_TRUE((*binding)->run());
}

}  // namespace
}  // namespace selvage::infer
