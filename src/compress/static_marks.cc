#include "compress/static_marks.h"

#include <algorithm>
#include <cmath>
#include <limits>

#include <selvage/onnx.pb.h>

#include "compress/static_rules.h"
#include "graph/attributes.h"
#include "graph/index.h"
#include "graph/values.h"

namespace selvage::compress {
namespace {

using graph::Index;

class Marker {
 public:
  Marker(StaticFacts& facts, const Selector& selector)
      : facts_(facts), graph_(facts.graph()), selector_(selector) {}

  [[nodiscard]] StaticMarks run() {
    find_taken();
    for (int i = 0; i < graph_.node_size(); ++i) visit(i);
    return std::move(marks_);
  }

 private:
  [[nodiscard]] const Index& index() const { return facts_.index(); }
  [[nodiscard]] bool is_marked(const std::string& name) const {
    return marks_.marks.contains(name);
  }

  // --- Marks

  void mark_activation(const std::string& name) {
    if (!name.empty() && (facts_.is_activation(name) || facts_.is_float_constant(name)) &&
        !is_marked(name))
      add_mark(name, {});
  }
  void mark_weight(const std::string& name, std::optional<std::size_t> axis) {
    if (!facts_.is_float_constant(name)) return mark_activation(name);
    const auto override_found = facts_.options().overrides.contains(name);
    if (!facts_.options().per_channel || override_found) axis.reset();
    if (axis || !is_marked(name)) add_mark(name, {.is_weight = true, .axis = axis});
  }
  void mark_same(const std::string& name, const std::string& as) {
    if (!name.empty() && is_marked(as)) add_mark(name, {.shares = as});
  }
  void add_mark(const std::string& name, Mark mark) {
    if (marks_.marks.insert_or_assign(name, std::move(mark)).second) marks_.order.push_back(name);
  }
  void mark_bias(int node, const std::string& bias, const std::string& input,
                 const std::string& weight) {
    if (facts_.options().quantize_bias && !bias.empty() && facts_.is_float_constant(bias) &&
        facts_.is_finite(bias))
      marks_.biases.push_back({node, bias, input, weight});
  }

  // --- Rules

  /// The first obstacle among tensors that a rule needs.
  [[nodiscard]] std::string first_obstacle(std::initializer_list<std::string> names) {
    for (const auto& name : names)
      if (auto why = facts_.obstacle(name); !why.empty()) return why;
    return "";
  }
  void visit(int at) {
    const auto& node = graph_.node(at);
    if (!touches_floats(node)) return;
    if (node.op_type() == "QuantizeLinear" || node.op_type() == "DequantizeLinear") return;
    const auto rule = static_rule(node);
    std::string why;
    if (!selector_.takes(node, at))
      why = selector_.reason(node, at);
    else if (!rule)
      why = "operators of this type stay in float";
    else if (!taken_[static_cast<std::size_t>(at)])
      why = "a neighbour stays in float";
    else
      why = apply(*rule, node, at);
    if (why.empty())
      ++marks_.report.quantized_nodes;
    else
      marks_.report.kept.push_back({node_label(node, at), node.op_type(), std::move(why)});
  }

  // --- Connected operators

  /// Which nodes may be quantised; with StaticOptions::connected_only, of those that are no
  /// products only the ones whose neighbours are.
  void find_taken() {
    const int count = graph_.node_size();
    for (int i = 0; i < count; ++i)
      taken_.push_back(selector_.takes(graph_.node(i), i) && static_rule(graph_.node(i)));
    // Each round takes away, so that this ends.
    for (bool is_changing = facts_.options().connected_only; is_changing;) {
      is_changing = false;
      for (int i = 0; i < count; ++i) {
        const auto at = static_cast<std::size_t>(i);
        if (!taken_[at] || is_product(*static_rule(graph_.node(i))) || is_connected(graph_.node(i)))
          continue;
        taken_[at] = false;
        is_changing = true;
      }
    }
  }
  /// Whether quantised nodes make all its floats and read all that it makes.
  [[nodiscard]] bool is_connected(const onnx::NodeProto& node) const {
    for (const auto& name : node.input()) {
      if (!is_float_value(name)) continue;
      const int from = index().producer(name);
      if (from == Index::kNone || !taken_[static_cast<std::size_t>(from)]) return false;
    }
    for (const auto& name : node.output()) {
      if (index().is_output(name)) return false;
      for (const auto& use : index().uses(name))
        if (use.input == graph::Use::kCapture || !taken_[static_cast<std::size_t>(use.node)])
          return false;
    }
    return true;
  }
  /// Ranges are not measured behind operators that only move elements.
  [[nodiscard]] bool is_float_value(const std::string& name) const {
    if (facts_.is_activation(name)) return true;
    const auto* from = facts_.producer(name);
    if (from == nullptr || from->input_size() == 0) return false;
    const auto rule = static_rule(*from);
    const bool moves = rule == StaticRule::kPassThrough || rule == StaticRule::kSplit ||
                       rule == StaticRule::kGather;
    return moves && is_float_value(from->input(0));
  }

