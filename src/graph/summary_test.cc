#include "graph/summary.h"

#include <filesystem>

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <selvage/onnx.pb.h>

#include "graph/testing.h"

namespace selvage::graph {
namespace {

namespace fs = std::filesystem;
using testing::Attribute;
using ::testing::ElementsAre;
using testing::ModelBuilder;
using Ints = std::vector<std::int64_t>;

/// The MACs of one node whose values have these shapes; empty if unknown.
std::optional<std::uint64_t> macs_of(std::string_view type, const std::vector<Shape>& inputs,
                                     const std::vector<Shape>& outputs,
                                     const std::vector<Attribute>& attributes = {},
                                     std::string_view domain = "") {
  ModelBuilder builder;
  ShapeMap shapes;
  std::vector<std::string> input_names;
  std::vector<std::string> output_names;
  for (std::size_t i = 0; i < inputs.size(); ++i) {
    input_names.push_back("i" + std::to_string(i));
    shapes[input_names.back()] = inputs[i];
  }
  for (std::size_t i = 0; i < outputs.size(); ++i) {
    output_names.push_back("o" + std::to_string(i));
    shapes[output_names.back()] = outputs[i];
  }
  const auto model = builder.node(type, input_names, output_names, attributes, domain).build();
  const auto summary = summarise(model, shapes, {.batch = 2});
  EXPECT_EQ(summary.multipliers.size(), 1u) << type;
  return summary.multipliers.empty() ? std::nullopt : summary.multipliers[0].macs;
}

TEST(Macs, OfConvolutions) {
  // 2 images, 8 channels of 5x5 out, 4 in, 3x3 kernel.
  const auto expected = 2u * 8 * 5 * 5 * 4 * 3 * 3;
  EXPECT_EQ(macs_of("Conv", {{2, 4, 7, 7}, {8, 4, 3, 3}}, {{2, 8, 5, 5}}), expected);
  EXPECT_EQ(macs_of("ConvInteger", {{2, 4, 7, 7}, {8, 4, 3, 3}}, {{2, 8, 5, 5}}), expected);
  EXPECT_EQ(macs_of("QLinearConv", {{2, 4, 7, 7}, {}, {}, {8, 4, 3, 3}}, {{2, 8, 5, 5}}), expected);
  EXPECT_EQ(macs_of("FusedConv", {{2, 4, 7, 7}, {8, 4, 3, 3}}, {{2, 8, 5, 5}}, {}, "com.microsoft"),
            expected);
  // Depthwise: each of 4 channels by its own 3x3.
  EXPECT_EQ(macs_of("Conv", {{1, 4, 7, 7}, {4, 1, 3, 3}}, {{1, 4, 5, 5}}, {{"group", 4L}}),
            4u * 5 * 5 * 3 * 3);
  // 1D, and an open batch.
  EXPECT_EQ(macs_of("Conv", {{-1, 1, 100}, {16, 1, 5}}, {{-1, 16, 96}}), 2u * 16 * 96 * 5);
  EXPECT_EQ(macs_of("Conv", {{1, 3, -1, -1}, {8, 3, 3, 3}}, {{1, 8, -1, -1}}), std::nullopt);
  // Every input pixel of 4 channels spreads over 6 channels of 2x2.
  EXPECT_EQ(macs_of("ConvTranspose", {{1, 4, 7, 7}, {4, 6, 2, 2}}, {{1, 6, 14, 14}}),
            4u * 7 * 7 * 6 * 2 * 2);
}

TEST(Macs, OfMatrixProducts) {
  EXPECT_EQ(macs_of("Gemm", {{5, 7}, {7, 3}}, {{5, 3}}), 5u * 7 * 3);
  EXPECT_EQ(macs_of("Gemm", {{7, 5}, {3, 7}}, {{5, 3}}, {{"transA", 1L}, {"transB", 1L}}),
            5u * 7 * 3);
  EXPECT_EQ(macs_of("QGemm", {{5, 7}, {}, {}, {7, 3}}, {{5, 3}}, {}, "com.microsoft"), 5u * 7 * 3);
  EXPECT_EQ(macs_of("MatMul", {{5, 7}, {7, 3}}, {}), 5u * 7 * 3);
  EXPECT_EQ(macs_of("MatMul", {{7}, {7, 3}}, {}), 7u * 3);
  EXPECT_EQ(macs_of("MatMul", {{5, 7}, {7}}, {}), 5u * 7);
  EXPECT_EQ(macs_of("MatMul", {{7}, {7}}, {}), 7u);
  EXPECT_EQ(macs_of("MatMul", {{4, 1, 5, 7}, {6, 7, 3}}, {}), 4u * 6 * 5 * 7 * 3);
  EXPECT_EQ(macs_of("MatMul", {{-1, 5, 7}, {7, 3}}, {}), 2u * 5 * 7 * 3);
  EXPECT_EQ(macs_of("MatMul", {{2, -1, 7}, {7, 3}}, {}), std::nullopt);
  EXPECT_EQ(macs_of("QLinearMatMul", {{5, 7}, {}, {}, {7, 3}}, {}), 5u * 7 * 3);
  EXPECT_EQ(macs_of("MatMulInteger", {{5, 7}, {7, 3}}, {}), 5u * 7 * 3);
  EXPECT_EQ(macs_of("FusedMatMul", {{2, 7, 5}, {2, 3, 7}}, {}, {{"transA", 1L}, {"transB", 1L}},
                    "com.microsoft"),
            2u * 5 * 7 * 3);
  EXPECT_EQ(macs_of("MatMulNBits", {{1, 5, 64}, {3, 2, 16}, {6}}, {}, {{"K", 64L}, {"N", 3L}},
                    "com.microsoft"),
            5u * 64 * 3);
  EXPECT_EQ(macs_of("Einsum", {{2, 5, 7}, {2, 7, 3}}, {}, {{"equation", "bij, bjk -> bik"}}),
            2u * 5 * 7 * 3);
  EXPECT_EQ(macs_of("Einsum", {{5, 7}}, {}, {{"equation", "ij->i"}}), 0u);
  EXPECT_EQ(macs_of("Einsum", {{5, 7}, {7}}, {}, {{"equation", "...j,j"}}), std::nullopt);
  // 2^62 * 4 overflows, and that is not a number.
  EXPECT_EQ(macs_of("MatMul", {{1LL << 31, 1LL << 31}, {1LL << 31, 4}}, {}), std::nullopt);
}

TEST(Macs, OfRecurrentLayersAndAttention) {
  // 10 steps, 2 samples, 6 inputs, 8 hidden, both directions, 4 gates.
  EXPECT_EQ(macs_of("LSTM", {{10, 2, 6}, {2, 32, 6}, {2, 32, 8}}, {}),
            2u * 10 * 2 * 4 * 8 * (6 + 8));
  EXPECT_EQ(macs_of("GRU", {{10, -1, 6}, {1, 24, 6}, {1, 24, 8}}, {}), 10u * 2 * 3 * 8 * (6 + 8));
  EXPECT_EQ(macs_of("RNN", {{-1, 2, 6}, {1, 8, 6}, {1, 8, 8}}, {}), std::nullopt);
  EXPECT_EQ(macs_of("RNN", {{-1, 10, 6}, {1, 8, 6}, {1, 8, 8}}, {}, {{"layout", 1L}}),
            2u * 10 * 8 * (6 + 8));
  // Projection of [2, 5, 16] to 48, then scores and sums of 5 x 5 over a width of 16 each.
  EXPECT_EQ(macs_of("Attention", {{2, 5, 16}, {16, 48}}, {}, {}, "com.microsoft"),
            2u * 5 * 16 * 48 + 2u * 5 * 5 * (16 + 16));
  EXPECT_EQ(macs_of("MultiHeadAttention", {{2, 5, 16}, {2, 9, 16}, {2, 9, 24}}, {{2, 5, 24}}, {},
                    "com.microsoft"),
            2u * 5 * 9 * (16 + 24));
  EXPECT_EQ(macs_of("Attention", {{2, 4, 5, 8}, {2, 2, 9, 8}, {2, 2, 9, 8}}, {{2, 4, 5, 8}}),
            2u * 5 * 9 * (32 + 32));
  EXPECT_EQ(macs_of("MoE", {{2, 2}}, {}, {}, "com.microsoft"), std::nullopt);
}

TEST(Macs, ElementwiseOperatorsCountNothing) {
  const auto summary = summarise(testing::add_model().build());
  EXPECT_TRUE(summary.multipliers.empty());
  EXPECT_EQ(summary.macs, 0u);
  EXPECT_EQ(summary.macs_unknown, 0u);
}

TEST(Summary, SaysWhatIsInAModel) {
  auto builder = testing::conv_model();
  auto& model = builder.proto();
  model.set_producer_version("1.0");
  auto& entry = *model.add_metadata_props();
  entry.set_key("author");
  entry.set_value("somebody");
  builder.input("w", DataType::kFloat32, {4, 3, 3, 3}).opset("com.microsoft", 1);
  model.mutable_graph()
      ->mutable_input(0)
      ->mutable_type()
      ->mutable_tensor_type()
      ->mutable_shape()
      ->mutable_dim(0)
      ->set_dim_param("batch");
  const auto summary = summarise(builder.build());
  EXPECT_EQ(summary.ir_version, 8);
  EXPECT_EQ(summary.producer, "selvage 1.0");
  EXPECT_THAT(summary.opsets, ElementsAre(std::pair("", 17), std::pair("com.microsoft", 1)));
  EXPECT_THAT(summary.metadata, ElementsAre(std::pair("author", "somebody")));
  ASSERT_EQ(summary.inputs.size(), 1u) << "an initialiser is no input";
  EXPECT_EQ(summary.inputs[0].name, "x");
  EXPECT_EQ(summary.inputs[0].type, "float32");
  ASSERT_TRUE(summary.inputs[0].shape);
  EXPECT_EQ((*summary.inputs[0].shape)[0].symbol, "batch");
  EXPECT_EQ((*summary.inputs[0].shape)[0].size, -1);
  EXPECT_EQ((*summary.inputs[0].shape)[3].size, 8);
  ASSERT_EQ(summary.parameters.size(), 1u);
  EXPECT_EQ(summary.parameters[0].type, DataType::kFloat32);
  EXPECT_EQ(summary.parameter_count, 4u * 3 * 3 * 3);
  EXPECT_EQ(summary.parameter_bytes, 4u * 4 * 3 * 3 * 3);
  EXPECT_EQ(summary.nodes, 1u);
  EXPECT_EQ(summary.macs, 4u * 8 * 8 * 3 * 3 * 3);
}

TEST(Summary, ResolvedShapesWinOverDeclaredOnes) {
  EXPECT_EQ(summarise(testing::matmul_model().build()).macs, 1u * 4 * 2);
  EXPECT_EQ(summarise(testing::matmul_model().build(), {}, {.batch = 8}).macs, 8u * 4 * 2);
  EXPECT_EQ(summarise(testing::matmul_model().build(), {{"x", {16, 4}}}).macs, 16u * 4 * 2);
}

TEST(Summary, CountsSubgraphsAndFunctions) {
  auto builder = testing::matmul_model();
  auto& model = builder.proto();
  auto& function = *model.add_functions();
  function.set_domain("local");
  function.set_name("Project");
  function.add_node()->set_op_type("MatMul");
  builder.node("Project", {"x"}, {"p"}, {}, "local").node("If", {"c"}, {"q"});
  auto& attribute = *model.mutable_graph()->mutable_node(2)->add_attribute();
  auto& inner = *attribute.mutable_g()->add_node();
  inner.set_op_type("MatMul");
  inner.add_input("x");  // Of the graph around it.
  inner.add_input("w");
  inner.add_output("r");
  auto& constant = *attribute.mutable_g()->add_node();
  constant.set_op_type("Constant");
  constant.add_output("k");
  auto& tensor = *constant.add_attribute()->mutable_t();
  tensor.set_data_type(onnx::TensorProto::INT8);
  tensor.add_dims(10);
  const auto built = builder.build();
  const auto summary = summarise(built);
  EXPECT_EQ(summary.nodes, 5u);
  EXPECT_EQ(summary.macs, 2u * (4 * 2));
  EXPECT_EQ(summary.macs_unknown, 1u) << "the function multiplies";
  EXPECT_EQ(summary.parameter_count, 8u + 10u);
  EXPECT_THAT(summary.functions, ElementsAre("local:Project"));
  ASSERT_FALSE(summary.operators.empty());
  EXPECT_EQ(summary.operators[0].type, "MatMul");
  EXPECT_EQ(summary.operators[0].count, 2u);
  EXPECT_THAT(operators(built),
              ElementsAre(Operator{"", "Constant"}, Operator{"", "If"}, Operator{"", "MatMul"}));
}

/// MACs of BlazeFace's convolutions, counted another way than summary.h says: forward from the
/// declared input of each, through strides and pads, output element by output element.
std::uint64_t count_convolutions(const onnx::GraphProto& graph) {
  std::map<std::string, Ints> shapes;
  const auto declare = [&](const auto& values) {
    for (const auto& value : values)
      for (const auto& dimension : value.type().tensor_type().shape().dim())
        shapes[value.name()].push_back(dimension.dim_value());
  };
  declare(graph.input());
  declare(graph.value_info());
  for (const auto& tensor : graph.initializer())
    shapes[tensor.name()] = {tensor.dims().begin(), tensor.dims().end()};
  std::uint64_t macs = 0;
  for (const auto& node : graph.node()) {
    if (node.op_type() != "Conv") continue;
    const auto& x = shapes.at(node.input(0));
    const auto& w = shapes.at(node.input(1));
    std::map<std::string, Ints> attributes;
    std::int64_t groups = 1;
    for (const auto& attribute : node.attribute()) {
      attributes[attribute.name()] = {attribute.ints().begin(), attribute.ints().end()};
      if (attribute.name() == "group") groups = attribute.i();
    }
    auto outputs = static_cast<std::uint64_t>(w[0]);
    for (std::size_t axis = 0; axis < 2; ++axis) {
      const auto& pads = attributes["pads"];
      const auto stride = attributes["strides"].empty() ? 1 : attributes["strides"][axis];
      const auto padded = x[2 + axis] + (pads.empty() ? 0 : pads[axis] + pads[axis + 2]);
      outputs *= static_cast<std::uint64_t>((padded - w[2 + axis]) / stride + 1);
    }
    macs += outputs * static_cast<std::uint64_t>(x[1] / groups * w[2] * w[3]);
  }
  return macs;
}

TEST(Summary, OfBlazeFaceAgreesWithAnIndependentCount) {
  const fs::path path = fs::path(SELVAGE_DEPS_DIR) / "models" / "blazeface-front" / "model.onnx";
  if (!fs::exists(path)) GTEST_SKIP() << path << " is missing: run `make setup`";
  const auto model = Model::load(path);
  ASSERT_TRUE(model) << model.error().message;
  const auto summary = summarise(*model);
  EXPECT_EQ(summary.macs_unknown, 0u);
  EXPECT_EQ(summary.macs, count_convolutions(model->proto().graph()));
  EXPECT_EQ(summary.macs, 30'760'960u);  // By onnx.shape_inference, too.
  EXPECT_GE(summary.parameter_count, 100'000u);
  EXPECT_LT(summary.parameter_count, 110'000u);
}

}  // namespace
}  // namespace selvage::graph
