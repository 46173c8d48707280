#include "compress/prune_weights.h"

#include <fstream>

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <nlohmann/json.hpp>
#include <selvage/onnx.pb.h>

#include "graph/testing.h"
#include "graph/values.h"

namespace selvage::compress {
namespace {

using graph::Model;
using graph::testing::ModelBuilder;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using Floats = std::vector<float>;

nlohmann::json golden() {
  std::ifstream file(SELVAGE_SOURCE_DIR "/tests/golden/prune/expected.json");
  return nlohmann::json::parse(file);
}

/// One MatMul for each weight.
Model model_of(const nlohmann::json& weights) {
  ModelBuilder builder;
  int i = 0;
  for (const auto& weight : weights) {
    const auto number = std::to_string(i++);
    const auto shape = weight["shape"].get<Shape>();
    builder.input("x" + number, DataType::kFloat32, {1, shape[0]});
    builder.initialiser("w" + number, shape, weight["values"].get<Floats>());
    builder.node("MatMul", {"x" + number, "w" + number}, {"y" + number});
    builder.output("y" + number, DataType::kFloat32, {1, shape[1]});
  }
  return builder.build();
}

Floats values_of(const Model& model, int tensor) {
  return graph::read_floats(model.proto().graph().initializer(tensor), {}).value();
}

TEST(PruneWeights, MasksAreThoseOfTorch) {
  const auto expected = golden();
  std::size_t compared = 0;
  for (const auto& test : expected["cases"]) {
    auto label = test;
    label.erase("masks");
    SCOPED_TRACE(label.dump());
    auto model = model_of(expected["weights"]);
    for (const auto& amount : test["amounts"]) {
      PruneWeightsOptions options{
          .criterion = test["method"] == "l1" ? WeightCriterion::kL1 : WeightCriterion::kRandom,
          .is_global = test["global"].get<bool>(),
          .seed = test["seed"].get<std::uint64_t>()};
      if (amount.is_number_integer())
        options.amount = amount.get<std::uint64_t>();
      else
        options.amount = amount.get<double>();
      const auto pruned = prune_weights(model, options);
      ASSERT_TRUE(pruned) << pruned.error().message;
    }
    for (std::size_t t = 0; t < expected["weights"].size(); ++t) {
      const auto original = expected["weights"][t]["values"].get<Floats>();
      const auto mask = test["masks"][t].get<std::vector<int>>();
      const auto values = values_of(model, static_cast<int>(t));
      ASSERT_EQ(values.size(), mask.size());
      for (std::size_t i = 0; i < mask.size(); ++i)
        EXPECT_EQ(values[i], mask[i] != 0 ? original[i] : 0) << t << ", " << i;
      ++compared;
    }
  }
  EXPECT_GT(compared, 100u);
}

Model one_weight(std::string_view type, const Shape& shape, const Floats& values,
                 const std::vector<graph::testing::Attribute>& attributes = {}) {
  return std::move(ModelBuilder()
                       .input("x", DataType::kFloat32, {1, 1})
                       .initialiser("w", shape, values)
                       .node(type, {"x", "w"}, {"y"}, attributes)
                       .output("y", DataType::kFloat32, {1, 1}))
      .build();
}

TEST(PruneWeights, OfEqualOnesTakesTheFirst) {
  auto model = one_weight("MatMul", {2, 3}, {1, -1, 1, 2, -1, 0});
  ASSERT_TRUE(prune_weights(model, {.amount = std::uint64_t{3}}));
  EXPECT_THAT(values_of(model, 0), ElementsAre(0, 0, 0, 2, -1, 0));
}

TEST(PruneWeights, KeepsNOfMAlongTheInputs) {
  const PruneWeightsOptions two_of_four{.criterion = WeightCriterion::kNOfM};
  auto matmul = one_weight("MatMul", {4, 2}, {1, 8, 2, 7, 3, 6, 4, 5});
  ASSERT_TRUE(prune_weights(matmul, two_of_four));
  EXPECT_THAT(values_of(matmul, 0), ElementsAre(0, 8, 0, 7, 3, 0, 4, 0));
  auto gemm = one_weight("Gemm", {1, 6}, {1, -8, 2, 2, 3, 6}, {{"transB", std::int64_t{1}}});
  ASSERT_TRUE(prune_weights(gemm, two_of_four));
  EXPECT_THAT(values_of(gemm, 0), ElementsAre(0, -8, 2, 0, 3, 6));
  auto conv = one_weight("Conv", {1, 4, 1, 2}, {1, 8, 2, 7, 3, 6, 4, 5});
  ASSERT_TRUE(prune_weights(conv, two_of_four));
  EXPECT_THAT(values_of(conv, 0), ElementsAre(0, 8, 0, 7, 3, 0, 4, 0));
}

TEST(PruneWeights, SaysWhatItLeavesAlone) {
  auto builder = graph::testing::matmul_model();
  builder.initialiser("v", {2, 2}, Floats{1, 2, 3, 4}).node("MatMul", {"y", "v"}, {"z"});
  builder.input("v", DataType::kFloat32, {2, 2}).output("z", DataType::kFloat32, {-1, 2});
  auto model = builder.build();
  const auto report = prune_weights(model, {.amount = 0.5});
  ASSERT_TRUE(report);
  ASSERT_EQ(report->skipped.size(), 1u);
  EXPECT_EQ(report->skipped[0].name, "v");
  ASSERT_EQ(report->after.size(), 1u);
  EXPECT_EQ(report->before[0].zeros, 0u);
  EXPECT_EQ(report->after[0].zeros, 4u);
}

TEST(PruneWeights, RefusesWhatMakesNoSense) {
  const auto original = graph::testing::matmul_model().build();
  const auto expect_refusal = [&](const PruneWeightsOptions& options, const char* about) {
    auto model = original.copy();
    const auto report = prune_weights(model, options);
    ASSERT_FALSE(report) << about;
    EXPECT_EQ(report.error().code, ErrorCode::kInvalidArgument);
    EXPECT_THAT(report.error().message, HasSubstr(about));
    EXPECT_EQ(model.serialise().value(), original.serialise().value());
  };
  expect_refusal({.amount = 1.5}, "fraction");
  expect_refusal({.amount = std::nan("")}, "fraction");
  expect_refusal({.amount = std::uint64_t{9}}, "cannot prune 9");
  expect_refusal({.amount = std::uint64_t{9}, .is_global = true}, "cannot prune 9");
  expect_refusal({.criterion = WeightCriterion::kNOfM, .n = 5, .m = 4}, "5:4");
  expect_refusal({.criterion = WeightCriterion::kNOfM, .n = 0, .m = 0}, "0:0");
  expect_refusal({.excluded = {"nobody"}}, "'nobody'");
}

TEST(PruneWeights, TakesNanForLarge) {
  auto model = one_weight("MatMul", {2, 2}, {std::nanf(""), 1, INFINITY, 2});
  ASSERT_TRUE(prune_weights(model, {.amount = 0.5}));
  const auto values = values_of(model, 0);
  EXPECT_TRUE(std::isnan(values[0]));
  EXPECT_EQ(values[1], 0);
  EXPECT_EQ(values[2], INFINITY);
  EXPECT_EQ(values[3], 0);
}

}  // namespace
}  // namespace selvage::compress