  /// Whether a node computes with floats, as far as that is known.
  [[nodiscard]] bool touches_floats(const onnx::NodeProto& node) const {
    const auto is_float = [&](const std::string& name) {
      return facts_.is_activation(name) || facts_.is_float_constant(name);
    };
    return std::ranges::any_of(node.input(), is_float) ||
           std::ranges::any_of(node.output(), is_float) || !graph::captures(node).empty();
  }

  /// Marks what the node needs; else says why it stays in float.
  [[nodiscard]] std::string apply(StaticRule rule, const onnx::NodeProto& node, int at) {
    if (node.input_size() == 0 || node.output_size() == 0) return "has no inputs";
    switch (rule) {
      case StaticRule::kConv: return apply_weighted(node, at, 0);
      case StaticRule::kConvTranspose:
        return apply_weighted(node, at,
                              graph::int_attribute(node, "group", 1) == 1
                                  ? std::optional<std::size_t>(1)
                                  : std::nullopt);
      case StaticRule::kGemm:
        return apply_weighted(node, at, graph::int_attribute(node, "transB", 0) != 0 ? 0 : 1);
      case StaticRule::kMatMul: return apply_matmul(node);
      case StaticRule::kRelu: return apply_relu(node, at);
      case StaticRule::kPassThrough:
      case StaticRule::kSplit: return apply_pass_through(node);
      case StaticRule::kPad: return apply_pad(node);
      case StaticRule::kGather: return apply_gather(node);
      case StaticRule::kWhere: return apply_where(node);
      case StaticRule::kNormalization: return apply_normalization(node, at);
      case StaticRule::kHardSigmoid: return apply_hard_sigmoid(node, at);
      case StaticRule::kEverything: return apply_everything(node);
    }
    return "";
  }

  [[nodiscard]] std::string apply_weighted(const onnx::NodeProto& node, int at,
                                           std::optional<std::size_t> axis) {
    const auto &input = node.input(0), &output = node.output(0);
    const auto weight = input_of(node, 1);
    if (auto why = first_obstacle({input, weight, output}); !why.empty()) return why;
    mark_activation(input);
    mark_activation(output);
    mark_weight(weight, axis);
    mark_bias(at, input_of(node, 2), input, weight);
    return "";
  }

  [[nodiscard]] std::string apply_matmul(const onnx::NodeProto& node) {
    const auto &a = node.input(0), &output = node.output(0);
    const auto b = input_of(node, 1);
    if (auto why = first_obstacle({a, b, output}); !why.empty()) return why;
    const auto* weight = facts_.constant(b);
    mark_weight(a, std::nullopt);
    mark_weight(b, weight != nullptr && weight->dims_size() == 2 ? std::optional<std::size_t>(1)
                                                                 : std::nullopt);
    mark_activation(output);
    return "";
  }

  [[nodiscard]] std::string apply_relu(const onnx::NodeProto& node, int at) {
    const auto &input = node.input(0), &output = node.output(0);
    if (!is_marked(input)) return "its input stays in float";
    if (auto why = facts_.obstacle(output); !why.empty()) return why;
    if (is_covered_by_rounding(node)) {
      marks_.removed.push_back(at);
      marks_.marks.erase(input);
    }
    mark_activation(output);
    return "";
  }

  /// Whether the quantised output can hold nothing that the node would cut off, so that the node
  /// can leave.
  [[nodiscard]] bool is_covered_by_rounding(const onnx::NodeProto& node) const {
    const auto &input = node.input(0), &output = node.output(0);
    if (index().producer(input) == Index::kNone || !index().has_one_reader(input) ||
        !marks_.marks.at(input).shares.empty())
      return false;
    const auto parameters = facts_.activation_parameters(output);
    const auto type = facts_.activation_type(output);
    const auto held = quantized_range(type);
    const float slack = parameters.scale / 2;
    float low = 0, high = std::numeric_limits<float>::infinity();
    if (node.op_type() == "Clip") {
      const auto limits = clip_limits(node);
      if (!limits) return false;
      low = limits->min;
      high = limits->max;
    }
    return dequantize(held.min, parameters) >= low - slack &&
           dequantize(held.max, parameters) <= high + slack;
  }

  [[nodiscard]] std::optional<RealRange> clip_limits(const onnx::NodeProto& node) const {
    constexpr float kMax = std::numeric_limits<float>::max();
    RealRange limits{graph::float_attribute(node, "min", -kMax),
                     graph::float_attribute(node, "max", kMax)};
    for (int i = 1; i <= 2; ++i) {
      const auto name = input_of(node, i);
      if (name.empty()) continue;
      if (!facts_.is_float_constant(name)) return std::nullopt;
      const auto values = graph::read_floats(*facts_.constant(name), facts_.model().folder());
      if (!values || values->size() != 1) return std::nullopt;
      (i == 1 ? limits.min : limits.max) = values->front();
    }
    return limits;
  }

