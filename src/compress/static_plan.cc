#include "compress/static_plan.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <limits>
#include <unordered_set>

#include <selvage/onnx.pb.h>

#include "compress/selection.h"
#include "graph/attributes.h"
#include "graph/values.h"

namespace selvage::compress {
namespace {

using graph::Index;

struct TypeRule {
  std::string_view type;
  StaticRule rule;
};

// The reference's registry.py, without EmbedLayerNormalization, with HardSigmoid.
constexpr std::array kRules{
    TypeRule{"Conv", StaticRule::kConv},
    TypeRule{"ConvTranspose", StaticRule::kConvTranspose},
    TypeRule{"Gemm", StaticRule::kGemm},
    TypeRule{"MatMul", StaticRule::kMatMul},
    TypeRule{"Relu", StaticRule::kRelu},
    TypeRule{"Clip", StaticRule::kRelu},
    TypeRule{"Reshape", StaticRule::kPassThrough},
    TypeRule{"Transpose", StaticRule::kPassThrough},
    TypeRule{"Squeeze", StaticRule::kPassThrough},
    TypeRule{"Unsqueeze", StaticRule::kPassThrough},
    TypeRule{"Flatten", StaticRule::kPassThrough},
    TypeRule{"Resize", StaticRule::kPassThrough},
    TypeRule{"MaxPool", StaticRule::kPassThrough},
    TypeRule{"AveragePool", StaticRule::kPassThrough},
    TypeRule{"Slice", StaticRule::kPassThrough},
    TypeRule{"TopK", StaticRule::kPassThrough},
    TypeRule{"Pad", StaticRule::kPad},
    TypeRule{"Split", StaticRule::kSplit},
    TypeRule{"Gather", StaticRule::kGather},
    TypeRule{"GatherElements", StaticRule::kGather},
    TypeRule{"Where", StaticRule::kWhere},
    TypeRule{"InstanceNormalization", StaticRule::kNormalization},
    TypeRule{"LayerNormalization", StaticRule::kNormalization},
    TypeRule{"BatchNormalization", StaticRule::kNormalization},
    TypeRule{"Add", StaticRule::kEverything},
    TypeRule{"Mul", StaticRule::kEverything},
    TypeRule{"LeakyRelu", StaticRule::kEverything},
    TypeRule{"Sigmoid", StaticRule::kEverything},
    TypeRule{"HardSigmoid", StaticRule::kHardSigmoid},
    TypeRule{"Softmax", StaticRule::kEverything},
    TypeRule{"Concat", StaticRule::kEverything},
    TypeRule{"GlobalAveragePool", StaticRule::kEverything},
    TypeRule{"ArgMax", StaticRule::kEverything},
    TypeRule{"CumSum", StaticRule::kEverything},
};

/// What the operator rules have said about a tensor.
struct Mark {
  bool is_weight = false;  ///< Has the weights' type, not the activations'.
  std::optional<std::size_t> axis = std::nullopt;
  std::string shares = {};
};

struct BiasMark {
  int node = 0;
  std::string name, input, weight;
};

bool is_signed(DataType type) {
  return type == DataType::kInt4 || type == DataType::kInt8 || type == DataType::kInt16;
}

std::string input_of(const onnx::NodeProto& node, int index) {
  return index < node.input_size() ? node.input(index) : "";
}

class Planner {
 public:
  Planner(const graph::Model& model, const Index& index, RangeMap ranges,
          const StaticOptions& options, Selector selector)
      : model_(model),
        graph_(model.proto().graph()),
        index_(index),
        ranges_(std::move(ranges)),
        options_(options),
        selector_(std::move(selector)),
        width_(options.width.value_or(processor_multiplies_8_bits_exactly() ? Width::kFull
                                                                            : Width::kReduced)) {}

  [[nodiscard]] Result<StaticPlan> plan() {
    fix_ranges();
    find_taken();
    for (int i = 0; i < graph_.node_size(); ++i) visit(i);
    SELVAGE_RETURN_IF_ERROR(place_tensors());
    SELVAGE_RETURN_IF_ERROR(place_biases());
    return std::move(plan_);
  }

