// Passes and upgrades through the runtime: whatever they do to a model, it computes the same.
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <selvage/onnx.pb.h>

#include "graph/check.h"
#include "graph/opset.h"
#include "graph/sort.h"
#include "graph/testing.h"
#include "graph/text.h"
#include "infer/graph_runtime.h"
#include "infer/session.h"
#include "infer/shapes.h"

namespace selvage::infer {
namespace {

using graph::Model;
using graph::testing::Attribute;
using graph::testing::ModelBuilder;
using ::testing::HasSubstr;
using Ints = std::vector<std::int64_t>;
using Floats = std::vector<float>;

Runtime& runtime() {
  static const auto made = Runtime::create().value();
  return *made;
}

void expect_same(const Model& before, const Model& after) {
  const auto same = compare_outputs(runtime(), before, after);
  EXPECT_TRUE(same) << same.error().message << "\n" << to_text(before) << to_text(after);
}

TEST(CompareOutputs, TellsModelsApart) {
  const auto relu = [](const char* type) {
    return std::move(ModelBuilder()
                         .input("x", DataType::kFloat32, {1, 4})
                         .node(type, {"x"}, {"y"})
                         .output("y", DataType::kFloat32, {1, 4}))
        .build();
  };
  EXPECT_EQ(compare_outputs(runtime(), relu("Relu"), relu("Relu")).value(), 0);
  const auto differs = compare_outputs(runtime(), relu("Relu"), relu("Abs"));
  ASSERT_FALSE(differs);
  EXPECT_EQ(differs.error().code, ErrorCode::kFailedPrecondition);
  EXPECT_THAT(differs.error().message, HasSubstr("'y'"));
}

TEST(Passes, KeepWhatRandomModelsCompute) {
  std::map<std::string_view, std::size_t> edits;
  const graph::PassOptions options{.context = graph_context(runtime()),
                                   .check_each = true,
                                   .same = [](const Model& a, const Model& b) -> Result<void> {
                                     SELVAGE_RETURN_IF_ERROR(compare_outputs(runtime(), a, b));
                                     return {};
                                   }};
  for (std::uint64_t seed = 0; seed < 100; ++seed) {
    SCOPED_TRACE(seed);
    const auto original = graph::testing::random_model(seed);
    auto model = original.copy();
    const auto reports = run_passes(model, graph::standard_passes(), options);
    ASSERT_TRUE(reports) << reports.error().message << "\n" << to_text(original);
    for (const auto& report : *reports) edits[report.name] += report.edits;
    expect_same(original, model);
  }
  for (const auto* name : {"constant-nodes", "identities", "fold-constants", "branches",
                           "fold-batch-norm", "fold-factors", "dead-code"})
    EXPECT_GT(edits[name], 5u) << name;
}

TEST(Passes, EachAloneKeepsWhatRandomModelsCompute) {
  for (std::uint64_t seed = 100; seed < 140; ++seed) {
    SCOPED_TRACE(seed);
    const auto original = graph::testing::random_model(seed);
    for (const auto& pass : graph::standard_passes()) {
      SCOPED_TRACE(std::string(pass.name));
      auto model = original.copy();
      ASSERT_TRUE(run_passes(model, std::span(&pass, 1), {.context = graph_context(runtime())}));
      expect_same(original, model);
    }
  }
}

TEST(InferTypes, DeclaresEveryValueWithItsSymbols) {
  auto builder = std::move(ModelBuilder()
                               .input("x", DataType::kFloat32, {-1, 4})
                               .node("Relu", {"x"}, {"a"})
                               .node("Shape", {"a"}, {"s"})
                               .node("Reshape", {"a", "s"}, {"y"})
                               .output("y", DataType::kFloat32, {-1, 4}));
  builder.proto()
      .mutable_graph()
      ->mutable_input(0)
      ->mutable_type()
      ->mutable_tensor_type()
      ->mutable_shape()
      ->mutable_dim(0)
      ->set_dim_param("batch");
  auto model = builder.build();
  const auto edits = graph::infer_types_pass().run(model, graph_context(runtime()));
  ASSERT_TRUE(edits);
  EXPECT_EQ(*edits, 2u);
  const auto& declared = model.proto().graph().value_info(0);
  EXPECT_EQ(declared.name(), "a");
  EXPECT_EQ(declared.type().tensor_type().shape().dim(0).dim_param(), "batch");
  EXPECT_EQ(declared.type().tensor_type().shape().dim(1).dim_value(), 4);
}

TEST(Session, RunsAModelWhoseNodesAreUnsorted) {
  auto sorted = graph::testing::random_model(7);
  auto unsorted = sorted.copy();
  graph::testing::reverse_nodes(unsorted);
  ASSERT_FALSE(graph::check(unsorted));
  expect_same(sorted, unsorted);
}

// --- Upgrades
// -------------------------------------------------------------------------------------

struct UpgradeCase {
  std::string name;
  std::int64_t opset;
  std::string type;
  Shape input;
  std::vector<Attribute> attributes = {};
  std::vector<std::pair<std::string, Floats>> constants = {};  ///< Further inputs.
};

void PrintTo(const UpgradeCase& test, std::ostream* out) {
  *out << test.name;
}

/// A model of one node in an old operator set, its output's shape left open.
Model old_model(const UpgradeCase& test) {
  ModelBuilder builder;
  builder.proto().clear_opset_import();
  builder.opset("", test.opset).input("x", DataType::kFloat32, test.input);
  std::vector<std::string> inputs{"x"};
  for (const auto& [name, values] : test.constants) {
    builder.initialiser(name, {static_cast<std::int64_t>(values.size())}, values);
    inputs.push_back(name);
  }
  std::vector<std::string> outputs{"t"};
  if (test.type == "TopK") outputs.emplace_back("indices");
  builder.node(test.type, inputs, outputs, test.attributes).node("Relu", {"t"}, {"y"});
  auto& output = *builder.proto().mutable_graph()->add_output();
  output.set_name("y");
  output.mutable_type()->mutable_tensor_type()->set_elem_type(onnx::TensorProto::FLOAT);
  return builder.build();
}

class Upgrade : public ::testing::TestWithParam<UpgradeCase> {};

TEST_P(Upgrade, KeepsWhatAnOldOperatorComputes) {
  const auto original = old_model(GetParam());
  for (const std::int64_t version : {9, 10, 11, 12, 13, 15, 17}) {
    if (version <= GetParam().opset) continue;
    SCOPED_TRACE(version);
    auto model = original.copy();
    const auto upgraded = graph::upgrade_opset(model, version);
    ASSERT_TRUE(upgraded) << upgraded.error().message;
    EXPECT_EQ(graph::opset_of(model), version);
    ASSERT_TRUE(graph::check(model));
    expect_same(original, model);
  }
}

INSTANTIATE_TEST_SUITE_P(
    Operators, Upgrade,
    ::testing::Values(
        UpgradeCase{"squeeze", 7, "Squeeze", {1, 3, 1}, {{"axes", Ints{0, 2}}}},
        UpgradeCase{"squeeze all", 11, "Squeeze", {1, 3, 1}},
        UpgradeCase{"unsqueeze", 7, "Unsqueeze", {3}, {{"axes", Ints{0, 2}}}},
        UpgradeCase{"reduce sum",
                    7,
                    "ReduceSum",
                    {2, 3, 4},
                    {{"axes", Ints{1}}, {"keepdims", std::int64_t{0}}}},
        UpgradeCase{"reduce sum over all", 7, "ReduceSum", {2, 3}},
        UpgradeCase{"reduce mean", 7, "ReduceMean", {2, 3, 4}, {{"axes", Ints{1, 2}}}},
        UpgradeCase{"softmax", 7, "Softmax", {2, 3, 4}},
        UpgradeCase{
            "softmax of pictures", 11, "Softmax", {2, 3, 2, 2}, {{"axis", std::int64_t{-3}}}},
        UpgradeCase{"softmax of the last", 11, "Softmax", {2, 3, 4}, {{"axis", std::int64_t{-1}}}},
        UpgradeCase{"softmax of everything", 7, "Softmax", {2, 3}, {{"axis", std::int64_t{0}}}},
        UpgradeCase{"log softmax", 7, "LogSoftmax", {2, 3, 4}, {{"axis", std::int64_t{2}}}},
        UpgradeCase{"hardmax", 7, "Hardmax", {2, 3, 4}},
        UpgradeCase{"clip", 7, "Clip", {5}, {{"min", -0.25f}, {"max", 0.5f}}},
        UpgradeCase{"clip from above", 7, "Clip", {5}, {{"max", 0.5f}}},
        UpgradeCase{"dropout", 7, "Dropout", {5}, {{"ratio", 0.3f}}},
        UpgradeCase{"pad", 7, "Pad", {1, 3}, {{"pads", Ints{0, 1, 0, 2}}, {"value", 0.5f}}},
        UpgradeCase{"pad by reflection",
                    7,
                    "Pad",
                    {1, 4},
                    {{"pads", Ints{0, 1, 0, 2}}, {"mode", std::string("reflect")}}},
        UpgradeCase{"slice",
                    7,
                    "Slice",
                    {4, 5},
                    {{"starts", Ints{1}}, {"ends", Ints{-1}}, {"axes", Ints{1}}}},
        UpgradeCase{"slice of all axes",
                    7,
                    "Slice",
                    {4, 5},
                    {{"starts", Ints{1, 2}}, {"ends", Ints{3, 1000}}}},
        UpgradeCase{"top k", 7, "TopK", {2, 5}, {{"k", std::int64_t{3}}}},
        UpgradeCase{"split", 7, "Split", {5, 2}, {{"split", Ints{5}}}},
        UpgradeCase{"upsample", 7, "Upsample", {1, 1, 3, 4}, {{"scales", Floats{1, 1, 2, 1.5f}}}},
        UpgradeCase{"upsample linearly",
                    7,
                    "Upsample",
                    {1, 1, 3, 4},
                    {{"scales", Floats{1, 1, 2, 1.5f}}, {"mode", std::string("linear")}}},
        UpgradeCase{
            "upsample by an input", 9, "Upsample", {1, 1, 3, 4}, {}, {{"scales", {1, 1, 2, 3}}}},
        UpgradeCase{"resize larger", 10, "Resize", {1, 1, 3, 4}, {}, {{"scales", {1, 1, 2, 1.5f}}}},
        UpgradeCase{
            "resize smaller", 10, "Resize", {1, 1, 5, 7}, {}, {{"scales", {1, 1, 0.6f, 0.5f}}}},
        UpgradeCase{"resize linearly",
                    10,
                    "Resize",
                    {1, 1, 5, 7},
                    {{"mode", std::string("linear")}},
                    {{"scales", {1, 1, 0.6f, 2}}}},
        UpgradeCase{
            "batch norm",
            7,
            "BatchNormalization",
            {1, 2, 3},
            {{"spatial", std::int64_t{1}}},
            {{"scale", {1, 2}}, {"shift", {0, 1}}, {"mean", {0.5f, 1}}, {"variance", {1, 4}}}}));

TEST(Upgrade, RefusesWhatHasNoEqual) {
  auto model = old_model({"", 7, "BatchNormalization", {1, 2, 3}, {{"spatial", std::int64_t{0}}}});
  const auto before = model.serialise().value();
  const auto upgraded = graph::upgrade_opset(model, 13);
  ASSERT_FALSE(upgraded);
  EXPECT_EQ(upgraded.error().code, ErrorCode::kUnimplemented);
  EXPECT_EQ(model.serialise().value(), before);
}

TEST(Upgrade, OfRandomModelsAndBeyondWhatIsKnown) {
  for (std::uint64_t seed = 0; seed < 10; ++seed) {
    auto model = graph::testing::random_model(seed);
    ASSERT_TRUE(graph::upgrade_opset(model, 13));
    EXPECT_EQ(graph::opset_of(model), 17);
    EXPECT_EQ(graph::upgrade_opset(model, 18).error().code, ErrorCode::kFailedPrecondition);
  }
}

}  // namespace
}  // namespace selvage::infer
