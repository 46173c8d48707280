#include "compress/static_facts.h"

#include <selvage/onnx.pb.h>

#include "graph/values.h"

namespace selvage::compress {

using graph::Index;

std::string input_of(const onnx::NodeProto& node, int index) {
  return index < node.input_size() ? node.input(index) : "";
}

StaticFacts::StaticFacts(const graph::Model& model, const Index& index, RangeMap ranges,
                         const StaticOptions& options, const Selector& selector)
    : model_(model),
      graph_(model.proto().graph()),
      index_(index),
      ranges_(std::move(ranges)),
      options_(options) {
  fix_ranges(selector);
}

const onnx::TensorProto* StaticFacts::constant(std::string_view name) const {
  const int at = index_.constant(name);
  return at == Index::kNone ? nullptr : &graph_.initializer(at);
}
bool StaticFacts::is_float_constant(std::string_view name) const {
  const auto* tensor = constant(name);
  return tensor != nullptr && graph::type_of(*tensor) == DataType::kFloat32;
}
bool StaticFacts::is_activation(const std::string& name) const {
  return constant(name) == nullptr && ranges_.contains(name);
}
const onnx::NodeProto* StaticFacts::producer(std::string_view name) const {
  const int at = index_.producer(name);
  return at == Index::kNone ? nullptr : &graph_.node(at);
}

/// Why a tensor cannot be quantised; "" if it can.
std::string StaticFacts::obstacle(const std::string& name) {
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

bool StaticFacts::is_finite(const std::string& name) {
  const auto [at, is_new] = finite_.emplace(name, false);
  if (!is_new) return at->second;
  const auto values = graph::Floats::view(*constant(name), model_.folder());
  at->second = values && graph::all_finite(*values);
  return at->second;
}

const TensorOverride* StaticFacts::override_of(const std::string& name) const {
  const auto found = options_.overrides.find(name);
  return found == options_.overrides.end() ? nullptr : &found->second;
}
DataType StaticFacts::activation_type(const std::string& name) const {
  const auto* own = override_of(name);
  return own != nullptr && own->type ? *own->type : options_.activations;
}
QuantizationParameters StaticFacts::activation_parameters(const std::string& name) const {
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

/// Output ranges that are known without data, or that the input should share.
void StaticFacts::fix_ranges(const Selector& selector) {
  for (int i = 0; i < graph_.node_size(); ++i) {
    const auto& node = graph_.node(i);
    if (!selector.takes(node, i) || node.input_size() == 0 || node.output_size() == 0) continue;
    if ((graph::is_op(node, "Softmax") || graph::is_op(node, "HardSigmoid")) &&
        ranges_.contains(node.output(0)))
      ranges_[node.output(0)] = {0, 1};
    if (!graph::is_op(node, "Relu") && !graph::is_op(node, "Clip")) continue;
    const auto in = ranges_.find(node.input(0)), out = ranges_.find(node.output(0));
    if (in != ranges_.end() && out != ranges_.end() && index_.uses(node.input(0)).size() == 1)
      in->second = out->second;
  }
}

}  // namespace selvage::compress
