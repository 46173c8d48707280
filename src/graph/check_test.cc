#include "graph/check.h"

#include <filesystem>
#include <fstream>
#include <functional>

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <selvage/onnx.pb.h>
#include <unistd.h>

#include "base/file.h"
#include "graph/testing.h"

namespace selvage::graph {
namespace {

namespace fs = std::filesystem;
using onnx::AttributeProto;
using onnx::ModelProto;
using onnx::TensorProto;
using ::testing::HasSubstr;
using testing::ModelBuilder;

onnx::NodeProto& add_node(onnx::GraphProto& graph, std::string_view type,
                          const std::vector<std::string>& inputs,
                          const std::vector<std::string>& outputs) {
  auto& node = *graph.add_node();
  node.set_op_type(std::string(type));
  for (const auto& name : inputs) node.add_input(name);
  for (const auto& name : outputs) node.add_output(name);
  return node;
}

AttributeProto& add_attribute(onnx::NodeProto& node, std::string_view name,
                              AttributeProto::AttributeType type) {
  auto& attribute = *node.add_attribute();
  attribute.set_name(std::string(name));
  attribute.set_type(type);
  return attribute;
}

TensorProto& add_initialiser(ModelProto& model, std::string_view name, int type,
                             const Shape& shape) {
  auto& tensor = *model.mutable_graph()->add_initializer();
  tensor.set_name(std::string(name));
  tensor.set_data_type(type);
  tensor.mutable_dims()->Add(shape.begin(), shape.end());
  return tensor;
}

onnx::FunctionProto& add_function(ModelProto& model, std::string_view name, std::string_view calls,
                                  int times = 1) {
  auto& function = *model.add_functions();
  function.set_domain("local");
  function.set_name(std::string(name));
  function.add_input("a");
  function.add_output("b" + std::to_string(times - 1));
  auto& import = *function.add_opset_import();
  import.set_version(17);
  for (int i = 0; i < times; ++i) {
    auto& node = *function.add_node();
    node.set_op_type(std::string(calls));
    if (calls != "Relu") node.set_domain("local");
    node.add_input("a");
    node.add_output("b" + std::to_string(i));
  }
  return function;
}

void add_external(TensorProto& tensor, std::string_view key, std::string_view value) {
  tensor.set_data_location(TensorProto::EXTERNAL);
  auto& entry = *tensor.add_external_data();
  entry.set_key(std::string(key));
  entry.set_value(std::string(value));
}

/// A fault, put into the sound model y = Identity(x), and what must be said about it.
struct Fault {
  std::string_view name;
  std::function<void(ModelProto&)> apply;
  ErrorCode code;
  std::string_view message;
};

const Fault kFaults[] = {
    {"no graph", [](auto& m) { m.clear_graph(); }, ErrorCode::kInvalidArgument, "has no graph"},
    {"no IR version", [](auto& m) { m.clear_ir_version(); }, ErrorCode::kInvalidArgument,
     "IR version 0"},
    {"IR version of the future", [](auto& m) { m.set_ir_version(14); }, ErrorCode::kInvalidArgument,
     "IR version 14; known are 3 to 13"},
    {"no opset", [](auto& m) { m.clear_opset_import(); }, ErrorCode::kInvalidArgument,
     "names no operator set"},
    {"opset of the future", [](auto& m) { m.mutable_opset_import(0)->set_version(27); },
     ErrorCode::kInvalidArgument, "'ai.onnx' has version 27; known are 1 to 26"},
    {"opset 0", [](auto& m) { m.mutable_opset_import(0)->set_version(0); },
     ErrorCode::kInvalidArgument, "version 0"},
    {"opset twice under two spellings",
     [](auto& m) {
       auto& import = *m.add_opset_import();
       import.set_domain("ai.onnx");
       import.set_version(13);
     },
     ErrorCode::kInvalidArgument, "imported twice"},
    {"input without type", [](auto& m) { m.mutable_graph()->mutable_input(0)->clear_type(); },
     ErrorCode::kInvalidArgument, "input 'x' has no type"},
    {"input without name", [](auto& m) { m.mutable_graph()->mutable_input(0)->clear_name(); },
     ErrorCode::kInvalidArgument, "has no valid name"},
    {"input twice", [](auto& m) { *m.mutable_graph()->add_input() = m.graph().input(0); },
     ErrorCode::kInvalidArgument, "two inputs 'x'"},
    {"output that nothing produces",
     [](auto& m) { m.mutable_graph()->mutable_output(0)->set_name("z"); },
     ErrorCode::kInvalidArgument, "produces its output 'z'"},
    {"node without type", [](auto& m) { m.mutable_graph()->mutable_node(0)->clear_op_type(); },
     ErrorCode::kInvalidArgument, "no operator type"},
    {"node name not UTF-8",
     [](auto& m) { m.mutable_graph()->mutable_node(0)->set_name("caf\xe9"); },
     ErrorCode::kInvalidArgument, "node 'caf?' (Identity): has a name that is not valid UTF-8"},
    {"output name not UTF-8",
     [](auto& m) { add_node(*m.mutable_graph(), "Relu", {"x"}, {"\xff"}); },
     ErrorCode::kInvalidArgument, "output '?' that is not valid UTF-8"},
    {"input that nothing produces",
     [](auto& m) { m.mutable_graph()->mutable_node(0)->set_input(0, "gone"); },
     ErrorCode::kInvalidArgument, "node 0 (Identity): reads 'gone', which nothing produces"},
    {"reads itself", [](auto& m) { m.mutable_graph()->mutable_node(0)->set_input(0, "y"); },
     ErrorCode::kInvalidArgument, "reads 'y', which it produces itself"},
    {"wrong order",
     [](auto& m) {
       m.mutable_graph()->mutable_node(0)->set_input(0, "late");
       add_node(*m.mutable_graph(), "Conv", {"x"}, {"late"}).set_name("c1");
     },
     ErrorCode::kInvalidArgument,
     "reads 'late', which is produced later by node 'c1' (Conv): nodes"},
    {"cycle",
     [](auto& m) {
       auto& graph = *m.mutable_graph();
       graph.mutable_node(0)->set_input(0, "b");
       add_node(graph, "Relu", {"y"}, {"a"}).set_name("first");
       add_node(graph, "Relu", {"a"}, {"b"}).set_name("second");
     },
     ErrorCode::kInvalidArgument,
     "form a cycle: node 0 (Identity) <- node 'second' (Relu) <- node 'first' (Relu) <- node 0"},
    {"value produced twice", [](auto& m) { add_node(*m.mutable_graph(), "Relu", {"x"}, {"y"}); },
     ErrorCode::kInvalidArgument, "node 1 (Relu): produces 'y', which already exists"},
    {"node overwrites input", [](auto& m) { add_node(*m.mutable_graph(), "Relu", {"x"}, {"x"}); },
     ErrorCode::kInvalidArgument, "produces 'x'"},
    {"subgraph produces an outer name",
     [](auto& m) {
       auto& node = add_node(*m.mutable_graph(), "If", {"x"}, {"z"});
       auto& branch = *add_attribute(node, "then_branch", AttributeProto::GRAPH).mutable_g();
       add_node(branch, "Relu", {"x"}, {"y"});
     },
     ErrorCode::kInvalidArgument,
     "node 1 (If): attribute 'then_branch': node 0 (Relu): produces 'y'"},
    {"subgraph reads a later outer value",
     [](auto& m) {
       auto& node = add_node(*m.mutable_graph(), "If", {"x"}, {"z"});
       auto& branch = *add_attribute(node, "then_branch", AttributeProto::GRAPH).mutable_g();
       add_node(branch, "Relu", {"late"}, {"r"});
       add_node(*m.mutable_graph(), "Relu", {"x"}, {"late"}).set_name("l");
     },
     ErrorCode::kInvalidArgument, "produced later, outside its subgraph, by node 'l' (Relu)"},
    {"subgraph returns an outer value",
     [](auto& m) {
       auto& node = add_node(*m.mutable_graph(), "If", {"x"}, {"z"});
       auto& branch = *add_attribute(node, "then_branch", AttributeProto::GRAPH).mutable_g();
       branch.set_name("then");
       branch.add_output()->set_name("x");
     },
     ErrorCode::kInvalidArgument, "nothing in graph 'then' produces its output 'x'"},
    {"subgraphs too deep",
     [](auto& m) {
       auto* graph = m.mutable_graph();
       for (int i = 0; i < 17; ++i)
         graph =
             add_attribute(add_node(*graph, "If", {"x"}, {}), "then_branch", AttributeProto::GRAPH)
                 .mutable_g();
     },
     ErrorCode::kOutOfRange, "deeper than the limit of 16"},
    {"attribute twice",
     [](auto& m) {
       auto& node = *m.mutable_graph()->mutable_node(0);
       add_attribute(node, "alpha", AttributeProto::FLOAT);
       add_attribute(node, "alpha", AttributeProto::FLOAT);
     },
     ErrorCode::kInvalidArgument, "has attribute 'alpha' twice"},
    {"attribute without name",
     [](auto& m) { add_attribute(*m.mutable_graph()->mutable_node(0), "", AttributeProto::INT); },
     ErrorCode::kInvalidArgument, "attribute '' has no valid name"},
    {"attribute of another type",
     [](auto& m) {
       add_attribute(*m.mutable_graph()->mutable_node(0), "axis", AttributeProto::INT).set_s("1");
     },
     ErrorCode::kInvalidArgument, "attribute 'axis': is declared as INT but holds another type"},
    {"attribute without type",
     [](auto& m) { m.mutable_graph()->mutable_node(0)->add_attribute()->set_name("axis"); },
     ErrorCode::kInvalidArgument, "attribute 'axis': has no type"},
    {"tensor attribute without tensor",
     [](auto& m) {
       add_attribute(*m.mutable_graph()->mutable_node(0), "value", AttributeProto::TENSOR);
     },
     ErrorCode::kInvalidArgument, "declared as TENSOR but is empty"},
    {"reference outside of a function",
     [](auto& m) {
       add_attribute(*m.mutable_graph()->mutable_node(0), "axis", AttributeProto::INT)
           .set_ref_attr_name("axis");
     },
     ErrorCode::kInvalidArgument, "outside of a function"},
    {"initialiser twice",
     [](auto& m) {
       add_initialiser(m, "w", TensorProto::FLOAT, {0});
       add_initialiser(m, "w", TensorProto::FLOAT, {0});
     },
     ErrorCode::kInvalidArgument, "two initialisers 'w'"},
    {"initialiser without name", [](auto& m) { add_initialiser(m, "", TensorProto::FLOAT, {0}); },
     ErrorCode::kInvalidArgument, "initialiser '' has no valid name"},
    {"unknown data type", [](auto& m) { add_initialiser(m, "w", 77, {0}); },
     ErrorCode::kInvalidArgument, "tensor 'w' has the unknown data type 77"},
    {"negative dimension", [](auto& m) { add_initialiser(m, "w", TensorProto::FLOAT, {-1}); },
     ErrorCode::kInvalidArgument, "impossible dimensions"},
    {"dimensions overflow",
     [](auto& m) { add_initialiser(m, "w", TensorProto::FLOAT, {1LL << 40, 1LL << 40}); },
     ErrorCode::kInvalidArgument, "tensor 'w'"},
    {"bytes overflow",
     [](auto& m) { add_initialiser(m, "w", TensorProto::COMPLEX128, {(1LL << 62) + 1}); },
     ErrorCode::kInvalidArgument, "tensor 'w'"},
    {"too many dimensions",
     [](auto& m) { add_initialiser(m, "w", TensorProto::FLOAT, Shape(65, 1)).add_float_data(1); },
     ErrorCode::kOutOfRange, "65 dimensions, more than the limit of 64"},
    {"2 GB claimed, nothing there",
     [](auto& m) { add_initialiser(m, "w", TensorProto::UINT8, {1LL << 31}); },
     ErrorCode::kDataLoss, "tensor 'w' needs 2147483648 entries in int32_data, the file has 0"},
    {"raw data too short",
     [](auto& m) { add_initialiser(m, "w", TensorProto::FLOAT, {3}).set_raw_data("12345678901"); },
     ErrorCode::kDataLoss, "needs 12 bytes, the file has 11"},
    {"raw data too long",
     [](auto& m) { add_initialiser(m, "w", TensorProto::INT4, {3}).set_raw_data("123"); },
     ErrorCode::kDataLoss, "needs 2 bytes, the file has 3"},
    {"raw strings",
     [](auto& m) { add_initialiser(m, "w", TensorProto::STRING, {3}).set_raw_data("abc"); },
     ErrorCode::kInvalidArgument, "keeps strings as raw data"},
    {"data in the wrong field",
     [](auto& m) { add_initialiser(m, "w", TensorProto::FLOAT, {1}).add_int64_data(1); },
     ErrorCode::kInvalidArgument,
     "of type float32 keeps its data in another field than float_data"},
    {"data in two fields",
     [](auto& m) {
       auto& tensor = add_initialiser(m, "w", TensorProto::FLOAT, {1});
       tensor.add_float_data(1);
       tensor.set_raw_data("1234");
     },
     ErrorCode::kInvalidArgument, "in more than one field"},
    {"segment", [](auto& m) { add_initialiser(m, "w", TensorProto::FLOAT, {0}).mutable_segment(); },
     ErrorCode::kInvalidArgument, "is a segment"},
    {"damaged tensor in an attribute",
     [](auto& m) {
       auto& tensor =
           *add_attribute(*m.mutable_graph()->mutable_node(0), "value", AttributeProto::TENSOR)
                .mutable_t();
       tensor.set_data_type(TensorProto::INT64);
       tensor.add_dims(5);
     },
     ErrorCode::kDataLoss, "attribute 'value': a tensor without a name needs 5 entries"},
    {"external data without a folder",
     [](auto& m) {
       add_external(add_initialiser(m, "w", TensorProto::FLOAT, {1}), "location", "w.bin");
     },
     ErrorCode::kFailedPrecondition, "load it from its file"},
    {"function twice",
     [](auto& m) {
       add_function(m, "F", "Relu");
       add_function(m, "F", "Relu");
     },
     ErrorCode::kInvalidArgument, "function 'local:F' is defined twice"},
    {"function without opset", [](auto& m) { add_function(m, "F", "Relu").clear_opset_import(); },
     ErrorCode::kInvalidArgument, "function 'local:F': names no operator set"},
    {"function output that nothing produces",
     [](auto& m) { add_function(m, "F", "Relu").add_output("q"); }, ErrorCode::kInvalidArgument,
     "nothing produces its output 'q'"},
    {"function reads the graph around it",
     [](auto& m) { add_function(m, "F", "Relu").mutable_node(0)->set_input(0, "x"); },
     ErrorCode::kInvalidArgument, "reads 'x', which nothing produces"},
    {"function input twice", [](auto& m) { add_function(m, "F", "Relu").add_input("a"); },
     ErrorCode::kInvalidArgument, "input 'a'"},
    {"recursion",
     [](auto& m) {
       add_function(m, "F", "G");
       add_function(m, "G", "F");
     },
     ErrorCode::kInvalidArgument, "calls itself"},
    {"functions that double a million times",
     [](auto& m) {
       add_function(m, "F0", "Relu");
       for (int i = 1; i < 60; ++i)
         add_function(m, "F" + std::to_string(i), "F" + std::to_string(i - 1), 2);
     },
     ErrorCode::kOutOfRange, "once functions are expanded"},
    {"calls too deep",
     [](auto& m) {
       add_function(m, "F0", "Relu");
       for (int i = 1; i < 70; ++i)
         add_function(m, "F" + std::to_string(i), "F" + std::to_string(i - 1));
     },
     ErrorCode::kOutOfRange, "deeper than the limit of 64"},
    {"ConstantOfShape of a terabyte",
     [](auto& m) {
       auto& shape = add_initialiser(m, "s", TensorProto::INT64, {2});
       shape.add_int64_data(1 << 20);
       shape.add_int64_data(1 << 20);
       add_node(*m.mutable_graph(), "ConstantOfShape", {"s"}, {"z"});
     },
     ErrorCode::kOutOfRange,
     "node 1 (ConstantOfShape): states a size of 1099511627776 elements, more than the limit"},
    {"Expand by a Constant node, seen from a subgraph",
     [](auto& m) {
       auto& graph = *m.mutable_graph();
       auto& constant = add_node(graph, "Constant", {}, {"s"});
       add_attribute(constant, "value_ints", AttributeProto::INTS).add_ints(1LL << 62);
       auto& node = add_node(graph, "If", {"x"}, {"z"});
       auto& branch = *add_attribute(node, "then_branch", AttributeProto::GRAPH).mutable_g();
       add_node(branch, "Expand", {"x", "s"}, {"r"});
     },
     ErrorCode::kOutOfRange, "states a size of over 10^18 elements"},
    {"random tensor of a terabyte",
     [](auto& m) {
       add_attribute(add_node(*m.mutable_graph(), "RandomNormal", {}, {"z"}), "shape",
                     AttributeProto::INTS)
           .add_ints(1LL << 40);
     },
     ErrorCode::kOutOfRange, "(RandomNormal)"},
    {"endless Range",
     [](auto& m) {
       add_initialiser(m, "from", TensorProto::FLOAT, {}).add_float_data(0);
       add_initialiser(m, "to", TensorProto::FLOAT, {}).add_float_data(1);
       add_initialiser(m, "by", TensorProto::FLOAT, {}).add_float_data(1e-30f);
       add_node(*m.mutable_graph(), "Range", {"from", "to", "by"}, {"z"});
     },
     ErrorCode::kOutOfRange, "(Range)"},
    {"shape with more dimensions than any",
     [](auto& m) {
       add_initialiser(m, "s", TensorProto::INT64, {200}).set_raw_data(std::string(1600, '\0'));
       add_node(*m.mutable_graph(), "ConstantOfShape", {"s"}, {"z"});
     },
     ErrorCode::kOutOfRange, "argument 's' for more dimensions"},
    {"sparse initialiser of a terabyte",
     [](auto& m) {
       auto& sparse = *m.mutable_graph()->add_sparse_initializer();
       sparse.add_dims(1LL << 40);
       sparse.mutable_values()->set_name("s");
       sparse.mutable_values()->set_data_type(TensorProto::FLOAT);
       sparse.mutable_values()->add_dims(0);
       sparse.mutable_indices()->set_data_type(TensorProto::INT64);
       sparse.mutable_indices()->add_dims(0);
     },
     ErrorCode::kOutOfRange, "sparse tensor 's' of shape [1099511627776]"},
    {"sparse index outside",
     [](auto& m) {
       auto& sparse = *m.mutable_graph()->add_sparse_initializer();
       sparse.add_dims(3);
       sparse.mutable_values()->set_name("s");
       sparse.mutable_values()->set_data_type(TensorProto::FLOAT);
       sparse.mutable_values()->add_dims(1);
       sparse.mutable_values()->add_float_data(1);
       sparse.mutable_indices()->set_data_type(TensorProto::INT64);
       sparse.mutable_indices()->add_dims(1);
       sparse.mutable_indices()->add_int64_data(3);
     },
     ErrorCode::kInvalidArgument, "sparse tensor 's' has an index outside its shape"},
    {"sparse indices of another count",
     [](auto& m) {
       auto& sparse = *m.mutable_graph()->add_sparse_initializer();
       sparse.add_dims(3);
       sparse.mutable_values()->set_name("s");
       sparse.mutable_values()->set_data_type(TensorProto::FLOAT);
       sparse.mutable_values()->add_dims(1);
       sparse.mutable_values()->add_float_data(1);
       sparse.mutable_indices()->set_data_type(TensorProto::INT64);
       sparse.mutable_indices()->add_dims(0);
     },
     ErrorCode::kInvalidArgument, "indices that do not fit"},
};

TEST(Check, NamesEveryFault) {
  for (const auto& fault : kFaults) {
    auto builder = testing::identity_model();
    fault.apply(builder.proto());
    const auto checked = check(builder.build());
    ASSERT_FALSE(checked) << fault.name << ": accepted";
    EXPECT_EQ(checked.error().code, fault.code) << fault.name << ": " << checked.error().message;
    EXPECT_THAT(checked.error().message, HasSubstr(std::string(fault.message))) << fault.name;
  }
}

/// What the specification allows and a hasty check would refuse.
const std::pair<std::string_view, std::function<void(ModelProto&)>> kOddities[] = {
    {"nothing odd", [](auto&) {}},
    {"optional input and output left out",
     [](auto& m) { add_node(*m.mutable_graph(), "Clip", {"x", "", "x"}, {"", "z"}); }},
    {"initialiser is the default of an input",
     [](auto& m) { add_initialiser(m, "x", TensorProto::FLOAT, {1}).add_float_data(1); }},
    {"output is an input", [](auto& m) { m.mutable_graph()->mutable_output(0)->set_name("x"); }},
    {"output is an initialiser",
     [](auto& m) {
       add_initialiser(m, "w", TensorProto::FLOAT, {1}).add_float_data(1);
       m.mutable_graph()->mutable_output(0)->set_name("w");
     }},
    {"both branches use the same names",
     [](auto& m) {
       auto& node = add_node(*m.mutable_graph(), "If", {"x"}, {"z"});
       for (const auto* name : {"then_branch", "else_branch"}) {
         auto& branch = *add_attribute(node, name, AttributeProto::GRAPH).mutable_g();
         add_node(branch, "Relu", {"y"}, {"r"});
         branch.add_output()->set_name("r");
       }
     }},
    {"16 subgraphs deep",
     [](auto& m) {
       auto* graph = m.mutable_graph();
       for (int i = 0; i < 16; ++i)
         graph =
             add_attribute(add_node(*graph, "If", {"x"}, {}), "then_branch", AttributeProto::GRAPH)
                 .mutable_g();
     }},
    {"unknown domain",
     [](auto& m) { add_node(*m.mutable_graph(), "Magic", {"x"}, {"z"}).set_domain("nobody"); }},
    {"attribute types left to the field, as in 2017",
     [](auto& m) {
       auto& attribute = *m.mutable_graph()->mutable_node(0)->add_attribute();
       attribute.set_name("axis");
       attribute.set_i(1);
     }},
    {"zero left out by a proto3 writer",
     [](auto& m) {
       add_attribute(*m.mutable_graph()->mutable_node(0), "a", AttributeProto::FLOAT);
     }},
    {"sparse initialiser with coordinates",
     [](auto& m) {
       auto& sparse = *m.mutable_graph()->add_sparse_initializer();
       sparse.add_dims(2);
       sparse.add_dims(3);
       sparse.mutable_values()->set_name("s");
       sparse.mutable_values()->set_data_type(TensorProto::FLOAT);
       sparse.mutable_values()->add_dims(1);
       sparse.mutable_values()->add_float_data(1);
       sparse.mutable_indices()->set_data_type(TensorProto::INT64);
       sparse.mutable_indices()->add_dims(1);
       sparse.mutable_indices()->add_dims(2);
       sparse.mutable_indices()->add_int64_data(1);
       sparse.mutable_indices()->add_int64_data(2);
     }},
    {"function with a referred attribute, called twice",
     [](auto& m) {
       auto& function = add_function(m, "F", "Relu");
       function.add_attribute("alpha");
       add_attribute(*function.mutable_node(0), "alpha", AttributeProto::FLOAT)
           .set_ref_attr_name("alpha");
       add_node(*m.mutable_graph(), "F", {"x"}, {"p"}).set_domain("local");
       add_node(*m.mutable_graph(), "F", {"p"}, {"q"}).set_domain("local");
     }},
    {"64 calls deep",
     [](auto& m) {
       add_function(m, "F0", "Relu");
       for (int i = 1; i < 64; ++i)
         add_function(m, "F" + std::to_string(i), "F" + std::to_string(i - 1));
     }},
    {"ConstantOfShape at the limit, with a zero",
     [](auto& m) {
       add_initialiser(m, "s", TensorProto::INT64, {1}).add_int64_data(1 << 28);
       add_initialiser(m, "t", TensorProto::INT64, {1}).add_int64_data(0);
       add_node(*m.mutable_graph(), "ConstantOfShape", {"s"}, {"p"});
       add_node(*m.mutable_graph(), "ConstantOfShape", {"t"}, {"q"});
     }},
    {"names in other scripts",
     [](auto& m) { add_node(*m.mutable_graph(), "Relu", {"x"}, {"\u65e5\u672c\u8a9e"}); }},
};

TEST(Check, AcceptsWhatTheSpecificationAllows) {
  for (const auto& [name, apply] : kOddities) {
    auto builder = testing::identity_model();
    apply(builder.proto());
    const auto checked = check(builder.build());
    EXPECT_TRUE(checked) << name << ": " << checked.error().message;
  }
  EXPECT_TRUE(check(testing::add_model().build()));
  EXPECT_TRUE(check(testing::conv_model().build()));
  EXPECT_TRUE(check(testing::matmul_model().build()));
}

TEST(Check, LimitsAreOptions) {
  auto model = testing::identity_model().build();
  EXPECT_TRUE(check(model, {.nodes_max = 1}));
  EXPECT_EQ(check(model, {.nodes_max = 0}).error().code, ErrorCode::kOutOfRange);
  EXPECT_FALSE(check(model, {.opset_max = 16}));
}

class ExternalDataTest : public ::testing::Test {
 protected:
  ExternalDataTest() {
    fs::create_directories(folder_ / "model" / "sub");
    std::ofstream(folder_ / "model" / "w.bin") << "0123456789abcdef";
    std::ofstream(folder_ / "secret.bin") << "0123456789abcdef";
    fs::create_symlink("../secret.bin", folder_ / "model" / "link.bin");
    fs::create_symlink("w.bin", folder_ / "model" / "inside.bin");
    fs::create_symlink("..", folder_ / "model" / "up");
  }
  ~ExternalDataTest() override { fs::remove_all(folder_); }

