#include "compress/float_stem.h"

#include <optional>

#include <selvage/onnx.pb.h>

#include "compress/graph_writer.h"
#include "compress/pad_inputs.h"
#include "compress/selection.h"
#include "graph/attributes.h"
#include "graph/index.h"

namespace selvage::compress {
namespace {

using graph::Index;

/// Places of the nodes, in the graph's order.
struct Stem {
  int conv = 0, relu = 0, pool = 0;
};

bool is_thin_conv(const onnx::GraphProto& graph, const Index& index, const onnx::NodeProto& node) {
  if (!graph::is_op(node, "Conv") || !index.is_input(node.input(0)) ||
      graph::int_attribute(node, "group", 1) != 1)
    return false;
  const int weight = index.constant(node.input(1));
  if (weight == Index::kNone) return false;
  std::int64_t products = 1;
  const auto& dims = graph.initializer(weight).dims();
  for (int i = 1; i < dims.size(); ++i) products *= dims[i];
  return dims.size() > 2 && dims[1] % kConvolutionChannels != 0 && products <= kStemProductsMax;
}

/// The node of this type that alone reads the only output of another.
int only_reader(const onnx::GraphProto& graph, const Index& index, int node, const char* type) {
  if (graph.node(node).output_size() != 1) return Index::kNone;
  const auto& value = graph.node(node).output(0);
  if (!index.has_one_reader(value) || index.is_output(value)) return Index::kNone;
  const int reader = index.uses(value).front().node;
  return graph::is_op(graph.node(reader), type) ? reader : Index::kNone;
}

std::optional<Stem> stem_at(const onnx::GraphProto& graph, const Index& index, int at) {
  if (!is_thin_conv(graph, index, graph.node(at))) return std::nullopt;
  const int relu = only_reader(graph, index, at, "Relu");
  if (relu == Index::kNone) return std::nullopt;
  const int pool = only_reader(graph, index, relu, "MaxPool");
  if (pool == Index::kNone || graph.node(pool).output_size() != 1 || pool < relu)
    return std::nullopt;
  return Stem{at, relu, pool};
}

bool is_wanted_otherwise(const onnx::GraphProto& graph, const Stem& stem,
                         const StaticOptions& options) {
  for (const int at : {stem.conv, stem.relu, stem.pool})
    if (options.overrides.contains(graph.node(at).output(0))) return true;
  return options.overrides.contains(graph.node(stem.conv).input(0)) ||
         options.overrides.contains(graph.node(stem.conv).input(1));
}

/// x -> Relu -> MaxPool -> y becomes x -> MaxPool -> Relu -> y.
void swap_relu_and_pool(onnx::GraphProto& graph, Index& index, const Stem& stem) {
  graph.mutable_node()->SwapElements(stem.relu, stem.pool);
  auto &pool = *graph.mutable_node(stem.relu), &relu = *graph.mutable_node(stem.pool);
  const auto from = relu.input(0), to = pool.output(0);
  const auto between = index.fresh_name(to + "_pooled");
  pool.set_input(0, from);
  pool.set_output(0, between);
  relu.set_input(0, between);
  relu.set_output(0, to);
}

}  // namespace

std::vector<std::string> keep_stem_in_float(graph::Model& model, StaticOptions& options) {
  if (bits_of(options.activations) != 8 || bits_of(options.weights) != 8 ||
      !options.selection.nodes.empty())
    return {};
  auto& graph = *model.proto().mutable_graph();
  Index index(graph);
  std::vector<std::string> kept;
  for (int i = 0; i < graph.node_size(); ++i) {
    const auto stem = stem_at(graph, index, i);
    if (!stem || is_wanted_otherwise(graph, *stem, options)) continue;
    swap_relu_and_pool(graph, index, *stem);
    for (const int at : {stem->conv, stem->relu, stem->pool})
      kept.push_back(node_label(graph.node(at), at));
  }
  auto& excluded = options.selection.excluded_nodes;
  excluded.insert(excluded.end(), kept.begin(), kept.end());
  if (!kept.empty()) drop_stale_value_infos(graph);
  return kept;
}

}  // namespace selvage::compress
