#include "learn/expression.h"

#include <algorithm>
#include <cstring>
#include <limits>
#include <numeric>

#include <selvage/onnx.pb.h>

#include "base/check.h"
#include "graph/tensor.h"
#include "infer/custom_operator.h"

namespace selvage::learn {
namespace {

/// Constants up to this size are compared, so that equal ones exist once.
constexpr std::size_t kSharedConstantBytesMax = 256;

struct SetAttribute {
  onnx::AttributeProto& attribute;
  void operator()(std::int64_t value) const {
    attribute.set_type(onnx::AttributeProto::INT);
    attribute.set_i(value);
  }
  void operator()(float value) const {
    attribute.set_type(onnx::AttributeProto::FLOAT);
    attribute.set_f(value);
  }
  void operator()(const std::string& value) const {
    attribute.set_type(onnx::AttributeProto::STRING);
    attribute.set_s(value);
  }
  void operator()(const std::vector<std::int64_t>& values) const {
    attribute.set_type(onnx::AttributeProto::INTS);
    attribute.mutable_ints()->Add(values.begin(), values.end());
  }
  void operator()(const std::vector<float>& values) const {
    attribute.set_type(onnx::AttributeProto::FLOATS);
    attribute.mutable_floats()->Add(values.begin(), values.end());
  }
};

template <typename T>
Tensor filled(const Shape& shape, T value) {
  auto tensor = Tensor::create(data_type_of<T>(), shape);
  SELVAGE_CHECK(tensor.has_value());  // Only for shapes of a few elements.
  std::ranges::fill(tensor->template as<T>(), value);
  return *std::move(tensor);
}

std::int64_t positive(std::int64_t axis, std::int64_t rank) {
  return axis < 0 ? axis + rank : axis;
}

Expression infix(std::string_view op, Expression a, Expression b) {
  return a.builder().node(op, {a, b}, {a.type(), broadcast(a.shape(), b.shape())});
}

Expression like(double value, Expression other) {
  return other.builder().scalar(value, other.type());
}

}  // namespace

std::int64_t Expression::size(std::int64_t axis) const {
  const auto index = positive(axis, rank());
  SELVAGE_CHECK(index >= 0 && index < rank());
  return shape()[static_cast<std::size_t>(index)];
}

std::int64_t Expression::elements() const {
  return element_count(shape()).value_or(0);
}

bool Expression::is_float() const {
  return type() == DataType::kFloat32 || type() == DataType::kFloat64;
}

GraphBuilder::GraphBuilder(onnx::GraphProto& graph, ValueTypes types)
    : graph_(graph), types_(std::move(types)) {
  for (int i = 0; i < graph.initializer_size(); ++i) {
    const auto& tensor = graph.initializer(i);
    initialisers_.emplace(tensor.name(), i);
    types_[tensor.name()] = {static_cast<DataType>(tensor.data_type()),
                             Shape(tensor.dims().begin(), tensor.dims().end())};
  }
}

Expression GraphBuilder::value(std::string_view name) {
  const auto found = types_.find(std::string(name));
  return found == types_.end() || name.empty() ? Expression() : Expression(this, &*found);
}

Expression GraphBuilder::declare(std::string name, DataType type, Shape shape) {
  return add_type(std::move(name), {type, std::move(shape)});
}

Expression GraphBuilder::add_type(std::string name, ValueType type) {
  const auto [entry, is_new] = types_.insert_or_assign(std::move(name), std::move(type));
  return Expression(this, &*entry);
}

std::optional<Tensor> GraphBuilder::constant_value(Expression value) const {
  if (!value) return std::nullopt;
  const auto found = initialisers_.find(value.name());
  if (found == initialisers_.end()) return std::nullopt;
  const auto data = graph::TensorData::open(graph_.initializer(found->second), {});
  if (!data || data->view().type == DataType::kString) return std::nullopt;
  auto tensor = Tensor::create(data->view().type, value.shape());
  if (!tensor || tensor->bytes().size() != data->view().bytes.size()) return std::nullopt;
  std::ranges::copy(data->view().bytes, tensor->bytes().begin());
  return *std::move(tensor);
}

std::string GraphBuilder::unique_name(std::string_view hint) {
  while (true) {
    std::string name = prefix_;
    if (!name.empty()) name += '/';
    name += hint;
    name += '_';
    name += std::to_string(counter_++);
    if (!types_.contains(name)) return name;
  }
}

Expression GraphBuilder::constant(const Tensor& tensor, std::string_view hint) {
  std::string key;
  if (tensor.bytes().size() <= kSharedConstantBytesMax) {
    key = std::string(to_string(tensor.type())) + to_string(tensor.shape());
    key.append(reinterpret_cast<const char*>(tensor.bytes().data()), tensor.bytes().size());
    if (const auto known = constants_.find(key); known != constants_.end())
      return value(known->second);
  }
  auto name = unique_name(hint);
  if (!key.empty()) constants_.emplace(std::move(key), name);
  auto& proto = *graph_.add_initializer();
  proto.set_name(name);
  proto.set_data_type(static_cast<int>(tensor.type()));
  proto.mutable_dims()->Add(tensor.shape().begin(), tensor.shape().end());
  proto.set_raw_data(tensor.bytes().data(), tensor.bytes().size());
  initialisers_.emplace(name, graph_.initializer_size() - 1);
  return add_type(std::move(name), {tensor.type(), tensor.shape()});
}

Expression GraphBuilder::integers(std::span<const std::int64_t> values) {
  auto tensor = Tensor::from<std::int64_t>({std::ssize(values)}, values);
  SELVAGE_CHECK(tensor.has_value());
  return constant(*tensor, "i");
}

Expression GraphBuilder::scalar(double value, DataType type) {
  switch (type) {
    case DataType::kFloat64: return constant(filled<double>({}, value));
    case DataType::kInt64: return constant(filled({}, static_cast<std::int64_t>(value)));
    case DataType::kInt32: return constant(filled({}, static_cast<std::int32_t>(value)));
    case DataType::kBool: return constant(filled({}, value != 0));
    default: return constant(filled({}, static_cast<float>(value)));
  }
}

Expression GraphBuilder::zeros(const Shape& shape, DataType type) {
  // As a node and not as an initialiser: the file stays small.
  return expand(scalar(0, type), shape);
}

Expression GraphBuilder::node(std::string_view op, std::span<const Expression> inputs,
                              ValueType output, const Attributes& attributes) {
  return node(op, inputs, std::span(&output, 1), attributes).front();
}

std::vector<Expression> GraphBuilder::node(std::string_view op, std::span<const Expression> inputs,
                                           std::span<const ValueType> outputs,
                                           const Attributes& attributes) {
  auto& proto = *graph_.add_node();
  proto.set_op_type(std::string(op));
  while (!inputs.empty() && !inputs.back()) inputs = inputs.first(inputs.size() - 1);
  for (const auto& input : inputs) proto.add_input(input ? input.name() : "");
  std::vector<Expression> results;
  for (const auto& output : outputs) {
    auto name = unique_name(op);
    proto.add_output(name);
    results.push_back(add_type(std::move(name), output));
  }
  proto.set_name(proto.output(0));
  for (const auto& [name, value] : attributes) {
    auto& attribute = *proto.add_attribute();
    attribute.set_name(name);
    std::visit(SetAttribute{attribute}, value);
  }
  return results;
}

Expression GraphBuilder::own_node(std::string_view op, std::initializer_list<Expression> inputs,
                                  ValueType output, const Attributes& attributes) {
  return own_nodes(op, inputs, {std::move(output)}, attributes).front();
}

std::vector<Expression> GraphBuilder::own_nodes(std::string_view op,
                                                std::initializer_list<Expression> inputs,
                                                std::initializer_list<ValueType> outputs,
                                                const Attributes& attributes) {
  const auto results = node(op, std::span(inputs.begin(), inputs.size()),
                            std::span(outputs.begin(), outputs.size()), attributes);
  graph_.mutable_node(graph_.node_size() - 1)->set_domain(std::string(infer::kOperatorDomain));
  return results;
}

Expression GraphBuilder::named(Expression value, std::string name) {
  auto& proto = *graph_.add_node();
  proto.set_op_type("Identity");
  proto.set_name(name);
  proto.add_input(value.name());
  proto.add_output(name);
  return add_type(std::move(name), {value.type(), value.shape()});
}

Shape broadcast(const Shape& a, const Shape& b) {
  Shape result = a.size() >= b.size() ? a : b;
  const Shape& shorter = a.size() >= b.size() ? b : a;
  const auto lead = result.size() - shorter.size();
  for (std::size_t i = 0; i < shorter.size(); ++i)
    if (result[lead + i] == 1) result[lead + i] = shorter[i];
  return result;
}

Expression operator+(Expression a, Expression b) {
  return infix("Add", a, b);
}
Expression operator-(Expression a, Expression b) {
  return infix("Sub", a, b);
}
Expression operator*(Expression a, Expression b) {
  return infix("Mul", a, b);
}
Expression operator/(Expression a, Expression b) {
  return infix("Div", a, b);
}
Expression operator+(Expression a, double b) {
  return a + like(b, a);
}
Expression operator-(Expression a, double b) {
  return a - like(b, a);
}
Expression operator*(Expression a, double b) {
  return b == 1 ? a : a * like(b, a);
}
Expression operator/(Expression a, double b) {
  return b == 1 ? a : a / like(b, a);
}
Expression operator+(double a, Expression b) {
  return like(a, b) + b;
}
Expression operator-(double a, Expression b) {
  return like(a, b) - b;
}
Expression operator*(double a, Expression b) {
  return b * a;
}
Expression operator/(double a, Expression b) {
  return like(a, b) / b;
}
Expression operator-(Expression a) {
  return unary("Neg", a);
}

Expression unary(std::string_view op, Expression x, const Attributes& attributes) {
  return x.builder().node(op, {x}, {x.type(), x.shape()}, attributes);
}

Expression binary(std::string_view op, Expression a, Expression b) {
  return infix(op, a, b);
}

Expression pow(Expression x, double exponent) {
  return binary("Pow", x, like(exponent, x));
}

Expression compare(std::string_view op, Expression a, Expression b) {
  return a.builder().node(op, {a, b}, {DataType::kBool, broadcast(a.shape(), b.shape())});
}

Expression compare(std::string_view op, Expression a, double b) {
  return compare(op, a, like(b, a));
}

Expression where(Expression condition, Expression a, Expression b) {
  return a.builder().node(
      "Where", {condition, a, b},
      {a.type(), broadcast(condition.shape(), broadcast(a.shape(), b.shape()))});
}

Expression cast(Expression x, DataType type) {
  if (x.type() == type) return x;
  return x.builder().node("Cast", {x}, {type, x.shape()},
                          {{"to", static_cast<std::int64_t>(type)}});
}

Expression mask(Expression condition, Expression like) {
  return cast(condition, like.type());
}

Expression reshape(Expression x, Shape shape) {
  if (x.shape() == shape) return x;
  const auto target = x.builder().integers(shape);
  return x.builder().node("Reshape", {x, target}, {x.type(), std::move(shape)});
}

Expression transpose(Expression x, std::span<const std::int64_t> permutation) {
  Shape shape;
  for (const auto axis : permutation) shape.push_back(x.size(axis));
  return x.builder().node("Transpose", {x}, {x.type(), shape},
                          {{"perm", std::vector(permutation.begin(), permutation.end())}});
}

Expression expand(Expression x, const Shape& shape) {
  if (x.shape() == shape) return x;
  return x.builder().node("Expand", {x, x.builder().integers(shape)}, {x.type(), shape});
}

Expression unsqueeze(Expression x, std::int64_t axis) {
  auto shape = x.shape();
  shape.insert(shape.begin() + positive(axis, x.rank() + 1), 1);
  return reshape(x, std::move(shape));
}

Expression slice(Expression x, std::int64_t axis, std::int64_t start, std::int64_t end,
                 std::int64_t step) {
  axis = positive(axis, x.rank());
  if (start == 0 && end == x.size(axis) && step == 1) return x;
  auto shape = x.shape();
  const auto distance = step > 0 ? end - start : start - end;
  const auto stride = step > 0 ? step : -step;
  shape[static_cast<std::size_t>(axis)] =
      std::max<std::int64_t>(0, (distance + stride - 1) / stride);
  // A backward slice through the first element ends before it, which only a huge number says.
  if (step < 0 && end < 0) end = std::numeric_limits<std::int64_t>::min() + 1;
  auto& builder = x.builder();
  return builder.node("Slice",
                      {x, builder.integers({start}), builder.integers({end}),
                       builder.integers({axis}), builder.integers({step})},
                      {x.type(), shape});
}

Expression pad(Expression x, std::span<const std::int64_t> pads) {
  if (std::ranges::all_of(pads, [](auto size) { return size == 0; })) return x;
  auto shape = x.shape();
  for (std::size_t i = 0; i < shape.size(); ++i) shape[i] += pads[i] + pads[i + shape.size()];
  return x.builder().node("Pad", {x, x.builder().integers(pads)}, {x.type(), shape});
}

Expression concat(std::span<const Expression> parts, std::int64_t axis) {
  if (parts.size() == 1) return parts[0];
  auto shape = parts[0].shape();
  axis = positive(axis, parts[0].rank());
  auto& size = shape[static_cast<std::size_t>(axis)];
  for (const auto& part : parts.subspan(1)) size += part.size(axis);
  return parts[0].builder().node("Concat", parts, {parts[0].type(), shape}, {{"axis", axis}});
}

Expression gather(Expression x, Expression indices, std::int64_t axis) {
  axis = positive(axis, x.rank());
  Shape shape(x.shape().begin(), x.shape().begin() + axis);
  shape.insert(shape.end(), indices.shape().begin(), indices.shape().end());
  shape.insert(shape.end(), x.shape().begin() + axis + 1, x.shape().end());
  return x.builder().node("Gather", {x, indices}, {x.type(), shape}, {{"axis", axis}});
}

Expression reduce(std::string_view op, Expression x, std::vector<std::int64_t> axes, bool keep) {
  if (axes.empty()) {
    axes.resize(x.shape().size());
    std::iota(axes.begin(), axes.end(), 0);
  }
  if (axes.empty()) return x;  // A scalar.
  for (auto& axis : axes) axis = positive(axis, x.rank());
  std::ranges::sort(axes);
  Shape shape;
  for (std::int64_t i = 0; i < x.rank(); ++i) {
    if (!std::ranges::binary_search(axes, i)) {
      shape.push_back(x.size(i));
    } else if (keep) {
      shape.push_back(1);
    }
  }
  return x.builder().node(op, {x, x.builder().integers(axes)}, {x.type(), shape},
                          {{"keepdims", std::int64_t{keep}}});
}

Expression sum(Expression x, std::vector<std::int64_t> axes, bool keep) {
  for (auto& axis : axes) axis = positive(axis, x.rank());
  std::ranges::sort(axes);
  const bool is_channel_sum =
      x.rank() >= 3 && std::ssize(axes) == x.rank() - 1 && axes[0] == 0 && axes[1] == 2;
  if (!is_channel_sum) return reduce("ReduceSum", x, std::move(axes), keep);
  // Along memory first, then over the batch: measured 1.6 times as fast as one ReduceSum.
  const auto inner = x.elements() / (x.size(0) * x.size(1));
  const auto rows = reduce("ReduceSum", reshape(x, {x.size(0), x.size(1), inner}), {2}, false);
  const auto channels = reduce("ReduceSum", rows, {0}, false);
  if (!keep) return channels;
  Shape shape(x.shape().size(), 1);
  shape[1] = x.size(1);
  return reshape(channels, shape);
}

Expression sum_all(Expression x) {
  return reduce("ReduceSum", x, {}, false);
}

Expression sum_to(Expression x, const Shape& shape) {
  if (x.shape() == shape) return x;
  const auto lead = x.rank() - std::ssize(shape);
  std::vector<std::int64_t> axes;
  for (std::int64_t i = 0; i < x.rank(); ++i)
    if (i < lead || (shape[static_cast<std::size_t>(i - lead)] == 1 && x.size(i) != 1))
      axes.push_back(i);
  return reshape(axes.empty() ? x : sum(x, axes, false), shape);
}

Expression matmul(Expression a, Expression b) {
  const auto batch = broadcast(Shape(a.shape().begin(), a.shape().end() - 2),
                               Shape(b.shape().begin(), b.shape().end() - 2));
  auto shape = batch;
  shape.push_back(a.size(-2));
  shape.push_back(b.size(-1));
  return a.builder().node("MatMul", {a, b}, {a.type(), shape});
}

Expression swap_last(Expression x) {
  std::vector<std::int64_t> permutation(x.shape().size());
  std::iota(permutation.begin(), permutation.end(), 0);
  std::swap(permutation[permutation.size() - 1], permutation[permutation.size() - 2]);
  return transpose(x, permutation);
}

}  // namespace selvage::learn
