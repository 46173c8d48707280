#include "learn/trainer.h"

#include <cmath>
#include <cstring>
#include <limits>

#include <gmock/gmock.h>
#include <unistd.h>

#include "base/file.h"
#include "base/random.h"
#include "graph/testing.h"
#include "infer/session.h"
#include "learn/architecture.h"
#include "media/array.h"

namespace selvage::learn {
namespace {

namespace fs = std::filesystem;
using testing::HasSubstr;

/// A data set of points around three centres, and a small network.
class TrainerTest : public testing::Test {
 protected:
  void SetUp() override {
    fs::create_directories(folder_);
    runtime_ = infer::Runtime::create().value();
    use("mlp", {4}, 3);
    write_points(300);
  }
  void TearDown() override { fs::remove_all(folder_); }

  void use(std::string_view architecture, const Shape& input, std::int64_t classes) {
    model_ = make_architecture(architecture, {input, classes, 1}).value();
    ASSERT_TRUE(model_.save(folder_ / "model.onnx"));
    loaded_ = infer::Model::load(*runtime_, folder_ / "model.onnx").value();
  }

  void write_arrays(const std::vector<float>& x, Shape shape, const std::vector<std::int64_t>& y) {
    write("x.npy", media::ArrayElement::kFloat32, std::move(shape), std::as_bytes(std::span(x)));
    write("y.npy", media::ArrayElement::kInt64, {static_cast<std::int64_t>(y.size())},
          std::as_bytes(std::span(y)));
  }
  void write(const std::string& name, media::ArrayElement element, Shape shape,
             std::span<const std::byte> bytes) {
    const media::Array array{
        .element = element, .shape = std::move(shape), .bytes = {bytes.begin(), bytes.end()}};
    ASSERT_TRUE(write_atomically(folder_ / name, *media::write_npy(array)));
  }
  void write_points(std::int64_t count) {
    Random random(5);
    std::vector<float> x;
    std::vector<std::int64_t> y;
    for (std::int64_t i = 0; i < count; ++i) {
      y.push_back(i % 3);
      for (int d = 0; d < 4; ++d)
        x.push_back(static_cast<float>((d == i % 3 ? 2 : 0) + random.normal() / 2));
    }
    write_arrays(x, {count, 4}, y);
  }

  Result<TrainResult> run(const TrainOptions& options, const TrainEvents& events = {}) {
    data_ = infer::Dataset::open(folder_, *loaded_).value();
    return train(*runtime_, *loaded_, model_, {*data_}, options, events);
  }
  TrainResult trained(const TrainOptions& options, const TrainEvents& events = {}) {
    auto result = run(options, events);
    if (!result) ADD_FAILURE() << result.error().message;
    return result ? *std::move(result) : TrainResult();
  }
  std::string error(const TrainOptions& options) {
    const auto result = run(options);
    EXPECT_FALSE(result);
    return result ? "" : result.error().message;
  }
  [[nodiscard]] TrainOptions with_checkpoint(TrainOptions options) const {
    options.checkpoint = folder_ / "checkpoint";
    options.checkpoint_seconds = 0;
    return options;
  }

