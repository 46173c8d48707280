// Conv, ConvTranspose and Gemm with constant weights, and merging linear arithmetic into them.
// Internal to this folder.
#pragma once

#include <cstdint>
#include <functional>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "base/tensor.h"
#include "graph/index.h"
#include "graph/model.h"

namespace selvage::graph {

/// value * scale + shift, of each output channel.
struct Affine {
  std::vector<double> scale, shift;
};

struct Layer {
  int node = 0;
  int weight = 0;        ///< Index of the initialiser.
  std::size_t rank = 0;  ///< Of the layer's output.
  std::int64_t channels = 0;
  /// The output channel of a weight's element.
  std::function<std::size_t(std::size_t)> channel_of;
};

/// Mul, Div, Add or Sub of a value and a constant: value * scale + shift, element by element.
struct Arithmetic {
  std::string value;
  Shape shape;    ///< Of the constant.
  Affine affine;  ///< One for each of its elements.
};

/// Finds layers in a snapshot of the main graph and rewrites their weights; those that others share
/// stay for them. A layer can be rewritten once a snapshot.
class LayerEditor {
 public:
  explicit LayerEditor(Model& model);

  [[nodiscard]] Index& index() { return index_; }
  [[nodiscard]] const Index& index() const { return index_; }
  [[nodiscard]] std::optional<Layer> layer_at(int node) const;
  /// Nothing where the node is something else, or its result not finite for finite values.
  [[nodiscard]] std::optional<Arithmetic> arithmetic_at(int node) const;
  /// A constant of float32 or a half type; nothing for what a caller may replace, or for float64,
  /// whose precision this arithmetic would lose.
  [[nodiscard]] std::optional<std::vector<float>> floats(const std::string& name) const;

  /// The layer computes `affine` of what it computed. False, and nothing changed, where its bias is
  /// no constant or a result would not be finite.
  bool merge_after(const Layer& layer, const Affine& affine);
  /// The layer reads x where it read x * scale + shift. The same; `shift` needs a Conv that pads
  /// nothing.
  bool merge_before(const Layer& layer, double scale, double shift);

 private:
  [[nodiscard]] std::optional<std::vector<double>> bias_of(const Layer& layer) const;
  bool store(const Layer& layer, const std::vector<float>& weights,
             const std::vector<double>& bias);
  std::string fresh_tensor(const std::string& stem, DataType type, const Shape& shape,
                           std::span<const float> values);

  Model& model_;
  onnx::GraphProto& graph_;
  Index index_;
};

}  // namespace selvage::graph
