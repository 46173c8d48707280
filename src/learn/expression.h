// Formulas as graph nodes: `dy * (1.0f - y * y)` appends the nodes that compute it. Shapes and
// types are known at every step, so that broadcasting can be undone and constants fit.
#pragma once

#include <cassert>
#include <cstdint>
#include <initializer_list>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <unordered_map>
#include <utility>
#include <variant>
#include <vector>

#include "base/result.h"
#include "base/tensor.h"

namespace selvage::onnx {
class GraphProto;
class NodeProto;
}  // namespace selvage::onnx

namespace selvage::learn {

/// What is known of a value: all sizes, before anything runs.
struct ValueType {
  DataType type = DataType::kUndefined;
  Shape shape;
};
using ValueTypes = std::unordered_map<std::string, ValueType>;

class GraphBuilder;

/// A value in the graph of a GraphBuilder, which must outlive it. Copying is cheap. A default one
/// stands for "none", as an optional input that is left out.
class Expression {
 public:
  Expression() = default;

  explicit operator bool() const { return builder_ != nullptr; }
  [[nodiscard]] const std::string& name() const { return entry().first; }
  [[nodiscard]] DataType type() const { return entry().second.type; }
  [[nodiscard]] const Shape& shape() const { return entry().second.shape; }
  [[nodiscard]] std::int64_t rank() const { return std::ssize(entry().second.shape); }
  /// A dimension; negative axes count from the end.
  [[nodiscard]] std::int64_t size(std::int64_t axis) const;
  [[nodiscard]] std::int64_t elements() const;
  [[nodiscard]] bool is_float() const;
  [[nodiscard]] GraphBuilder& builder() const {
    assert(builder_ != nullptr);
    return *builder_;
  }

 private:
  friend class GraphBuilder;
  using Entry = ValueTypes::value_type;
  Expression(GraphBuilder* builder, const Entry* entry) : builder_(builder), entry_(entry) {}
  [[nodiscard]] const Entry& entry() const {
    assert(entry_ != nullptr);
    return *entry_;
  }
  GraphBuilder* builder_ = nullptr;
  const Entry* entry_ = nullptr;
};

using Attribute =
    std::pair<std::string, std::variant<std::int64_t, float, std::string, std::vector<std::int64_t>,
                                        std::vector<float>>>;
using Attributes = std::vector<Attribute>;

/// Appends nodes and initialisers to a graph. Names that it invents begin with the current prefix
/// and are unique. Confined to one thread.
class GraphBuilder {
 public:
  /// `types` must hold every value that will be asked for by name. Operators are those of opset 18
  /// and later.
  GraphBuilder(onnx::GraphProto& graph, ValueTypes types);
  GraphBuilder(const GraphBuilder&) = delete;
  GraphBuilder& operator=(const GraphBuilder&) = delete;

  [[nodiscard]] onnx::GraphProto& graph() { return graph_; }
  [[nodiscard]] const ValueTypes& types() const { return types_; }

  /// A value by name; none if it is unknown or "".
  [[nodiscard]] Expression value(std::string_view name);
  /// Declares a value that something else provides: a graph input.
  Expression declare(std::string name, DataType type, Shape shape);
  /// The elements of an initialiser, if the value is one with data in the model.
  [[nodiscard]] std::optional<Tensor> constant_value(Expression value) const;

  /// Initialisers; equal small ones are made once.
  Expression constant(const Tensor& tensor, std::string_view hint = "c");
  Expression integers(std::span<const std::int64_t> values);
  Expression integers(std::initializer_list<std::int64_t> values) {
    return integers(std::span(values.begin(), values.size()));
  }
  Expression scalar(double value, DataType type = DataType::kFloat32);
  Expression zeros(const Shape& shape, DataType type = DataType::kFloat32);

