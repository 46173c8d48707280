// What is linear beside a layer becomes part of it. After a convolution: with s = scale / sqrt(var
// + eps) of each output channel, BatchNormalization(Conv(x, w, b)) is a convolution whose weights
// are w * s and whose bias is (b - mean) * s + shift; Mul, Div, Add and Sub with constants
// likewise. Before it: Conv(a * x + d, w, b) is Conv(x, a * w, b + d * sum(w)) where nothing is
// padded, and Conv(x + d / a, a * w, b) where something is.
#include <algorithm>
#include <cmath>
#include <map>

#include <selvage/onnx.pb.h>

#include "graph/attributes.h"
#include "graph/erase.h"
#include "graph/index.h"
#include "graph/layer.h"
#include "graph/opset.h"
#include "graph/passes.h"
#include "graph/sort.h"
#include "graph/values.h"

namespace selvage::graph {
namespace {

// --- After a layer
// --------------------------------------------------------------------------------

class AfterFolder {
 public:
  explicit AfterFolder(Model& model) : graph_(*model.proto().mutable_graph()), editor_(model) {}

  std::size_t run() {
    std::vector<bool> folded(static_cast<std::size_t>(graph_.node_size()), false);
    for (int i = 0; i < graph_.node_size(); ++i) folded[static_cast<std::size_t>(i)] = fold(i);
    erase_marked(*graph_.mutable_node(), folded);
    return static_cast<std::size_t>(std::ranges::count(folded, true));
  }

 private:
  bool fold(int at);
  [[nodiscard]] std::optional<Layer> layer_before(const std::string& value);
  [[nodiscard]] std::optional<Affine> affine_of(const onnx::NodeProto& norm) const;