  /// Checks a model with a float32[2] in `location`, loaded from folder_/model.
  Result<void> check_with(std::vector<std::pair<std::string, std::string>> entries) {
    auto builder = testing::identity_model();
    auto& tensor = add_initialiser(builder.proto(), "w", TensorProto::FLOAT, {2});
    tensor.set_data_location(TensorProto::EXTERNAL);
    for (const auto& [key, value] : entries) add_external(tensor, key, value);
    const auto path = folder_ / "model" / "m.onnx";
    EXPECT_TRUE(write_atomically(path, builder.bytes()));
    SELVAGE_TRY(const auto model, Model::load(path));
    return check(model);
  }
  fs::path folder_ =
      fs::temp_directory_path() / ("selvage-check-test-" + std::to_string(::getpid()));
};

TEST_F(ExternalDataTest, FilesInTheModelsFolderAreAccepted) {
  EXPECT_TRUE(check_with({{"location", "w.bin"}, {"length", "8"}}));
  EXPECT_TRUE(check_with({{"location", "w.bin"}, {"offset", "8"}, {"length", "8"}}));
  EXPECT_TRUE(check_with({{"location", "w.bin"}, {"offset", "8"}}));
  EXPECT_TRUE(check_with({{"location", "./w.bin"}}));
  EXPECT_TRUE(check_with({{"location", "inside.bin"}, {"checksum", "0123"}}));
}

TEST_F(ExternalDataTest, WhateverLeavesTheFolderIsRefused) {
  const std::string absolute = (folder_ / "model" / "w.bin").string();
  for (const std::string& location :
       {std::string("../secret.bin"), std::string("sub/../../secret.bin"), std::string("link.bin"),
        std::string("up/secret.bin"), std::string("sub/../w.bin"), absolute,
        std::string("/etc/passwd"), std::string("*/_ORT_MEM_ADDR_/*"), std::string(""),
        std::string("."), std::string("sub"), std::string("w.bin\0.txt", 10)}) {
    const auto checked = check_with({{"location", location}});
    ASSERT_FALSE(checked) << location;
    EXPECT_EQ(checked.error().code, ErrorCode::kInvalidArgument)
        << location << ": " << checked.error().message;
    EXPECT_THAT(checked.error().message, HasSubstr("tensor 'w'"));
  }
  EXPECT_FALSE(check_with({{"offset", "0"}})) << "no location";
}

TEST_F(ExternalDataTest, MissingAndShortFilesNameTheWayOut) {
  const auto missing = check_with({{"location", "weights.bin"}});
  ASSERT_FALSE(missing);
  EXPECT_EQ(missing.error().code, ErrorCode::kNotFound);
  EXPECT_THAT(missing.error().message,
              HasSubstr("'weights.bin', which is missing: keep it beside"));
  for (const auto* offset : {"9", "16", "17", "18446744073709551615"})
    EXPECT_EQ(check_with({{"location", "w.bin"}, {"offset", offset}}).error().code,
              ErrorCode::kDataLoss)
        << offset;
  for (const auto* length : {"7", "9", "18446744073709551615"})
    EXPECT_EQ(check_with({{"location", "w.bin"}, {"length", length}}).error().code,
              ErrorCode::kDataLoss)
        << length;
  for (const auto* number : {"", "-1", "8 ", "0x8", "99999999999999999999"})
    EXPECT_EQ(check_with({{"location", "w.bin"}, {"offset", number}}).error().code,
              ErrorCode::kInvalidArgument)
        << number;
}

TEST(Check, AcceptsEveryModelOfOnnxsOwnTests) {
  const fs::path folder = fs::path(SELVAGE_DEPS_DIR) / "data" / "onnx-testdata";
  if (!fs::exists(folder)) GTEST_SKIP() << folder << " is missing: run `make setup`";
  std::size_t models = 0;
  for (const auto& entry : fs::recursive_directory_iterator(folder)) {
    if (entry.path().filename() != "model.onnx") continue;
    ++models;
    const auto model = Model::load(entry.path());
    ASSERT_TRUE(model) << entry.path() << ": " << model.error().message;
    const auto checked = check(*model);
    EXPECT_TRUE(checked) << entry.path() << ": " << checked.error().message;
    const auto bytes = model->serialise();
    ASSERT_TRUE(bytes);
    EXPECT_EQ(bytes->size(), fs::file_size(entry.path())) << entry.path();
  }
  EXPECT_GT(models, 1000u);
}

TEST(Check, AcceptsTheModelsOfTheDemo) {
  const fs::path folder = fs::path(SELVAGE_DEPS_DIR) / "models";
  if (!fs::exists(folder)) GTEST_SKIP() << folder << " is missing: run `make setup`";
  std::size_t models = 0;
  for (const auto& entry : fs::recursive_directory_iterator(folder)) {
    if (entry.path().extension() != ".onnx") continue;
    ++models;
    const auto model = Model::load(entry.path());
    ASSERT_TRUE(model) << entry.path() << ": " << model.error().message;
    const auto checked = check(*model);
    EXPECT_TRUE(checked) << entry.path() << ": " << checked.error().message;
  }
  EXPECT_GT(models, 0u);
}

}  // namespace
}  // namespace selvage::graph
