#include "learn/architecture_builder.h"

#include <bit>
#include <cmath>
#include <numeric>

#include <selvage/onnx.pb.h>

namespace selvage::learn {
namespace {

constexpr std::int64_t kOpset = 17;
constexpr std::int64_t kIrVersion = 8;

void set_type(onnx::ValueInfoProto& value, const Flow& flow) {
  value.set_name(flow.name);
  auto* tensor = value.mutable_type()->mutable_tensor_type();
  tensor->set_elem_type(onnx::TensorProto::FLOAT);
  for (const auto size : flow.shape) {
    auto* dimension = tensor->mutable_shape()->add_dim();
    if (size < 0)
      dimension->set_dim_param("batch");
    else
      dimension->set_dim_value(size);
  }
}

/// "layer1.0.conv1" -> "/layer1/layer1.0/conv1": a container's items keep its name in front.
std::string scope_of(const std::string& module) {
  std::string scope;
  std::string part;
  std::string container;
  for (std::size_t at = 0; at <= module.size(); ++at) {
    if (at < module.size() && module[at] != '.') {
      part += module[at];
      continue;
    }
    const bool item = !part.empty() && part.find_first_not_of("0123456789") == std::string::npos;
    container = item ? container + "." + part : part;
    scope += "/" + container;
    part.clear();
  }
  return scope;
}

std::int64_t product(const Shape& shape, std::size_t first = 0) {
  return std::accumulate(shape.begin() + static_cast<std::ptrdiff_t>(first), shape.end(),
                         std::int64_t{1}, std::multiplies<>());
}

}  // namespace

NetworkBuilder::NetworkBuilder(std::string_view name, const Shape& input, std::uint64_t seed)
    : random_(seed), input_{"input", input} {
  auto& proto = model_.proto();
  proto.set_ir_version(kIrVersion);
  proto.set_producer_name("selvage");
  proto.add_opset_import()->set_version(kOpset);
  proto.mutable_graph()->set_name(std::string(name));
  input_.shape.insert(input_.shape.begin(), -1);
  set_type(*proto.mutable_graph()->add_input(), input_);
}

void NetworkBuilder::initialiser(const std::string& name, const Shape& shape,
                                 const std::vector<float>& values) {
  auto* tensor = model_.proto().mutable_graph()->add_initializer();
  tensor->set_name(name);
  tensor->set_data_type(onnx::TensorProto::FLOAT);
  for (const auto size : shape) tensor->add_dims(size);
  tensor->set_raw_data(values.data(), values.size() * sizeof(float));
}

void NetworkBuilder::filled(const std::string& name, const Shape& shape, float value) {
  initialiser(name, shape, std::vector<float>(static_cast<std::size_t>(product(shape)), value));
}

void NetworkBuilder::uniform(const std::string& name, const Shape& shape, double bound) {
  std::vector<float> values(static_cast<std::size_t>(product(shape)));
  for (auto& value : values) value = static_cast<float>(random_.uniform(-bound, bound));
  initialiser(name, shape, values);
}

void NetworkBuilder::token_parameter(const std::string& name, const Shape& shape) {
  constexpr double kDeviation = 0.02;
  std::vector<float> values(static_cast<std::size_t>(product(shape)));
  for (auto& value : values) value = static_cast<float>(kDeviation * random_.normal());
  initialiser(name, shape, values);
}

std::string NetworkBuilder::integers(const std::string& name,
                                     const std::vector<std::int64_t>& values) {
  auto* tensor = model_.proto().mutable_graph()->add_initializer();
  tensor->set_name(name);
  tensor->set_data_type(onnx::TensorProto::INT64);
  tensor->add_dims(static_cast<std::int64_t>(values.size()));
  tensor->set_raw_data(values.data(), values.size() * sizeof(std::int64_t));
  return name;
}

std::string NetworkBuilder::unique(const std::string& name) {
  const auto before = names_[name]++;
  return before == 0 ? name : name + "_" + std::to_string(before);
}

/// A Constant node, so that it is not taken for a parameter.
std::string NetworkBuilder::constant(const std::string& module, float value) {
  auto* added = model_.proto().mutable_graph()->add_node();
  added->set_op_type("Constant");
  added->set_name(unique(scope_of(module) + "/Constant"));
  added->add_output(added->name() + "_output_0");
  auto* attribute = added->add_attribute();
  attribute->set_name("value");
  attribute->set_type(onnx::AttributeProto::TENSOR);
  attribute->mutable_t()->set_data_type(onnx::TensorProto::FLOAT);
  attribute->mutable_t()->set_raw_data(&value, sizeof value);
  return added->output(0);
}

std::string NetworkBuilder::node(const std::string& module, std::string_view type,
                                 const std::vector<std::string>& inputs,
                                 const std::vector<Attribute>& attributes, std::size_t outputs,
                                 std::size_t result) {
  auto* added = model_.proto().mutable_graph()->add_node();
  added->set_op_type(std::string(type));
  added->set_name(unique(scope_of(module) + "/" + std::string(type)));
  for (const auto& input : inputs) added->add_input(input);
  for (std::size_t i = 0; i < outputs; ++i)
    added->add_output(i == result ? added->name() + "_output_" + std::to_string(i) : "");
  for (const auto& [name, value] : attributes) {
    auto* attribute = added->add_attribute();
    attribute->set_name(name);
    if (const auto* number = std::get_if<std::int64_t>(&value)) {
      attribute->set_type(onnx::AttributeProto::INT);
      attribute->set_i(*number);
    } else if (const auto* real = std::get_if<float>(&value)) {
      attribute->set_type(onnx::AttributeProto::FLOAT);
      attribute->set_f(*real);
    } else {
      attribute->set_type(onnx::AttributeProto::INTS);
      for (const auto one : std::get<std::vector<std::int64_t>>(value)) attribute->add_ints(one);
    }
  }
  return added->output(static_cast<int>(result));
}

Flow NetworkBuilder::conv(const std::string& module, const Flow& x, std::int64_t channels,
                          std::int64_t kernel, const ConvOptions& options) {
  return conv_padded(module, x, channels, kernel, kernel / 2, options);
}

Flow NetworkBuilder::conv_padded(const std::string& module, const Flow& x, std::int64_t channels,
                                 std::int64_t kernel, std::int64_t padding,
                                 const ConvOptions& options) {
  const auto dimensions = x.shape.size() - 2;
  Shape weight{channels, x.shape[1] / options.groups};
  weight.resize(2 + dimensions, kernel);
  const double bound = 1 / std::sqrt(static_cast<double>(product(weight, 1)));
  uniform(module + ".weight", weight, bound);
  std::vector<std::string> inputs{x.name, module + ".weight"};
  if (options.bias) {
    uniform(module + ".bias", {channels}, bound);
    inputs.push_back(module + ".bias");
  }
  Shape shape{-1, channels};
  for (std::size_t d = 2; d < x.shape.size(); ++d)
    shape.push_back((x.shape[d] + 2 * padding - kernel) / options.stride + 1);
  using Ints = std::vector<std::int64_t>;
  return {node(module, "Conv", inputs,
               {{"dilations", Ints(dimensions, 1)},
                {"group", options.groups},
                {"kernel_shape", Ints(dimensions, kernel)},
                {"pads", Ints(2 * dimensions, padding)},
                {"strides", Ints(dimensions, options.stride)}}),
          shape};
}

Flow NetworkBuilder::batch_norm(const std::string& module, const Flow& x) {
  const Shape channels{x.shape[1]};
  filled(module + ".weight", channels, 1);
  filled(module + ".bias", channels, 0);
  filled(module + ".running_mean", channels, 0);
  filled(module + ".running_var", channels, 1);
  return {node(module, "BatchNormalization",
               {x.name, module + ".weight", module + ".bias", module + ".running_mean",
                module + ".running_var"},
               {{"epsilon", 1e-5f}, {"momentum", 0.9f}}),
          x.shape};
}

Flow NetworkBuilder::layer_norm(const std::string& module, const Flow& x) {
  const Shape features{x.shape.back()};
  filled(module + ".weight", features, 1);
  filled(module + ".bias", features, 0);
  return {node(module, "LayerNormalization", {x.name, module + ".weight", module + ".bias"},
               {{"axis", std::int64_t{-1}}, {"epsilon", 1e-6f}}),
          x.shape};
}

Flow NetworkBuilder::linear(const std::string& module, const Flow& x, std::int64_t outputs) {
  const auto features = x.shape.back();
  const double bound = 1 / std::sqrt(static_cast<double>(features));
  uniform(module + ".weight", {outputs, features}, bound);
  uniform(module + ".bias", {outputs}, bound);
  Shape shape = x.shape;
  shape.back() = outputs;
  if (x.shape.size() == 2)
    return {node(module, "Gemm", {x.name, module + ".weight", module + ".bias"},
                 {{"alpha", 1.0f}, {"beta", 1.0f}, {"transB", std::int64_t{1}}}),
            shape};
  // The weight keeps PyTorch's layout; runtimes fold the transposition.
  const auto weight =
      node(module, "Transpose", {module + ".weight"}, {{"perm", std::vector<std::int64_t>{1, 0}}});
  const auto product = node(module, "MatMul", {x.name, weight});
  return {node(module, "Add", {product, module + ".bias"}), shape};
}

Flow NetworkBuilder::gru(const std::string& module, const Flow& x, std::int64_t hidden) {
  const double bound = 1 / std::sqrt(static_cast<double>(hidden));
  uniform(module + ".weight_ih_l0", {1, 3 * hidden, x.shape[2]}, bound);
  uniform(module + ".weight_hh_l0", {1, 3 * hidden, hidden}, bound);
  uniform(module + ".bias_l0", {1, 6 * hidden}, bound);
  const auto steps = transpose(module, x, {1, 0, 2});
  const auto state =
      node(module, "GRU",
           {steps.name, module + ".weight_ih_l0", module + ".weight_hh_l0", module + ".bias_l0"},
           {{"hidden_size", hidden}, {"linear_before_reset", std::int64_t{1}}}, 2, 1);
  return {node(module, "Squeeze", {state, integers(module + ".axis", {0})}), {-1, hidden}};
}

Flow NetworkBuilder::relu(const std::string& module, const Flow& x) {
  return {node(module, "Relu", {x.name}), x.shape};
}

Flow NetworkBuilder::relu6(const std::string& module, const Flow& x) {
  const auto low = constant(module, 0);
  return {node(module, "Clip", {x.name, low, constant(module, 6)}), x.shape};
}

Flow NetworkBuilder::gelu(const std::string& module, const Flow& x) {
  const auto root = constant(module, std::sqrt(2.0f));
  const auto one = constant(module, 1);
  const auto half = constant(module, 0.5f);
  const auto erf = node(module, "Erf", {node(module, "Div", {x.name, root})});
  const auto twice = node(module, "Mul", {x.name, node(module, "Add", {erf, one})});
  return {node(module, "Mul", {twice, half}), x.shape};
}

Flow NetworkBuilder::max_pool(const std::string& module, const Flow& x) {
  const auto dimensions = x.shape.size() - 2;
  Shape shape = x.shape;
  for (std::size_t d = 2; d < shape.size(); ++d) shape[d] /= 2;
  return {node(module, "MaxPool", {x.name},
               {{"kernel_shape", std::vector<std::int64_t>(dimensions, 2)},
                {"strides", std::vector<std::int64_t>(dimensions, 2)}}),
          shape};
}

Flow NetworkBuilder::global_pool(const std::string& module, const Flow& x) {
  Shape shape = x.shape;
  for (std::size_t d = 2; d < shape.size(); ++d) shape[d] = 1;
  return flatten(module, {node(module, "GlobalAveragePool", {x.name}), shape});
}

Flow NetworkBuilder::flatten(const std::string& module, const Flow& x) {
  if (x.shape.size() == 2) return x;
  return {node(module, "Flatten", {x.name}, {{"axis", std::int64_t{1}}}),
          {-1, product(x.shape, 1)}};
}

Flow NetworkBuilder::add(const std::string& module, const Flow& a, const Flow& b) {
  return {node(module, "Add", {a.name, b.name}), a.shape};
}

Flow NetworkBuilder::matmul(const std::string& module, const Flow& a, const Flow& b) {
  Shape shape = a.shape;
  shape.back() = b.shape.back();
  return {node(module, "MatMul", {a.name, b.name}), shape};
}

Flow NetworkBuilder::scale(const std::string& module, const Flow& x, float factor) {
  return {node(module, "Mul", {x.name, constant(module, factor)}), x.shape};
}

Flow NetworkBuilder::softmax(const std::string& module, const Flow& x) {
  return {node(module, "Softmax", {x.name}, {{"axis", std::int64_t{-1}}}), x.shape};
}

Flow NetworkBuilder::transpose(const std::string& module, const Flow& x,
                               const std::vector<std::int64_t>& order) {
  Shape shape;
  for (const auto axis : order) shape.push_back(x.shape[static_cast<std::size_t>(axis)]);
  return {node(module, "Transpose", {x.name}, {{"perm", order}}), shape};
}

Flow NetworkBuilder::reshape(const std::string& module, const Flow& x, const Shape& shape) {
  return {node(module, "Reshape", {x.name, integers(module + ".shape", shape)}), shape};
}

Flow NetworkBuilder::pick(const std::string& module, const Flow& x, std::int64_t axis,
                          std::int64_t index) {
  auto* tensor = model_.proto().mutable_graph()->add_initializer();
  tensor->set_name(module + ".index");
  tensor->set_data_type(onnx::TensorProto::INT64);
  tensor->set_raw_data(&index, sizeof index);
  Shape shape = x.shape;
  shape.erase(shape.begin() + axis);
  return {node(module, "Gather", {x.name, module + ".index"}, {{"axis", axis}}), shape};
}

Flow NetworkBuilder::prepend(const std::string& module, const std::string& parameter,
                             const Flow& x) {
  const auto batch = node(module, "Slice",
                          {node(module, "Shape", {x.name}), integers(module + ".starts", {0}),
                           integers(module + ".ends", {1})});
  const auto sizes = node(module, "Concat", {batch, integers(module + ".ones", {1, 1})},
                          {{"axis", std::int64_t{0}}});
  const auto token = node(module, "Expand", {parameter, sizes});
  Shape shape = x.shape;
  ++shape[1];
  return {node(module, "Concat", {token, x.name}, {{"axis", std::int64_t{1}}}), shape};
}

Flow NetworkBuilder::add_parameter(const std::string& module, const std::string& parameter,
                                   const Flow& x) {
  return {node(module, "Add", {x.name, parameter}), x.shape};
}

graph::Model NetworkBuilder::finish(const Flow& output) {
  auto* graph = model_.proto().mutable_graph();
  // The last node's own name for its output gives way to the graph's.
  graph->mutable_node(graph->node_size() - 1)->set_output(0, "output");
  set_type(*graph->add_output(), {"output", output.shape});
  return std::move(model_);
}

}  // namespace selvage::learn