  onnx::GraphProto& graph_;
  LayerEditor editor_;
};

std::optional<Affine> AfterFolder::affine_of(const onnx::NodeProto& norm) const {
  if (norm.input_size() != 5 || int_attribute(norm, "training_mode", 0) != 0) return std::nullopt;
  if (int_attribute(norm, "spatial", 1) != 1 || find_attribute(norm, "is_test") != nullptr)
    return std::nullopt;
  for (int i = 1; i < norm.output_size(); ++i)
    if (!norm.output(i).empty()) return std::nullopt;  // Statistics: it trains.
  std::vector<std::vector<float>> inputs;
  for (int i = 1; i < 5; ++i) {
    auto values = editor_.floats(norm.input(i));
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

std::optional<Layer> AfterFolder::layer_before(const std::string& value) {
  const int producer = editor_.index().producer(value);
  if (producer == Index::kNone || !editor_.index().has_one_reader(value)) return std::nullopt;
  return editor_.layer_at(producer);
}

/// One number for each channel, from one number or from an element a channel; nothing for a
/// constant that lies otherwise along the layer's output.
std::optional<Affine> by_channel(const Arithmetic& arithmetic, const Layer& layer) {
  const auto channels = static_cast<std::size_t>(layer.channels);
  const auto& [scale, shift] = arithmetic.affine;
  if (arithmetic.shape.size() > layer.rank) return std::nullopt;
  if (scale.size() == 1)
    return Affine{std::vector(channels, scale[0]), std::vector(channels, shift[0])};
  // Shapes are aligned at their ends; channels are the second dimension.
  const auto behind = layer.rank - 2;
  if (scale.size() != channels || arithmetic.shape.size() <= behind ||
      arithmetic.shape[arithmetic.shape.size() - 1 - behind] != layer.channels)
    return std::nullopt;
  return arithmetic.affine;
}

bool AfterFolder::fold(int at) {
  const auto& node = graph_.node(at);
  if (node.output_size() == 0) return false;
  std::optional<Layer> layer;
  std::optional<Affine> affine;
  if (is_op(node, "BatchNormalization")) {
    layer = layer_before(node.input(0));
    if (layer) affine = affine_of(node);
  } else if (const auto arithmetic = editor_.arithmetic_at(at)) {
    layer = layer_before(arithmetic->value);
    if (layer) affine = by_channel(*arithmetic, *layer);
  }
  if (!layer || !affine || !editor_.merge_after(*layer, *affine)) return false;
  graph_.mutable_node(layer->node)->set_output(0, node.output(0));
  return true;
}

// --- Before a convolution
// -------------------------------------------------------------------------

/// A value as another one times a number plus a number.
struct Source {
  std::string from;
  double scale = 1, shift = 0;
  std::vector<std::string> links;  ///< The values between, the last first.
};

class BeforeFolder {
 public:
  explicit BeforeFolder(Model& model)
      : model_(model), graph_(*model.proto().mutable_graph()), editor_(model) {}

  std::size_t run() {
    std::size_t edits = 0;
    const int count = graph_.node_size();
    for (int i = 0; i < count; ++i)
      if (fold(i)) ++edits;
    if (!added_.empty()) sort_nodes(model_);
    return edits;
  }

 private:
  bool fold(int at);
  [[nodiscard]] Source source_of(const std::string& value) const;
  [[nodiscard]] bool is_read_by_layers_only(const Source& source);
  std::string shifted(const std::string& value, double shift, DataType type);

  Model& model_;
  onnx::GraphProto& graph_;
  LayerEditor editor_;
  std::map<std::pair<std::string, double>, std::string> added_;
};

Source BeforeFolder::source_of(const std::string& value) const {
  Source source{.from = value, .links = {}};
  for (;;) {
    const int producer = editor_.index().producer(source.from);
    if (producer == Index::kNone) return source;
    const auto arithmetic = editor_.arithmetic_at(producer);
    // A number of no or one dimension gives no value another rank.
    if (!arithmetic || arithmetic->affine.scale.size() != 1 || arithmetic->shape.size() > 1 ||
        arithmetic->affine.scale[0] == 0)
      return source;
    source.shift += source.scale * arithmetic->affine.shift[0];
    source.scale *= arithmetic->affine.scale[0];
    source.links.push_back(source.from);
    source.from = arithmetic->value;
  }
}

/// Whether all that is computed on the way leaves once the layers do not read it any more.
bool BeforeFolder::is_read_by_layers_only(const Source& source) {
  for (const auto& link : source.links) {
    if (editor_.index().is_output(link)) return false;
    for (const auto& use : editor_.index().uses(link)) {
      if (use.input == Use::kCapture) return false;
      const bool is_link =
          use.input < 2 && editor_.arithmetic_at(use.node).has_value() &&
          std::ranges::find(source.links, graph_.node(use.node).output(0)) != source.links.end();
      if (!is_link && (use.input != 0 || !is_op(graph_.node(use.node), "Conv"))) return false;
    }
  }
  return true;
}

std::string BeforeFolder::shifted(const std::string& value, double shift, DataType type) {
  const auto [at, is_new] = added_.emplace(std::pair(value, shift), "");
  if (!is_new) return at->second;
  const auto constant = editor_.index().fresh_name(value + "_shift");
  auto& tensor = *graph_.add_initializer();
  tensor.set_name(constant);
  store_floats(tensor, type, {}, std::vector{static_cast<float>(shift)});
  at->second = editor_.index().fresh_name(value + "_shifted");
  auto& node = *graph_.add_node();
  node.set_op_type("Add");
  node.set_name(at->second);
  node.add_input(value);
  node.add_input(constant);
  node.add_output(at->second);
  return at->second;
}

bool pads_nothing(const onnx::NodeProto& conv) {
  const auto how = string_attribute(conv, "auto_pad", "NOTSET");
  return (how == "NOTSET" || how == "VALID") &&
         std::ranges::all_of(ints_attribute(conv, "pads"), [](auto pad) { return pad == 0; });
}

bool BeforeFolder::fold(int at) {
  if (!is_op(graph_.node(at), "Conv")) return false;
  const auto layer = editor_.layer_at(at);
  if (!layer) return false;
  const auto source = source_of(graph_.node(at).input(0));
  const bool takes_shift = source.shift == 0 || pads_nothing(graph_.node(at));
  if (source.links.empty() || !std::isfinite(source.scale) || !std::isfinite(source.shift))
    return false;
  if (takes_shift) {
    if (!editor_.merge_before(*layer, source.scale, source.shift)) return false;
    graph_.mutable_node(at)->set_input(0, source.from);
    return true;
  }
  // Padding is of zeros, which a factor leaves as they are. An addition stays, or comes.
  if (source.links.size() < 2 || !is_read_by_layers_only(source)) return false;
  const auto type = type_of(graph_.initializer(layer->weight));
  if (!editor_.merge_before(*layer, source.scale, 0)) return false;
  const auto moved = shifted(source.from, source.shift / source.scale, type);
  graph_.mutable_node(at)->set_input(0, moved);
  return true;
}

}  // namespace

Result<std::size_t> fold_after_layers(Model& model, const PassContext&) {
  // New initialisers of an older model would have to be inputs, too.
  if (model.proto().ir_version() < 4) return 0;
  // A second norm meets the convolution once the first between them is gone.
  std::size_t total = 0;
  for (std::size_t edits = 1; edits > 0; total += edits) edits = AfterFolder(model).run();
  return total;
}

Result<std::size_t> fold_before_layers(Model& model, const PassContext&) {
  if (model.proto().ir_version() < 4 || opset_of(model) < 7) return 0;
  return BeforeFolder(model).run();
}

}  // namespace selvage::graph