 private:
  // --- What is known of a tensor

  [[nodiscard]] const onnx::TensorProto* constant(std::string_view name) const {
    const int at = index_.constant(name);
    return at == Index::kNone ? nullptr : &graph_.initializer(at);
  }
  [[nodiscard]] bool is_float_constant(std::string_view name) const {
    const auto* tensor = constant(name);
    return tensor != nullptr && graph::type_of(*tensor) == DataType::kFloat32;
  }
  [[nodiscard]] bool is_activation(const std::string& name) const {
    return constant(name) == nullptr && ranges_.contains(name);
  }
  [[nodiscard]] bool is_marked(const std::string& name) const { return marks_.contains(name); }
  [[nodiscard]] const onnx::NodeProto* producer(std::string_view name) const {
    const int at = index_.producer(name);
    return at == Index::kNone ? nullptr : &graph_.node(at);
  }

  /// Why a tensor cannot be quantised; "" if it can.
  [[nodiscard]] std::string obstacle(const std::string& name) {
    if (const auto* tensor = constant(name)) {
      if (graph::type_of(*tensor) != DataType::kFloat32)
        return "'" + name + "' is " + std::string(to_string(graph::type_of(*tensor)));
      return is_finite(name) ? "" : "'" + name + "' holds NaN or infinity";
    }
    if (const auto* from = producer(name); from != nullptr && from->op_type() == "DequantizeLinear")
      return "already quantised";
    if (index_.initialiser(name) != Index::kNone)
      return "'" + name + "' is an input of the model with a default";
    if (!ranges_.contains(name)) return "no finite float32 range is known of '" + name + "'";
    return "";
  }

  [[nodiscard]] bool is_finite(const std::string& name) {
    const auto [at, is_new] = finite_.emplace(name, false);
    if (!is_new) return at->second;
    const auto values = graph::read_floats(*constant(name), model_.folder());
    at->second =
        values && std::ranges::all_of(*values, [](float value) { return std::isfinite(value); });
    return at->second;
  }

  // --- Marks

  void mark_activation(const std::string& name) {
    if (!name.empty() && (is_activation(name) || is_float_constant(name)) && !is_marked(name))
      add_mark(name, {});
  }
  void mark_weight(const std::string& name, std::optional<std::size_t> axis) {
    if (!is_float_constant(name)) return mark_activation(name);
    const auto override_found = options_.overrides.contains(name);
    if (!options_.per_channel || override_found) axis.reset();
    if (axis || !is_marked(name)) add_mark(name, {.is_weight = true, .axis = axis});
  }
  void mark_same(const std::string& name, const std::string& as) {
    if (!name.empty() && is_marked(as)) add_mark(name, {.shares = as});
  }
  void add_mark(const std::string& name, Mark mark) {
    if (marks_.insert_or_assign(name, std::move(mark)).second) order_.push_back(name);
  }
  void mark_bias(int node, const std::string& bias, const std::string& input,
                 const std::string& weight) {
    if (options_.quantize_bias && !bias.empty() && is_float_constant(bias) && is_finite(bias))
      biases_.push_back({node, bias, input, weight});
  }

  // --- Rules

  /// The first obstacle among tensors that a rule needs.
  [[nodiscard]] std::string first_obstacle(std::initializer_list<std::string> names) {
    for (const auto& name : names)
      if (auto why = obstacle(name); !why.empty()) return why;
    return "";
  }

  /// Output ranges that are known without data, or that the input should share.
  void fix_ranges() {
    for (int i = 0; i < graph_.node_size(); ++i) {
      const auto& node = graph_.node(i);
      if (!selector_.takes(node, i) || node.input_size() == 0 || node.output_size() == 0) continue;
      if ((graph::is_op(node, "Softmax") || graph::is_op(node, "HardSigmoid")) &&
          ranges_.contains(node.output(0)))
        ranges_[node.output(0)] = {0, 1};
      if (!graph::is_op(node, "Relu") && !graph::is_op(node, "Clip")) continue;
      const auto in = ranges_.find(node.input(0)), out = ranges_.find(node.output(0));
      if (in != ranges_.end() && out != ranges_.end() && index_.uses(node.input(0)).size() == 1)
        in->second = out->second;
    }
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
      ++plan_.report.quantized_nodes;
    else
      plan_.report.kept.push_back({node_label(node, at), node.op_type(), std::move(why)});
  }

