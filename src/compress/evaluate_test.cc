#include "compress/evaluate.h"

#include <cmath>
#include <filesystem>
#include <limits>

#include <gmock/gmock.h>
#include <unistd.h>

#include "base/file.h"
#include "graph/testing.h"
#include "infer/model.h"
#include "media/array.h"

namespace selvage::compress {
namespace {

namespace fs = std::filesystem;
using graph::testing::ModelBuilder;
using testing::ElementsAre;
using testing::HasSubstr;

TEST(AreaUnderRoc, TheMannWhitneyStatistic) {
  const auto area = [](std::vector<float> scores, std::vector<std::uint8_t> positive) {
    return area_under_roc(scores, positive);
  };
  EXPECT_EQ(area({1, 2, 3, 4}, {0, 0, 1, 1}), 1.0);
  EXPECT_EQ(area({4, 3, 2, 1}, {0, 0, 1, 1}), 0.0);
  EXPECT_EQ(area({0.1f, 0.4f, 0.35f, 0.8f}, {0, 0, 1, 1}), 0.75);  // scikit-learn's example.
  EXPECT_EQ(area({5, 5, 5, 5}, {0, 1, 0, 1}), 0.5);
  EXPECT_EQ(area({1, 2}, {1, 1}), std::nullopt);
  constexpr float kNan = std::numeric_limits<float>::quiet_NaN();
  EXPECT_EQ(area({kNan, 1, kNan, 2}, {0, 0, 1, 1}), 0.625) << "a NaN finds nothing";
}

TEST(ClassMetrics, FromAConfusionMatrix) {
  // Labels 0: 8 right, 2 called 1. Labels 1: 1 called 0, 4 right. Class 2 never occurs.
  const std::vector<std::uint64_t> confusion{8, 2, 0, 1, 4, 0, 0, 0, 0};
  const auto metrics = class_metrics(confusion, 3);
  EXPECT_DOUBLE_EQ(metrics[0].precision, 8.0 / 9);
  EXPECT_DOUBLE_EQ(metrics[0].recall, 0.8);
  EXPECT_DOUBLE_EQ(metrics[1].f1, 2 * (4.0 / 6) * 0.8 / (4.0 / 6 + 0.8));
  EXPECT_EQ(metrics[2].samples + metrics[2].predicted, 0u);
  EXPECT_EQ(metrics[2].f1, 0);
}

/// Models that give back their input, so that the data say what the model says.
class EvaluateTest : public testing::Test {
 protected:
  void SetUp() override {
    fs::create_directories(folder_);
    runtime_ = infer::Runtime::create().value();
  }
  void TearDown() override { fs::remove_all(folder_); }

  std::unique_ptr<infer::Model> model(const std::string& name, const Shape& shape,
                                      std::string_view type = "Identity",
                                      const std::string& card = "") {
    auto built = ModelBuilder()
                     .input("x", DataType::kFloat32, shape)
                     .node(type, {"x"}, {"y"})
                     .output("y", DataType::kFloat32, shape)
                     .build();
    const auto path = folder_ / (name + ".onnx");
    EXPECT_TRUE(built.save(path).has_value());
    if (!card.empty()) {
      EXPECT_TRUE(write_atomically(folder_ / (name + ".yaml"), card).has_value());
    }
    auto loaded = infer::Model::load(*runtime_, path);
    if (!loaded) ADD_FAILURE() << loaded.error().message;
    return loaded ? *std::move(loaded) : nullptr;
  }
  template <typename T>
  void write(const std::string& name, media::ArrayElement element, Shape shape,
             const std::vector<T>& values) {
    const auto bytes = std::as_bytes(std::span(values));
    const media::Array array{
        .element = element, .shape = std::move(shape), .bytes = {bytes.begin(), bytes.end()}};
    ASSERT_TRUE(write_atomically(folder_ / name, *media::write_npy(array)).has_value());
  }
  std::unique_ptr<infer::Dataset> data(const infer::Model& model) {
    auto opened = infer::Dataset::open(folder_ / "x.npy", model);
    if (!opened) ADD_FAILURE() << opened.error().message;
    return opened ? *std::move(opened) : nullptr;
  }

