#include "compress/quantize_static.h"

#include <algorithm>
#include <unordered_set>

#include <selvage/onnx.pb.h>

#include "compress/graph_writer.h"
#include "compress/qoperator.h"
#include "compress/static_plan.h"
#include "graph/attributes.h"
#include "graph/index.h"
#include "graph/opset.h"
#include "graph/sort.h"
#include "graph/values.h"

namespace selvage::compress {
namespace {

using graph::Index;

/// QLinearConv, which the runtime makes of a quantised Conv, is of operator set 10; Round, with
/// which it quantises a bias that was left in float, of this one.
constexpr std::int64_t kOpsetMin = 11;

/// Whether ONNX's own QuantizeLinear of this operator set can say what is needed; the runtime's
/// (com.microsoft) always can.
bool fits_standard(const StaticPlan& plan, std::int64_t opset) {
  return std::ranges::all_of(plan.tensors, [&](const PlannedTensor& tensor) {
    return (bits_of(tensor.type) == 8 || opset >= 21) && (!tensor.axis || opset >= 13);
  });
}

/// Names of a tensor's parameters in the graph.
struct ParameterNames {
  std::string scale, zero_point;
};

/// Puts QuantizeLinear and DequantizeLinear where the plan says.
class QdqWriter {
 public:
  QdqWriter(graph::Model& model, Index& index, const StaticPlan& plan)
      : model_(model),
        graph_(*model.proto().mutable_graph()),
        index_(index),
        plan_(plan),
        domain_(fits_standard(plan, graph::opset_of(model)) ? "" : kMicrosoftDomain) {
    for (const auto& node : graph_.node()) node_names_.insert(node.name());
  }

  /// Reads and quantises the weights: what can fail, before anything changes.
  [[nodiscard]] Result<void> prepare() {
    for (const auto& tensor : plan_.tensors) {
      if (!tensor.is_weight) continue;
      const auto& stored = graph_.initializer(index_.constant(tensor.name));
      SELVAGE_TRY(const auto values, graph::read_floats(stored, model_.folder()));
      weights_.emplace(tensor.name, quantize_weight(values, graph::shape_of(stored), tensor.type,
                                                    tensor.parameters, tensor.axis));
    }
    return {};
  }

  void write() {
    remove_nodes();
    for (const auto& tensor : plan_.tensors) {
      if (tensor.is_weight)
        add_weight(tensor);
      else
        add_activation(tensor);
    }
    for (const auto& sum : plan_.sums) make_sum(sum);
    for (const auto& bias : plan_.biases) add_bias(bias);
    erase_removed();
    for (auto& node : added_) *graph_.add_node() = std::move(node);
    graph::sort_nodes(model_);
    drop_unused_initialisers(graph_, replaced_);
    drop_stale_value_infos(graph_);
    if (!domain_.empty()) import_microsoft_domain(model_);
  }

 private:
  /// Where a value comes from, kept while nodes leave.
  struct Origin {
    int node = Index::kNone;
    int output = 0;
  };

  [[nodiscard]] Origin origin_of(const std::string& name) const {
    if (const auto found = moved_.find(name); found != moved_.end()) return found->second;
    const int node = index_.producer(name);
    if (node == Index::kNone) return {};
    const auto& outputs = graph_.node(node).output();
    return {node, static_cast<int>(std::ranges::find(outputs, name) - outputs.begin())};
  }

  /// What made a removed node's input makes its output.
  void remove_nodes() {
    for (const int at : plan_.removed) {
      const auto& output = graph_.node(at).output(0);
      const auto origin = origin_of(graph_.node(at).input(0));
      moved_.emplace(output, origin);
      graph_.mutable_node(origin.node)->set_output(origin.output, output);
    }
  }

  void erase_removed() {
    std::vector<bool> marked(static_cast<std::size_t>(graph_.node_size()));
    for (const int at : plan_.removed) {
      marked[static_cast<std::size_t>(at)] = true;
      replaced_.insert(graph_.node(at).input().begin(), graph_.node(at).input().end());
    }
    erase_nodes(graph_, marked);
  }

