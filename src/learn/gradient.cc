#include "learn/gradient.h"

#include <algorithm>
#include <limits>
#include <unordered_map>
#include <unordered_set>

#include <selvage/onnx.pb.h>

#include "graph/index.h"
#include "graph/values.h"
#include "infer/custom_operator.h"
#include "learn/gradient_rules.h"

namespace selvage::learn {
namespace {

/// Floating-point results that do not change with small changes of the inputs, or have none.
constexpr std::string_view kFlat[] = {"Shape",
                                      "Size",
                                      "Floor",
                                      "Ceil",
                                      "Round",
                                      "Sign",
                                      "OneHot",
                                      "EyeLike",
                                      "IsNaN",
                                      "IsInf",
                                      "ArgMax",
                                      "ArgMin",
                                      "Hardmax",
                                      "NonZero",
                                      "RandomNormalLike",
                                      "RandomUniformLike",
                                      "Bernoulli",
                                      "Range",
                                      "ConstantOfShape"};

constexpr std::size_t kPathNodesMax = 12;  ///< Of an error message.

const std::unordered_map<std::string_view, Rule>& rules() {
  static const auto table = [] {
    std::unordered_map<std::string_view, Rule> all;
    for (const auto family :
         {elementwise_rules(), linear_rules(), conv_rules(), pool_rules(), norm_rules(),
          reduce_rules(), shape_rules(), index_rules(), resize_rules(), quantize_rules()})
      for (const auto& entry : family) all.emplace(entry.op, entry.rule);
    return all;
  }();
  return table;
}

std::string describe(const onnx::NodeProto& node) {
  const auto& name = node.name().empty() ? node.output(0) : node.name();
  return node.op_type() + " '" + name + "'";
}

/// What a node reads, its subgraphs included.
std::vector<std::string> reads(const onnx::NodeProto& node) {
  std::vector<std::string> names(node.input().begin(), node.input().end());
  for (const auto name : graph::captures(node)) names.emplace_back(name);
  return names;
}

bool is_known(const onnx::NodeProto& node) {
  // The runtime's own quantisation means what ONNX's does; older operator sets have 4 bits only so.
  if (node.domain() == "com.microsoft")
    return node.op_type() == "QuantizeLinear" || node.op_type() == "DequantizeLinear";
  return node.domain().empty() || node.domain() == "ai.onnx" ||
         node.domain() == infer::kOperatorDomain;
}

class Differentiator {
 public:
  Differentiator(GraphBuilder& builder, std::span<const std::string> values)
      : builder_(builder),
        graph_(builder.graph()),
        count_(builder.graph().node_size()),
        recomputation_(builder) {
    for (const auto& value : values) mark(value, -1);
    for (int i = 0; i < count_; ++i) spread(i);
  }

  Result<void> run(Expression loss) {
    gradients_[loss.name()] = expand(builder_.scalar(1, loss.type()), loss.shape());
    for (int i = count_ - 1; i >= 0; --i) SELVAGE_RETURN_IF_ERROR(differentiate(i));
    return {};
  }

  Expression gradient(const std::string& value) {
    const auto found = gradients_.find(value);
    if (found != gradients_.end()) return found->second;
    const auto type = builder_.value(value);
    return builder_.zeros(type.shape(), type.type());
  }

 private:
  void mark(const std::string& value, int producer) {
    if (!value.empty() && wanted_.insert(value).second) producer_[value] = producer;
  }

  /// Outputs of a node depend on the wanted values if one of its inputs does.
  void spread(int index) {
    const auto& node = graph_.node(index);
    if (is_known(node) && std::ranges::find(kFlat, node.op_type()) != std::end(kFlat)) return;
    if (std::ranges::none_of(reads(node), [&](const auto& in) { return wanted_.contains(in); }))
      return;
    for (const auto& output : node.output()) {
      const auto type = builder_.value(output);
      // Quantised values stand for floating-point ones: straight through.
      if (!type || type.is_float() || node.op_type() == "QuantizeLinear" || is_quantised(node))
        mark(output, index);
    }
  }
  /// A shape operator on a quantised value.
  bool is_quantised(const onnx::NodeProto& node) {
    if (node.input().empty()) return false;
    const auto input = builder_.value(node.input(0));
    return input && !input.is_float() && wanted_.contains(node.input(0));
  }

  Result<void> differentiate(int index) {
    auto& node = *graph_.mutable_node(index);
    const auto has_gradient = [&](const auto& value) { return gradients_.contains(value); };
    const auto is_wanted = [&](const auto& value) { return wanted_.contains(value); };
    if (std::ranges::none_of(node.output(), has_gradient) ||
        std::ranges::none_of(node.output(), is_wanted))
      return {};
    const auto rule = is_known(node) ? rules().find(node.op_type()) : rules().end();
    if (rule == rules().end())
      return fail(
          ErrorCode::kUnimplemented,
          describe(node) +
              " has no gradient and lies between a trained parameter and the "
              "loss: " +
              path(index) +
              (computes_in_integers(node.op_type()) ? "; " + std::string(kTrainBeforeQuantising)
                                                    : ""));
    for (const auto& names : {node.input(), node.output()})
      for (const auto& name : names)
        if (!name.empty() && !builder_.value(name))
          return fail(ErrorCode::kUnimplemented, describe(node) +
                                                     " cannot be trained: the shape of '" + name +
                                                     "' depends on the data");
    for (const auto& names : {node.input(), node.output()})
      for (const auto& name : names)
        if (is_wanted(name) && builder_.value(name).elements() == 0)
          return fail(ErrorCode::kInvalidArgument,
                      describe(node) + " cannot be trained: '" + name + "' is empty");
    for (const auto& input : node.input())
      if (is_wanted(input)) consumer_.try_emplace(input, index);
    builder_.set_prefix("gradient/" + (node.name().empty() ? node.output(0) : node.name()));
    NodeGradient gradient(builder_, node, gradients_, wanted_, recomputation_);
    return rule->second(gradient);
  }