  [[nodiscard]] std::string apply_pass_through(const onnx::NodeProto& node) {
    if (!is_marked(node.input(0))) return "its input stays in float";
    const bool first_only = node.op_type() != "Split";
    for (int i = 0; i < (first_only ? 1 : node.output_size()); ++i)
      mark_same(node.output(i), node.input(0));
    return "";
  }

  [[nodiscard]] std::string apply_pad(const onnx::NodeProto& node) {
    const auto mode = graph::string_attribute(node, "mode", "constant");
    if (auto why = facts_.obstacle(node.input(0)); !why.empty()) return why;
    const auto fill = input_of(node, 2);
    bool is_zero = graph::float_attribute(node, "value", 0) == 0;
    if (mode == "constant" && !fill.empty()) {
      const auto values = facts_.is_float_constant(fill)
                              ? graph::read_floats(*facts_.constant(fill), facts_.model().folder())
                              : fail(ErrorCode::kNotFound, "");
      is_zero = values && values->size() == 1 && values->front() == 0;
    }
    if (mode != "constant" || is_zero) {
      mark_activation(node.input(0));
      mark_same(node.output(0), node.input(0));
      return "";
    }
    if (auto why = facts_.obstacle(node.output(0)); !why.empty()) return why;
    mark_activation(node.input(0));
    mark_activation(fill);
    mark_activation(node.output(0));
    return "";
  }

  [[nodiscard]] std::string apply_gather(const onnx::NodeProto& node) {
    const auto& table = node.input(0);
    if (facts_.is_float_constant(table) && facts_.is_finite(table)) mark_activation(table);
    if (!is_marked(table)) return "its input stays in float";
    // Only a scale for the whole tensor moves along with its elements.
    if (marks_.marks.at(table).axis) return "its table has a scale a channel";
    mark_same(node.output(0), table);
    return "";
  }

  [[nodiscard]] std::string apply_where(const onnx::NodeProto& node) {
    if (!is_marked(input_of(node, 1)) || !is_marked(input_of(node, 2)))
      return "its inputs stay in float";
    if (auto why = facts_.obstacle(node.output(0)); !why.empty()) return why;
    mark_activation(node.output(0));
    return "";
  }

  [[nodiscard]] std::string apply_normalization(const onnx::NodeProto& node, int at) {
    const auto &input = node.input(0), &output = node.output(0);
    const auto scale = input_of(node, 1);
    if (auto why = first_obstacle({input, scale, output}); !why.empty()) return why;
    mark_activation(input);
    mark_weight(scale, std::nullopt);
    mark_bias(at, input_of(node, 2), input, scale);
    for (const auto& name : node.output()) mark_activation(name);
    return "";
  }

  [[nodiscard]] std::string apply_hard_sigmoid(const onnx::NodeProto& node, int at) {
    const auto &input = node.input(0), &output = node.output(0);
    if (auto why = first_obstacle({input, output}); !why.empty()) return why;
    const float alpha = graph::float_attribute(node, "alpha", 0.2f);
    const float beta = graph::float_attribute(node, "beta", 0.5f);
    if (!(alpha > 0) || !std::isfinite(beta / alpha)) return "it does not rise with its input";
    const auto parameters = facts_.activation_parameters(output);
    const auto held = quantized_range(facts_.activation_type(output));
    if (parameters.scale <= 0 ||
        std::abs(dequantize(held.min, parameters)) > parameters.scale / 2 ||
        std::abs(dequantize(held.max, parameters) - 1) > parameters.scale / 2)
      return "what its output can hold does not end at 0 and 1";
    mark_activation(input);
    mark_activation(output);
    marks_.sums.push_back(
        {.node = at, .addend = beta / alpha, .type = facts_.activation_type(input)});
    marks_.factors.emplace(output, 1 / alpha);
    return "";
  }

  [[nodiscard]] std::string apply_everything(const onnx::NodeProto& node) {
    const bool first_only = node.op_type() == "ArgMax" || node.op_type() == "CumSum";
    const int inputs = first_only ? 1 : node.input_size();
    for (int i = 0; i < inputs; ++i)
      if (auto why = facts_.obstacle(node.input(i)); !why.empty()) return why;
    if (node.op_type() != "ArgMax")
      if (auto why = facts_.obstacle(node.output(0)); !why.empty()) return why;
    for (int i = 0; i < inputs; ++i) mark_activation(node.input(i));
    for (const auto& name : node.output()) mark_activation(name);
    return "";
  }

  StaticFacts& facts_;
  const onnx::GraphProto& graph_;
  const Selector& selector_;
  StaticMarks marks_;
  std::vector<bool> taken_;  ///< By node.
};

}  // namespace

StaticMarks mark_tensors(StaticFacts& facts, const Selector& selector) {
  return Marker(facts, selector).run();
}

}  // namespace selvage::compress