  void replace_uses(const std::string& name, const std::string& by) {
    for (const auto& use : index_.uses(name))
      if (use.input != graph::Use::kCapture)
        graph_.mutable_node(use.node)->set_input(use.input, by);
  }

  /// Stores scales and zero points; `type` is that of the zero points.
  ParameterNames add_parameters(const std::string& stem, DataType type,
                                std::span<const QuantizationParameters> parameters, bool is_list) {
    const Shape shape = is_list ? Shape{static_cast<std::int64_t>(parameters.size())} : Shape{};
    std::vector<float> scales;
    for (const auto& one : parameters) scales.push_back(one.scale);
    const auto scale = index_.fresh_name(stem + "_scale");
    graph::add_initialiser(graph_, scale, shape, scales);
    return {scale, add_zero_points(stem, type, parameters, shape)};
  }

  /// Most zero points are one of a few, and a small model has as many bytes of names as of weights:
  /// those that are equal are one tensor, named after what it holds ("uint8_131", "int8_0_x64").
  std::string add_zero_points(const std::string& stem, DataType type,
                              std::span<const QuantizationParameters> parameters,
                              const Shape& shape) {
    const auto first = parameters.front().zero_point;
    const bool is_uniform =
        std::ranges::all_of(parameters, [&](const auto& one) { return one.zero_point == first; });
    auto content = std::string(to_string(type)) + "_" + std::to_string(first);
    if (!shape.empty()) content += "_x" + std::to_string(parameters.size());
    if (is_uniform)
      if (const auto found = zero_points_.find(content); found != zero_points_.end())
        return found->second;
    const auto name = index_.fresh_name(is_uniform ? content : stem + "_zero_point");
    add_tensor(graph_, name, type, shape, zero_point_bytes(type, parameters));
    if (is_uniform) zero_points_.emplace(content, name);
    return name;
  }

  /// Named after its output.
  void add_node(std::string_view type, const std::string& input, const ParameterNames& parameters,
                const std::string& output, std::optional<std::size_t> axis = {}) {
    auto& node = added_.emplace_back();
    node.set_op_type(std::string(type));
    node.set_domain(domain_);
    auto name_of_node = output;
    for (int i = 1; !node_names_.insert(name_of_node).second; ++i)
      name_of_node = output + "_" + std::to_string(i);
    node.set_name(name_of_node);
    for (const auto* name : {&input, &parameters.scale, &parameters.zero_point})
      node.add_input(*name);
    node.add_output(output);
    if (axis) graph::set_attribute(node, "axis", static_cast<std::int64_t>(*axis));
  }

  [[nodiscard]] std::string quantized_name(const std::string& stem) {
    return index_.fresh_name(stem + std::string(kQuantizedSuffix));
  }
  [[nodiscard]] std::string dequantized_name(const std::string& stem) {
    return index_.fresh_name(stem + std::string(kDequantizedSuffix));
  }

  void add_weight(const PlannedTensor& tensor) {
    const auto& weight = weights_.at(tensor.name);
    const auto names =
        add_parameters(tensor.name, tensor.type, tensor.parameters, tensor.axis.has_value());
    const auto stored = quantized_name(tensor.name);
    const auto output = dequantized_name(tensor.name);
    add_tensor(graph_, stored, weight.type, weight.shape, weight.bytes);
    replace_uses(tensor.name, output);
    add_node("DequantizeLinear", stored, names, output, tensor.axis);
    parameters_.emplace(tensor.name, names);
    replaced_.insert(tensor.name);
  }

  void add_activation(const PlannedTensor& tensor) {
    const auto& name = tensor.name;
    const auto names = tensor.shares.empty()
                           ? add_parameters(name, tensor.type, tensor.parameters, false)
                           : parameters_.at(tensor.shares);
    parameters_.emplace(name, names);
    auto written = names;
    if (tensor.factor != 1) {
      auto scaled = tensor.parameters;
      for (auto& one : scaled) one.scale *= tensor.factor;
      written = add_parameters(name + std::string(kQuantizedSuffix), tensor.type, scaled, false);
    }
    const auto quantized = quantized_name(name);
    std::string input = name, output = name;
    if (const auto origin = origin_of(name);
        index_.is_output(name) && origin.node != Index::kNone) {
      input = index_.fresh_name(name + "_float");
      graph_.mutable_node(origin.node)->set_output(origin.output, input);
    } else {
      output = dequantized_name(name);
      replace_uses(name, output);
    }
    add_node("QuantizeLinear", input, written, quantized);
    add_node("DequantizeLinear", quantized, names, output);
  }

