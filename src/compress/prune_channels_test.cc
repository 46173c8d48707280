// Which channels are chosen, and how many.
#include "compress/prune_channels.h"

#include <cstring>
#include <filesystem>
#include <limits>

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <selvage/onnx.pb.h>
#include <unistd.h>

#include "graph/testing.h"
#include "infer/graph_runtime.h"
#include "infer/shapes.h"

namespace selvage::compress {
namespace {

using graph::Model;
using graph::testing::ModelBuilder;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using Floats = std::vector<float>;

infer::Runtime& runtime() {
  static const auto made = infer::Runtime::create().value();
  return *made;
}

Channels analyse(const Model& model) {
  return Channels::analyse(model, infer::resolve_shapes(runtime(), model).value()).value();
}

/// Two layers of 1x1 convolutions: `hidden` channels between 2 and 3, the one at i worth i + 1.
ModelBuilder two_layers(std::int64_t hidden) {
  Floats first, second(static_cast<std::size_t>(3 * hidden), 0.001f);
  for (std::int64_t i = 0; i < hidden; ++i)
    first.insert(first.end(), {static_cast<float>(i + 1), static_cast<float>(-i - 1)});
  return std::move(ModelBuilder()
                       .input("x", DataType::kFloat32, {1, 2, 4, 4})
                       .initialiser("w1", {hidden, 2, 1, 1}, first)
                       .initialiser("w2", {3, hidden, 1, 1}, second)
                       .node("Conv", {"x", "w1"}, {"h"})
                       .node("Relu", {"h"}, {"r"})
                       .node("Conv", {"r", "w2"}, {"y"})
                       .output("y", DataType::kFloat32, {1, 3, 4, 4}));
}

std::vector<std::size_t> removed(const std::vector<bool>& group) {
  std::vector<std::size_t> indices;
  for (std::size_t i = 0; i < group.size(); ++i)
    if (group[i]) indices.push_back(i);
  return indices;
}

TEST(PlanRemoval, SaysWhyNothingCanGo) {
  const auto model = std::move(ModelBuilder()
                                   .input("x", DataType::kFloat32, {1, 2, 4, 4})
                                   .initialiser("w", {3, 2, 1, 1}, Floats(6, 1.0f))
                                   .node("Conv", {"x", "w"}, {"y"})
                                   .output("y", DataType::kFloat32, {1, 3, 4, 4}))
                         .build();
  const auto plan = plan_removal(model, analyse(model), {PruneTargetKind::kRatio, 0.3}, {});
  ASSERT_FALSE(plan);
  EXPECT_EQ(plan.error().message,
            "no channel of the model can be removed: y reaches the output 'y'");
}

TEST(PlanRemoval, TakesTheLeastImportantAndRounds) {
  const auto model = two_layers(32).build();
  const auto channels = analyse(model);
  ASSERT_EQ(channels.groups().size(), 1u);
  EXPECT_EQ(channels.groups()[0].name, "h");
  for (const auto importance : {Importance::kL1, Importance::kL2, Importance::kBatchNorm}) {
    const auto plan = plan_removal(model, channels, {PruneTargetKind::kRatio, 0.3},
                                   {.importance = importance, .round_to = 8});
    ASSERT_TRUE(plan) << plan.error().message;
    // 22.4 would stay, 24 is the nearest multiple of 8.
    EXPECT_THAT(removed(plan->removal[0]), ElementsAre(0, 1, 2, 3, 4, 5, 6, 7));
  }
  const auto unrounded =
      plan_removal(model, channels, {PruneTargetKind::kRatio, 0.1}, {.round_to = 1});
  EXPECT_THAT(removed(unrounded->removal[0]), ElementsAre(0, 1, 2));
}

TEST(PlanRemoval, RefusesWhatItCannotRankOrWouldNotChange) {
  auto model = two_layers(32).build();
  const auto channels = analyse(model);
  const auto refusal = [&](const ChannelOptions& options) {
    const auto plan = plan_removal(model, channels, {PruneTargetKind::kRatio, 0.3}, options);
    return plan ? std::string("none") : plan.error().message;
  };
  EXPECT_THAT(refusal({.round_to = 1024}), HasSubstr("no channel would be removed"));
  EXPECT_THAT(refusal({.excluded = {"h"}}), HasSubstr("no channel would be removed"));
  const float nan = std::numeric_limits<float>::quiet_NaN();
  std::memcpy(model.proto().mutable_graph()->mutable_initializer(0)->mutable_raw_data()->data(),
              &nan, sizeof nan);
  EXPECT_THAT(refusal({}), HasSubstr("hold NaN"));
}

TEST(PlanRemoval, FollowsGivenScores) {
  const auto model = two_layers(16).build();
  const auto channels = analyse(model);
  const auto scores = [](std::string_view name) -> std::optional<Floats> {
    if (name != "w1") return std::nullopt;
    Floats given(32, 1);
    given[2 * 5] = given[2 * 9] = 0;
    return given;
  };
  const auto plan =
      plan_removal(model, channels, {PruneTargetKind::kRatio, 0.125},
                   {.importance = Importance::kGiven, .round_to = 2, .scores = scores});
  ASSERT_TRUE(plan) << plan.error().message;
  EXPECT_THAT(removed(plan->removal[0]), ElementsAre(5, 9));
  const auto short_scores = plan_removal(
      model, channels, {PruneTargetKind::kRatio, 0.5},
      {.importance = Importance::kGiven, .scores = [](std::string_view) { return Floats(3); }});
  EXPECT_EQ(short_scores.error().code, ErrorCode::kInvalidArgument);
}

TEST(PlanRemoval, MeetsTargetsOfWorkAndSize) {
  const auto model = two_layers(32).build();
  const auto channels = analyse(model);
  for (const auto kind : {PruneTargetKind::kMacs, PruneTargetKind::kParameters}) {
    const auto plan = plan_removal(model, channels, {kind, 0.6}, {.round_to = 8});
    ASSERT_TRUE(plan) << plan.error().message;
    EXPECT_DOUBLE_EQ(plan->reached, 0.5);  // 16 of 32 channels: 24 would be too many.
    EXPECT_EQ(removed(plan->removal[0]).size(), 16u);
  }
  const auto impossible =
      plan_removal(model, channels, {PruneTargetKind::kMacs, 0.1}, {.round_to = 8});
  ASSERT_FALSE(impossible);
  EXPECT_THAT(impossible.error().message, HasSubstr("at best 25 %"));
  EXPECT_THAT(impossible.error().message, HasSubstr("multiples of 8"));
}

TEST(PlanRemoval, RoundsFinerWhereTheProcessorsMultipleIsTooCoarse) {
  const auto model = two_layers(32).build();
  const auto channels = analyse(model);
  const auto half = plan_removal(model, channels, {PruneTargetKind::kMacs, 0.5});
  ASSERT_TRUE(half) << half.error().message;
  EXPECT_EQ(half->round_to, preferred_channel_multiple());
  const auto quarter = plan_removal(model, channels, {PruneTargetKind::kMacs, 0.3});
  ASSERT_TRUE(quarter) << quarter.error().message;
  EXPECT_EQ(quarter->round_to, kFineChannelMultiple);
  EXPECT_DOUBLE_EQ(quarter->reached, 0.25);
}

TEST(PlanRemoval, MeetsAMeasuredTarget) {
  const auto model = two_layers(32).build();
  const auto channels = analyse(model);
  // A machine whose time is what is left of the first weight.
  const auto measure = [](const Model& pruned) -> Result<std::chrono::nanoseconds> {
    return std::chrono::nanoseconds(pruned.proto().graph().initializer(0).dims(0));
  };
  const auto plan = plan_removal(model, channels, {PruneTargetKind::kLatency, 0.8},
                                 {.round_to = 8, .measure = measure});
  ASSERT_TRUE(plan) << plan.error().message;
  EXPECT_DOUBLE_EQ(plan->reached, 0.75);
  EXPECT_EQ(plan_removal(model, channels, {PruneTargetKind::kLatency, 0.8}).error().code,
            ErrorCode::kInvalidArgument);
}

TEST(PlanRemoval, AMeasuredTargetOfAMachineThatGetsSlower) {
  const auto model = two_layers(32).build();
  const auto channels = analyse(model);
  double slowness = 1000;
  const auto measure = [&](const Model& pruned) -> Result<std::chrono::nanoseconds> {
    const auto width = static_cast<double>(pruned.proto().graph().initializer(0).dims(0));
    return std::chrono::nanoseconds(static_cast<std::int64_t>(width * (slowness *= 1.05)));
  };
  const auto plan = plan_removal(model, channels, {PruneTargetKind::kLatency, 0.8},
                                 {.round_to = 8, .measure = measure});
  ASSERT_TRUE(plan) << plan.error().message;
  EXPECT_EQ(std::ranges::count(plan->removal[0], true), 8);
  EXPECT_NEAR(plan->reached, 0.75, 0.05);
}

TEST(PlanRemoval, RanksAllGroupsTogether) {
  // In the second group one channel carries nearly everything: globally it loses most.
  Floats flat(32, 1), steep(16 * 16, 0.001f), last(2 * 16, 0.001f);
  for (std::size_t i = 0; i < 16; ++i) steep[i] = 100;
  const auto model = std::move(ModelBuilder()
                                   .input("x", DataType::kFloat32, {1, 2, 1, 1})
                                   .initialiser("w1", {16, 2, 1, 1}, flat)
                                   .initialiser("w2", {16, 16, 1, 1}, steep)
                                   .initialiser("w3", {2, 16, 1, 1}, last)
                                   .node("Conv", {"x", "w1"}, {"a"})
                                   .node("Conv", {"a", "w2"}, {"b"})
                                   .node("Conv", {"b", "w3"}, {"y"})
                                   .output("y", DataType::kFloat32, {1, 2, 1, 1}))
                         .build();
  const auto channels = analyse(model);
  ASSERT_EQ(channels.groups().size(), 2u);
  const auto plan = plan_removal(model, channels, {PruneTargetKind::kRatio, 0.4},
                                 {.is_global = true, .round_to = 1});
  ASSERT_TRUE(plan);
  EXPECT_EQ(removed(plan->removal[0]).size(), 0u);
  EXPECT_EQ(removed(plan->removal[1]).size(), 13u);
  const auto uniform =
      plan_removal(model, channels, {PruneTargetKind::kRatio, 0.5}, {.round_to = 1});
  EXPECT_EQ(removed(uniform->removal[0]).size(), 8u);
  const auto excluded = plan_removal(model, channels, {PruneTargetKind::kRatio, 0.5},
                                     {.round_to = 1, .excluded = {"b"}});
  EXPECT_EQ(removed(excluded->removal[1]).size(), 0u);
  EXPECT_EQ(plan_removal(model, channels, {PruneTargetKind::kRatio, 0.5}, {.excluded = {"c"}})
                .error()
                .code,
            ErrorCode::kInvalidArgument);
}

TEST(PlanRemoval, NeedsKnownSizes) {
  const auto model = std::move(ModelBuilder()
                                   .input("x", DataType::kFloat32, {1, 2, -1, -1})
                                   .initialiser("w1", {16, 2, 1, 1}, Floats(32, 1))
                                   .initialiser("w2", {2, 16, 1, 1}, Floats(32, 1))
                                   .node("Conv", {"x", "w1"}, {"a"})
                                   .node("Conv", {"a", "w2"}, {"y"})
                                   .output("y", DataType::kFloat32, {1, 2, -1, -1}))
                         .build();
  const auto channels = analyse(model);
  const auto plan = plan_removal(model, channels, {PruneTargetKind::kMacs, 0.5});
  ASSERT_FALSE(plan);
  EXPECT_THAT(plan.error().message, HasSubstr("--params"));
  EXPECT_TRUE(plan_removal(model, channels, {PruneTargetKind::kParameters, 0.5}, {.round_to = 8}));
}

TEST(PlanRemoval, WorksOnModelsWhoseWeightsLieBesideThem) {
  const auto folder = std::filesystem::temp_directory_path() /
                      ("prune_channels_test." + std::to_string(::getpid()));
  std::filesystem::create_directories(folder);
  auto original = two_layers(512).build();
  ASSERT_TRUE(original.save(folder / "model.onnx", {.external_data = true}));
  auto model = graph::Model::load(folder / "model.onnx").value();
  ASSERT_EQ(model.proto().graph().initializer(0).data_location(), onnx::TensorProto::EXTERNAL);
  const auto channels = analyse(model);
  const auto plan = plan_removal(model, channels, {PruneTargetKind::kMacs, 0.5});
  ASSERT_TRUE(plan) << plan.error().message;
  ASSERT_TRUE(channels.remove(model, plan->removal));
  ASSERT_TRUE(channels.mask(original, plan->removal));
  const auto same = infer::compare_outputs(runtime(), original, model);
  EXPECT_TRUE(same) << same.error().message;
  std::filesystem::remove_all(folder);
}

TEST(ScanSensitivity, PrunesEachGroupAlone) {
  const auto model = two_layers(32).build();
  const auto channels = analyse(model);
  const std::vector<double> ratios{0.05, 0.25, 0.5};
  const auto count = [](const Model& pruned) -> Result<double> {
    return static_cast<double>(pruned.proto().graph().initializer(1).dims(1));
  };
  const auto found = scan_sensitivity(model, channels, {.round_to = 8}, ratios, count);
  ASSERT_TRUE(found) << found.error().message;
  ASSERT_EQ(found->size(), 1u);
  ASSERT_EQ((*found)[0].points.size(), 2u);  // 0.05 is rounded away.
  EXPECT_EQ((*found)[0].points[0].metric, 24);
  EXPECT_EQ((*found)[0].points[1].ratio, 0.5);
}

}  // namespace
}  // namespace selvage::compress
