// What each pass does to small models, as text. That results stay the same is shown in
// tests/engine/graph_passes_test.cc, where there is a runtime.
#include "graph/pass.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <selvage/onnx.pb.h>

#include "graph/bind.h"
#include "graph/check.h"
#include "graph/testing.h"
#include "graph/text.h"
#include "graph/values.h"

namespace selvage::graph {
namespace {

using ::testing::HasSubstr;
using testing::ModelBuilder;
using ::testing::Not;
using Ints = std::vector<std::int64_t>;

const Pass& pass_named(std::string_view name) {
  return *std::ranges::find(standard_passes(), name, &Pass::name);
}

/// Runs one pass and returns its number of edits.
std::size_t run(Model& model, std::string_view name, const PassContext& context = {}) {
  const auto edits = pass_named(name).run(model, context);
  EXPECT_TRUE(edits) << edits.error().message;
  const auto valid = check(model);
  EXPECT_TRUE(valid) << valid.error().message << "\n" << to_text(model);
  return edits.value_or(0);
}

ModelBuilder float_model() {
  return std::move(ModelBuilder().input("x", DataType::kFloat32, {1, 4}));
}

TEST(Passes, ReportWhatTheyDid) {
  auto model = std::move(float_model().node("Identity", {"x"}, {"a"}).node("Relu", {"a"}, {"y"}))
                   .output("y", DataType::kFloat32, {1, 4})
                   .build();
  const auto reports = run_passes(model, standard_passes(), {.disabled = {"dead-code"}});
  ASSERT_TRUE(reports) << reports.error().message;
  ASSERT_EQ(reports->size(), standard_passes().size());
  for (const auto& report : *reports) {
    EXPECT_EQ(report.edits, report.name == "identities" ? 1u : 0u) << report.name;
    EXPECT_EQ(report.is_disabled, report.name == "dead-code");
  }
}

TEST(Passes, RefuseANameThatIsNone) {
  auto model = testing::identity_model().build();
  const auto reports = run_passes(model, standard_passes(), {.disabled = {"fold"}});
  ASSERT_FALSE(reports);
  EXPECT_EQ(reports.error().code, ErrorCode::kInvalidArgument);
  EXPECT_THAT(reports.error().message, HasSubstr("fold-constants"));
}

TEST(Passes, ThatBreakAModelAreNamed) {
  static constexpr Pass kBad{
      .name = "bad", .summary = "", .run = [](Model& model, const PassContext&) {
        model.proto().mutable_graph()->mutable_node(0)->set_input(0, "gone");
        return Result<std::size_t>(1);
      }};
  auto model = testing::identity_model().build();
  const auto reports = run_passes(model, std::span(&kBad, 1), {.check_each = true});
  ASSERT_FALSE(reports);
  EXPECT_EQ(reports.error().code, ErrorCode::kInternal);
  EXPECT_THAT(reports.error().message, HasSubstr("pass bad"));
}

TEST(Passes, ThatChangeAResultAreNamed) {
  auto model = std::move(float_model().node("Identity", {"x"}, {"a"}).node("Relu", {"a"}, {"y"}))
                   .output("y", DataType::kFloat32, {1, 4})
                   .build();
  const auto differs = [](const Model&, const Model&) -> Result<void> {
    return fail(ErrorCode::kFailedPrecondition, "output 'y' differs");
  };
  const auto reports = run_passes(model, standard_passes(), {.same = differs});
  ASSERT_FALSE(reports);
  EXPECT_THAT(reports.error().message, HasSubstr("pass identities"));
}

TEST(InitialiserInputs, OfOldModelsBecomeConstants) {
  auto builder = testing::matmul_model();
  builder.input("w", DataType::kFloat32, {4, 2}).proto().set_ir_version(3);
  auto model = builder.build();
  EXPECT_EQ(run(model, "initialiser-inputs"), 2u);
  EXPECT_EQ(model.proto().ir_version(), 4);
  EXPECT_EQ(model.proto().graph().input_size(), 1);
}

TEST(InitialiserInputs, OfNewerModelsAreTheCallersToReplace) {
  auto model = std::move(testing::matmul_model().input("w", DataType::kFloat32, {4, 2})).build();
  EXPECT_EQ(run(model, "initialiser-inputs"), 0u);
}

TEST(ConstantNodes, OfAllKindsBecomeInitialisers) {
  auto model = std::move(float_model()
                             .node("Constant", {}, {"f"}, {{"value_float", 2.5f}})
                             .node("Constant", {}, {"i"}, {{"value_ints", Ints{1, -1}}})
                             .node("Constant", {}, {"kept"}, {{"value_int", std::int64_t{3}}})
                             .node("Mul", {"x", "f"}, {"m"})
                             .node("Reshape", {"m", "i"}, {"y"}))
                   .output("y", DataType::kFloat32, {1, 4})
                   .output("kept", DataType::kInt64, {})
                   .build();
  EXPECT_EQ(run(model, "constant-nodes"), 2u);
  const auto text = to_text(model);
  EXPECT_THAT(text, HasSubstr("init f: float32[] = [2.5]"));
  EXPECT_THAT(text, HasSubstr("init i: int64[2] = [1, -1]"));
  EXPECT_THAT(text, HasSubstr("kept = Constant"));
}

TEST(Identities, LeaveChainsAndOutputsKeepTheirNames) {
  auto model = std::move(float_model()
                             .node("Identity", {"x"}, {"a"})
                             .node("Dropout", {"a"}, {"b"})
                             .node("Identity", {"b"}, {"c"})
                             .node("Relu", {"c"}, {"d"})
                             .node("Identity", {"d"}, {"y"}))
                   .output("y", DataType::kFloat32, {1, 4})
                   .build();
  EXPECT_EQ(run(model, "identities"), 4u);
  EXPECT_THAT(to_text(model), HasSubstr("y = Relu(x)"));
  EXPECT_EQ(model.proto().graph().node_size(), 1);
}

TEST(Identities, BetweenAnInputAndAnOutputStay) {
  auto model = testing::identity_model().build();
  EXPECT_EQ(run(model, "identities"), 0u);
}

TEST(Identities, ThatTrainOrGiveTheirMaskStay) {
  auto builder = std::move(float_model()
                               .node("Dropout", {"x", "", "train"}, {"a"})
                               .node("Dropout", {"a"}, {"y", "mask"}));
  builder.output("y", DataType::kFloat32, {1, 4}).output("mask", DataType::kBool, {1, 4});
  auto& training = *builder.proto().mutable_graph()->add_initializer();
  training.set_name("train");
  training.set_data_type(onnx::TensorProto::BOOL);
  training.set_raw_data(std::string(1, '\1'));
  auto model = builder.build();
  EXPECT_EQ(run(model, "identities"), 0u);
}

/// y = If(c) { Relu(a) } where a = Identity(x).
ModelBuilder capturing_model() {
  auto builder = std::move(float_model()
                               .node("Identity", {"x"}, {"a"})
                               .node("Neg", {"x"}, {"dead"})
                               .node("If", {"c"}, {"y"}));
  builder.input("c", DataType::kBool, {}).output("y", DataType::kFloat32, {1, 4});
  auto& node = *builder.proto().mutable_graph()->mutable_node(2);
  for (const auto* name : {"then_branch", "else_branch"}) {
    auto& attribute = *node.add_attribute();
    attribute.set_name(name);
    attribute.set_type(onnx::AttributeProto::GRAPH);
    auto& graph = *attribute.mutable_g();
    graph.set_name(name);
    auto& relu = *graph.add_node();
    relu.set_op_type("Relu");
    relu.add_input("a");
    relu.add_output(std::string(name) + "_out");
    graph.add_output()->set_name(relu.output(0));
  }
  return builder;
}

TEST(Identities, ThatASubgraphReadsStay) {
  auto model = capturing_model().build();
  EXPECT_EQ(run(model, "identities"), 0u);
}

TEST(DeadCode, KeepsWhatSubgraphsRead) {
  auto model = capturing_model().build();
  EXPECT_EQ(run(model, "dead-code"), 1u);
  EXPECT_THAT(to_text(model), AllOf(HasSubstr("a = Identity(x)"), Not(HasSubstr("dead"))));
}

TEST(DeadCode, TakesInitialisersButNoInputsOrOutputs) {
  const std::vector<float> one{1};
  auto model = std::move(testing::matmul_model()
                             .initialiser("unused", {1}, one)
                             .initialiser("result", {1}, one)
                             .initialiser("given", {1}, one)
                             .input("given", DataType::kFloat32, {1})
                             .output("result", DataType::kFloat32, {1}))
                   .build();
  EXPECT_EQ(run(model, "dead-code"), 1u);
  EXPECT_EQ(model.proto().graph().initializer_size(), 3);
}

/// Adds 1 to nothing: answers every question with one float.
Result<std::vector<Tensor>> answer_one(const Model& model) {
  std::vector<Tensor> tensors;
  const std::vector<float> one{1};
  for (int i = 0; i < model.proto().graph().output_size(); ++i)
    tensors.push_back(Tensor::from<float>({1}, one).value());
  return tensors;
}

TEST(FoldConstants, FoldsWholeExpressionsOnce) {
  const std::vector<float> one{1};
  auto model = std::move(float_model()
                             .initialiser("k", {1}, one)
                             .node("Neg", {"k"}, {"a"})
                             .node("Add", {"a", "k"}, {"b"})
                             .node("RandomNormalLike", {"k"}, {"r"})
                             .node("Mul", {"x", "b"}, {"m"})
                             .node("Add", {"m", "r"}, {"y"}))
                   .output("y", DataType::kFloat32, {1, 4})
                   .build();
  EXPECT_EQ(run(model, "fold-constants", {.evaluate = answer_one}), 2u);
  const auto text = to_text(model);
  EXPECT_THAT(text, HasSubstr("init b: float32[1] = [1]"));
  EXPECT_THAT(text, HasSubstr("r = RandomNormalLike(k)"));
}

TEST(FoldConstants, NeedsSomebodyWhoComputes) {
  const std::vector<float> one{1};
  auto model = std::move(float_model().initialiser("k", {1}, one).node("Neg", {"k"}, {"y"}))
                   .output("y", DataType::kFloat32, {1})
                   .build();
  EXPECT_EQ(run(model, "fold-constants"), 0u);
}

TEST(FoldConstants, LeavesWhatACallerMayReplaceAndWhatIsLarge) {
  const std::vector<float> one{1};
  const Ints huge{1 << 20, 1 << 10};
  auto model = std::move(float_model()
                             .initialiser("k", {1}, one)
                             .input("k", DataType::kFloat32, {1})
                             .initialiser("shape", {2}, huge)
                             .node("Neg", {"k"}, {"a"})
                             .node("ConstantOfShape", {"shape"}, {"zeros"})
                             .node("ReduceSum", {"zeros"}, {"sum"})
                             .node("Mul", {"a", "sum"}, {"p"})
                             .node("Mul", {"x", "p"}, {"y"}))
                   .output("y", DataType::kFloat32, {1, 4})
                   .build();
  // check() itself refuses such a shape; the pass must not have asked for it before.
  const auto never = [](const Model&) -> Result<std::vector<Tensor>> {
    ADD_FAILURE() << "evaluated";
    return std::vector<Tensor>();
  };
  const auto edits = pass_named("fold-constants").run(model, {.evaluate = never});
  EXPECT_EQ(edits.value(), 0u);
}

TEST(FoldConstants, KnowsShapes) {
  auto model =
      std::move(float_model().node("Shape", {"x"}, {"s"}).node("Reshape", {"x", "s"}, {"y"}))
          .output("y", DataType::kFloat32, {1, 4})
          .build();
  const auto types = [](const Model&) -> Result<TypeMap> {
    return TypeMap{{"x", {DataType::kFloat32, {1, 4}, {"", ""}}}};
  };
  EXPECT_EQ(run(model, "fold-constants", {.evaluate = answer_one, .infer_types = types}), 1u);
  EXPECT_THAT(to_text(model), HasSubstr("init s: int64[2] = [1, 4]"));
}

/// y = BatchNormalization(Conv(x, w)).
ModelBuilder conv_norm_model() {
  const std::vector<float> scale{1, 2}, shift{0, 1}, mean{0.5f, 1}, variance{1, 4};
  return std::move(ModelBuilder()
                       .input("x", DataType::kFloat32, {1, 1, 1, 1})
                       .initialiser("w", {2, 1, 1, 1}, std::vector<float>{3, 4})
                       .initialiser("scale", {2}, scale)
                       .initialiser("shift", {2}, shift)
                       .initialiser("mean", {2}, mean)
                       .initialiser("variance", {2}, variance)
                       .node("Conv", {"x", "w"}, {"c"})
                       .node("BatchNormalization", {"c", "scale", "shift", "mean", "variance"},
                             {"y"}, {{"epsilon", 0.0f}})
                       .output("y", DataType::kFloat32, {1, 2, 1, 1}));
}

TEST(FoldBatchNorm, ScalesTheWeightsAndMakesABias) {
  auto model = conv_norm_model().build();
  EXPECT_EQ(run(model, "fold-batch-norm"), 1u);
  EXPECT_EQ(run(model, "dead-code"), 4u);
  const auto text = to_text(model);
  EXPECT_THAT(text, HasSubstr("init w: float32[2,1,1,1] = [3, 4]"));
  EXPECT_THAT(text, HasSubstr("init w_bias: float32[2] = [-0.5, 0]"));
  EXPECT_THAT(text, HasSubstr("y = Conv(x, w, w_bias)"));
}

TEST(FoldBatchNorm, LeavesSharedWeightsToTheOthers) {
  auto model = std::move(conv_norm_model().node("Conv", {"x", "w"}, {"z"}))
                   .output("z", DataType::kFloat32, {1, 2, 1, 1})
                   .build();
  EXPECT_EQ(run(model, "fold-batch-norm"), 1u);
  EXPECT_THAT(to_text(model),
              AllOf(HasSubstr("y = Conv(x, w_1, w_1_bias)"), HasSubstr("z = Conv(x, w)")));
}

TEST(FoldBatchNorm, StaysWhereTheConvolutionIsReadOtherwise) {
  auto model = std::move(conv_norm_model()).output("c", DataType::kFloat32, {1, 2, 1, 1}).build();
  EXPECT_EQ(run(model, "fold-batch-norm"), 0u);
}

// --- Branches

/// out = If(c) { then: a = Relu(x), b = w (of the branch), k = If(d) { Neg(a) } ... }
void add_branch(onnx::NodeProto& node, std::string_view name, std::string_view type,
                const std::string& output) {
  auto& attribute = *node.add_attribute();
  attribute.set_name(std::string(name));
  attribute.set_type(onnx::AttributeProto::GRAPH);
  auto& graph = *attribute.mutable_g();
  graph.set_name(std::string(name));
  auto& inner = *graph.add_node();
  inner.set_op_type(std::string(type));
  inner.add_input("x");
  inner.add_output(output);
  graph.add_output()->set_name(output);
}

ModelBuilder branching_model(bool condition) {
  auto builder = std::move(float_model().node("If", {"c"}, {"y"}));
  auto& graph = *builder.proto().mutable_graph();
  auto& stored = *graph.add_initializer();
  stored.set_name("c");
  stored.set_data_type(onnx::TensorProto::BOOL);
  stored.set_raw_data(std::string(1, static_cast<char>(condition)));
  add_branch(*graph.mutable_node(0), "then_branch", "Relu", "inside");
  add_branch(*graph.mutable_node(0), "else_branch", "Neg", "inside");
  builder.output("y", DataType::kFloat32, {1, 4});
  return builder;
}

TEST(Branches, OfAConstantBecomePartOfTheGraph) {
  for (const bool condition : {true, false}) {
    auto model = branching_model(condition).build();
    EXPECT_EQ(run(model, "branches"), 1u);
    EXPECT_THAT(to_text(model), HasSubstr(condition ? "y = Relu(x)" : "y = Neg(x)"));
    EXPECT_EQ(model.proto().graph().node_size(), 1);
  }
}

TEST(Branches, ThatTheCallerDecidesStay) {
  auto model = branching_model(true).input("c", DataType::kBool, {}).build();
  EXPECT_EQ(run(model, "branches"), 0u);
  EXPECT_THAT(to_text(model), HasSubstr("If(c)"));
}

TEST(Branches, KeepTheirConstantsAndMakeNamesThatAreNew) {
  auto builder = branching_model(true);
  auto& graph = *builder.proto().mutable_graph();
  // The branch passes a constant of its own on, and has names that the main graph has, too.
  auto& branch = *graph.mutable_node(0)->mutable_attribute(0)->mutable_g();
  auto& constant = *branch.add_initializer();
  constant.set_name("w");
  constant.set_data_type(onnx::TensorProto::FLOAT);
  constant.add_float_data(2);
  branch.add_output()->set_name("w");
  graph.mutable_node(0)->add_output("passed");
  builder.node("Mul", {"y", "passed"}, {"w"}).output("w", DataType::kFloat32, {1, 4});
  auto model = builder.build();
  EXPECT_EQ(run(model, "branches"), 1u);
  const auto text = to_text(model);
  EXPECT_THAT(text, HasSubstr("init w_1: float32[] = [2]"));
  EXPECT_THAT(text, HasSubstr("w = Mul(y, w_1)"));
}

TEST(Branches, InsideOfBranchesFollow) {
  auto builder = branching_model(true);
  auto& graph = *builder.proto().mutable_graph();
  const auto whole = graph.node(0);
  auto& branch = *graph.mutable_node(0)->mutable_attribute(0)->mutable_g();
  auto& nested = *branch.add_node();
  nested = whole;
  nested.set_output(0, "deeper");
  branch.mutable_output(0)->set_name("deeper");
  auto model = builder.build();
  EXPECT_EQ(run(model, "branches"), 2u);
  EXPECT_THAT(to_text(model), HasSubstr("y = Relu(x)"));
  EXPECT_THAT(to_text(model), Not(HasSubstr("If(")));
}

TEST(BoundInputs, AreConstantsInSubgraphsToo) {
  auto model = float_model()
                   .input("k", DataType::kFloat32, {})
                   .node("Add", {"x", "k"}, {"y"})
                   .output("y", DataType::kFloat32, {1, 4})
                   .build();
  const float value = 3;
  const TensorView view{DataType::kFloat32, {}, std::as_bytes(std::span(&value, 1)), {}};
  ASSERT_TRUE(bind_input(model, "k", view));
  EXPECT_THAT(to_text(model), HasSubstr("init k_bound: float32[] = [3]"));
  EXPECT_THAT(to_text(model), HasSubstr("y = Add(x, k_bound)"));
  EXPECT_EQ(model.proto().graph().input_size(), 2);
  EXPECT_EQ(bind_input(model, "z", view).error().code, ErrorCode::kNotFound);
  EXPECT_EQ(bind_input(model, "x", view).error().code, ErrorCode::kInvalidArgument);
}

// --- Arithmetic beside layers

/// h = Relu(Conv(x)) -> `arithmetic` -> y = Conv with kernel 3, padded or not, weights 1.
ModelBuilder conv_behind(bool is_padded, std::string_view last) {
  const std::vector<float> ones(9, 1);
  auto builder = std::move(ModelBuilder().input("x", DataType::kFloat32, {1, 1, 8, 8}));
  builder.initialiser("six", {}, std::vector<float>{4})
      .initialiser("a", {1}, std::vector<float>{0.5f})
      .initialiser("d", {1}, std::vector<float>{3})
      .initialiser("w", {1, 1, 3, 3}, ones)
      .node("Relu", {"x"}, {"h"})
      .node("Div", {"h", "six"}, {"u"})
      .node("Mul", {"a", "u"}, {"v"})
      .node("Add", {"v", "d"}, {"t"})
      .node("Conv", {std::string(last), "w"}, {"y"},
            {{"pads", is_padded ? Ints{1, 1, 1, 1} : Ints{0, 0, 0, 0}}})
      .output("y", DataType::kFloat32, {1, 1, is_padded ? 8 : 6, is_padded ? 8 : 6});
  return builder;
}

TEST(FoldFactors, PutsFactorsAndShiftsIntoWeights) {
  auto model = conv_behind(false, "t").build();
  EXPECT_EQ(run(model, "fold-factors"), 1u);
  EXPECT_EQ(run(model, "dead-code"), 6u);
  const auto text = to_text(model);
  EXPECT_THAT(text, HasSubstr("y = Conv(h, w, w_bias)"));
  EXPECT_THAT(text, HasSubstr("init w_bias: float32[1] = [27]"));
  const auto weights = read_floats(model.proto().graph().initializer(0), {});
  ASSERT_TRUE(weights);
  EXPECT_EQ(*weights, std::vector<float>(9, 0.125f));
}

TEST(FoldFactors, LeaveAnAdditionWherePaddingWouldNotBeShifted) {
  auto model = conv_behind(true, "t").build();
  EXPECT_EQ(run(model, "fold-factors"), 1u);
  EXPECT_GT(run(model, "dead-code"), 0u);
  const auto text = to_text(model);
  EXPECT_THAT(text, HasSubstr("h_shifted = Add(h, h_shift)"));
  EXPECT_THAT(text, HasSubstr("init h_shift: float32[] = [24]"));
  EXPECT_THAT(text, HasSubstr("y = Conv(h_shifted, w, w_bias)"));
  EXPECT_EQ(run(model, "fold-factors"), 0u);
}

TEST(FoldFactors, DoNotAddToWhatOthersReadAnyway) {
  auto model = conv_behind(true, "t").output("t", DataType::kFloat32, {1, 1, 8, 8}).build();
  EXPECT_EQ(run(model, "fold-factors"), 0u);
}

TEST(FoldBatchNorm, TakesArithmeticOfEachChannel) {
  auto model = std::move(testing::conv_model()
                             .initialiser("s", {4, 1, 1}, std::vector<float>{1, 2, 3, 4})
                             .initialiser("along", {8}, std::vector<float>(8, 2))
                             .node("Mul", {"y", "s"}, {"z"})
                             .node("Sub", {"z", "s"}, {"a"})
                             .node("Mul", {"a", "along"}, {"b"}))
                   .output("b", DataType::kFloat32, {1, 4, 8, 8})
                   .build();
  model.proto().mutable_graph()->mutable_output()->DeleteSubrange(0, 1);
  EXPECT_EQ(run(model, "fold-batch-norm"), 2u);
  const auto text = to_text(model);
  EXPECT_THAT(text, HasSubstr("a = Conv("));
  EXPECT_THAT(text, HasSubstr("= [-1, -2, -3, -4]"));
  EXPECT_THAT(text, HasSubstr("b = Mul(a, along)"));
}

ModelBuilder hard_swish(float divisor) {
  return std::move(float_model()
                       .initialiser("three", {}, std::vector<float>{3})
                       .initialiser("zero", {}, std::vector<float>{0})
                       .initialiser("limit", {}, std::vector<float>{6})
                       .initialiser("divisor", {}, std::vector<float>{divisor})
                       .node("Relu", {"x"}, {"v"})
                       .node("Add", {"v", "three"}, {"a"})
                       .node("Clip", {"a", "zero", "limit"}, {"b"})
                       .node("Mul", {"v", "b"}, {"c"})
                       .node("Div", {"c", "divisor"}, {"y"})
                       .output("y", DataType::kFloat32, {1, 4}));
}

TEST(HardSigmoids, AreFoundInArithmetic) {
  auto model = hard_swish(6).build();
  EXPECT_EQ(run(model, "hard-sigmoids"), 1u);
  const auto text = to_text(model);
  EXPECT_THAT(text, HasSubstr("b = HardSigmoid(v)"));
  EXPECT_THAT(text, HasSubstr("alpha=0.16666667"));
  EXPECT_THAT(text, HasSubstr("beta=0.5"));
  EXPECT_THAT(text, HasSubstr("y = Mul(v, b)"));
  EXPECT_EQ(model.proto().graph().node_size(), 3);
}

TEST(HardSigmoids, AreNotSeenInWhatIsScaledOtherwise) {
  auto scaled = hard_swish(5).build();
  EXPECT_EQ(run(scaled, "hard-sigmoids"), 0u);
  auto read = hard_swish(6).output("b", DataType::kFloat32, {1, 4}).build();
  EXPECT_EQ(run(read, "hard-sigmoids"), 0u);
}

TEST(HardSigmoids, AreInHardSwish) {
  auto model =
      float_model().node("HardSwish", {"x"}, {"y"}).output("y", DataType::kFloat32, {1, 4}).build();
  EXPECT_EQ(run(model, "hard-sigmoids"), 1u);
  EXPECT_THAT(to_text(model), HasSubstr("y_gate = HardSigmoid(x)"));
  EXPECT_THAT(to_text(model), HasSubstr("y = Mul(x, y_gate)"));
}

TEST(Identities, AreFactorsOfOne) {
  auto model = std::move(float_model()
                             .initialiser("one", {}, std::vector<float>{1})
                             .initialiser("ones", {1, 1, 1}, std::vector<float>{1})
                             .node("Mul", {"x", "one"}, {"a"})
                             .node("Relu", {"a"}, {"b"})
                             .node("Mul", {"b", "ones"}, {"y"}))
                   .output("y", DataType::kFloat32, {1, 1, 4})
                   .build();
  EXPECT_EQ(run(model, "identities"), 1u);
  EXPECT_THAT(to_text(model), HasSubstr("b = Relu(x)"));
  EXPECT_THAT(to_text(model), HasSubstr("y = Mul(b, ones)"));
}

}  // namespace
}  // namespace selvage::graph
