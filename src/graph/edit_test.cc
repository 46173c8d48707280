#include "graph/edit.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <selvage/onnx.pb.h>

#include "graph/check.h"
#include "graph/testing.h"

namespace selvage::graph {
namespace {

using ::testing::ElementsAre;

std::vector<std::string> output_names(const Model& model) {
  std::vector<std::string> names;
  for (const auto& output : model.proto().graph().output()) names.push_back(output.name());
  return names;
}

TEST(ExposeAllValues, AddsEveryValueOnceAfterTheOutputs) {
  auto builder = testing::identity_model();
  builder.node("Split", {"y"}, {"a", "", "b"}).node("If", {"a"}, {"c"}).node("Constant", {}, {"k"});
  auto& branch = *builder.proto().mutable_graph()->mutable_node(2)->add_attribute();
  branch.set_name("then_branch");
  branch.set_type(onnx::AttributeProto::GRAPH);
  branch.mutable_g()->add_node()->set_op_type("Relu");
  branch.mutable_g()->mutable_node(0)->add_output("hidden");
  auto model = builder.build();
  const auto before = model.serialise().value();
  const auto bytes = expose_all_values(model);
  ASSERT_TRUE(bytes);
  EXPECT_EQ(model.serialise().value(), before);
  auto exposed = Model::parse(*bytes);
  ASSERT_TRUE(exposed) << exposed.error().message;
  EXPECT_TRUE(check(*exposed));
  EXPECT_THAT(output_names(*exposed), ElementsAre("y", "a", "b", "c"));
  EXPECT_FALSE(exposed->proto().graph().output(1).has_type());
  // Nothing else changed.
  exposed->proto().mutable_graph()->mutable_output()->DeleteSubrange(1, 3);
  EXPECT_EQ(exposed->serialise().value(), before);
}

TEST(ExposeAllValues, IsBounded) {
  testing::ModelBuilder builder;
  auto& node = *builder.proto().mutable_graph()->add_node();
  node.set_op_type("Split");
  for (std::size_t i = 0; i <= kExposedValuesMax; ++i) node.add_output(std::to_string(i));
  const auto model = builder.build();
  EXPECT_EQ(expose_all_values(model).error().code, ErrorCode::kOutOfRange);
}

TEST(ExposeOutline, HasInputsInPlaceOfWeights) {
  testing::ModelBuilder builder;
  const std::vector<float> weight(256 * 4), bias(4);
  const auto model = builder.input("x", DataType::kFloat32, {1, 256})
                         .initialiser("w", {256, 4}, weight)
                         .initialiser("b", {4}, bias)
                         .node("Gemm", {"x", "w", "b"}, {"h"})
                         .node("Relu", {"h"}, {"y"})
                         .output("y", DataType::kFloat32, {1, 4})
                         .build();
  const auto bytes = expose_outline(model);
  ASSERT_TRUE(bytes) << bytes.error().message;
  EXPECT_LT(bytes->size(), weight.size());
  const auto outline = Model::parse(*bytes);
  ASSERT_TRUE(outline) << outline.error().message;
  EXPECT_TRUE(check(*outline));
  EXPECT_THAT(output_names(*outline), ElementsAre("y", "h"));
  const auto& graph = outline->proto().graph();
  ASSERT_EQ(graph.initializer_size(), 1);
  EXPECT_EQ(graph.initializer(0).name(), "b");
  ASSERT_EQ(graph.input_size(), 2);
  EXPECT_EQ(graph.input(1).name(), "w");
  EXPECT_EQ(graph.input(1).type().tensor_type().shape().dim(0).dim_value(), 256);
}

}  // namespace
}  // namespace selvage::graph
