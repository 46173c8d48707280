#include "learn/recurrent.h"

#include <algorithm>
#include <array>
#include <string_view>

#include <selvage/onnx.pb.h>

#include "graph/attributes.h"

namespace selvage::learn {
namespace {

using graph::find_attribute;
using graph::int_attribute;
using graph::string_attribute;

/// Activations without parameters.
constexpr std::string_view kActivations[] = {"Sigmoid", "Tanh", "Relu", "Softsign", "Softplus"};

struct Weights {
  Expression w;       ///< [I, gates * H], transposed for the product.
  Expression r;       ///< [H, gates * H]
  Expression wb, rb;  ///< [gates * H], or none.
  /// LSTM's peepholes [H] of input, output and forget gate, or none.
  std::vector<Expression> p;
  /// GRU whose reset gate acts before the product: the parts of r and rb.
  Expression r_gates, r_candidate, rb_gates, rb_candidate;
};

/// One node, all directions.
class Lowering {
 public:
  Lowering(GraphBuilder& builder, const onnx::NodeProto& node)
      : builder_(builder), node_(node), op_(node.op_type()) {}

  Result<void> run();

 private:
  enum Input { kX, kW, kR, kB, kLengths, kH, kC, kP };

  Expression input(int index) const {
    return index < node_.input_size() ? builder_.value(node_.input(index)) : Expression();
  }
  std::unexpected<Error> refuse(const std::string& what) const {
    return fail(ErrorCode::kUnimplemented,
                op_ + " '" + node_.name() + "' " + what + ", which cannot be trained");
  }
  Result<void> check();
  Result<void> read_activations();
  /// Row d of [D, ...] as [...].
  Expression direction(Expression x, std::int64_t d) const {
    if (!x) return x;
    return reshape(slice(x, 0, d, d + 1), Shape(x.shape().begin() + 1, x.shape().end()));
  }
  Weights weights(std::int64_t d) const;
  Expression activate(std::size_t which, Expression x) const {
    return unary(activations_[offset_ + which], x);
  }
  std::vector<Expression> split(Expression x, std::int64_t parts, std::int64_t axis) const;
  void run_direction(std::int64_t d, bool reverse);
  void step_lstm(const Weights& weights, Expression x);
  void step_gru(const Weights& weights, Expression x);
  void step_rnn(const Weights& weights, Expression x);
  void finish();

