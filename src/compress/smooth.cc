// SmoothQuant: see equalize.h.
#include <algorithm>
#include <cmath>
#include <map>

#include <selvage/onnx.pb.h>

#include "compress/equalize.h"
#include "compress/exposed.h"
#include "graph/attributes.h"
#include "graph/index.h"
#include "graph/sort.h"
#include "graph/values.h"

namespace selvage::compress {
namespace {

using graph::Index;

/// A weight [inputs, outputs] (or the other way round) behind an activation.
struct Product {
  int node = 0;
  std::string weight;
  bool inputs_first = true;
};

std::optional<Product> product_at(const onnx::GraphProto& graph, const Index& index, int at) {
  const auto& node = graph.node(at);
  const bool is_gemm = graph::is_op(node, "Gemm");
  if ((!is_gemm && !graph::is_op(node, "MatMul")) || node.input_size() < 2) return std::nullopt;
  if (is_gemm && graph::int_attribute(node, "transA", 0) != 0) return std::nullopt;
  const int constant = index.constant(node.input(1));
  if (constant == Index::kNone || !index.has_one_reader(node.input(1))) return std::nullopt;
  const auto& weight = graph.initializer(constant);
  if (graph::type_of(weight) != DataType::kFloat32 || weight.dims_size() != 2) return std::nullopt;
  return Product{at, node.input(1), !is_gemm || graph::int_attribute(node, "transB", 0) == 0};
}

/// Calls `visit(element, input)` for each weight.
template <typename T, typename Visit>
void for_each_input(const Product& product, const Shape& shape, std::span<T> values, Visit visit) {
  const auto columns = static_cast<std::size_t>(shape[1]);
  for (std::size_t i = 0; i < values.size(); ++i)
    visit(values[i], product.inputs_first ? i / columns : i % columns);
}

using Magnitudes = std::unordered_map<std::string, std::vector<float>>;

/// The largest magnitude of each element of the last axis.
Result<Magnitudes> measure(infer::Runtime& runtime, const graph::Model& model,
                           std::span<const std::string> values, const Samples& samples) {
  Magnitudes found;
  const auto note = [&](const std::string& name, const TensorView& tensor) {
    if (tensor.shape.empty()) return;
    const auto elements = tensor.as<float>();
    auto& largest = found[name];
    largest.resize(static_cast<std::size_t>(tensor.shape.back()));
    for (std::size_t e = 0; e < elements.size(); ++e) {
      auto& channel = largest[e % largest.size()];
      channel = std::max(channel, std::abs(elements[e]));
    }
  };
  SELVAGE_RETURN_IF_ERROR(for_each_value(runtime, model, values, samples, note));
  return found;
}

class Smoother {
 public:
  Smoother(graph::Model& model, float alpha)
      : model_(model), graph_(*model.proto().mutable_graph()), index_(graph_), alpha_(alpha) {
    for (int i = 0; i < graph_.node_size(); ++i)
      if (auto product = product_at(graph_, index_, i))
        products_[graph_.node(i).input(0)].push_back(*std::move(product));
  }

  [[nodiscard]] std::vector<std::string> activations() const {
    std::vector<std::string> names;
    for (const auto& [name, products] : products_)
      if (index_.constant(name) == Index::kNone) names.push_back(name);
    return names;
  }

  [[nodiscard]] Result<std::size_t> smooth(const Magnitudes& magnitudes) {
    std::size_t smoothed = 0;
    for (const auto& [name, products] : products_) {
      const auto found = magnitudes.find(name);
      if (found == magnitudes.end()) continue;
      SELVAGE_TRY(const bool done, smooth_one(name, products, found->second));
      smoothed += done ? 1 : 0;
    }
    for (auto& node : added_) *graph_.add_node() = std::move(node);
    if (!added_.empty()) graph::sort_nodes(model_);
    return smoothed;
  }

 private:
  [[nodiscard]] Result<std::vector<float>> read(const std::string& name) const {
    return graph::read_floats(graph_.initializer(index_.constant(name)), model_.folder());
  }
  void write(const std::string& name, std::span<const float> values) {
    auto& tensor = *graph_.mutable_initializer(index_.constant(name));
    graph::store_floats(tensor, DataType::kFloat32, graph::shape_of(tensor), values);
  }

