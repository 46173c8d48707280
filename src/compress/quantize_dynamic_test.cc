#include "compress/quantize_dynamic.h"

#include "compress/quantize_testing.h"
#include "graph/values.h"

namespace selvage::compress {
namespace {

using graph::testing::Attribute;
using graph::testing::ModelBuilder;
using namespace testing;  // NOLINT(google-build-using-namespace): of the tests only.

void expect_close(const graph::Model& original, const DynamicOptions& options, double least_db) {
  auto model = original.copy();
  const auto report = quantize_dynamic(model, options);
  ASSERT_TRUE(report) << report.error().message;
  EXPECT_GT(report->quantized_nodes, 0u);
  EXPECT_GT(sqnr(original, model), least_db);
}

TEST(QuantizeDynamic, MatMulsShareTheQuantisedActivation) {
  const auto original = ModelBuilder()
                            .input("x", DataType::kFloat32, {-1, 32})
                            .initialiser("w1", {32, 16}, random_floats(512, 1))
                            .initialiser("w2", {32, 16}, random_floats(512, 2))
                            .node("MatMul", {"x", "w1"}, {"y"})
                            .node("MatMul", {"x", "w2"}, {"z"})
                            .output("y", DataType::kFloat32, {-1, 16})
                            .output("z", DataType::kFloat32, {-1, 16})
                            .build();
  for (const bool per_channel : {false, true})
    for (const auto type : {DataType::kInt8, DataType::kUint8})
      expect_close(original, {.weights = type, .per_channel = per_channel}, 28);
  auto model = original.copy();
  ASSERT_TRUE(quantize_dynamic(model));
  EXPECT_EQ(count_nodes(model, "DynamicQuantizeLinear"), 1);
}

TEST(QuantizeDynamic, GemmKeepsItsScaleTranspositionAndBias) {
  const auto original =
      ModelBuilder()
          .input("x", DataType::kFloat32, {4, 32})
          .initialiser("w", {16, 32}, random_floats(512, 1))
          .initialiser("b", {16}, random_floats(16, 2, 5))
          .node("Gemm", {"x", "w", "b"}, {"y"}, {{"alpha", 0.25f}, {"transB", std::int64_t{1}}})
          .output("y", DataType::kFloat32, {4, 16})
          .build();
  expect_close(original, {}, 30);
  expect_close(original, {.per_channel = true}, 30);
}

TEST(QuantizeDynamic, RecurrentLayers) {
  const std::vector<Attribute> attributes{{"hidden_size", std::int64_t{8}},
                                          {"direction", std::string("bidirectional")}};
  const auto original = ModelBuilder()
                            .input("x", DataType::kFloat32, {5, 2, 16})
                            .initialiser("w", {2, 32, 16}, random_floats(1024, 1, 0.3f))
                            .initialiser("r", {2, 32, 8}, random_floats(512, 2, 0.3f))
                            .initialiser("b", {2, 64}, random_floats(128, 3, 0.3f))
                            .node("LSTM", {"x", "w", "r", "b"}, {"y", "", ""}, attributes)
                            .output("y", DataType::kFloat32, {5, 2, 2, 8})
                            .build();
  expect_close(original, {}, 28);
  expect_close(original, {.per_channel = true}, 28);
}

TEST(QuantizeDynamic, RecurrentLayersThatTheRuntimeComputesInFloat) {
  for (const auto& [type, gates] : {std::pair("GRU", 3), std::pair("RNN", 1)}) {
    SCOPED_TRACE(type);
    const auto rows = std::int64_t{gates} * 8;
    const auto count = static_cast<std::size_t>(2 * rows);
    const std::vector<Attribute> attributes{{"hidden_size", std::int64_t{8}},
                                            {"direction", std::string("bidirectional")}};
    const auto original = ModelBuilder()
                              .input("x", DataType::kFloat32, {5, 2, 16})
                              .initialiser("w", {2, rows, 16}, random_floats(count * 16, 1, 0.3f))
                              .initialiser("r", {2, rows, 8}, random_floats(count * 8, 2, 0.3f))
                              .initialiser("b", {2, 2 * rows}, random_floats(count * 2, 3, 0.3f))
                              .node(type, {"x", "w", "r", "b"}, {"y", ""}, attributes)
                              .output("y", DataType::kFloat32, {5, 2, 2, 8})
                              .build();
    for (const bool per_channel : {false, true}) {
      expect_close(original, {.per_channel = per_channel}, 38);
      auto model = original.copy();
      const auto report = quantize_dynamic(model, {.per_channel = per_channel});
      ASSERT_TRUE(report) << report.error().message;
      EXPECT_EQ(report->quantized_nodes, 1u);
      EXPECT_EQ(report->quantized_weights, 2u);
      std::size_t floats = 0;
      for (const auto& tensor : model.proto().graph().initializer())
        if (graph::type_of(tensor) == DataType::kFloat32)
          floats += static_cast<std::size_t>(element_count(graph::shape_of(tensor)).value());
      EXPECT_EQ(floats, count * 2 + (per_channel ? 2 * count : 4)) << "the bias and the scales";
    }
  }
}

TEST(QuantizeDynamic, GatherReadsAnIntegerTable) {
  const auto original = ModelBuilder()
                            .input("i", DataType::kInt64, {3})
                            .initialiser("table", {50, 8}, random_floats(400, 1))
                            .node("Gather", {"table", "i"}, {"y"})
                            .output("y", DataType::kFloat32, {3, 8})
                            .build();
  auto model = original.copy();
  ASSERT_TRUE(quantize_dynamic(model));
  EXPECT_GT(sqnr(original, model), 30);
  EXPECT_EQ(graph::type_of(model.proto().graph().initializer(0)), DataType::kInt8);
}

TEST(QuantizeDynamic, WeightsInConstantNodesLeaveWithThem) {
  auto builder = graph::testing::matmul_model();
  auto& graph = *builder.proto().mutable_graph();
  onnx::NodeProto constant;
  constant.set_op_type("Constant");
  constant.add_output("w");
  auto& value = *constant.add_attribute();
  value.set_name("value");
  value.set_type(onnx::AttributeProto::TENSOR);
  *value.mutable_t() = graph.initializer(0);
  graph.clear_initializer();
  const auto product = graph.node(0);
  *graph.mutable_node(0) = constant;
  *graph.add_node() = product;
  const auto original = builder.build();
  auto model = original.copy();
  ASSERT_TRUE(quantize_dynamic(model));
  EXPECT_EQ(count_nodes(model, "Constant"), 0);
  EXPECT_GT(sqnr(original, model), 28);
}

TEST(QuantizeDynamic, ConvolutionsOnlyWhereTheyAreNamed) {
  const auto original = small_network().build();
  auto model = original.copy();
  const auto report = quantize_dynamic(model);
  ASSERT_TRUE(report) << report.error().message;
  EXPECT_EQ(report->quantized_nodes, 1u) << "the Gemm";
  EXPECT_EQ(report->kept.size(), 2u) << "both Convs";
  expect_close(original, {.selection = {.types = {"Conv"}}}, 24);
}

TEST(QuantizeDynamic, OlderOperatorSetsAreRaised) {
  auto builder = graph::testing::matmul_model();
  builder.proto().mutable_opset_import(0)->set_version(9);
  expect_close(builder.build(), {}, 28);
}

TEST(QuantizeDynamic, RefusesWhatHasNothing) {
  auto model = graph::testing::identity_model().build();
  const auto before = model.serialise();
  const auto report = quantize_dynamic(model);
  ASSERT_FALSE(report);
  EXPECT_EQ(report.error().code, ErrorCode::kFailedPrecondition);
  EXPECT_EQ(*model.serialise(), *before);
  EXPECT_FALSE(quantize_dynamic(model, {.weights = DataType::kInt16}));
}

}  // namespace
}  // namespace selvage::compress
