#include "graph/text.h"

#include <gtest/gtest.h>
#include <selvage/onnx.pb.h>

#include "graph/testing.h"

namespace selvage::graph {
namespace {

TEST(Text, IsOneLineANodeInAFixedOrder) {
  auto builder = testing::conv_model();
  auto& graph = *builder.proto().mutable_graph();
  graph.mutable_node(0)->set_name("c1");
  builder.opset("com.microsoft", 1)
      .initialiser("k", {2}, std::vector<std::int64_t>{1, -1})
      .initialiser("z0", {0}, std::vector<float>{})
      .node("Clip", {"y", "", "k"}, {"", "z"},
            {{"s", "a \"b\"\n\x01"}, {"f", 0.1f}, {"fs", std::vector<float>{1.f, 2.5f}}})
      .node("Gelu", {"z"}, {"g"}, {}, "com.microsoft")
      .node("If", {"g"}, {"h"})
      .input("n", DataType::kInt8, {-1, 2});
  auto& branch = *graph.mutable_node(3)->add_attribute();
  branch.set_name("then_branch");
  branch.set_type(onnx::AttributeProto::GRAPH);
  branch.mutable_g()->set_name("then");
  auto& inner = *branch.mutable_g()->add_node();
  inner.set_op_type("Relu");
  inner.add_input("g");
  inner.add_output("r");
  auto& damaged = *graph.add_initializer();
  damaged.set_name("d");
  damaged.set_data_type(onnx::TensorProto::FLOAT);
  damaged.add_dims(1000);
  auto& function = *builder.proto().add_functions();
  function.set_domain("local");
  function.set_name("F");
  function.add_input("a");
  function.add_output("b");
  function.add_opset_import()->set_version(17);
  auto& body = *function.add_node();
  body.set_op_type("Relu");
  body.add_input("a");
  body.add_output("b");
  auto& reference = *body.add_attribute();
  reference.set_name("alpha");
  reference.set_ref_attr_name("slope");

  EXPECT_EQ(to_text(builder.build()),
            R"(ir 8, opset 17, com.microsoft 1
producer "selvage"
graph "main"
  input x: float32[1,3,8,8]
  input n: int8[?,2]
  output y: float32[1,4,8,8]
  init w: float32[4,3,3,3] sha256:86323a79f2ce15af
  init k: int64[2] = [1, -1]
  init z0: float32[0] = []
  init d: float32[1000] damaged
  y = Conv(x, w) {kernel_shape=[3, 3], pads=[1, 1, 1, 1]}  # c1
  _, z = Clip(y, _, k) {f=0.1, fs=[1, 2.5], s="a \"b\"\n\x01"}
  g = com.microsoft.Gelu(z)
  h = If(g) {then_branch=graph "then" {
    r = Relu(g)
  }}
function local.F(a) -> (b), opset 17
  b = Relu(a) {alpha=@slope}
)");
}

}  // namespace
}  // namespace selvage::graph
