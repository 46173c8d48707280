#include "compress/correct_bias.h"

#include <algorithm>

#include <selvage/onnx.pb.h>

#include "compress/exposed.h"
#include "compress/static_plan.h"
#include "compress/weighted_layer.h"
#include "graph/index.h"
#include "graph/values.h"

namespace selvage::compress {
namespace {

using graph::Index;

/// The mean of each channel (axis 1) over samples.
struct ChannelMeans {
  std::vector<double> sums;
  double count = 0;

  void add(const TensorView& tensor) {
    if (tensor.shape.size() < 2) return;
    const auto channels = static_cast<std::size_t>(tensor.shape[1]);
    const auto values = tensor.as<float>();
    if (channels == 0 || values.empty()) return;
    const auto batch = static_cast<std::size_t>(tensor.shape[0]);
    const auto inner = values.size() / batch / channels;
    sums.resize(channels);
    for (std::size_t row = 0; row < batch * channels; ++row)
      for (const float value : values.subspan(row * inner, inner))
        sums[row % channels] += static_cast<double>(value);
    count += static_cast<double>(batch * inner);
  }
  [[nodiscard]] double of(std::size_t channel) const { return sums[channel] / count; }
};

using MeansMap = std::unordered_map<std::string, ChannelMeans>;

Result<MeansMap> measure(infer::Runtime& runtime, const graph::Model& model,
                         std::span<const std::string> values, const Samples& samples) {
  MeansMap means;
  SELVAGE_RETURN_IF_ERROR(for_each_value(
      runtime, model, values, samples,
      [&](const std::string& name, const TensorView& value) { means[name].add(value); }));
  return means;
}

/// What a layer's outputs are off by in the mean.
std::vector<float> shift_of(const WeightedLayer& layer, std::span<const float> weight,
                            const PlannedTensor& planned, const Shape& shape,
                            const ChannelMeans& means) {
  auto difference =
      quantize_weight(weight, shape, planned.type, planned.parameters, planned.axis).to_real();
  for (std::size_t i = 0; i < difference.size(); ++i) difference[i] -= weight[i];
  std::vector<double> sums(layer.outputs);
  layer.for_each(std::span<const float>(difference),
                 [&](float value, std::size_t output, std::size_t input) {
                   sums[output] += static_cast<double>(value) * means.of(input);
                 });
  return {sums.begin(), sums.end()};
}

}  // namespace

Result<std::size_t> correct_biases(infer::Runtime& runtime, graph::Model& model,
                                   const RangeMap& ranges, const StaticOptions& options,
                                   const Samples& samples) {
  if (samples.count == 0)
    return fail(ErrorCode::kInvalidArgument, "bias correction needs at least one sample");
  auto& graph = *model.proto().mutable_graph();
  Index index(graph);
  SELVAGE_TRY(const auto plan, plan_static(model, index, ranges, options));
  std::unordered_map<std::string_view, const PlannedTensor*> weights;
  for (const auto& tensor : plan.tensors)
    if (tensor.is_weight) weights.emplace(tensor.name, &tensor);

  std::vector<WeightedLayer> layers;
  std::vector<std::string> inputs;
  for (int i = 0; i < graph.node_size(); ++i) {
    auto layer = weighted_layer(graph, index, i);
    const auto& node = graph.node(i);
    if (!layer || !weights.contains(layer->weight)) continue;
    // A bias of another shape, or one that others read too, stays.
    const bool has_bias = node.input_size() > 2 && !node.input(2).empty();
    if (has_bias && (layer->bias.empty() || !index.has_one_reader(layer->bias))) continue;
    layers.push_back(*std::move(layer));
    inputs.push_back(node.input(0));
  }
  SELVAGE_TRY(const auto means, measure(runtime, model, inputs, samples));
  std::vector<std::pair<const WeightedLayer*, std::vector<float>>> biases;
  for (std::size_t i = 0; i < layers.size(); ++i) {
    const auto& layer = layers[i];
    const auto found = means.find(inputs[i]);
    if (found == means.end() || found->second.sums.size() != layer.input_channels()) continue;
    const auto& stored = graph.initializer(index.constant(layer.weight));
    SELVAGE_TRY(const auto weight, graph::read_floats(stored, model.folder()));
    const auto shift =
        shift_of(layer, weight, *weights.at(layer.weight), graph::shape_of(stored), found->second);
    std::vector<float> bias(layer.outputs);
    if (!layer.bias.empty()) {
      SELVAGE_TRY(
          bias, graph::read_floats(graph.initializer(index.constant(layer.bias)), model.folder()));
    }
    for (std::size_t c = 0; c < bias.size(); ++c) bias[c] -= shift[c];
    biases.emplace_back(&layer, std::move(bias));
  }
  for (auto& [layer, values] : biases) {
    const Shape shape{static_cast<std::int64_t>(values.size())};
    if (!layer->bias.empty()) {
      graph::store_floats(*graph.mutable_initializer(index.constant(layer->bias)),
                          DataType::kFloat32, shape, values);
      continue;
    }
    const auto name = index.fresh_name(layer->weight + "_bias");
    graph::add_initialiser(graph, name, shape, std::span<const float>(values));
    auto& node = *graph.mutable_node(layer->node);
    if (node.input_size() > 2)
      node.set_input(2, name);
    else
      node.add_input(name);
  }
  return biases.size();
}

}  // namespace selvage::compress