  /// "w -> Conv 'c1' -> Foo 'f' -> Relu 'r' -> loss"
  std::string path(int index) const {
    std::vector<std::string> before, after;
    for (int i = index; i >= 0;) {
      const auto& node = graph_.node(i);
      before.push_back(describe(node));
      const auto inputs = reads(node);
      const auto input =
          std::ranges::find_if(inputs, [&](const auto& name) { return wanted_.contains(name); });
      if (input == inputs.end()) break;
      i = producer_.at(*input);
      if (i < 0) before.push_back(*input);
    }
    std::ranges::reverse(before);
    for (int i = index;;) {
      const auto& outputs = graph_.node(i).output();
      const auto next =
          std::ranges::find_if(outputs, [&](const auto& name) { return consumer_.contains(name); });
      if (next == outputs.end()) break;
      i = consumer_.at(*next);
      after.push_back(describe(graph_.node(i)));
    }
    after.push_back("loss");
    before.insert(before.end(), after.begin(), after.end());
    std::string text;
    for (std::size_t i = 0; i < before.size(); ++i) {
      if (i == kPathNodesMax / 2 && before.size() > kPathNodesMax) {
        text += " -> ...";
        i = before.size() - kPathNodesMax / 2;
      }
      if (!text.empty()) text += " -> ";
      text += before[i];
    }
    return text;
  }

  GraphBuilder& builder_;
  onnx::GraphProto& graph_;
  const int count_;  ///< Nodes of the forward graph.
  Recomputation recomputation_;
  NodeGradient::Names wanted_;
  NodeGradient::Gradients gradients_;
  std::unordered_map<std::string, int> producer_;  ///< Of wanted values; -1 for the given ones.
  std::unordered_map<std::string, int> consumer_;  ///< The node through which a gradient came.
};

}  // namespace

Recomputation::Recomputation(GraphBuilder& builder) : builder_(builder) {
  if (!builder.recomputes()) return;
  for (int i = 0; i < builder.graph().node_size(); ++i) {
    const auto& node = builder.graph().node(i);
    if (node.domain() == infer::kOperatorDomain && node.op_type() == "BatchNorm")
      norms_.emplace(node.output(0), i);
  }
}

Expression Recomputation::of(Expression value) {
  const auto found = norms_.find(value.name());
  if (found == norms_.end()) return value;
  auto& copy = copies_[value.name()];
  if (copy) return copy;
  const auto& node = builder_.graph().node(found->second);
  const auto part = [&](const std::string& name) { return builder_.value(name); };
  copy = builder_.own_node("BatchNormReplay",
                           {part(node.input(0)), part(node.input(1)), part(node.input(2)),
                            part(node.output(1)), part(node.output(2))},
                           {value.type(), value.shape()}, norm_attributes(node));
  return copy;
}

Expression NodeGradient::elements_of_x(int index) const {
  const auto value = x(index);
  return value ? recomputation_.of(value) : value;
}

Expression NodeGradient::dy(int index) const {
  if (index >= node_.output_size()) return {};
  const auto found = gradients_.find(node_.output(index));
  return found == gradients_.end() ? Expression() : found->second;
}

void NodeGradient::add(int index, Expression gradient) {
  if (!wants(index)) return;
  gradient = sum_to(gradient, x(index).shape());
  auto& sum = gradients_[node_.input(index)];
  sum = sum ? sum + gradient : gradient;
}

std::optional<std::vector<std::int64_t>> NodeGradient::constant_ints(int index) const {
  const auto tensor = builder_.constant_value(x(index));
  if (!tensor) return std::nullopt;
  onnx::TensorProto stored;
  graph::store(stored, tensor->view());
  auto values = graph::read_integers(stored, {}, std::numeric_limits<std::size_t>::max());
  if (!values) return std::nullopt;
  return *std::move(values);
}

Expression NodeGradient::ask_output(int index, ValueType type) {
  while (node_.output_size() <= index) node_.add_output("");
  auto& name = *node_.mutable_output(index);
  if (name.empty()) name = node_.output(0) + "/output_" + std::to_string(index);
  return builder_.declare(name, type.type, std::move(type.shape));
}

std::unexpected<Error> NodeGradient::refuse(std::string_view what) const {
  return fail(ErrorCode::kUnimplemented,
              describe(node_) + " cannot be trained: " + std::string(what));
}

Result<std::vector<Expression>> add_gradients(GraphBuilder& builder, Expression loss,
                                              std::span<const std::string> values) {
  if (!loss || loss.elements() != 1 || !loss.is_float())
    return fail(ErrorCode::kInvalidArgument, "a loss is one floating-point number");
  for (const auto& value : values)
    if (!builder.value(value))
      return fail(ErrorCode::kInvalidArgument, "the graph has no value '" + value + "'");
  Differentiator differentiator(builder, values);
  SELVAGE_RETURN_IF_ERROR(differentiator.run(loss));
  std::vector<Expression> gradients;
  for (const auto& value : values) gradients.push_back(differentiator.gradient(value));
  return gradients;
}

bool computes_in_integers(std::string_view op_type) {
  return op_type.starts_with("QLinear") || op_type.ends_with("Integer") ||
         op_type.starts_with("DynamicQuantize");
}

bool has_gradient(std::string_view op_type) {
  return rules().contains(op_type);
}

}  // namespace selvage::learn
