#include "graph/layer.h"

#include <algorithm>
#include <cmath>

#include <selvage/onnx.pb.h>

#include "graph/attributes.h"
#include "graph/values.h"

namespace selvage::graph {

LayerEditor::LayerEditor(Model& model)
    : model_(model), graph_(*model.proto().mutable_graph()), index_(graph_) {}

std::optional<std::vector<float>> LayerEditor::floats(const std::string& name) const {
  const int tensor = index_.constant(name);
  if (tensor == Index::kNone) return std::nullopt;
  const auto& proto = graph_.initializer(tensor);
  if (type_of(proto) == DataType::kFloat64) return std::nullopt;
  auto values = read_floats(proto, model_.folder());
  if (!values) return std::nullopt;
  return *std::move(values);
}

std::optional<Layer> LayerEditor::layer_at(int at) const {
  const auto& node = graph_.node(at);
  const bool is_conv = is_op(node, "Conv"), is_transpose = is_op(node, "ConvTranspose");
  if ((!is_conv && !is_transpose && !is_op(node, "Gemm")) || node.input_size() < 2)
    return std::nullopt;
  const int weight = index_.constant(node.input(1));
  if (weight == Index::kNone) return std::nullopt;
  const auto shape = shape_of(graph_.initializer(weight));
  if (shape.size() < 2) return std::nullopt;
  std::size_t inner = 1;  // Elements behind the two leading dimensions.
  for (std::size_t i = 2; i < shape.size(); ++i) inner *= static_cast<std::size_t>(shape[i]);
  const auto rows = static_cast<std::size_t>(shape[0]),
             columns = static_cast<std::size_t>(shape[1]);
  Layer layer{.node = at, .weight = weight, .rank = shape.size(), .channels = shape[0]};
  if (is_conv || (!is_transpose && int_attribute(node, "transB", 0) != 0)) {
    const auto row = columns * inner;
    layer.channel_of = [row](std::size_t i) { return i / row; };
    return layer;
  }
  if (!is_transpose) {
    layer.channels = shape[1];
    layer.channel_of = [columns](std::size_t i) { return i % columns; };
    return layer;
  }
  // Weights are [C, M/groups, k...]: each group of input channels has output channels of its own.
  const auto groups =
      static_cast<std::size_t>(std::max<std::int64_t>(int_attribute(node, "group", 1), 1));
  if (rows % groups != 0) return std::nullopt;
  const auto per_group = rows / groups;
  layer.channels = shape[1] * static_cast<std::int64_t>(groups);
  layer.channel_of = [=](std::size_t i) {
    return i / (columns * inner) / per_group * columns + i / inner % columns;
  };
  return layer;
}

/// The bias of each channel as the layer adds it; zeros where there is none.
std::optional<std::vector<double>> LayerEditor::bias_of(const Layer& layer) const {
  const auto& node = graph_.node(layer.node);
  const auto channels = static_cast<std::size_t>(layer.channels);
  if (node.input_size() < 3 || node.input(2).empty()) return std::vector<double>(channels, 0);
  const auto values = floats(node.input(2));
  if (!values || (values->size() != 1 && values->size() != channels)) return std::nullopt;
  const auto shape = shape_of(graph_.initializer(index_.constant(node.input(2))));
  // Of a Gemm, a column [M, 1] would differ from row to row.
  if (values->size() > 1 && shape.back() != layer.channels) return std::nullopt;
  const double beta = is_op(node, "Gemm") ? float_attribute(node, "beta", 1) : 1;
  std::vector<double> bias(channels);
  for (std::size_t c = 0; c < channels; ++c)
    bias[c] = beta * (*values)[values->size() == 1 ? 0 : c];
  return bias;
}

std::string LayerEditor::fresh_tensor(const std::string& stem, DataType type, const Shape& shape,
                                      std::span<const float> values) {
  auto name = index_.fresh_name(stem);
  auto& tensor = *graph_.add_initializer();
  tensor.set_name(name);
  store_floats(tensor, type, shape, values);
  return name;
}

/// The old weights stay for whoever shares them; dead-code takes them where nobody does.
bool LayerEditor::store(const Layer& layer, const std::vector<float>& weights,
                        const std::vector<double>& bias) {
  const std::vector<float> shifts(bias.begin(), bias.end());
  if (!all_finite(weights) || !all_finite(shifts)) return false;
  auto& node = *graph_.mutable_node(layer.node);
  const auto type = type_of(graph_.initializer(layer.weight));
  const auto shape = shape_of(graph_.initializer(layer.weight));
  if (index_.uses(node.input(1)).size() == 1 && !index_.is_output(node.input(1))) {
    store_floats(*graph_.mutable_initializer(layer.weight), type, shape, weights);
  } else {
    node.set_input(1, fresh_tensor(node.input(1), type, shape, weights));
  }
  const auto stem = node.input(1) + "_bias";
  while (node.input_size() < 3) node.add_input("");
  node.set_input(2, fresh_tensor(stem, type, {layer.channels}, shifts));
  remove_attribute(node, "beta");
  return true;
}

bool LayerEditor::merge_after(const Layer& layer, const Affine& affine) {
  if (affine.scale.size() != static_cast<std::size_t>(layer.channels)) return false;
  auto weights = floats(graph_.node(layer.node).input(1));
  auto bias = bias_of(layer);
  if (!weights || !bias) return false;
  for (std::size_t i = 0; i < weights->size(); ++i)
    (*weights)[i] = static_cast<float>((*weights)[i] * affine.scale[layer.channel_of(i)]);
  for (std::size_t c = 0; c < bias->size(); ++c)
    (*bias)[c] = (*bias)[c] * affine.scale[c] + affine.shift[c];
  return store(layer, *weights, *bias);
}

bool LayerEditor::merge_before(const Layer& layer, double scale, double shift) {
  auto weights = floats(graph_.node(layer.node).input(1));
  auto bias = bias_of(layer);
  if (!weights || !bias) return false;
  for (std::size_t i = 0; i < weights->size(); ++i) {
    auto& weight = (*weights)[i];
    (*bias)[layer.channel_of(i)] += shift * static_cast<double>(weight);
    weight = static_cast<float>(weight * scale);
  }
  return store(layer, *weights, *bias);
}

std::optional<Arithmetic> LayerEditor::arithmetic_at(int at) const {
  const auto& node = graph_.node(at);
  const bool is_mul = is_op(node, "Mul"), is_div = is_op(node, "Div"), is_add = is_op(node, "Add"),
             is_sub = is_op(node, "Sub");
  // Before operator set 7 they have attributes that say how to broadcast.
  if ((!is_mul && !is_div && !is_add && !is_sub) || node.input_size() != 2 ||
      node.attribute_size() > 0)
    return std::nullopt;
  for (const int constant : {1, 0}) {
    const auto values = floats(node.input(constant));
    if (!values || values->empty() || !all_finite(*values)) continue;
    if (is_div && constant == 0) return std::nullopt;
    Arithmetic found{.value = node.input(1 - constant),
                     .shape = shape_of(graph_.initializer(index_.constant(node.input(constant)))),
                     .affine = {}};
    for (const double value : *values) {
      double scale = 1, shift = 0;
      if (is_mul) scale = value;
      if (is_div) scale = 1 / value;
      if (is_add || is_sub) shift = is_sub && constant == 1 ? -value : value;
      if (is_sub && constant == 0) scale = -1;
      if (!std::isfinite(scale)) return std::nullopt;
      found.affine.scale.push_back(scale);
      found.affine.shift.push_back(shift);
    }
    return found;
  }
  return std::nullopt;
}

}  // namespace selvage::graph
