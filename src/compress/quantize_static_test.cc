#include "compress/quantize_static.h"

#include <limits>
#include <map>

#include "compress/quantize_testing.h"
#include "graph/values.h"

namespace selvage::compress {
namespace {

using graph::testing::ModelBuilder;
using namespace testing;  // NOLINT(google-build-using-namespace): of the tests only.

const KeptNode* kept(const QuantizationReport& report, std::string_view type) {
  const auto found = std::ranges::find(report.kept, type, &KeptNode::type);
  return found == report.kept.end() ? nullptr : &*found;
}

TEST(QuantizeStatic, KeepsWhatANetworkComputes) {
  const auto original = small_network().build();
  for (const bool per_channel : {false, true}) {
    for (const auto activations : {DataType::kInt8, DataType::kUint8, DataType::kUint16}) {
      auto model = original.copy();
      const auto report = quantize(model, {.activations = activations, .per_channel = per_channel});
      ASSERT_TRUE(report) << report.error().message;
      EXPECT_EQ(report->quantized_nodes, 7u);
      EXPECT_TRUE(report->kept.empty());
      EXPECT_EQ(count_nodes(model, "Relu"), 0) << "rounding does its work";
      EXPECT_GT(sqnr(original, model), activations == DataType::kUint16 ? 28 : 24)
          << to_string(activations) << (per_channel ? " per channel" : "");
    }
  }
}

TEST(QuantizeStatic, QOperatorComputesWhatQdqDoes) {
  const auto original = small_network().build();
  for (const auto activations : {DataType::kInt8, DataType::kUint8}) {
    StaticOptions options{.activations = activations, .width = Width::kFull};
    auto qdq = original.copy(), integer = original.copy();
    ASSERT_TRUE(quantize(qdq, options));
    options.format = QuantizationFormat::kQOperator;
    const auto report = quantize(integer, options);
    ASSERT_TRUE(report) << report.error().message;
    EXPECT_EQ(count_nodes(integer, "QLinearConv"), 2);
    EXPECT_EQ(count_nodes(integer, "QGemm"), 1);
    EXPECT_EQ(count_nodes(integer, "QLinearAdd"), 1);
    EXPECT_EQ(count_nodes(integer, "Conv"), 0);
    EXPECT_EQ(count_nodes(integer, "QuantizeLinear"), 1) << "of the input";
    EXPECT_EQ(count_nodes(integer, "DequantizeLinear"), 1) << "of the output";
    EXPECT_GT(sqnr(qdq, integer), 28);
  }
}

TEST(QuantizeStatic, TakesOldOperatorSets) {
  auto builder = small_network();
  builder.proto().mutable_opset_import(0)->set_version(9);
  const auto original = builder.build();
  auto model = original.copy();
  const auto report = quantize(model, {.per_channel = true});
  ASSERT_TRUE(report) << report.error().message;
  EXPECT_GT(sqnr(original, model), 24);
}

TEST(QuantizeStatic, ClipStaysWhereRoundingDoesNotCutItsRange) {
  auto make = [](float low) {
    return ModelBuilder()
        .input("x", DataType::kFloat32, {1, 2, 4, 4})
        .initialiser("w", {2, 2, 1, 1}, random_floats(4, 1))
        .initialiser("low", {}, std::vector<float>{low})
        .initialiser("high", {}, std::vector<float>{6})
        .node("Conv", {"x", "w"}, {"c"})
        .node("Clip", {"c", "low", "high"}, {"y"})
        .output("y", DataType::kFloat32, {1, 2, 4, 4})
        .build();
  };
  auto relu6 = make(0);
  const auto original = relu6.copy();
  ASSERT_TRUE(quantize(relu6));
  EXPECT_EQ(count_nodes(relu6, "Clip"), 0);
  EXPECT_GT(sqnr(original, relu6), 24);
  // Nothing reaches 0.5 from below, but 0 belongs to every quantised range.
  auto lifted = make(0.5f);
  ASSERT_TRUE(quantize(lifted));
  EXPECT_EQ(count_nodes(lifted, "Clip"), 1);
}

TEST(QuantizeStatic, ScalesOfGemmGoIntoTheBias) {
  const auto original = ModelBuilder()
                            .input("x", DataType::kFloat32, {3, 16})
                            .initialiser("w", {8, 16}, random_floats(128, 1))
                            .initialiser("b", {8}, random_floats(8, 2, 10))
                            .node("Gemm", {"x", "w", "b"}, {"y"},
                                  {{"alpha", 0.5f}, {"beta", 3.0f}, {"transB", std::int64_t{1}}})
                            .output("y", DataType::kFloat32, {3, 8})
                            .build();
  for (const auto format : {QuantizationFormat::kQdq, QuantizationFormat::kQOperator}) {
    auto model = original.copy();
    const auto report = quantize(model, {.format = format});
    ASSERT_TRUE(report) << report.error().message;
    EXPECT_GT(sqnr(original, model), 30);
  }
}

TEST(QuantizeStatic, ABiasThatTwoNodesShareIsStoredForEach) {
  const auto original = ModelBuilder()
                            .input("x", DataType::kFloat32, {1, 2, 4, 4})
                            .initialiser("w1", {2, 2, 1, 1}, random_floats(4, 1))
                            .initialiser("w2", {2, 2, 1, 1}, random_floats(4, 2, 5))
                            .initialiser("b", {2}, random_floats(2, 3))
                            .node("Conv", {"x", "w1", "b"}, {"c"})
                            .node("Conv", {"c", "w2", "b"}, {"y"})
                            .output("y", DataType::kFloat32, {1, 2, 4, 4})
                            .build();
  auto model = original.copy();
  ASSERT_TRUE(quantize(model));
  EXPECT_GT(sqnr(original, model), 24);
}

TEST(QuantizeStatic, TiedWeightsAreStoredOnce) {
  const auto original = ModelBuilder()
                            .input("x", DataType::kFloat32, {4, 8})
                            .initialiser("w", {8, 8}, random_floats(64, 1, 0.4f))
                            .node("MatMul", {"x", "w"}, {"a"})
                            .node("MatMul", {"a", "w"}, {"y"})
                            .output("y", DataType::kFloat32, {4, 8})
                            .build();
  auto model = original.copy();
  const auto report = quantize(model, {.per_channel = true});
  ASSERT_TRUE(report);
  EXPECT_EQ(report->quantized_weights, 1u);
  EXPECT_GT(sqnr(original, model), 24);
}

TEST(QuantizeStatic, InitialisersThatAreInputsStayAsTheyAre) {
  auto builder = small_network();
  builder.input("w1", DataType::kFloat32, {8, 3, 3, 3});
  auto model = builder.build();
  const auto report = quantize(model);
  ASSERT_TRUE(report) << report.error().message;
  const auto* conv = kept(*report, "Conv");
  ASSERT_NE(conv, nullptr);
  EXPECT_NE(conv->reason.find("input of the model"), std::string::npos) << conv->reason;
}

TEST(QuantizeStatic, NodesWithoutFiniteNumbersStayInFloat) {
  auto values = random_floats(216, 1);
  values[7] = std::numeric_limits<float>::quiet_NaN();
  auto builder = small_network();
  graph::store_floats(*builder.proto().mutable_graph()->mutable_initializer(0), DataType::kFloat32,
                      {8, 3, 3, 3}, values);
  auto model = builder.build();
  const auto report = quantize(model);
  ASSERT_TRUE(report) << report.error().message;
  const auto* conv = kept(*report, "Conv");
  ASSERT_NE(conv, nullptr);
  EXPECT_EQ(conv->reason, "'w1' holds NaN or infinity");
}

TEST(QuantizeStatic, UnknownOperatorsAreListed) {
  const auto original = ModelBuilder()
                            .input("x", DataType::kFloat32, {1, 2, 4, 4})
                            .initialiser("w", {2, 2, 1, 1}, random_floats(4, 1))
                            .node("Conv", {"x", "w"}, {"c"})
                            .node("Elu", {"c"}, {"y"})
                            .output("y", DataType::kFloat32, {1, 2, 4, 4})
                            .build();
  auto model = original.copy();
  const auto report = quantize(model);
  ASSERT_TRUE(report);
  const auto* elu = kept(*report, "Elu");
  ASSERT_NE(elu, nullptr);
  EXPECT_EQ(elu->name, "#2");
  EXPECT_EQ(elu->reason, "operators of this type stay in float");
  EXPECT_GT(sqnr(original, model), 24);
}

TEST(QuantizeStatic, RefusesWhatIsQuantisedAlready) {
  auto model = small_network().build();
  ASSERT_TRUE(quantize(model));
  const auto text = model.serialise();
  const auto again = quantize(model);
  ASSERT_FALSE(again);
  EXPECT_EQ(again.error().code, ErrorCode::kFailedPrecondition);
  EXPECT_NE(again.error().message.find("already quantised"), std::string::npos)
      << again.error().message;
  EXPECT_EQ(*model.serialise(), *text);
}

TEST(QuantizeStatic, RefusesWhatTheModelDoesNotHave) {
  const auto original = small_network().build();
  const auto refuses = [&](const StaticOptions& options, std::string_view what) {
    auto model = original.copy();
    const auto report = quantize(model, options);
    ASSERT_FALSE(report) << what;
    EXPECT_EQ(report.error().code, ErrorCode::kInvalidArgument) << what;
    EXPECT_NE(report.error().message.find(what), std::string::npos) << report.error().message;
  };
  refuses({.selection = {.nodes = {"conv9"}}}, "conv9");
  refuses({.selection = {.types = {"Elu"}}}, "Elu");
  refuses({.selection = {.excluded_types = {"LSTM"}}}, "LSTM");
  refuses({.overrides = {{"nothing", {}}}}, "nothing");
  refuses({.overrides = {{"c1", {.scale = 0.5f}}}}, "zero_point");
  refuses({.activations = DataType::kInt4}, "int4");
  refuses({.activations = DataType::kInt8, .weights = DataType::kUint8}, "uint8");
  refuses({.format = QuantizationFormat::kQOperator, .activations = DataType::kInt16}, "QOperator");
}

TEST(QuantizeStatic, OverridesWin) {
  const auto original = small_network().build();
  auto model = original.copy();
  const auto report = quantize(model, {.width = Width::kFull,
                                       .overrides = {{"a2", {.type = DataType::kUint16}},
                                                     {"w1", {.min = -2.0f, .max = 2.0f}},
                                                     {"c2", {.scale = 0.125f, .zero_point = 3}}}});
  ASSERT_TRUE(report) << report.error().message;
  const auto found = parameters_by_name(model);
  EXPECT_EQ(graph::type_of(*found.at("a2_zero_point")), DataType::kUint16);
  EXPECT_EQ(graph::read_floats(*found.at("w1_scale"), {})->front(), 2.0f / 127);
  EXPECT_EQ(graph::read_floats(*found.at("c2_scale"), {})->front(), 0.125f);
  EXPECT_EQ(graph::read_integers(*found.at("c2_zero_point"), {})->front(), 3);
}

TEST(QuantizeStatic, SubgraphsReadTheFloatsThatTheyAlwaysRead) {
  auto builder = small_network();
  builder.input("c", DataType::kBool, {});
  auto& graph = *builder.proto().mutable_graph();
  auto& branch = *graph.add_node();
  branch.set_op_type("If");
  branch.add_input("c");
  branch.add_output("z");
  for (const char* name : {"then_branch", "else_branch"}) {
    auto& attribute = *branch.add_attribute();
    attribute.set_name(name);
    attribute.set_type(onnx::AttributeProto::GRAPH);
    auto& inner = *attribute.mutable_g();
    inner.set_name(name);
    auto& node = *inner.add_node();
    node.set_op_type(name[0] == 't' ? "Neg" : "Abs");
    node.add_input("c1");
    node.add_output(std::string(name) + "_z");
    inner.add_output()->set_name(std::string(name) + "_z");
  }
  builder.output("z", DataType::kFloat32, {1, 8, 8, 8});
  const auto original = builder.build();
  auto model = original.copy();
  const auto report = quantize(model);
  ASSERT_TRUE(report) << report.error().message;
  EXPECT_EQ(count_nodes(model, "Relu"), 1) << "its input is read elsewhere too";
  EXPECT_GT(sqnr(original, model), 24);
}

ModelBuilder hard_swish() {
  return std::move(ModelBuilder()
                       .input("x", DataType::kFloat32, {1, 4, 8, 8})
                       .initialiser("w1", {8, 4, 1, 1}, random_floats(32, 1, 2))
                       .initialiser("w2", {4, 8, 1, 1}, random_floats(32, 2))
                       .node("Conv", {"x", "w1"}, {"c"})
                       .node("HardSigmoid", {"c"}, {"g"}, {{"alpha", 1.0f / 6}, {"beta", 0.5f}})
                       .node("Mul", {"c", "g"}, {"m"})
                       .node("Conv", {"m", "w2"}, {"y"})
                       .output("y", DataType::kFloat32, {1, 4, 8, 8}));
}

TEST(QuantizeStatic, HardSigmoidIsAnAdditionThatSaturates) {
  const auto original = hard_swish().build();
  for (const auto type : {DataType::kUint8, DataType::kInt8}) {
    for (const auto format : {QuantizationFormat::kQdq, QuantizationFormat::kQOperator}) {
      auto model = original.copy();
      const auto report = quantize(model, {.format = format, .activations = type});
      ASSERT_TRUE(report) << report.error().message;
      EXPECT_TRUE(report->kept.empty());
      EXPECT_EQ(count_nodes(model, "HardSigmoid"), 0);
      if (format == QuantizationFormat::kQOperator) {
        EXPECT_EQ(count_nodes(model, "QLinearAdd"), 1);
      }
      EXPECT_GT(sqnr(original, model), 28) << to_string(type);
    }
  }
}

TEST(QuantizeStatic, HardSigmoidStaysWhereItsLimitsAreNoLimitsOfTheType) {
  auto model = hard_swish().build();
  const auto original = model.copy();
  const auto report = quantize(model, {.activation_symmetry = Symmetry::kSymmetric});
  ASSERT_TRUE(report) << report.error().message;
  ASSERT_NE(kept(*report, "HardSigmoid"), nullptr);
  EXPECT_GT(sqnr(original, model), 24);
}

TEST(QuantizeStatic, ConnectedOnlyLeavesWhatStandsBetweenFloatOperators) {
  // conv -> mul -> conv is connected; the residual sum is read by an operator that stays in float.
  const auto original = ModelBuilder()
                            .input("x", DataType::kFloat32, {1, 4, 8, 8})
                            .initialiser("w1", {4, 4, 1, 1}, random_floats(16, 1))
                            .initialiser("w2", {4, 4, 1, 1}, random_floats(16, 2))
                            .initialiser("s", {4, 1, 1}, random_floats(4, 3))
                            .node("Conv", {"x", "w1"}, {"a"})
                            .node("Mul", {"a", "s"}, {"b"})
                            .node("Conv", {"b", "w2"}, {"c"})
                            .node("Add", {"c", "x"}, {"d"})
                            .node("ReduceMean", {"d"}, {"y"}, {{"axes", Shape{2, 3}}})
                            .output("y", DataType::kFloat32, {1, 4, 1, 1})
                            .build();
  auto model = original.copy();
  const auto report = quantize(model, {.connected_only = true});
  ASSERT_TRUE(report) << report.error().message;
  EXPECT_EQ(report->quantized_nodes, 3u);
  ASSERT_NE(kept(*report, "Add"), nullptr);
  EXPECT_EQ(kept(*report, "Add")->reason, "a neighbour stays in float");
  EXPECT_GT(sqnr(original, model), 20);
}

TEST(Calibrate, BoundedAndRareValuesAreNotCut) {
  // Nearly all of the sigmoid's outputs are close to zero: entropy would cut the others.
  const auto model = ModelBuilder()
                         .input("x", DataType::kFloat32, {1, 1, 200, 200})
                         .initialiser("shift", {}, std::vector<float>{56})
                         .initialiser("w", {1, 1, 1, 1}, std::vector<float>{60})
                         .node("Conv", {"x", "w"}, {"c"})
                         .node("Sub", {"c", "shift"}, {"s"})
                         .node("Sigmoid", {"s"}, {"y"})
                         .node("GlobalAveragePool", {"s"}, {"g"})
                         .output("y", DataType::kFloat32, {1, 1, 200, 200})
                         .output("g", DataType::kFloat32, {1, 1, 1, 1})
                         .build();
  const std::vector<std::string> values{"y", "g"};
  const auto samples = random_samples(model);
  const auto extremes = calibrate(runtime(), model, values, samples, {});
  const auto guarded =
      calibrate(runtime(), model, values, samples, {.method = CalibrationMethod::kEntropy});
  const auto cut = calibrate(runtime(), model, values, samples,
                             {.method = CalibrationMethod::kEntropy, .as_reference = true});
  ASSERT_TRUE(extremes && guarded && cut);
  EXPECT_GT(extremes->at("y").max, 0.9f);
  EXPECT_EQ(guarded->at("y").max, extremes->at("y").max);
  EXPECT_EQ(guarded->at("g").min, extremes->at("g").min);
  EXPECT_LT(cut->at("y").max, 0.1f);
}

TEST(QuantizeStatic, BiasesOfChannelsThatAreAllButOffBecomeIntegersToo) {
  auto weights = random_floats(16, 1);
  for (std::size_t i = 0; i < 4; ++i) weights[i] *= 1e-35f;
  const auto original = ModelBuilder()
                            .input("x", DataType::kFloat32, {1, 4, 4, 4})
                            .initialiser("w", {4, 4, 1, 1}, weights)
                            .initialiser("b", {4}, random_floats(4, 2))
                            .node("Conv", {"x", "w", "b"}, {"y"})
                            .output("y", DataType::kFloat32, {1, 4, 4, 4})
                            .build();
  auto model = original.copy();
  ASSERT_TRUE(quantize(model, {.per_channel = true}));
  const auto& tensors = model.proto().graph().initializer();
  EXPECT_TRUE(std::ranges::any_of(tensors, [](const auto& tensor) {
    return tensor.name() == "b_q";
  })) << "left in float";
  EXPECT_GT(sqnr(original, model), 24);
}

}  // namespace
}  // namespace selvage::compress
