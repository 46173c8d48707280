#include "graph/sort.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <selvage/onnx.pb.h>

#include "graph/testing.h"

namespace selvage::graph {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using testing::ModelBuilder;

std::vector<std::string> types(const onnx::GraphProto& graph) {
  std::vector<std::string> names;
  for (const auto& node : graph.node()) names.push_back(node.op_type());
  return names;
}

ModelBuilder unsorted_model() {
  return std::move(ModelBuilder()
                       .input("x", DataType::kFloat32, {1, 4})
                       .node("Relu", {"b"}, {"y"})
                       .node("Abs", {"x"}, {"c"})
                       .node("Neg", {"a"}, {"b"})
                       .node("Exp", {"x"}, {"a"})
                       .output("y", DataType::kFloat32, {1, 4}));
}

TEST(SortNodes, PutsThemInTheOrderOfTheirData) {
  auto model = unsorted_model().build();
  EXPECT_FALSE(check(model));
  EXPECT_TRUE(sort_nodes(model));
  EXPECT_TRUE(check(model));
  EXPECT_THAT(types(model.proto().graph()), ElementsAre("Abs", "Exp", "Neg", "Relu"));
}

TEST(SortNodes, LeavesSortedModelsAsTheyAre) {
  auto model = testing::random_model(1);
  const auto before = model.serialise().value();
  EXPECT_FALSE(sort_nodes(model));
  EXPECT_EQ(model.serialise().value(), before);
}

TEST(SortNodes, RestoresAnyOrder) {
  for (std::uint64_t seed = 0; seed < 50; ++seed) {
    auto model = testing::random_model(seed);
    testing::reverse_nodes(model);
    EXPECT_TRUE(sort_nodes(model));
    const auto valid = check(model);
    EXPECT_TRUE(valid) << seed << ": " << valid.error().message;
  }
}

TEST(SortNodes, LooksIntoSubgraphsAndAtWhatTheyRead) {
  ModelBuilder builder;
  builder.input("c", DataType::kBool, {}).input("x", DataType::kFloat32, {1});
  builder.node("If", {"c"}, {"y"}).node("Abs", {"x"}, {"a"});
  builder.output("y", DataType::kFloat32, {1});
  for (const auto* name : {"then_branch", "else_branch"}) {
    auto& attribute = *builder.proto().mutable_graph()->mutable_node(0)->add_attribute();
    attribute.set_name(name);
    attribute.set_type(onnx::AttributeProto::GRAPH);
    auto& graph = *attribute.mutable_g();
    graph.set_name(name);
    for (const auto* step : {"Relu", "Neg"}) {
      auto& node = *graph.add_node();
      node.set_op_type(step);
      node.add_input(std::string_view(step) == "Relu" ? std::string(name) + "_n" : "a");
      node.add_output(std::string(name) + (std::string_view(step) == "Relu" ? "_r" : "_n"));
    }
    graph.add_output()->set_name(std::string(name) + "_r");
  }
  auto model = builder.build();
  EXPECT_TRUE(sort_nodes(model));
  EXPECT_TRUE(check(model));
  EXPECT_THAT(types(model.proto().graph()), ElementsAre("Abs", "If"));
  EXPECT_THAT(types(model.proto().graph().node(1).attribute(0).g()), ElementsAre("Neg", "Relu"));
}

TEST(SortNodes, LeavesACycleToTheCheck) {
  auto model =
      std::move(unsorted_model().node("Add", {"q", "x"}, {"p"}).node("Sub", {"p", "x"}, {"q"}))
          .build();
  EXPECT_TRUE(sort_nodes(model));
  const auto checked = check(model);
  ASSERT_FALSE(checked);
  EXPECT_THAT(checked.error().message, HasSubstr("cycle"));
}

TEST(SortNodes, TakesAModelWithoutAGraph) {
  Model model;
  EXPECT_FALSE(sort_nodes(model));
  EXPECT_FALSE(model.proto().has_graph());
}

}  // namespace
}  // namespace selvage::graph
