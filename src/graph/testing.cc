#include "graph/testing.h"

#include <selvage/onnx.pb.h>

#include "base/check.h"

namespace selvage::graph::testing {
namespace {

void declare(onnx::ValueInfoProto& value, std::string_view name, DataType type,
             const Shape& shape) {
  value.set_name(std::string(name));
  auto& tensor = *value.mutable_type()->mutable_tensor_type();
  tensor.set_elem_type(static_cast<int>(type));
  auto& dimensions = *tensor.mutable_shape();
  for (const auto size : shape) {
    auto& dimension = *dimensions.add_dim();
    if (size >= 0) dimension.set_dim_value(size);
  }
}

template <typename T>
void store(onnx::TensorProto& tensor, std::string_view name, const Shape& shape,
           std::span<const T> values) {
  tensor.set_name(std::string(name));
  tensor.set_data_type(static_cast<int>(data_type_of<T>()));
  tensor.mutable_dims()->Add(shape.begin(), shape.end());
  tensor.set_raw_data(values.data(), values.size_bytes());
}

struct SetAttribute {
  onnx::AttributeProto& attribute;
  void operator()(std::int64_t value) const {
    attribute.set_type(onnx::AttributeProto::INT);
    attribute.set_i(value);
  }
  void operator()(const std::vector<std::int64_t>& values) const {
    attribute.set_type(onnx::AttributeProto::INTS);
    attribute.mutable_ints()->Add(values.begin(), values.end());
  }
  void operator()(float value) const {
    attribute.set_type(onnx::AttributeProto::FLOAT);
    attribute.set_f(value);
  }
  void operator()(const std::vector<float>& values) const {
    attribute.set_type(onnx::AttributeProto::FLOATS);
    attribute.mutable_floats()->Add(values.begin(), values.end());
  }
  void operator()(const std::string& value) const {
    attribute.set_type(onnx::AttributeProto::STRING);
    attribute.set_s(value);
  }
};

}  // namespace

ModelBuilder::ModelBuilder() {
  proto().set_ir_version(8);
  proto().set_producer_name("selvage");
  proto().mutable_graph()->set_name("main");
  opset("", 17);
}

ModelBuilder& ModelBuilder::input(std::string_view name, DataType type, const Shape& shape) {
  declare(*proto().mutable_graph()->add_input(), name, type, shape);
  return *this;
}

ModelBuilder& ModelBuilder::output(std::string_view name, DataType type, const Shape& shape) {
  declare(*proto().mutable_graph()->add_output(), name, type, shape);
  return *this;
}

ModelBuilder& ModelBuilder::initialiser(std::string_view name, const Shape& shape,
                                        std::span<const float> values) {
  store(*proto().mutable_graph()->add_initializer(), name, shape, values);
  return *this;
}

ModelBuilder& ModelBuilder::initialiser(std::string_view name, const Shape& shape,
                                        std::span<const std::int64_t> values) {
  store(*proto().mutable_graph()->add_initializer(), name, shape, values);
  return *this;
}

ModelBuilder& ModelBuilder::node(std::string_view type, const std::vector<std::string>& inputs,
                                 const std::vector<std::string>& outputs,
                                 const std::vector<Attribute>& attributes,
                                 std::string_view domain) {
  auto& node = *proto().mutable_graph()->add_node();
  node.set_op_type(std::string(type));
  if (!domain.empty()) node.set_domain(std::string(domain));
  for (const auto& name : inputs) node.add_input(name);
  for (const auto& name : outputs) node.add_output(name);
  for (const auto& [name, value] : attributes) {
    auto& attribute = *node.add_attribute();
    attribute.set_name(name);
    std::visit(SetAttribute{attribute}, value);
  }
  return *this;
}

ModelBuilder& ModelBuilder::opset(std::string_view domain, std::int64_t version) {
  for (auto& import : *proto().mutable_opset_import())
    if (import.domain() == domain) {
      import.set_version(version);
      return *this;
    }
  auto& import = *proto().add_opset_import();
  import.set_domain(std::string(domain));
  import.set_version(version);
  return *this;
}

std::vector<std::byte> ModelBuilder::bytes() {
  auto serialised = model_.serialise();
  SELVAGE_CHECK(serialised.has_value());
  return *std::move(serialised);
}

ModelBuilder identity_model(DataType type, const Shape& shape) {
  return std::move(ModelBuilder()
                       .input("x", type, shape)
                       .node("Identity", {"x"}, {"y"})
                       .output("y", type, shape));
}

ModelBuilder add_model(const Shape& shape) {
  return std::move(ModelBuilder()
                       .input("a", DataType::kFloat32, shape)
                       .input("b", DataType::kFloat32, shape)
                       .node("Add", {"a", "b"}, {"y"})
                       .output("y", DataType::kFloat32, shape));
}

ModelBuilder conv_model() {
  std::vector<float> weights(std::size_t{4} * 3 * 3 * 3);
  for (std::size_t i = 0; i < weights.size(); ++i) weights[i] = 0.01f * static_cast<float>(i);
  return std::move(ModelBuilder()
                       .input("x", DataType::kFloat32, {1, 3, 8, 8})
                       .initialiser("w", {4, 3, 3, 3}, weights)
                       .node("Conv", {"x", "w"}, {"y"},
                             {{"kernel_shape", std::vector<std::int64_t>{3, 3}},
                              {"pads", std::vector<std::int64_t>{1, 1, 1, 1}}})
                       .output("y", DataType::kFloat32, {1, 4, 8, 8}));
}

ModelBuilder matmul_model() {
  const std::vector<float> weights{1, 2, 3, 4, 5, 6, 7, 8};
  return std::move(ModelBuilder()
                       .input("x", DataType::kFloat32, {-1, 4})
                       .initialiser("w", {4, 2}, weights)
                       .node("MatMul", {"x", "w"}, {"y"})
                       .output("y", DataType::kFloat32, {-1, 2}));
}

}  // namespace selvage::graph::testing