  GraphBuilder& builder_;
  const onnx::NodeProto& node_;
  const std::string op_;
  std::int64_t steps_ = 0, batch_ = 0, hidden_ = 0, gates_ = 0, directions_ = 0;
  bool reset_after_ = false;  ///< GRU's linear_before_reset.
  std::vector<std::string> activations_;
  std::size_t offset_ = 0;                  ///< Of this direction's activations.
  Expression h_, c_;                        ///< The running state [N, H].
  std::vector<std::vector<Expression>> y_;  ///< By step, by direction.
  std::vector<Expression> last_h_, last_c_;
};

Result<void> Lowering::read_activations() {
  const std::vector<std::string> usual =
      op_ == "LSTM"  ? std::vector<std::string>{"Sigmoid", "Tanh", "Tanh"}
      : op_ == "GRU" ? std::vector<std::string>{"Sigmoid", "Tanh"}
                     : std::vector<std::string>{"Tanh"};
  if (const auto* names = find_attribute(node_, "activations"))
    activations_.assign(names->strings().begin(), names->strings().end());
  if (activations_.empty())
    for (std::int64_t d = 0; d < directions_; ++d)
      activations_.insert(activations_.end(), usual.begin(), usual.end());
  if (std::ssize(activations_) != std::ssize(usual) * directions_)
    return refuse("has the wrong number of activations");
  for (const auto& name : activations_)
    if (std::ranges::find(kActivations, name) == std::end(kActivations))
      return refuse("has the activation " + name);
  return {};
}

Result<void> Lowering::check() {
  if (!input(kX) || !input(kW) || !input(kR) || input(kX).rank() != 3 || input(kR).rank() != 3)
    return refuse("has inputs of unknown shape");
  steps_ = input(kX).size(0);
  batch_ = input(kX).size(1);
  directions_ = input(kR).size(0);
  hidden_ = input(kR).size(2);
  gates_ = input(kR).size(1) / std::max<std::int64_t>(hidden_, 1);
  if (steps_ > kStepsMax) return refuse("has more than " + std::to_string(kStepsMax) + " steps");
  if (int_attribute(node_, "layout", 0) != 0) return refuse("has the batch first");
  if (find_attribute(node_, "clip") != nullptr) return refuse("clips its gates");
  if (int_attribute(node_, "input_forget", 0) != 0) return refuse("couples its gates");
  if (const auto lengths = input(kLengths)) {
    const auto values = builder_.constant_value(lengths);
    const bool are_full =
        values && values->type() == DataType::kInt32 &&
        std::ranges::all_of(values->as<std::int32_t>(), [&](auto n) { return n == steps_; });
    if (!are_full) return refuse("takes the lengths of its sequences");
  }
  reset_after_ = int_attribute(node_, "linear_before_reset", 0) != 0;
  return read_activations();
}

Weights Lowering::weights(std::int64_t d) const {
  Weights weights{.w = swap_last(direction(input(kW), d)),
                  .r = swap_last(direction(input(kR), d)),
                  .wb = {},
                  .rb = {}};
  if (const auto p = direction(input(kP), d))
    for (std::int64_t k = 0; k < 3; ++k)
      weights.p.push_back(slice(p, 0, k * hidden_, (k + 1) * hidden_));
  if (const auto b = direction(input(kB), d)) {
    weights.wb = slice(b, 0, 0, gates_ * hidden_);
    weights.rb = slice(b, 0, gates_ * hidden_, 2 * gates_ * hidden_);
  }
  if (op_ == "GRU" && !reset_after_) {
    weights.r_gates = slice(weights.r, 1, 0, 2 * hidden_);
    weights.r_candidate = slice(weights.r, 1, 2 * hidden_, 3 * hidden_);
    if (weights.rb) {
      weights.rb_gates = slice(weights.rb, 0, 0, 2 * hidden_);
      weights.rb_candidate = slice(weights.rb, 0, 2 * hidden_, 3 * hidden_);
    }
  }
  return weights;
}

std::vector<Expression> Lowering::split(Expression x, std::int64_t parts, std::int64_t axis) const {
  if (parts == 1) return {x};
  auto shape = x.shape();
  shape[static_cast<std::size_t>(axis)] /= parts;
  const std::vector<ValueType> types(static_cast<std::size_t>(parts), {x.type(), shape});
  return builder_.node("Split", std::span(&x, 1), types, {{"axis", axis}, {"num_outputs", parts}});
}

void Lowering::run_direction(std::int64_t d, bool reverse) {
  const auto weights = this->weights(d);
  offset_ =
      activations_.size() / static_cast<std::size_t>(directions_) * static_cast<std::size_t>(d);
  const auto zero = [&] { return builder_.zeros({batch_, hidden_}, input(kX).type()); };
  h_ = input(kH) ? direction(input(kH), d) : zero();
  if (op_ == "LSTM") c_ = input(kC) ? direction(input(kC), d) : zero();
  // All inputs at once: one large product instead of many small ones.
  const auto flat = reshape(input(kX), {steps_ * batch_, input(kX).size(2)});
  auto projected = matmul(flat, weights.w);
  if (weights.wb) projected = projected + weights.wb;
  // GRU's hidden bias belongs inside the reset gate when linear_before_reset is set.
  if (weights.rb && op_ != "GRU") projected = projected + weights.rb;
  const auto inputs = split(projected, steps_, 0);
  for (std::int64_t i = 0; i < steps_; ++i) {
    const auto t = static_cast<std::size_t>(reverse ? steps_ - 1 - i : i);
    if (op_ == "LSTM") {
      step_lstm(weights, inputs[t]);
    } else if (op_ == "GRU") {
      step_gru(weights, inputs[t]);
    } else {
      step_rnn(weights, inputs[t]);
    }
    y_[t].push_back(h_);
  }
  last_h_.push_back(h_);
  if (c_) last_c_.push_back(c_);
}

/// Gates in the order input, output, forget, cell; peepholes input, output, forget.
void Lowering::step_lstm(const Weights& weights, Expression x) {
  const auto gates = split(x + matmul(h_, weights.r), 4, 1);
  auto i = gates[0], o = gates[1], f = gates[2];
  if (!weights.p.empty()) {
    i = i + weights.p[0] * c_;
    f = f + weights.p[2] * c_;
  }
  c_ = activate(0, f) * c_ + activate(0, i) * activate(1, gates[3]);
  if (!weights.p.empty()) o = o + weights.p[1] * c_;
  h_ = activate(0, o) * activate(2, c_);
}

/// Gates in the order update, reset, hidden.
void Lowering::step_gru(const Weights& weights, Expression x) {
  const auto of_x = split(x, 3, 1);
  const auto product = [](Expression v, Expression r, Expression bias) {
    return bias ? matmul(v, r) + bias : matmul(v, r);
  };
  Expression z, candidate;
  if (reset_after_) {
    const auto of_h = split(product(h_, weights.r, weights.rb), 3, 1);
    z = activate(0, of_x[0] + of_h[0]);
    candidate = activate(1, of_x[2] + activate(0, of_x[1] + of_h[1]) * of_h[2]);
  } else {
    const auto of_h = split(product(h_, weights.r_gates, weights.rb_gates), 2, 1);
    z = activate(0, of_x[0] + of_h[0]);
    const auto reset = activate(0, of_x[1] + of_h[1]) * h_;
    candidate = activate(1, of_x[2] + product(reset, weights.r_candidate, weights.rb_candidate));
  }
  h_ = candidate + z * (h_ - candidate);
}

void Lowering::step_rnn(const Weights& weights, Expression x) {
  h_ = activate(0, x + matmul(h_, weights.r));
}

void Lowering::finish() {
  const auto has_output = [&](int i) {
    return i < node_.output_size() && !node_.output(i).empty();
  };
  const auto last = [&](const std::vector<Expression>& parts, int index) {
    if (has_output(index))
      builder_.named(reshape(concat(parts, 0), {directions_, batch_, hidden_}),
                     node_.output(index));
  };
  if (has_output(0)) {
    // [T, D, N, H]: the steps' rows one below the other.
    std::vector<Expression> rows;
    for (const auto& step : y_) rows.insert(rows.end(), step.begin(), step.end());
    builder_.named(reshape(concat(rows, 0), {steps_, directions_, batch_, hidden_}),
                   node_.output(0));
  }
  last(last_h_, 1);
  if (op_ == "LSTM") last(last_c_, 2);
}

Result<void> Lowering::run() {
  SELVAGE_RETURN_IF_ERROR(check());
  y_.resize(static_cast<std::size_t>(steps_));
  const auto way = string_attribute(node_, "direction", "forward");
  for (std::int64_t d = 0; d < directions_; ++d)
    run_direction(d, way == "reverse" || (way == "bidirectional" && d == 1));
  finish();
  return {};
}

}  // namespace

Result<void> lower_recurrent(graph::Model& model, const ValueTypes& types) {
  auto& graph = *model.proto().mutable_graph();
  const auto is_recurrent = [](const onnx::NodeProto& node) {
    return node.op_type() == "LSTM" || node.op_type() == "GRU" || node.op_type() == "RNN";
  };
  if (std::ranges::none_of(graph.node(), is_recurrent)) return {};
  google::protobuf::RepeatedPtrField<onnx::NodeProto> nodes;
  nodes.Swap(graph.mutable_node());
  GraphBuilder builder(graph, types);
  for (auto& node : nodes) {
    if (!is_recurrent(node)) {
      *graph.add_node() = std::move(node);
      continue;
    }
    builder.set_prefix(node.name().empty() ? node.output(0) : node.name());
    SELVAGE_RETURN_IF_ERROR(Lowering(builder, node).run());
  }
  return {};
}

}  // namespace selvage::learn