  /// A node with one output of this type and shape. None inputs at the end are dropped.
  Expression node(std::string_view op, std::span<const Expression> inputs, ValueType output,
                  const Attributes& attributes = {});
  Expression node(std::string_view op, std::initializer_list<Expression> inputs, ValueType output,
                  const Attributes& attributes = {}) {
    return node(op, std::span(inputs.begin(), inputs.size()), std::move(output), attributes);
  }
  std::vector<Expression> node(std::string_view op, std::span<const Expression> inputs,
                               std::span<const ValueType> outputs,
                               const Attributes& attributes = {});
  /// A node of our own domain (kernels.h). Only where own_operators() allows it.
  Expression own_node(std::string_view op, std::initializer_list<Expression> inputs,
                      ValueType output, const Attributes& attributes = {});
  std::vector<Expression> own_nodes(std::string_view op, std::initializer_list<Expression> inputs,
                                    std::initializer_list<ValueType> outputs,
                                    const Attributes& attributes = {});
  [[nodiscard]] bool own_operators() const { return own_operators_; }
  void allow_own_operators(bool allowed) { own_operators_ = allowed; }
  /// Whether gradients shall compute what is cheap anew instead of keeping it.
  [[nodiscard]] bool recomputes() const { return recomputes_; }
  void recompute_activations(bool wanted) { recomputes_ = wanted; }
  /// Identity under a name of the caller's choice.
  Expression named(Expression value, std::string name);

  /// Where invented names begin: "grad/conv1".
  void set_prefix(std::string prefix) { prefix_ = std::move(prefix); }

 private:
  friend class Expression;
  std::string unique_name(std::string_view hint);
  Expression add_type(std::string name, ValueType type);

  onnx::GraphProto& graph_;
  ValueTypes types_;
  bool own_operators_ = false, recomputes_ = false;
  std::string prefix_;
  std::uint64_t counter_ = 0;
  std::unordered_map<std::string, std::string> constants_;  ///< By type, shape and bytes.
  std::unordered_map<std::string, int> initialisers_;       ///< Index by name.
};

/// The shape to which two shapes broadcast (NumPy's rule).
[[nodiscard]] Shape broadcast(const Shape& a, const Shape& b);

// Element by element, with broadcasting. Numbers take the other side's type.
Expression operator+(Expression a, Expression b);
Expression operator-(Expression a, Expression b);
Expression operator*(Expression a, Expression b);
Expression operator/(Expression a, Expression b);
Expression operator+(Expression a, double b);
Expression operator-(Expression a, double b);
Expression operator*(Expression a, double b);
Expression operator/(Expression a, double b);
Expression operator+(double a, Expression b);
Expression operator-(double a, Expression b);
Expression operator*(double a, Expression b);
Expression operator/(double a, Expression b);
Expression operator-(Expression a);

/// An operator that keeps type and shape: "Exp", "Sqrt", "Tanh", ...
Expression unary(std::string_view op, Expression x, const Attributes& attributes = {});
/// An operator of two broadcast values: "Pow", "Max", ...
Expression binary(std::string_view op, Expression a, Expression b);
Expression pow(Expression x, double exponent);
/// bool: "Greater", "Less", "Equal", "GreaterOrEqual", "LessOrEqual", "And", ...
Expression compare(std::string_view op, Expression a, Expression b);
Expression compare(std::string_view op, Expression a, double b);
Expression where(Expression condition, Expression a, Expression b);
Expression cast(Expression x, DataType type);
/// 1 where the condition holds and 0 elsewhere, in the type of `like`.
Expression mask(Expression condition, Expression like);

Expression reshape(Expression x, Shape shape);
Expression transpose(Expression x, std::span<const std::int64_t> permutation);
Expression expand(Expression x, const Shape& shape);
Expression unsqueeze(Expression x, std::int64_t axis);
Expression slice(Expression x, std::int64_t axis, std::int64_t start, std::int64_t end,
                 std::int64_t step = 1);
/// Zeros around: sizes before each axis, then after each; negative ones cut.
Expression pad(Expression x, std::span<const std::int64_t> pads);
Expression concat(std::span<const Expression> parts, std::int64_t axis);
Expression gather(Expression x, Expression indices, std::int64_t axis);

/// "ReduceSum", "ReduceMean", "ReduceMax", ... over `axes`; none means all.
Expression reduce(std::string_view op, Expression x, std::vector<std::int64_t> axes, bool keep);
/// Sums over axes in the order that the runtime does fastest.
Expression sum(Expression x, std::vector<std::int64_t> axes, bool keep);
Expression sum_all(Expression x);
/// Undoes broadcasting: the sum over what `shape` lacks or has as 1.
Expression sum_to(Expression x, const Shape& shape);

Expression matmul(Expression a, Expression b);
/// The last two axes exchanged.
Expression swap_last(Expression x);

}  // namespace selvage::learn
