// y = BatchNormalization(Conv(x, w, b)) is a convolution itself: with s = scale / sqrt(var + eps)
// of each output channel, its weights are w * s and its bias is (b - mean) * s + shift.
#include <cmath>

#include <selvage/onnx.pb.h>

#include "graph/attributes.h"
#include "graph/erase.h"
#include "graph/index.h"
#include "graph/passes.h"
#include "graph/values.h"

namespace selvage::graph {
namespace {

/// What BatchNormalization does to a channel: value * scale + shift.
struct Affine {
  std::vector<double> scale, shift;
};

/// The layers in front of it, and where their output channels lie in the weight.
struct Layer {
  int node = 0;
  int weight = 0;  ///< Index of the initialiser.
  std::int64_t channels = 0;
  /// The output channel of a weight's element.
  std::function<std::size_t(std::size_t)> channel_of;
};

class BatchNormFolder {
 public:
  explicit BatchNormFolder(Model& model)
      : model_(model), graph_(*model.proto().mutable_graph()), index_(graph_) {}

  std::size_t run() {
    std::vector<bool> folded(static_cast<std::size_t>(graph_.node_size()), false);
    std::size_t edits = 0;
    for (int i = 0; i < graph_.node_size(); ++i) {
      folded[static_cast<std::size_t>(i)] = fold(i);
      edits += folded[static_cast<std::size_t>(i)] ? 1u : 0u;
    }
    erase_marked(*graph_.mutable_node(), folded);
    return edits;
  }

 private:
  bool fold(int norm);
  [[nodiscard]] std::optional<Affine> affine_of(const onnx::NodeProto& norm) const;
  [[nodiscard]] std::optional<Layer> layer_before(const onnx::NodeProto& norm) const;
  [[nodiscard]] std::optional<std::vector<double>> bias_of(const Layer& layer) const;
  [[nodiscard]] std::optional<std::vector<float>> floats(const std::string& name) const;
  bool rewrite(const Layer& layer, const Affine& affine, std::vector<double> bias);
  std::string fresh_tensor(const std::string& stem, DataType type, const Shape& shape,
                           std::span<const float> values);