  fs::path folder_ = fs::temp_directory_path() / ("selvage-evaluate-" + std::to_string(::getpid()));
  std::unique_ptr<infer::Runtime> runtime_;
};

TEST_F(EvaluateTest, Classification) {
  write<float>("x.npy", media::ArrayElement::kFloat32, {5, 3},
               {9, 0, 0, 0, 9, 0, 0, 9, 0, 0, 0, 9, 9, 0, 0});
  write<std::int64_t>("y.npy", media::ArrayElement::kInt64, {5}, {0, 1, 2, 2, 0});
  const auto loaded = model("m", {-1, 3});
  const auto set = data(*loaded);
  const auto found = evaluate(*loaded, *set, {.batch = 2});
  ASSERT_TRUE(found) << found.error().message;
  EXPECT_EQ(found->task, Task::kClassification);
  EXPECT_EQ(found->samples, 5u);
  EXPECT_DOUBLE_EQ(found->accuracy.value(), 0.8);
  EXPECT_DOUBLE_EQ(found->quality(), 0.8);
  EXPECT_THAT(found->confusion, ElementsAre(2, 0, 0, 0, 1, 0, 0, 1, 1));
  EXPECT_NEAR(found->macro_f1.value(), (1 + 2.0 / 3 + 2.0 / 3) / 3, 1e-12);
  EXPECT_EQ(found->latency.count, 3u);
  const auto some = evaluate(*loaded, *set, {.samples = {2}});
  EXPECT_EQ(some->accuracy, 0.0);
}

TEST_F(EvaluateTest, OneScoreIsADetector) {
  write<float>("x.npy", media::ArrayElement::kFloat32, {4, 1}, {0.1f, 0.4f, 0.35f, 0.8f});
  write<std::int64_t>("y.npy", media::ArrayElement::kInt64, {4}, {0, 0, 1, 1});
  const auto loaded = model("m", {-1, 1});
  const auto found = evaluate(*loaded, *data(*loaded));
  ASSERT_TRUE(found) << found.error().message;
  EXPECT_EQ(found->task, Task::kDetection);
  EXPECT_EQ(found->auroc, 0.75);
  EXPECT_EQ(found->accuracy, 0.75);  // Above 0.5.
}

TEST_F(EvaluateTest, RegressionThroughTheCard) {
  write<float>("x.npy", media::ArrayElement::kFloat32, {2, 1}, {1, 2});
  write<float>("y.npy", media::ArrayElement::kFloat32, {2}, {12, 20});
  const auto loaded = model("m", {-1, 1}, "Identity", "output: {kind: regression, scale: 10}\n");
  const auto found = evaluate(*loaded, *data(*loaded));
  ASSERT_TRUE(found) << found.error().message;
  EXPECT_EQ(found->task, Task::kRegression);
  EXPECT_EQ(found->mean_absolute_error, 1.0);
  EXPECT_DOUBLE_EQ(found->root_mean_square_error.value(), std::sqrt(2.0));
  EXPECT_EQ(found->quality(), -1.0);
}

TEST_F(EvaluateTest, ReconstructionErrorsAreScores) {
  // Relu loses what is negative: those are the anomalies.
  write<float>("x.npy", media::ArrayElement::kFloat32, {3, 2}, {1, 2, -3, 1, 2, 2});
  write<std::int64_t>("y.npy", media::ArrayElement::kInt64, {3}, {0, 1, 0});
  const auto loaded = model("m", {-1, 2}, "Relu");
  const auto found = evaluate(*loaded, *data(*loaded));
  ASSERT_TRUE(found) << found.error().message;
  EXPECT_EQ(found->task, Task::kReconstruction);
  EXPECT_EQ(found->auroc, 1.0);
  EXPECT_EQ(found->mean_absolute_error, 0.5);
}

TEST_F(EvaluateTest, WhatDoesNotFitIsNamed) {
  write<float>("x.npy", media::ArrayElement::kFloat32, {2, 2}, {1, 0, 0, 1});
  write<std::int64_t>("y.npy", media::ArrayElement::kInt64, {2}, {0, 5});
  const auto loaded = model("m", {-1, 2});
  EXPECT_THAT(evaluate(*loaded, *data(*loaded)).error().message,
              testing::AllOf(HasSubstr("sample 1"), HasSubstr("label is 5")));
  write<float>("x.npy", media::ArrayElement::kFloat32, {2, 2}, {1, 0, NAN, 1});
  EXPECT_THAT(evaluate(*loaded, *data(*loaded)).error().message,
              testing::AllOf(HasSubstr("sample 1"), HasSubstr("the sample holds NaN")));
  fs::remove(folder_ / "y.npy");
  const auto classes = model("c", {-1, 2}, "Identity", "output: {kind: classification}\n");
  EXPECT_THAT(evaluate(*classes, *data(*classes)).error().message, HasSubstr("no labels"));
}

TEST_F(EvaluateTest, StopsWhenAsked) {
  write<float>("x.npy", media::ArrayElement::kFloat32, {4, 2}, std::vector<float>(8, 1));
  const auto loaded = model("m", {-1, 2});
  const auto found = evaluate(*loaded, *data(*loaded),
                              {.batch = 1, .progress = [](std::size_t done) { return done < 2; }});
  ASSERT_FALSE(found);
  EXPECT_EQ(found.error().code, ErrorCode::kCancelled);
}

TEST_F(EvaluateTest, AgreementOfTensors) {
  write<float>("x.npy", media::ArrayElement::kFloat32, {2, 2}, {3, 4, 3, -4});
  const auto same = model("a", {-1, 2}), relu = model("b", {-1, 2}, "Relu");
  const auto set = data(*same);
  const auto equal = compare(*same, *same, *set);
  ASSERT_TRUE(equal) << equal.error().message;
  EXPECT_EQ(equal->agreement, 1);
  EXPECT_TRUE(std::isinf(equal->sqnr_db.value()));
  const auto found = compare(*relu, *same, *set);
  ASSERT_TRUE(found);
  EXPECT_DOUBLE_EQ(found->agreement, (1 + (1 - 4.0 / 5)) / 2);
  EXPECT_DOUBLE_EQ(found->sqnr_db.value(), 10 * std::log10(50.0 / 16));
  EXPECT_EQ(found->largest_difference, 4.0);
}

TEST_F(EvaluateTest, AgreementWhereNumbersAreNotFinite) {
  write<float>("x.npy", media::ArrayElement::kFloat32, {2, 2}, {-1, 4, 0, 4});
  const auto root = model("a", {-1, 2}, "Sqrt"), logarithm = model("b", {-1, 2}, "Log");
  const auto set = data(*root);
  const auto equal = compare(*root, *root, *set);  // NaN, 2; 0, 2.
  ASSERT_TRUE(equal) << equal.error().message;
  EXPECT_EQ(equal->agreement, 1);
  EXPECT_EQ(equal->largest_difference, 0.0);
  const auto found = compare(*logarithm, *root, *set);  // NaN, 1.39; minus infinity, 1.39.
  ASSERT_TRUE(found);
  EXPECT_DOUBLE_EQ(found->agreement, std::log(4.0f) / 2.0 / 2);
  EXPECT_EQ(found->sqnr_db.value(), -std::numeric_limits<double>::infinity());
  EXPECT_TRUE(std::isinf(found->largest_difference.value()));
}

TEST_F(EvaluateTest, NoNumberIsNoAnswer) {
  // Two broken models would agree on everything.
  write<float>("x.npy", media::ArrayElement::kFloat32, {2, 2}, {3, 4, -3, -4});
  const auto root = model("a", {-1, 2}, "Sqrt"), same = model("b", {-1, 2});
  const auto set = data(*root);
  const auto is_named = testing::AllOf(HasSubstr("sample 1"), HasSubstr("not finite"));
  EXPECT_THAT(compare(*root, *root, *set).error().message, is_named);
  EXPECT_THAT(compare(*root, *same, *set).error().message, is_named);
  EXPECT_THAT(compare(*same, *root, *set).error().message,
              testing::AllOf(is_named, HasSubstr("the other model's")));
  write<float>("x.npy", media::ArrayElement::kFloat32, {2, 2}, {3, 4, NAN, NAN});
  EXPECT_THAT(compare(*same, *same, *data(*same)).error().message,
              testing::AllOf(HasSubstr("sample 1"), HasSubstr("the sample holds NaN")));
  const std::string card = "output: {kind: classification}\n";
  const auto classes = model("c", {-1, 2}, "Sqrt", card);
  EXPECT_THAT(compare(*classes, *classes, *set).error().message, is_named);
}

TEST_F(EvaluateTest, TheLogarithmOfZeroIsAnAnswer) {
  write<float>("x.npy", media::ArrayElement::kFloat32, {3, 3}, {0, 1, 0, 1, 0, 0, 0, 0, 1});
  write<std::int64_t>("y.npy", media::ArrayElement::kInt64, {3}, {1, 0, 2});
  const auto loaded = model("m", {-1, 3}, "Log");
  const auto found = evaluate(*loaded, *data(*loaded));
  ASSERT_TRUE(found) << found.error().message;
  EXPECT_EQ(found->accuracy, 1.0);
  EXPECT_EQ(found->auroc, 1.0);
}

TEST_F(EvaluateTest, NothingFoundIsNoAgreement) {
  const auto loaded =
      model("m", {1, 1, 3}, "Identity", "output: {kind: ctc-text, labels: [a, b]}\n");
  const auto with = [&](std::vector<float> scores) {
    write<float>("x.npy", media::ArrayElement::kFloat32, {2, 1, 3}, scores);
    return compare(*loaded, *loaded, *data(*loaded));
  };
  EXPECT_THAT(with({9, 0, 0, 9, 0, 0}).error().message, HasSubstr("finds anything"));
  EXPECT_THAT(with({0, 9, 0, NAN, NAN, NAN}).error().message,
              testing::AllOf(HasSubstr("sample 1"), HasSubstr("not finite")));
  const auto found = with({0, 9, 0, 9, 0, 0});
  ASSERT_TRUE(found) << found.error().message;
  EXPECT_EQ(found->agreement, 1);
}

TEST_F(EvaluateTest, AgreementOfClasses) {
  write<float>("x.npy", media::ArrayElement::kFloat32, {2, 2}, {3, 4, -3, -4});
  const std::string card = "output: {kind: classification}\n";
  const auto same = model("a", {-1, 2}, "Identity", card);
  const auto negated = model("b", {-1, 2}, "Abs", card);
  const auto found = compare(*negated, *same, *data(*same));
  ASSERT_TRUE(found) << found.error().message;
  EXPECT_EQ(found->task, Task::kClassification);
  EXPECT_EQ(found->agreement, 0.5);
}

}  // namespace
}  // namespace selvage::compress
