#include "learn/own_operators.h"

#include <algorithm>
#include <optional>
#include <unordered_map>
#include <vector>

#include <selvage/onnx.pb.h>

#include "graph/attributes.h"
#include "infer/custom_operator.h"
#include "learn/window.h"

namespace selvage::learn {
namespace {

using Names = std::unordered_set<std::string>;

/// A normalisation and the nodes that become part of it. Indices of nodes; -1 = there is none.
struct NormChain {
  int norm = -1, add = -1, limit = -1;
  std::string added;  ///< What the Add adds.
  std::optional<float> floor, ceiling;

  [[nodiscard]] int last() const { return limit >= 0 ? limit : add >= 0 ? add : norm; }
};

void set_float(onnx::NodeProto& node, const char* name, float value) {
  auto& attribute = *node.add_attribute();
  attribute.set_name(name);
  attribute.set_type(onnx::AttributeProto::FLOAT);
  attribute.set_f(value);
}

class NormFinder {
 public:
  NormFinder(GraphBuilder& builder,
             const google::protobuf::RepeatedPtrField<onnx::NodeProto>& nodes)
      : builder_(builder), nodes_(nodes) {
    for (int i = 0; i < nodes.size(); ++i)
      for (const auto& input : nodes[i].input()) consumers_[input].push_back(i);
    for (const auto& output : builder.graph().output()) outputs_.insert(output.name());
  }

  /// By the index of their last nodes.
  std::unordered_map<int, NormChain> run() {
    std::unordered_map<int, NormChain> chains;
    for (int i = 0; i < nodes_.size(); ++i)
      if (is_norm(i)) {
        const auto chain = chain_from(i);
        for (const int part : {chain.norm, chain.add, chain.limit}) taken_.insert(part);
        chains.emplace(chain.last(), chain);
      }
    return chains;
  }
  [[nodiscard]] bool is_taken(int index) const { return taken_.contains(index); }

 private:
  bool is_norm(int index) {
    const auto& node = nodes_[index];
    if (node.op_type() != "BatchNormalization" || !node.domain().empty() ||
        graph::int_attribute(node, "training_mode", 0) == 0 ||
        graph::float_attribute(node, "momentum", 0.9f) != 0 || node.output_size() != 3)
      return false;
    const auto x = builder_.value(node.input(0)), scale = builder_.value(node.input(1));
    return x && scale && x.type() == DataType::kFloat32 && scale.type() == DataType::kFloat32 &&
           x.rank() >= 2 && x.elements() > 0;
  }

  /// The only node that reads the value; -1 if others see it too.
  int only_consumer(const std::string& value) const {
    const auto found = consumers_.find(value);
    const bool is_hidden = found != consumers_.end() && found->second.size() == 1;
    return is_hidden && !outputs_.contains(value) && !taken_.contains(found->second[0])
               ? found->second[0]
               : -1;
  }

  NormChain chain_from(int norm) {
    NormChain chain{.norm = norm};
    const auto& output = nodes_[norm].output(0);
    int next = only_consumer(output);
    if (next >= 0 && nodes_[next].op_type() == "Add" && add_to(chain, next, output))
      next = only_consumer(nodes_[next].output(0));
    if (next >= 0) limit(chain, next);
    return chain;
  }
  bool add_to(NormChain& chain, int index, const std::string& value) {
    const auto& node = nodes_[index];
    const auto& other = node.input(node.input(0) == value ? 1 : 0);
    const auto a = builder_.value(value), b = builder_.value(other);
    if (other == value || !a || !b || a.shape() != b.shape()) return false;
    chain.add = index;
    chain.added = other;
    return true;
  }
  void limit(NormChain& chain, int index) {
    const auto& node = nodes_[index];
    if (node.op_type() == "Relu") {
      chain.limit = index;
      chain.floor = 0;
    }
    // A sum's gradient at Clip's bounds cannot be told from what the Clip gave.
    if (node.op_type() != "Clip" || chain.add >= 0) return;
    const auto floor = bound(node, 1), ceiling = bound(node, 2);
    if (!floor.known || !ceiling.known) return;
    chain.limit = index;
    chain.floor = floor.value;
    chain.ceiling = ceiling.value;
  }
  struct Bound {
    bool known = true;
    std::optional<float> value;
  };
  Bound bound(const onnx::NodeProto& clip, int input) {
    if (clip.input_size() <= input || clip.input(input).empty()) return {};
    const auto tensor = builder_.constant_value(builder_.value(clip.input(input)));
    if (!tensor || tensor->type() != DataType::kFloat32 || tensor->as<float>().size() != 1)
      return {.known = false, .value = {}};
    return {.known = true, .value = tensor->as<float>()[0]};
  }

