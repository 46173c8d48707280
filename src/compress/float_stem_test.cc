#include "compress/float_stem.h"

#include <gmock/gmock.h>

#include "compress/quantize_testing.h"

namespace selvage::compress {
namespace {

using ::testing::ElementsAre;
using ::testing::IsEmpty;
using namespace testing;  // NOLINT(google-build-using-namespace): of the tests only.

/// conv -> relu -> pool -> conv, with the first of `channels` inputs.
graph::testing::ModelBuilder stem_network(std::int64_t channels = 1) {
  graph::testing::ModelBuilder builder;
  builder.input("x", DataType::kFloat32, {2, channels, 9, 9})
      .initialiser("w1", {8, channels, 3, 3},
                   random_floats(static_cast<std::size_t>(72 * channels), 1))
      .initialiser("b1", {8}, random_floats(8, 2))
      .initialiser("w2", {4, 8, 1, 1}, random_floats(32, 3))
      .node("Conv", {"x", "w1", "b1"}, {"c"}, {{"pads", Shape{1, 1, 1, 1}}})
      .node("Relu", {"c"}, {"r"})
      .node("MaxPool", {"r"}, {"p"},
            {{"kernel_shape", Shape{2, 2}}, {"strides", Shape{2, 2}}, {"pads", Shape{1, 1, 0, 0}}})
      .node("Conv", {"p", "w2"}, {"y"})
      .output("y", DataType::kFloat32, {2, 4, 5, 5});
  return builder;
}

TEST(FloatStem, TakesPlacesThatComputeTheSame) {
  const auto original = stem_network().build();
  auto model = original.copy();
  StaticOptions options{.activations = DataType::kUint8};
  EXPECT_EQ(keep_stem_in_float(model, options).size(), 3u);
  EXPECT_EQ(options.selection.excluded_nodes.size(), 3u);
  const auto& nodes = model.proto().graph().node();
  EXPECT_EQ(nodes[1].op_type(), "MaxPool");
  EXPECT_EQ(nodes[2].op_type(), "Relu");
  EXPECT_EQ(nodes[2].output(0), "p");
  EXPECT_EQ(run(original).value(), run(model).value());

  const auto report = quantize(model, options);
  ASSERT_TRUE(report) << report.error().message;
  EXPECT_EQ(report->quantized_nodes, 1u);
  EXPECT_EQ(count_nodes(model, "Relu"), 1);
  EXPECT_GT(sqnr(original, model), 30);
  StaticOptions again{.activations = DataType::kUint8};
  EXPECT_THAT(keep_stem_in_float(model, again), IsEmpty()) << "the pool comes first now";
}

TEST(FloatStem, LeavesOthersAlone) {
  const auto untouched = [](const graph::Model& original, StaticOptions options) {
    auto model = original.copy();
    const bool nothing = keep_stem_in_float(model, options).empty();
    return nothing && model.serialise().value() == original.serialise().value();
  };
  const StaticOptions plain{.activations = DataType::kUint8};
  EXPECT_FALSE(untouched(stem_network(3).build(), plain));
  EXPECT_TRUE(untouched(stem_network(4).build(), plain)) << "integer kernels are fast in fours";
  EXPECT_TRUE(untouched(stem_network(17).build(), plain)) << "153 products are many";
  const auto model = stem_network().build();
  EXPECT_TRUE(untouched(model, {.activations = DataType::kUint16}));
  EXPECT_TRUE(untouched(model, {.weights = DataType::kInt4}));
  EXPECT_TRUE(untouched(model, {.selection = {.nodes = {"#1"}}}));
  EXPECT_TRUE(untouched(model, {.overrides = {{"r", {.max = 3.0f}}}}));
  auto read_twice = stem_network();
  read_twice.output("r", DataType::kFloat32, {2, 8, 9, 9});
  EXPECT_TRUE(untouched(read_twice.build(), plain)) << "somebody wants what lies between";
  EXPECT_TRUE(untouched(small_network().build(), plain)) << "no pool";
}

}  // namespace
}  // namespace selvage::compress