  fs::path folder_ = fs::temp_directory_path() / ("selvage-trainer-" + std::to_string(::getpid()));
  std::unique_ptr<infer::Runtime> runtime_;
  std::unique_ptr<infer::Model> loaded_;
  graph::Model model_;
  std::unique_ptr<infer::Dataset> data_;
};

const TrainOptions kShort{.epochs = 3, .batch = 16, .learning_rate = 1e-2};

TEST_F(TrainerTest, LearnsToTellThreeCloudsApart) {
  const auto result = trained({.epochs = 8, .batch = 16, .learning_rate = 1e-2});
  ASSERT_EQ(result.history.size(), 8u);
  EXPECT_EQ(result.train_samples, 270u);
  EXPECT_EQ(result.validation_samples, 30u);
  EXPECT_GT(result.history.back().validation_accuracy.value(), 0.9);
  EXPECT_LT(result.history.back().train_loss, 0.5 * result.history.front().train_loss);
  // The returned model is the one that was measured.
  auto session = infer::Session::load(*runtime_, result.model.serialise().value());
  ASSERT_TRUE(session) << session.error().message;
  EXPECT_EQ((*session)->inputs()[0].name, "input");
  EXPECT_EQ((*session)->inputs()[0].shape, (Shape{-1, 4}));
}

TEST_F(TrainerTest, IsTheSameEachTime) {
  const auto first = trained(kShort), second = trained(kShort);
  EXPECT_EQ(first.model.serialise().value(), second.model.serialise().value());
  auto other = kShort;
  other.seed = 1;
  EXPECT_NE(first.model.serialise().value(), trained(other).model.serialise().value());
}

TEST_F(TrainerTest, AnInterruptedRunEndsWithTheSameBytes) {
  auto options = kShort;
  options.augment.noise = 0.1f;
  options.optimizer.average_decay = 0.9f;
  const auto undisturbed = trained(options).model.serialise().value();
  options = with_checkpoint(options);
  // Interrupted after every seventh step, wherever in an epoch that is.
  std::optional<TrainResult> ended;
  int runs = 0;
  for (; !ended && runs < 40; ++runs) {
    int steps = 0;
    auto result = run(options, {.stop = [&] { return ++steps > 7; }});
    if (result) {
      ended = *std::move(result);
    } else {
      EXPECT_EQ(result.error().code, ErrorCode::kCancelled) << result.error().message;
      ASSERT_TRUE(fs::exists(options.checkpoint));
    }
  }
  EXPECT_GT(runs, 4);
  ASSERT_TRUE(ended);
  EXPECT_EQ(ended->model.serialise().value(), undisturbed);
}

TEST_F(TrainerTest, ACheckpointOfOtherSettingsIsRefused) {
  auto options = with_checkpoint(kShort);
  int steps = 0;
  ASSERT_FALSE(run(options, {.stop = [&] { return ++steps > 3; }}));
  options.learning_rate = 0.5;
  EXPECT_THAT(error(options), HasSubstr("learning rate was 0.01, now is 0.5"));
  options = with_checkpoint(kShort);
  write_points(301);
  EXPECT_THAT(error(options), HasSubstr("data was"));
}

TEST_F(TrainerTest, ALossThatIsNoNumberNamesWhereItBegan) {
  auto options = with_checkpoint(kShort);
  options.learning_rate = 1e30;
  options.optimizer.kind = OptimizerKind::kSgd;
  options.schedule.kind = ScheduleKind::kConstant;
  const auto message = error(options);
  EXPECT_THAT(message, HasSubstr("stopped being a number in epoch 1"));
  EXPECT_THAT(message, HasSubstr("made by"));
  EXPECT_TRUE(load_checkpoint(options.checkpoint)->has_value());
}

TEST_F(TrainerTest, WhatDoesNotFitIntoMemoryIsRefusedWithWhatWould) {
  use("resnet20", {1, 20, 20}, 3);
  Random random(5);
  std::vector<float> x(40 * 400);
  for (auto& value : x) value = static_cast<float>(random.normal());
  std::vector<std::int64_t> y(40);
  for (std::size_t i = 0; i < y.size(); ++i) y[i] = static_cast<std::int64_t>(i % 3);
  write_arrays(x, {40, 1, 20, 20}, y);
  TrainOptions options{.epochs = 1, .batch = 40, .validation_fraction = 0};
  options.memory_bytes_max = 36'000'000;  // It takes 31 MB.
  EXPECT_EQ(trained(options).history.size(), 1u);
  options.memory_bytes_max = 24'000'000;
  EXPECT_THAT(error(options), HasSubstr("a step of 40 samples takes about"));
  EXPECT_THAT(error(options), HasSubstr("a batch of 20 takes"));
  options.memory_bytes_max = 1'000'000;
  EXPECT_THAT(error(options), HasSubstr("even one sample takes"));
}

TEST_F(TrainerTest, StopsEarlyAndKeepsTheBest) {
  auto options = kShort;
  options.epochs = 40;
  options.patience = 2;
  const auto result = trained(options);
  EXPECT_TRUE(result.stopped_early);
  EXPECT_LT(result.history.size(), 40u);
  EXPECT_EQ(result.best_epoch + 2, result.history.size());
}

TEST_F(TrainerTest, FrozenParametersStay) {
  auto options = kShort;
  options.freeze = {"fc1.*"};
  const auto result = trained(options);
  EXPECT_THAT(result.trained, testing::Not(testing::Contains("fc1.weight")));
  EXPECT_THAT(result.trained, testing::Contains("fc2.weight"));
}

TEST_F(TrainerTest, MixupAndSmoothingTrainToo) {
  auto options = kShort;
  options.epochs = 6;
  options.augment.mixup = 0.2f;
  options.label_smoothing = 0.1f;
  const auto result = trained(options);
  EXPECT_GT(result.history.back().validation_accuracy.value(), 0.9);
  EXPECT_EQ(result.history.back().train_accuracy, std::nullopt);
}

TEST_F(TrainerTest, ATeacherTeaches) {
  data_ = infer::Dataset::open(folder_, *loaded_).value();
  // It knows the labels, shifted by one: the student must follow it and not them.
  TeacherOutputs teacher{.width = 3, .values = std::vector<float>(data_->size() * 3)};
  for (std::size_t i = 0; i < data_->size(); ++i)
    teacher.values[3 * i + static_cast<std::size_t>((data_->label(i) + 1) % 3)] = 10;
  auto options = kShort;
  options.epochs = 6;
  const auto result =
      train(*runtime_, *loaded_, model_,
            {*data_, nullptr, {.teacher = &teacher, .temperature = 2, .weight = 1}}, options);
  ASSERT_TRUE(result) << result.error().message;
  EXPECT_LT(result->history.back().validation_accuracy.value(), 0.1);
}

TEST_F(TrainerTest, AFeatureFollowsTheTeachers) {
  data_ = infer::Dataset::open(folder_, *loaded_).value();
  // Samples of one class look alike to it, and unlike all others; of another width than the value.
  TeacherOutputs teacher{.width = 4, .values = std::vector<float>(data_->size() * 4)};
  for (std::size_t i = 0; i < data_->size(); ++i)
    teacher.values[4 * i + static_cast<std::size_t>(data_->label(i))] = 1;
  auto options = kShort;
  options.epochs = 6;
  // The labels' part is about 1, the feature's ten times that.
  const Distillation distillation{.features = {{"output", &teacher, 1000}}};
  const auto result = train(*runtime_, *loaded_, model_, {*data_, nullptr, distillation}, options);
  ASSERT_TRUE(result) << result.error().message;
  EXPECT_GT(result->history.front().train_loss, 2);
  EXPECT_LT(result->history.back().train_loss, 0.5 * result->history.front().train_loss);
  const auto unknown = train(*runtime_, *loaded_, model_,
                             {*data_, nullptr, {.features = {{"nothing", &teacher, 1}}}}, options);
  ASSERT_FALSE(unknown);
  EXPECT_THAT(unknown.error().message, HasSubstr("'nothing'"));
}

TEST_F(TrainerTest, OfEquallyRightEpochsTheSurerOneIsKept) {
  auto options = kShort;
  options.epochs = 12;
  const auto result = trained(options);
  const auto& best = result.history.at(result.best_epoch - 1);
  for (const auto& record : result.history) {
    EXPECT_LE(record.validation_accuracy, best.validation_accuracy);
    EXPECT_TRUE(record.validation_accuracy < best.validation_accuracy ||
                record.validation_loss >= best.validation_loss)
        << "epoch " << record.epoch;
  }
}

TEST_F(TrainerTest, AnAutoencoderLearnsItsInput) {
  use("autoencoder", {4}, 1);
  fs::remove(folder_ / "y.npy");
  const auto result = trained({.epochs = 10, .batch = 16, .learning_rate = 1e-2});
  EXPECT_LT(result.history.back().validation_loss.value(),
            0.7 * result.history.front().validation_loss.value());
}

TEST_F(TrainerTest, ValuesAreRegressed) {
  use("mlp", {1}, 1);
  std::vector<float> x, y;
  for (int i = 0; i < 200; ++i) {
    x.push_back(static_cast<float>(i) / 200);
    y.push_back(2 * x.back() - 1);
  }
  write("x.npy", media::ArrayElement::kFloat32, {200, 1}, std::as_bytes(std::span(x)));
  write("y.npy", media::ArrayElement::kFloat32, {200}, std::as_bytes(std::span(y)));
  const auto result = trained({.epochs = 20, .batch = 20, .learning_rate = 1e-2});
  EXPECT_LT(result.history.back().validation_loss.value(), 0.01);
}

TEST_F(TrainerTest, OneOutputIsABinaryQuestion) {
  use("mlp", {4}, 1);
  std::vector<float> x;
  std::vector<std::int64_t> y;
  Random random(1);
  for (int i = 0; i < 200; ++i) {
    y.push_back(i % 2);
    for (int d = 0; d < 4; ++d) x.push_back(static_cast<float>(random.normal() / 3 + i % 2));
  }
  write_arrays(x, {200, 4}, y);
  const auto result = trained({.epochs = 10, .batch = 20, .learning_rate = 1e-2});
  EXPECT_GT(result.history.back().validation_accuracy.value(), 0.9);
}

TEST_F(TrainerTest, BadDataIsRefusedInWords) {
  write_arrays({0, 0, 0, 0, 1, 1, 1, 1}, {2, 4}, {0, 3});
  EXPECT_THAT(error(kShort), testing::AllOf(HasSubstr("x.npy, sample 1"), HasSubstr("label is 3")));
  write_arrays({0, 0, 0, 0, 1, 1, 1, 1}, {2, 4}, {1, 1});
  EXPECT_THAT(error(kShort), HasSubstr("nothing to tell apart"));
}

TEST_F(TrainerTest, SegmentationIsNamedAsSuch) {
  use("autoencoder", {2, 2, 2}, 1);  // Gives back [2,2,2]: two scores for each of 2 x 2 places.
  const std::vector<float> pictures(64, 0.5f);
  write("x.npy", media::ArrayElement::kFloat32, {8, 2, 2, 2}, std::as_bytes(std::span(pictures)));
  std::vector<std::int64_t> places(32);
  for (std::size_t i = 0; i < places.size(); ++i) places[i] = static_cast<std::int64_t>(i % 2);
  write("y.npy", media::ArrayElement::kInt64, {8, 2, 2}, std::as_bytes(std::span(places)));
  EXPECT_THAT(error(kShort), HasSubstr("segmentation"));
}

TEST_F(TrainerTest, ANotANumberInTheDataIsFound) {
  write_arrays({0, 0, 0, 0, 1, 1, std::numeric_limits<float>::quiet_NaN(), 1}, {2, 4}, {0, 1});
  auto options = kShort;
  options.validation_fraction = 0;
  const auto message = error(options);
  EXPECT_THAT(message, HasSubstr("stopped being a number"));
  EXPECT_THAT(message, HasSubstr("x.npy, sample 1 holds a value that is no number"));
}

/// y = sqrt(w x): at 0 the loss is a number and its gradient, infinity times 0, is none.
TEST_F(TrainerTest, AStateThatIsNoNumberDoesNotReplaceTheLastGoodOne) {
  const float w[] = {1};
  model_ = graph::testing::ModelBuilder()
               .input("x", DataType::kFloat32, {-1, 1})
               .initialiser("w", {1, 1}, w)
               .node("MatMul", {"x", "w"}, {"a"})
               .node("Sqrt", {"a"}, {"y"})
               .output("y", DataType::kFloat32, {-1, 1})
               .build();
  ASSERT_TRUE(model_.save(folder_ / "model.onnx"));
  loaded_ = infer::Model::load(*runtime_, folder_ / "model.onnx").value();
  const auto write_inputs = [&](float last) {
    const std::vector<float> x{1, 2, 3, 4, 5, 6, 7, last}, y(8, 0.5f);
    write("x.npy", media::ArrayElement::kFloat32, {8, 1}, std::as_bytes(std::span(x)));
    write("y.npy", media::ArrayElement::kFloat32, {8, 1}, std::as_bytes(std::span(y)));
  };
  auto options = with_checkpoint(kShort);
  options.batch = 1;
  options.learning_rate = 1e-3;
  options.validation_fraction = 0;
  write_inputs(0);
  const auto message = error(options);
  EXPECT_THAT(message, HasSubstr("the last good state is kept in"));
  const auto kept = load_checkpoint(options.checkpoint).value();
  ASSERT_TRUE(kept);
  // Letters, the number of steps, then float32 to the end: what is no number is a weight.
  auto state = std::span(kept->state);
  for (; state.size() >= sizeof(float); state = state.first(state.size() - sizeof(float))) {
    float value = 0;
    std::memcpy(&value, state.last(sizeof value).data(), sizeof value);
    ASSERT_TRUE(std::isfinite(value)) << state.size();
  }
}

/// y = sqrt(a x1 + b x2): training on x2 = 0 pulls a below the half of b, where the root of the
/// sample that validates, (1, -0.5), is no number. Every loss of training is one.
TEST_F(TrainerTest, AValidationLossThatIsNoNumberKeepsTheCheckpointBeforeIt) {
  const float w[] = {1, 1};
  model_ = graph::testing::ModelBuilder()
               .input("x", DataType::kFloat32, {-1, 2})
               .initialiser("w", {2, 1}, w)
               .node("MatMul", {"x", "w"}, {"a"})
               .node("Sqrt", {"a"}, {"y"})
               .output("y", DataType::kFloat32, {-1, 1})
               .build();
  ASSERT_TRUE(model_.save(folder_ / "model.onnx"));
  loaded_ = infer::Model::load(*runtime_, folder_ / "model.onnx").value();
  const auto open = [&](const std::string& part, std::vector<float> x, std::vector<float> y) {
    fs::create_directories(folder_ / part);
    const auto rows = static_cast<std::int64_t>(y.size());
    write(part + "/x.npy", media::ArrayElement::kFloat32, {rows, 2}, std::as_bytes(std::span(x)));
    write(part + "/y.npy", media::ArrayElement::kFloat32, {rows, 1}, std::as_bytes(std::span(y)));
    return infer::Dataset::open(folder_ / part, *loaded_).value();
  };
  const auto data = open("learnt", {1, 0, 1, 0}, {0.5f, 0.5f});
  const auto judge = open("judge", {1, -0.5f}, {0.5f});
  auto options = with_checkpoint({.epochs = 40, .learning_rate = 0.1});
  options.optimizer.kind = OptimizerKind::kSgd;
  options.schedule.kind = ScheduleKind::kConstant;
  for (int run = 0; run < 2; ++run) {  // The second goes on, and comes to the same end.
    const auto result = train(*runtime_, *loaded_, model_, {*data, judge.get()}, options);
    ASSERT_FALSE(result);
    EXPECT_EQ(result.error().code, ErrorCode::kFailedPrecondition);
    EXPECT_THAT(result.error().message, HasSubstr("the validation loss is no number after epoch"));
    EXPECT_THAT(result.error().message, HasSubstr("the last good state is kept in"));
    const auto kept = load_checkpoint(options.checkpoint).value();
    ASSERT_TRUE(kept);
    ASSERT_GT(kept->history.size(), 1u);
    for (const auto& record : kept->history)
      EXPECT_TRUE(std::isfinite(record.validation_loss.value()));
    ASSERT_EQ(kept->best.size(), 1u);
    EXPECT_GT(kept->best.front().value.view().as<float>()[0], 0.5f);
  }
}

TEST_F(TrainerTest, DataThatChangeMeanwhileStopIt) {
  const auto result = run(kShort, {.epoch = [&](const EpochRecord&) { write_points(200); }});
  ASSERT_FALSE(result);
  EXPECT_EQ(result.error().code, ErrorCode::kFailedPrecondition);
  EXPECT_THAT(result.error().message, HasSubstr("has changed"));
}

TEST_F(TrainerTest, ACheckpointThatCannotBeWrittenIsAWarning) {
  auto options = kShort;
  options.checkpoint = folder_ / "none" / "checkpoint";
  std::string warning;
  trained(options, {.warning = [&](const std::string& text) { warning = text; }});
  EXPECT_THAT(warning, HasSubstr("could not be written"));
}

TEST(Schedule, Factors) {
  const auto at = [](ScheduleKind kind, std::uint64_t step, double warmup = 0) {
    return schedule_factor({.kind = kind, .warmup_epochs = warmup}, step, 100, 10, 2);
  };
  EXPECT_EQ(at(ScheduleKind::kConstant, 99), 1);
  EXPECT_EQ(at(ScheduleKind::kStep, 49), 1);
  EXPECT_EQ(at(ScheduleKind::kStep, 50), 0.1);
  EXPECT_EQ(at(ScheduleKind::kStep, 75), 0.01);
  EXPECT_DOUBLE_EQ(at(ScheduleKind::kCosine, 50), 0.5);
  EXPECT_EQ(at(ScheduleKind::kPlateau, 3), 0.25);
  EXPECT_NEAR(at(ScheduleKind::kConstant, 0, 1), 1.0 / 11, 1e-12);
  EXPECT_EQ(at(ScheduleKind::kConstant, 10, 1), 1);
}

}  // namespace
}  // namespace selvage::learn