  // --- Connected operators

  /// Which nodes may be quantised; with StaticOptions::connected_only, of those that are no
  /// products only the ones whose neighbours are.
  void find_taken() {
    const int count = graph_.node_size();
    for (int i = 0; i < count; ++i)
      taken_.push_back(selector_.takes(graph_.node(i), i) && static_rule(graph_.node(i)));
    // Each round takes away, so that this ends.
    for (bool is_changing = options_.connected_only; is_changing;) {
      is_changing = false;
      for (int i = 0; i < count; ++i) {
        const auto at = static_cast<std::size_t>(i);
        if (!taken_[at] || is_product(graph_.node(i)) || is_connected(graph_.node(i))) continue;
        taken_[at] = false;
        is_changing = true;
      }
    }
  }
  [[nodiscard]] static bool is_product(const onnx::NodeProto& node) {
    const auto rule = static_rule(node);
    return rule == StaticRule::kConv || rule == StaticRule::kConvTranspose ||
           rule == StaticRule::kGemm || rule == StaticRule::kMatMul;
  }
  /// Whether quantised nodes make all its floats and read all that it makes.
  [[nodiscard]] bool is_connected(const onnx::NodeProto& node) const {
    for (const auto& name : node.input()) {
      if (!is_float_value(name)) continue;
      const int from = index_.producer(name);
      if (from == Index::kNone || !taken_[static_cast<std::size_t>(from)]) return false;
    }
    for (const auto& name : node.output()) {
      if (index_.is_output(name)) return false;
      for (const auto& use : index_.uses(name))
        if (use.input == graph::Use::kCapture || !taken_[static_cast<std::size_t>(use.node)])
          return false;
    }
    return true;
  }
  /// Ranges are not measured behind operators that only move elements.
  [[nodiscard]] bool is_float_value(const std::string& name) const {
    if (is_activation(name)) return true;
    const auto* from = producer(name);
    if (from == nullptr || from->input_size() == 0) return false;
    const auto rule = static_rule(*from);
    const bool moves = rule == StaticRule::kPassThrough || rule == StaticRule::kSplit ||
                       rule == StaticRule::kGather;
    return moves && is_float_value(from->input(0));
  }

