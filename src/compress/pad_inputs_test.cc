#include "compress/pad_inputs.h"

#include "compress/quantize_testing.h"
#include "graph/index.h"
#include "graph/values.h"

namespace selvage::compress {
namespace {

using namespace testing;  // NOLINT(google-build-using-namespace): of the tests only.

/// Another kernel computes it, which may round a tie the other way.
constexpr double kSameDb = 40;

const onnx::TensorProto* first_weight(const graph::Model& model) {
  const auto& graph = model.proto().graph();
  const graph::Index index(graph);
  for (const auto& node : graph.node()) {
    if (node.op_type() != "Conv") continue;
    const auto& dequantizer = graph.node(index.producer(node.input(1)));
    return &graph.initializer(index.constant(dequantizer.input(0)));
  }
  return nullptr;
}

TEST(PadThinInputs, ComputesTheSameWithFourChannels) {
  for (const bool per_channel : {false, true}) {
    auto model = small_network().build();
    ASSERT_TRUE(quantize(model, {.activations = DataType::kUint8, .per_channel = per_channel}));
    const auto before = model.copy();
    EXPECT_EQ(pad_thin_inputs(model), 1u);
    EXPECT_EQ(count_nodes(model, "Pad"), 1);
    const auto* weight = first_weight(model);
    ASSERT_NE(weight, nullptr);
    EXPECT_EQ(graph::shape_of(*weight), (Shape{8, 4, 3, 3}));
    EXPECT_GT(sqnr(before, model), kSameDb);
    EXPECT_EQ(pad_thin_inputs(model), 0u);  // Four are enough.
    const auto again = quantize(model);
    ASSERT_FALSE(again);
    EXPECT_NE(again.error().message.find("already quantised"), std::string::npos);
  }
}

TEST(PadThinInputs, LeavesInputsAloneThatSomethingElseReads) {
  graph::testing::ModelBuilder builder;
  builder.input("x", DataType::kFloat32, {1, 3, 8, 8})
      .initialiser("w", {3, 3, 1, 1}, random_floats(9, 1))
      .node("Conv", {"x", "w"}, {"c"})
      .node("Add", {"c", "x"}, {"y"})
      .output("y", DataType::kFloat32, {1, 3, 8, 8});
  auto model = builder.build();
  ASSERT_TRUE(quantize(model, {.activations = DataType::kUint8}));
  EXPECT_EQ(pad_thin_inputs(model), 0u);
  auto is_signed = small_network().build();
  ASSERT_TRUE(quantize(is_signed, {.activations = DataType::kInt8}));
  EXPECT_EQ(pad_thin_inputs(is_signed), 0u);
  auto floats = small_network().build();
  EXPECT_EQ(pad_thin_inputs(floats), 0u);
}

}  // namespace
}  // namespace selvage::compress