  [[nodiscard]] Result<bool> smooth_one(const std::string& name,
                                        const std::vector<Product>& products,
                                        const std::vector<float>& activation) {
    std::vector<float> weight(activation.size());
    for (const auto& product : products) {
      const auto& tensor = graph_.initializer(index_.constant(product.weight));
      SELVAGE_TRY(const auto values, read(product.weight));
      const auto shape = graph::shape_of(tensor);
      if (static_cast<std::size_t>(shape[product.inputs_first ? 0 : 1]) != activation.size())
        return false;
      for_each_input(product, shape, std::span<const float>(values),
                     [&](float value, std::size_t input) {
                       weight[input] = std::max(weight[input], std::abs(value));
                     });
    }
    std::vector<float> factors(activation.size(), 1.0f);
    for (std::size_t c = 0; c < factors.size(); ++c) {
      const float factor = std::pow(activation[c], alpha_) / std::pow(weight[c], 1 - alpha_);
      if (std::isnormal(factor)) factors[c] = factor;
    }
    for (const auto& product : products) {
      const auto shape = graph::shape_of(graph_.initializer(index_.constant(product.weight)));
      SELVAGE_TRY(auto values, read(product.weight));
      for_each_input(product, shape, std::span<float>(values),
                     [&](float& value, std::size_t input) { value *= factors[input]; });
      write(product.weight, values);
    }
    SELVAGE_TRY(const bool is_folded, fold(name, products.size(), factors));
    if (!is_folded) add_division(name, products, factors);
    return true;
  }

  /// Divides the output of a LayerNormalization by dividing its scale and bias.
  [[nodiscard]] Result<bool> fold(const std::string& name, std::size_t readers,
                                  const std::vector<float>& factors) {
    const int at = index_.producer(name);
    if (at == Index::kNone || !graph::is_op(graph_.node(at), "LayerNormalization") ||
        index_.is_output(name) || index_.uses(name).size() != readers)
      return false;
    const auto& node = graph_.node(at);
    std::vector<std::string> constants{node.input(1)};
    if (node.input_size() > 2 && !node.input(2).empty()) constants.push_back(node.input(2));
    for (const auto& constant : constants)
      if (index_.constant(constant) == Index::kNone || !index_.has_one_reader(constant) ||
          graph_.initializer(index_.constant(constant)).dims_size() != 1)
        return false;
    for (const auto& constant : constants) {
      SELVAGE_TRY(auto values, read(constant));
      if (values.size() != factors.size()) return false;
      for (std::size_t c = 0; c < values.size(); ++c) values[c] /= factors[c];
      write(constant, values);
    }
    return true;
  }

  void add_division(const std::string& name, const std::vector<Product>& products,
                    const std::vector<float>& factors) {
    std::vector<float> inverse;
    for (const float factor : factors) inverse.push_back(1 / factor);
    const auto scale = index_.fresh_name(name + "_smooth_scale");
    const auto output = index_.fresh_name(name + "_smooth");
    graph::add_initialiser(graph_, scale, {static_cast<std::int64_t>(inverse.size())},
                           std::span<const float>(inverse));
    auto& node = added_.emplace_back();
    node.set_op_type("Mul");
    node.set_name(output);
    node.add_input(name);
    node.add_input(scale);
    node.add_output(output);
    for (const auto& product : products) graph_.mutable_node(product.node)->set_input(0, output);
  }

  graph::Model& model_;
  onnx::GraphProto& graph_;
  Index index_;
  float alpha_;
  std::map<std::string, std::vector<Product>> products_;  ///< By activation.
  std::vector<onnx::NodeProto> added_;
};

}  // namespace

Result<std::size_t> smooth_activations(infer::Runtime& runtime, graph::Model& model,
                                       const Samples& samples, float alpha) {
  if (samples.count == 0)
    return fail(ErrorCode::kInvalidArgument, "smoothing needs at least one sample");
  if (!(alpha >= 0 && alpha <= 1))
    return fail(ErrorCode::kInvalidArgument, "alpha of smoothing is 0 to 1");
  auto copy = model.copy();
  Smoother smoother(copy, alpha);
  const auto activations = smoother.activations();
  if (activations.empty()) return std::size_t{0};
  SELVAGE_TRY(const auto magnitudes, measure(runtime, model, activations, samples));
  SELVAGE_TRY(const auto smoothed, smoother.smooth(magnitudes));
  model = std::move(copy);
  return smoothed;
}

}  // namespace selvage::compress