  /// Whether a node computes with floats, as far as that is known.
  [[nodiscard]] bool touches_floats(const onnx::NodeProto& node) const {
    const auto is_float = [&](const std::string& name) {
      return ranges_.contains(name) || is_float_constant(name);
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
    const auto input = node.input(0), weight = input_of(node, 1), output = node.output(0);
    if (auto why = first_obstacle({input, weight, output}); !why.empty()) return why;
    mark_activation(input);
    mark_activation(output);
    mark_weight(weight, axis);
    mark_bias(at, input_of(node, 2), input, weight);
    return "";
  }

  [[nodiscard]] std::string apply_matmul(const onnx::NodeProto& node) {
    const auto a = node.input(0), b = input_of(node, 1), output = node.output(0);
    if (auto why = first_obstacle({a, b, output}); !why.empty()) return why;
    const auto* weight = constant(b);
    mark_weight(a, std::nullopt);
    mark_weight(b, weight != nullptr && weight->dims_size() == 2 ? std::optional<std::size_t>(1)
                                                                 : std::nullopt);
    mark_activation(output);
    return "";
  }

  [[nodiscard]] std::string apply_relu(const onnx::NodeProto& node, int at) {
    const auto &input = node.input(0), &output = node.output(0);
    if (!is_marked(input)) return "its input stays in float";
    if (auto why = obstacle(output); !why.empty()) return why;
    if (is_covered_by_rounding(node)) {
      plan_.removed.push_back(at);
      marks_.erase(input);
    }
    mark_activation(output);
    return "";
  }

  /// Whether the quantised output can hold nothing that the node would cut off, so that the node
  /// can leave.
  [[nodiscard]] bool is_covered_by_rounding(const onnx::NodeProto& node) const {
    const auto &input = node.input(0), &output = node.output(0);
    if (index_.producer(input) == Index::kNone || !index_.has_one_reader(input) ||
        !marks_.at(input).shares.empty())
      return false;
    const auto parameters = activation_parameters(output);
    const auto type = activation_type(output);
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
      if (!is_float_constant(name)) return std::nullopt;
      const auto values = graph::read_floats(*constant(name), model_.folder());
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
    if (auto why = obstacle(node.input(0)); !why.empty()) return why;
    const auto fill = input_of(node, 2);
    bool is_zero = graph::float_attribute(node, "value", 0) == 0;
    if (mode == "constant" && !fill.empty()) {
      const auto values = is_float_constant(fill)
                              ? graph::read_floats(*constant(fill), model_.folder())
                              : fail(ErrorCode::kNotFound, "");
      is_zero = values && values->size() == 1 && values->front() == 0;
    }
    if (mode != "constant" || is_zero) {
      mark_activation(node.input(0));
      mark_same(node.output(0), node.input(0));
      return "";
    }
    if (auto why = obstacle(node.output(0)); !why.empty()) return why;
    mark_activation(node.input(0));
    mark_activation(fill);
    mark_activation(node.output(0));
    return "";
  }

  [[nodiscard]] std::string apply_gather(const onnx::NodeProto& node) {
    const auto& table = node.input(0);
    if (is_float_constant(table) && is_finite(table)) mark_activation(table);
    if (!is_marked(table)) return "its input stays in float";
    // Only a scale for the whole tensor moves along with its elements.
    if (marks_.at(table).axis) return "its table has a scale a channel";
    mark_same(node.output(0), table);
    return "";
  }

  [[nodiscard]] std::string apply_where(const onnx::NodeProto& node) {
    if (!is_marked(input_of(node, 1)) || !is_marked(input_of(node, 2)))
      return "its inputs stay in float";
    if (auto why = obstacle(node.output(0)); !why.empty()) return why;
    mark_activation(node.output(0));
    return "";
  }

  [[nodiscard]] std::string apply_normalization(const onnx::NodeProto& node, int at) {
    const auto input = node.input(0), scale = input_of(node, 1), output = node.output(0);
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
    const auto parameters = activation_parameters(output);
    const auto held = quantized_range(activation_type(output));
    if (parameters.scale <= 0 ||
        std::abs(dequantize(held.min, parameters)) > parameters.scale / 2 ||
        std::abs(dequantize(held.max, parameters) - 1) > parameters.scale / 2)
      return "what its output can hold does not end at 0 and 1";
    mark_activation(input);
    mark_activation(output);
    plan_.sums.push_back({.node = at, .addend = beta / alpha, .type = activation_type(input)});
    factors_.emplace(output, 1 / alpha);
    return "";
  }

  [[nodiscard]] std::string apply_everything(const onnx::NodeProto& node) {
    const bool first_only = node.op_type() == "ArgMax" || node.op_type() == "CumSum";
    const int inputs = first_only ? 1 : node.input_size();
    for (int i = 0; i < inputs; ++i)
      if (auto why = obstacle(node.input(i)); !why.empty()) return why;
    if (node.op_type() != "ArgMax")
      if (auto why = obstacle(node.output(0)); !why.empty()) return why;
    for (int i = 0; i < inputs; ++i) mark_activation(node.input(i));
    for (const auto& name : node.output()) mark_activation(name);
    return "";
  }

  // --- Parameters

  [[nodiscard]] const TensorOverride* override_of(const std::string& name) const {
    const auto found = options_.overrides.find(name);
    return found == options_.overrides.end() ? nullptr : &found->second;
  }
  [[nodiscard]] DataType activation_type(const std::string& name) const {
    const auto* own = override_of(name);
    return own != nullptr && own->type ? *own->type : options_.activations;
  }
  [[nodiscard]] QuantizationParameters activation_parameters(const std::string& name) const {
    const TensorOverride none;
    const auto* found = override_of(name);
    const auto& own = found == nullptr ? none : *found;
    if (own.scale && own.zero_point) return {*own.scale, *own.zero_point};
    RealRange real = ranges_.at(name);
    real.min = own.min.value_or(real.min);
    real.max = own.max.value_or(real.max);
    const auto symmetry = own.symmetry.value_or(options_.activation_symmetry);
    return compute_scale_zero_point(
        real, quantized_range(activation_type(name), symmetry, own.width.value_or(Width::kFull)),
        symmetry, options_.real_width_min);
  }

  [[nodiscard]] Result<PlannedTensor> place_constant(const std::string& name, const Mark& mark) {
    const TensorOverride none;
    const auto* found = override_of(name);
    const auto& own = found == nullptr ? none : *found;
    const auto type = own.type.value_or(mark.is_weight ? options_.weights : options_.activations);
    const auto by_type = is_signed(type) ? Symmetry::kSymmetric : Symmetry::kAsymmetric;
    const auto by_role =
        mark.is_weight ? options_.weight_symmetry.value_or(by_type) : options_.activation_symmetry;
    const WeightFormat format{
        .type = type,
        // Integer kernels take one zero point for all channels.
        .symmetry = own.symmetry.value_or(mark.axis ? Symmetry::kSymmetric : by_role),
        .width = own.width.value_or(bits_of(type) == 8 ? width_ : Width::kFull),
        .axis = mark.axis,
        .real_width_min = options_.real_width_min};
    PlannedTensor planned{.name = name, .type = type, .is_weight = true, .axis = mark.axis};
    if (own.scale && own.zero_point) {
      planned.parameters = {{*own.scale, *own.zero_point}};
    } else if (own.min || own.max) {
      planned.parameters = {compute_scale_zero_point(
          {own.min.value_or(0), own.max.value_or(0)},
          quantized_range(type, format.symmetry, format.width), format.symmetry)};
    } else {
      const auto& tensor = *constant(name);
      SELVAGE_TRY(const auto values, graph::read_floats(tensor, model_.folder()));
      SELVAGE_TRY(planned.parameters, weight_parameters(values, graph::shape_of(tensor), format));
    }
    return planned;
  }

  [[nodiscard]] Result<void> place_tensors() {
    std::unordered_map<std::string_view, std::size_t> placed;
    const auto place = [&](PlannedTensor tensor, const std::string& name) {
      placed.emplace(name, plan_.tensors.size());
      plan_.tensors.push_back(std::move(tensor));
    };
    std::vector<const std::string*> sharing;
    for (const auto& name : order_) {
      const auto found = marks_.find(name);
      if (found == marks_.end() || placed.contains(found->first)) continue;
      const auto& mark = found->second;
      if (!mark.shares.empty()) {
        sharing.push_back(&found->first);
      } else if (is_float_constant(name)) {
        SELVAGE_TRY(auto tensor, place_constant(name, mark));
        place(std::move(tensor), found->first);
        ++plan_.report.quantized_weights;
      } else {
        const auto factor = factors_.find(name);
        place({.name = name,
               .type = activation_type(name),
               .parameters = {activation_parameters(name)},
               .factor = factor == factors_.end() ? 1 : factor->second},
              found->first);
      }
    }
    // Whom they share with may share itself: as many rounds as the longest chain has links.
    for (bool is_moving = true; is_moving && !sharing.empty();) {
      is_moving = false;
      std::vector<const std::string*> waiting;
      for (const auto* name : sharing) {
        const auto& shares = marks_.at(*name).shares;
        const auto source = placed.find(shares);
        if (source == placed.end()) {
          waiting.push_back(name);
          continue;
        }
        const auto& from = plan_.tensors[source->second];
        place({.name = *name, .type = from.type, .shares = shares, .parameters = from.parameters},
              *name);
        is_moving = true;
      }
      sharing = std::move(waiting);
    }
    for (std::size_t i = 0; i < plan_.tensors.size(); ++i) at_.emplace(plan_.tensors[i].name, i);
    return {};
  }

  // --- Biases

  [[nodiscard]] const PlannedTensor* planned(const std::string& name) const {
    const auto found = at_.find(name);
    return found == at_.end() ? nullptr : &plan_.tensors[found->second];
  }

  [[nodiscard]] Result<void> place_biases() {
    for (const auto& mark : biases_) {
      const auto* input = planned(mark.input);
      const auto* weight = planned(mark.weight);
      // A bias with a scale of its own choice, or one that is a weight elsewhere, is one of those.
      if (input == nullptr || weight == nullptr || input->parameters.size() != 1 ||
          is_marked(mark.name) || options_.overrides.contains(mark.name))
        continue;
      const auto& tensor = *constant(mark.name);
      SELVAGE_TRY(auto values, graph::read_floats(tensor, model_.folder()));
      if (weight->parameters.size() > 1 &&
          (tensor.dims_size() != 1 || values.size() != weight->parameters.size()))
        continue;
      const float beta = graph::float_attribute(graph_.node(mark.node), "beta", 1);
      for (auto& value : values) value *= beta;
      plan_.biases.push_back({.node = mark.node,
                              .name = mark.name,
                              .input = mark.input,
                              .weight = mark.weight,
                              .values = std::move(values)});
    }
    for (const auto& bias : plan_.biases) widen_weight_scales(bias);
    std::erase_if(plan_.biases, [&](PlannedBias& bias) { return !scale_bias(bias); });
    return {};
  }

  /// Enlarges a symmetric weight's scales where the bias would not fit into int32.
  void widen_weight_scales(const PlannedBias& bias) {
    constexpr double kMargin = 1.0001;
    constexpr double kSteps = 2.0 * std::numeric_limits<std::int32_t>::max();
    auto& weight = plan_.tensors[at_.at(bias.weight)];
    const bool is_symmetric =
        std::ranges::all_of(weight.parameters, [](const auto& one) { return one.zero_point == 0; });
    if (!is_symmetric || (weight.type != DataType::kInt8 && weight.type != DataType::kInt16) ||
        !weight.is_weight)
      return;
    const double input_scale = planned(bias.input)->parameters.front().scale;
    for (std::size_t i = 0; i < weight.parameters.size(); ++i) {
      double largest = 0;
      if (weight.parameters.size() > 1)
        largest = std::abs(bias.values[i]);
      else
        for (const float value : bias.values)
          largest = std::max(largest, static_cast<double>(std::abs(value)));
      const double needed = kMargin * (2.0 * largest) / kSteps;
      auto& scale = weight.parameters[i].scale;
      const double given = input_scale * static_cast<double>(scale);
      if (given < needed && given > 0)
        scale = static_cast<float>(static_cast<double>(scale) * (needed / given));
    }
  }

  /// False where a scale would be no normal number: that bias stays in float.
  [[nodiscard]] bool scale_bias(PlannedBias& bias) const {
    const float alpha = graph::float_attribute(graph_.node(bias.node), "alpha", 1);
    const bool is_gemm = graph_.node(bias.node).op_type() == "Gemm";
    const float input_scale = planned(bias.input)->parameters.front().scale;
    for (const auto& weight : planned(bias.weight)->parameters) {
      const float scale = input_scale * weight.scale * (is_gemm ? alpha : 1.0f);
      if (!std::isnormal(scale) || scale < 0) return false;
      bias.scales.push_back(scale);
    }
    return true;
  }

  const graph::Model& model_;
  const onnx::GraphProto& graph_;
  const Index& index_;
  RangeMap ranges_;
  const StaticOptions& options_;
  Selector selector_;
  Width width_;

  std::unordered_map<std::string, Mark> marks_;
  std::vector<std::string> order_;  ///< Names as they were marked first; some lost their mark.
  std::vector<BiasMark> biases_;
  std::vector<bool> taken_;                         ///< By node.
  std::unordered_map<std::string, float> factors_;  ///< See PlannedTensor::factor.
  std::unordered_map<std::string, bool> finite_;
  StaticPlan plan_;
  std::unordered_map<std::string, std::size_t> at_;  ///< Of plan_.tensors.
};

Result<void> check_options(const StaticOptions& options) {
  const auto refuse = [](std::string what) {
    return fail(ErrorCode::kInvalidArgument, std::move(what));
  };
  const auto is_8_bits = [](DataType type) {
    return type == DataType::kInt8 || type == DataType::kUint8;
  };
  const bool is_qdq = options.format == QuantizationFormat::kQdq;
  if (!is_quantized_type(options.activations) || bits_of(options.activations) == 4)
    return refuse("activations are quantised to int8, uint8, int16 or uint16, not to " +
                  std::string(to_string(options.activations)));
  if (!is_quantized_type(options.weights) || bits_of(options.weights) == 16)
    return refuse("weights are quantised to int8, uint8, int4 or uint4, not to " +
                  std::string(to_string(options.weights)));
  if (!is_qdq && (!is_8_bits(options.activations) || !is_8_bits(options.weights)))
    return refuse("QOperator knows 8 bits only: use the format QDQ");
  if (options.activations == DataType::kInt8 && options.weights == DataType::kUint8)
    return refuse(
        "the runtime has no kernel for int8 activations with uint8 weights: use uint8 "
        "activations or int8 weights");
  for (const auto& [name, own] : options.overrides) {
    if (own.scale.has_value() != own.zero_point.has_value())
      return refuse("the override of '" + name + "' needs scale and zero_point together");
    if (own.type && !is_quantized_type(*own.type))
      return refuse("the override of '" + name + "' names no quantised type");
    if (own.scale && !(*own.scale > 0 && std::isfinite(*own.scale)))
      return refuse("the override of '" + name + "' has a scale that is not positive");
  }
  return {};
}

Result<Selector> make_selector(const onnx::GraphProto& graph, const StaticOptions& options) {
  const auto types = static_types();
  return Selector::create(options.selection, graph, types, types);
}

}  // namespace

std::optional<StaticRule> static_rule(const onnx::NodeProto& node) {
  const auto* found = std::ranges::find(kRules, node.op_type(), &TypeRule::type);
  return found == kRules.end() ? std::nullopt : std::optional(found->rule);
}

std::vector<std::string> static_types() {
  std::vector<std::string> types;
  for (const auto& one : kRules) types.emplace_back(one.type);
  return types;
}

Result<std::vector<std::string>> static_candidates(const graph::Model& model,
                                                   const StaticOptions& options) {
  const auto& graph = model.proto().graph();
  SELVAGE_TRY(const auto selector, make_selector(graph, options));
  const Index index(graph);
  std::vector<std::string> names;
  std::unordered_set<std::string_view> known;
  const auto add = [&](const std::string& name) {
    if (!name.empty() && index.initialiser(name) == Index::kNone && known.insert(name).second)
      names.push_back(name);
  };
  for (int i = 0; i < graph.node_size(); ++i) {
    const auto& node = graph.node(i);
    const auto rule = static_rule(node);
    if (!rule || !selector.takes(node, i)) continue;
    for (const auto& name : node.input()) add(name);
    const bool shares = *rule == StaticRule::kPassThrough || *rule == StaticRule::kSplit ||
                        *rule == StaticRule::kGather;
    if (!shares)
      for (const auto& name : node.output()) add(name);
  }
  return names;
}

Result<StaticPlan> plan_static(const graph::Model& model, const Index& index, RangeMap ranges,
                               const StaticOptions& options) {
  SELVAGE_RETURN_IF_ERROR(check_options(options));
  const auto& graph = model.proto().graph();
  for (const auto& [name, own] : options.overrides)
    if (index.producer(name) == Index::kNone && index.initialiser(name) == Index::kNone &&
        !index.is_input(name))
      return fail(ErrorCode::kInvalidArgument, "the model has no tensor '" + name + "'");
  SELVAGE_TRY(auto selector, make_selector(graph, options));
  return Planner(model, index, std::move(ranges), options, std::move(selector)).plan();
}

}  // namespace selvage::compress