  Model& model_;
  onnx::GraphProto& graph_;
  Index index_;
};

/// A constant of float32 or a half type; nothing for what a caller may replace, or for float64,
/// whose precision this arithmetic would lose.
std::optional<std::vector<float>> BatchNormFolder::floats(const std::string& name) const {
  const int tensor = index_.constant(name);
  if (tensor == Index::kNone) return std::nullopt;
  const auto& proto = graph_.initializer(tensor);
  if (type_of(proto) == DataType::kFloat64) return std::nullopt;
  auto values = read_floats(proto, model_.folder());
  if (!values) return std::nullopt;
  return *std::move(values);
}

std::optional<Affine> BatchNormFolder::affine_of(const onnx::NodeProto& norm) const {
  if (norm.input_size() != 5 || int_attribute(norm, "training_mode", 0) != 0) return std::nullopt;
  if (int_attribute(norm, "spatial", 1) != 1 || find_attribute(norm, "is_test") != nullptr)
    return std::nullopt;
  for (int i = 1; i < norm.output_size(); ++i)
    if (!norm.output(i).empty()) return std::nullopt;  // Statistics: it trains.
  std::vector<std::vector<float>> inputs;
  for (int i = 1; i < 5; ++i) {
    auto values = floats(norm.input(i));
    if (!values || (i > 1 && values->size() != inputs[0].size())) return std::nullopt;
    inputs.push_back(*std::move(values));
  }
  const double epsilon = float_attribute(norm, "epsilon", 1e-5f);
  Affine affine;
  for (std::size_t c = 0; c < inputs[0].size(); ++c) {
    const double scale = inputs[0][c] / std::sqrt(inputs[3][c] + epsilon);
    const double shift = inputs[1][c] - inputs[2][c] * scale;
    if (!std::isfinite(scale) || !std::isfinite(shift)) return std::nullopt;
    affine.scale.push_back(scale);
    affine.shift.push_back(shift);
  }
  return affine;
}

std::optional<Layer> BatchNormFolder::layer_before(const onnx::NodeProto& norm) const {
  const int producer = index_.producer(norm.input(0));
  if (producer == Index::kNone || !index_.has_one_reader(norm.input(0))) return std::nullopt;
  const auto& node = graph_.node(producer);
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
  if (is_conv || (!is_transpose && int_attribute(node, "transB", 0) != 0)) {
    const auto row = columns * inner;
    return Layer{producer, weight, shape[0], [row](std::size_t i) { return i / row; }};
  }
  if (!is_transpose)
    return Layer{producer, weight, shape[1], [columns](std::size_t i) { return i % columns; }};
  // Weights are [C, M/groups, k...]: each group of input channels has output channels of its own.
  const auto groups =
      static_cast<std::size_t>(std::max<std::int64_t>(int_attribute(node, "group", 1), 1));
  if (rows % groups != 0) return std::nullopt;
  const auto per_group = rows / groups;
  return Layer{producer, weight, shape[1] * static_cast<std::int64_t>(groups), [=](std::size_t i) {
                 return i / (columns * inner) / per_group * columns + i / inner % columns;
               }};
}

/// The bias of each channel as the layer adds it; zeros where there is none.
std::optional<std::vector<double>> BatchNormFolder::bias_of(const Layer& layer) const {
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

std::string BatchNormFolder::fresh_tensor(const std::string& stem, DataType type,
                                          const Shape& shape, std::span<const float> values) {
  auto name = index_.fresh_name(stem);
  auto& tensor = *graph_.add_initializer();
  tensor.set_name(name);
  store_floats(tensor, type, shape, values);
  return name;
}

/// The old weights stay for whoever shares them; dead-code takes them where nobody does.
bool BatchNormFolder::rewrite(const Layer& layer, const Affine& affine, std::vector<double> bias) {
  auto& node = *graph_.mutable_node(layer.node);
  const auto type = type_of(graph_.initializer(layer.weight));
  const auto shape = shape_of(graph_.initializer(layer.weight));
  auto weights = floats(node.input(1));
  if (!weights) return false;
  for (std::size_t i = 0; i < weights->size(); ++i)
    (*weights)[i] = static_cast<float>((*weights)[i] * affine.scale[layer.channel_of(i)]);
  std::vector<float> shifted;
  shifted.reserve(bias.size());
  for (std::size_t c = 0; c < bias.size(); ++c)
    shifted.push_back(static_cast<float>(bias[c] * affine.scale[c] + affine.shift[c]));
  if (index_.uses(node.input(1)).size() == 1 && !index_.is_output(node.input(1))) {
    store_floats(*graph_.mutable_initializer(layer.weight), type, shape, *weights);
  } else {
    node.set_input(1, fresh_tensor(node.input(1), type, shape, *weights));
  }
  const auto stem = node.input(1) + "_bias";
  while (node.input_size() < 3) node.add_input("");
  node.set_input(2, fresh_tensor(stem, type, {layer.channels}, shifted));
  remove_attribute(node, "beta");
  return true;
}

bool BatchNormFolder::fold(int index) {
  const auto& norm = graph_.node(index);
  if (!is_op(norm, "BatchNormalization") || norm.output_size() == 0) return false;
  const auto layer = layer_before(norm);
  if (!layer) return false;
  const auto affine = affine_of(norm);
  if (!affine || affine->scale.size() != static_cast<std::size_t>(layer->channels)) return false;
  auto bias = bias_of(*layer);
  if (!bias || !rewrite(*layer, *affine, *std::move(bias))) return false;
  auto& node = *graph_.mutable_node(layer->node);
  node.set_output(0, norm.output(0));
  return true;
}

}  // namespace

Result<std::size_t> fold_batch_norms(Model& model, const PassContext&) {
  // New initialisers of an older model would have to be inputs, too.
  if (model.proto().ir_version() < 4) return 0;
  // A second norm meets the convolution once the first between them is gone.
  std::size_t total = 0;
  for (std::size_t edits = 1; edits > 0; total += edits) edits = BatchNormFolder(model).run();
  return total;
}

}  // namespace selvage::graph