  void make_sum(const PlannedSum& sum) {
    const auto parameters =
        compute_scale_zero_point({.min = sum.addend, .max = sum.addend}, quantized_range(sum.type));
    auto& node = *graph_.mutable_node(sum.node);
    const auto stem = node.output(0) + "_addend";
    const auto names = add_parameters(stem, sum.type, std::span(&parameters, 1), false);
    const auto weight = quantize_weight(std::span(&sum.addend, 1), {}, sum.type, {parameters}, {});
    const auto stored = quantized_name(stem);
    add_tensor(graph_, stored, sum.type, {}, weight.bytes);
    const auto output = dequantized_name(stem);
    add_node("DequantizeLinear", stored, names, output);
    node.set_op_type("Add");
    node.clear_attribute();
    node.add_input(output);
  }

  void add_bias(const PlannedBias& bias) {
    const auto stored = quantized_name(bias.name);
    const auto output = dequantized_name(bias.name);
    const bool is_list = bias.scales.size() > 1;
    const auto integers = quantize_bias(bias.values, bias.scales);
    const auto shape = graph::shape_of(graph_.initializer(index_.constant(bias.name)));
    add_tensor(graph_, stored, DataType::kInt32, shape, std::as_bytes(std::span(integers)));
    std::vector<QuantizationParameters> parameters;
    for (const float scale : bias.scales) parameters.push_back({scale, 0});
    const auto names = add_parameters(bias.name, DataType::kInt32, parameters, is_list);
    auto& node = *graph_.mutable_node(bias.node);
    node.set_input(2, output);
    graph::remove_attribute(node, "beta");  // It is in the values.
    add_node("DequantizeLinear", stored, names, output,
             is_list ? std::optional<std::size_t>(0) : std::nullopt);
    replaced_.insert(bias.name);
  }

  graph::Model& model_;
  onnx::GraphProto& graph_;
  Index& index_;
  const StaticPlan& plan_;
  std::string domain_;
  std::unordered_map<std::string, QuantizedTensor> weights_;
  std::unordered_map<std::string, ParameterNames> parameters_;
  std::unordered_map<std::string, std::string> zero_points_;  ///< By what they hold.
  std::unordered_map<std::string, Origin> moved_;
  std::unordered_set<std::string> replaced_, node_names_;
  std::vector<onnx::NodeProto> added_;
};

Result<void> refuse_empty(const StaticPlan& plan) {
  if (plan.report.quantized_nodes > 0) return {};
  if (plan.report.kept.empty())
    return fail(ErrorCode::kFailedPrecondition,
                "nothing to quantise: no operator of the model computes in float32");
  const auto& first = plan.report.kept.front();
  return fail(ErrorCode::kFailedPrecondition,
              "nothing to quantise: " + first.type + " '" + first.name + "': " + first.reason);
}

}  // namespace

Result<QuantizationReport> quantize_static(graph::Model& model, const RangeMap& ranges,
                                           const StaticOptions& options) {
  if (graph::opset_of(model) < kOpsetMin) {
    auto raised = model.copy();
    SELVAGE_RETURN_IF_ERROR(graph::upgrade_opset(raised, kOpsetMin));
    SELVAGE_TRY(auto report, quantize_static(raised, ranges, options));
    model = std::move(raised);
    return report;
  }
  Index index(model.proto().graph());
  SELVAGE_TRY(auto plan, plan_static(model, index, ranges, options));
  SELVAGE_RETURN_IF_ERROR(refuse_empty(plan));
  QdqWriter writer(model, index, plan);
  SELVAGE_RETURN_IF_ERROR(writer.prepare());
  writer.write();
  if (options.format == QuantizationFormat::kQOperator) fuse_into_operators(model);
  return std::move(plan.report);
}

}  // namespace selvage::compress