  GraphBuilder& builder_;
  const google::protobuf::RepeatedPtrField<onnx::NodeProto>& nodes_;
  std::unordered_map<std::string, std::vector<int>> consumers_;
  Names outputs_;
  std::unordered_set<int> taken_;
};

/// The chain as one node of ours.
onnx::NodeProto fused(const google::protobuf::RepeatedPtrField<onnx::NodeProto>& nodes,
                      const NormChain& chain) {
  const auto& norm = nodes[chain.norm];
  onnx::NodeProto node;
  node.set_name(norm.name());
  node.set_domain(std::string(infer::kOperatorDomain));
  node.set_op_type(chain.add >= 0 ? "BatchNormAdd" : "BatchNorm");
  for (int i = 0; i < 3; ++i) node.add_input(norm.input(i));
  if (chain.add >= 0) node.add_input(chain.added);
  node.add_output(nodes[chain.last()].output(0));
  node.add_output(norm.output(1));
  node.add_output(norm.output(2));
  set_float(node, "epsilon", graph::float_attribute(norm, "epsilon", 1e-5f));
  if (chain.floor) set_float(node, "floor", *chain.floor);
  if (chain.ceiling) set_float(node, "ceiling", *chain.ceiling);
  if (chain.limit >= 0 && nodes[chain.limit].op_type() == "Relu")
    graph::set_attribute(node, "open", Shape{1});
  return node;
}

/// Whether the node's result is computed by our Conv now.
bool replace_conv(GraphBuilder& builder, const onnx::NodeProto& node, const Names& trained) {
  if (node.op_type() != "Conv" || !node.domain().empty()) return false;
  auto x = builder.value(node.input(0)), w = builder.value(node.input(1));
  const auto y = builder.value(node.output(0));
  auto bias = node.input_size() > 2 ? builder.value(node.input(2)) : Expression();
  if (!x || !w || !y || x.type() != DataType::kFloat32 || x.rank() < 3) return false;
  const bool is_constant = builder.constant_value(w) && !trained.contains(w.name());
  auto window =
      window_of(node, x.shape(), y.shape(), Shape(w.shape().begin() + 2, w.shape().end()));
  const auto family = window.own_conv(x.size(1), y.size(1));
  if (is_constant || family.empty()) return false;
  builder.set_prefix(node.name().empty() ? node.output(0) : node.name());
  auto shape = y.shape();
  if (window.rank() == 1) {
    window = window.lifted();
    x = unsqueeze(x, 2);
    w = unsqueeze(w, 2);
    shape.insert(shape.begin() + 2, 1);
  }
  if (!bias) bias = builder.zeros({w.size(0)});
  const auto own = builder.own_node(
      family, {x, w, bias}, {y.type(), shape},
      {{"pads", window.pads()}, {"strides", window.strides}, {"group", window.group}});
  builder.named(reshape(own, y.shape()), node.output(0));
  return true;
}

/// Initialisers that nothing reads any more: statistics that only BatchNormalization asks for.
void remove_unread(onnx::GraphProto& graph, const Names& candidates) {
  Names read;
  for (const auto& node : graph.node()) read.insert(node.input().begin(), node.input().end());
  google::protobuf::RepeatedPtrField<onnx::TensorProto> kept;
  for (auto& tensor : *graph.mutable_initializer())
    if (read.contains(tensor.name()) || !candidates.contains(tensor.name()))
      *kept.Add() = std::move(tensor);
  graph.mutable_initializer()->Swap(&kept);
}

}  // namespace

void use_own_operators(PreparedModel& prepared, const Names& trained) {
  auto& graph = *prepared.model.proto().mutable_graph();
  auto& import = *prepared.model.proto().add_opset_import();
  import.set_domain(std::string(infer::kOperatorDomain));
  import.set_version(1);
  google::protobuf::RepeatedPtrField<onnx::NodeProto> nodes;
  nodes.Swap(graph.mutable_node());
  Names unread;
  {
    GraphBuilder builder(graph, prepared.types);
    NormFinder norms(builder, nodes);
    const auto chains = norms.run();
    for (int i = 0; i < nodes.size(); ++i) {
      if (const auto chain = chains.find(i); chain != chains.end()) {
        const auto& norm = nodes[chain->second.norm];
        unread.insert(norm.input(3));
        unread.insert(norm.input(4));
        *graph.add_node() = fused(nodes, chain->second);
      } else if (!norms.is_taken(i) && !replace_conv(builder, nodes[i], trained)) {
        *graph.add_node() = std::move(nodes[i]);
      }
    }
    prepared.types = builder.types();
  }
  remove_unread(graph, unread);
}

}  // namespace selvage::learn
