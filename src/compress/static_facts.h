// What static quantisation knows of a model's tensors. Internal to src/compress.
#pragma once

#include <string>
#include <string_view>
#include <unordered_map>

#include "compress/calibrate.h"
#include "compress/quantization.h"
#include "compress/quantize_static.h"
#include "compress/selection.h"
#include "graph/index.h"
#include "graph/model.h"

namespace selvage::onnx {
class TensorProto;
}  // namespace selvage::onnx

namespace selvage::compress {

/// The model, the index and the options must outlive it.
class StaticFacts {
 public:
  /// Ranges that the selected operators determine replace the measured ones: Softmax's output is
  /// [0, 1], what only a Relu reads has the Relu's output's range.
  StaticFacts(const graph::Model& model, const graph::Index& index, RangeMap ranges,
              const StaticOptions& options, const Selector& selector);

  [[nodiscard]] const graph::Model& model() const { return model_; }
  [[nodiscard]] const onnx::GraphProto& graph() const { return graph_; }
  [[nodiscard]] const graph::Index& index() const { return index_; }
  [[nodiscard]] const StaticOptions& options() const { return options_; }

  /// The initialiser that a name means, if the caller cannot replace it; null otherwise.
  [[nodiscard]] const onnx::TensorProto* constant(std::string_view name) const;
  [[nodiscard]] bool is_float_constant(std::string_view name) const;
  /// Whether its range is known.
  [[nodiscard]] bool is_activation(const std::string& name) const;
  /// Null for what no node makes.
  [[nodiscard]] const onnx::NodeProto* producer(std::string_view name) const;
  /// Of a constant; asked often, read once.
  [[nodiscard]] bool is_finite(const std::string& name);
  /// Why a tensor cannot be quantised; "" if it can.
  [[nodiscard]] std::string obstacle(const std::string& name);

  [[nodiscard]] const TensorOverride* override_of(const std::string& name) const;
  [[nodiscard]] DataType activation_type(const std::string& name) const;
  [[nodiscard]] QuantizationParameters activation_parameters(const std::string& name) const;

 private:
  void fix_ranges(const Selector& selector);

  const graph::Model& model_;
  const onnx::GraphProto& graph_;
  const graph::Index& index_;
  RangeMap ranges_;
  const StaticOptions& options_;
  std::unordered_map<std::string, bool> finite_;
};

/// Input `index` of a node; "" where it has none.
[[nodiscard]] std::string input_of(const onnx::NodeProto& node, int index);

}  // namespace selvage::compress
