#include "compress/equalize.h"

#include <algorithm>
#include <cmath>

#include <selvage/onnx.pb.h>

#include "compress/weighted_layer.h"
#include "graph/index.h"
#include "graph/values.h"

namespace selvage::compress {
namespace {

using graph::Index;

constexpr int kRoundsMax = 20;
/// Factors closer to 1 than this change nothing worth another round.
constexpr float kConverged = 1e-3f;

/// Two layers that share channels, and what lies between.
struct LayerPair {
  WeightedLayer first, second;
};

class PairFinder {
 public:
  explicit PairFinder(const onnx::GraphProto& graph) : graph_(graph), index_(graph) {}

  [[nodiscard]] std::vector<LayerPair> find() const {
    std::vector<LayerPair> pairs;
    for (int i = 0; i < graph_.node_size(); ++i) {
      const auto first = layer_at(i);
      if (!first) continue;
      const auto reader = reader_of(graph_.node(i).output(0));
      if (!reader) continue;
      auto second = layer_at(*reader);
      if (!second || second->input_channels() != first->outputs) continue;
      pairs.push_back({*first, *std::move(second)});
    }
    return pairs;
  }

 private:
  /// A layer whose weight and bias nothing else reads.
  [[nodiscard]] std::optional<WeightedLayer> layer_at(int at) const {
    auto layer = weighted_layer(graph_, index_, at);
    if (!layer || !index_.has_one_reader(layer->weight)) return std::nullopt;
    const auto& node = graph_.node(at);
    const bool has_bias = node.input_size() > 2 && !node.input(2).empty();
    if (has_bias && (layer->bias.empty() || !index_.has_one_reader(layer->bias)))
      return std::nullopt;
    return layer;
  }

  /// The layer that alone reads a value, directly or through operators that a positive factor a
  /// channel passes unchanged. Pooling keeps channels where they are.
  [[nodiscard]] std::optional<int> reader_of(std::string value) const {
    constexpr int kStepsMax = 8;
    for (int step = 0; step < kStepsMax; ++step) {
      if (!index_.has_one_reader(value)) return std::nullopt;
      const auto use = index_.uses(value).front();
      const auto& node = graph_.node(use.node);
      if (use.input != 0) return std::nullopt;
      if (graph::is_op(node, "Conv") || graph::is_op(node, "Gemm")) return use.node;
      const bool passes = graph::is_op(node, "Relu") || graph::is_op(node, "LeakyRelu") ||
                          graph::is_op(node, "MaxPool") || graph::is_op(node, "AveragePool") ||
                          graph::is_op(node, "GlobalAveragePool");
      // Behind Flatten a Gemm sees channels only if each has one element; GlobalAveragePool says
      // so.
      const bool flattens =
          graph::is_op(node, "Flatten") && step > 0 && is_output_of(value, "GlobalAveragePool");
      if ((!passes && !flattens) || node.output_size() != 1) return std::nullopt;
      value = node.output(0);
    }
    return std::nullopt;
  }

  [[nodiscard]] bool is_output_of(const std::string& value, std::string_view type) const {
    const int at = index_.producer(value);
    return at != Index::kNone && graph::is_op(graph_.node(at), type);
  }

  const onnx::GraphProto& graph_;
  const Index index_;
};

/// Weights in memory while they are balanced.
class Weights {
 public:
  [[nodiscard]] static Result<Weights> read(const graph::Model& model,
                                            std::span<const LayerPair> pairs) {
    Weights weights;
    const auto& graph = model.proto().graph();
    const Index index(graph);
    for (const auto& pair : pairs)
      for (const auto* name : {&pair.first.weight, &pair.first.bias, &pair.second.weight}) {
        if (name->empty() || weights.values_.contains(*name)) continue;
        SELVAGE_TRY(auto values,
                    graph::read_floats(graph.initializer(index.constant(*name)), model.folder()));
        weights.values_.emplace(*name, std::move(values));
      }
    return weights;
  }
  [[nodiscard]] std::span<float> operator[](const std::string& name) { return values_.at(name); }

  void write(graph::Model& model) const {
    for (auto& tensor : *model.proto().mutable_graph()->mutable_initializer())
      if (const auto found = values_.find(tensor.name()); found != values_.end())
        graph::store_floats(tensor, DataType::kFloat32, graph::shape_of(tensor), found->second);
  }

 private:
  std::unordered_map<std::string, std::vector<float>> values_;
};

/// Balances one pair; the largest distance of a factor from 1.
float balance(const LayerPair& pair, Weights& weights) {
  const auto channels = pair.first.outputs;
  std::vector<float> first(channels), second(channels);
  const auto note = [](std::vector<float>& largest, std::size_t channel, float value) {
    largest[channel] = std::max(largest[channel], std::abs(value));
  };
  pair.first.for_each(weights[pair.first.weight], [&](float& value, std::size_t output,
                                                      std::size_t) { note(first, output, value); });
  pair.second.for_each(
      weights[pair.second.weight],
      [&](float& value, std::size_t, std::size_t input) { note(second, input, value); });
  std::vector<float> factors(channels, 1.0f);
  float furthest = 0;
  for (std::size_t c = 0; c < channels; ++c) {
    const float factor = std::sqrt(first[c] / second[c]);
    // A channel of zeros, or one whose weights are not finite, has no factor.
    if (!std::isnormal(factor)) continue;
    factors[c] = factor;
    furthest = std::max(furthest, std::abs(factor - 1));
  }
  pair.first.for_each(weights[pair.first.weight], [&](float& value, std::size_t output,
                                                      std::size_t) { value /= factors[output]; });
  pair.second.for_each(
      weights[pair.second.weight],
      [&](float& value, std::size_t, std::size_t input) { value *= factors[input]; });
  if (!pair.first.bias.empty()) {
    auto bias = weights[pair.first.bias];
    for (std::size_t c = 0; c < channels; ++c) bias[c] /= factors[c];
  }
  return furthest;
}

}  // namespace

Result<std::size_t> equalize_layers(graph::Model& model) {
  const auto pairs = PairFinder(model.proto().graph()).find();
  SELVAGE_TRY(auto weights, Weights::read(model, pairs));
  for (int round = 0; round < kRoundsMax; ++round) {
    float furthest = 0;
    for (const auto& pair : pairs) furthest = std::max(furthest, balance(pair, weights));
    if (furthest < kConverged) break;
  }
  weights.write(model);
  return pairs.size();
}

}  // namespace selvage::compress
