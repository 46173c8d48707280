#include "learn/opset.h"

#include <algorithm>
#include <array>
#include <string_view>

#include <selvage/onnx.pb.h>

#include "graph/attributes.h"
#include "graph/opset.h"
#include "graph/values.h"

namespace selvage::learn {
namespace {

/// Their axes became an input with opset 18; ReduceSum's had with 13.
constexpr std::array<std::string_view, 9> kReductions = {
    "ReduceMax", "ReduceMean",   "ReduceMin",       "ReduceProd",     "ReduceL1",
    "ReduceL2",  "ReduceLogSum", "ReduceLogSumExp", "ReduceSumSquare"};

void raise(onnx::GraphProto& graph);

void raise(onnx::GraphProto& graph, onnx::NodeProto& node) {
  for (auto& attribute : *node.mutable_attribute()) {
    if (attribute.has_g()) raise(*attribute.mutable_g());
    for (auto& inner : *attribute.mutable_graphs()) raise(inner);
  }
  const auto axes = graph::ints_attribute(node, "axes");
  if (std::ranges::find(kReductions, node.op_type()) != kReductions.end() && !axes.empty()) {
    const auto name = node.output(0) + "/axes";
    graph::add_initialiser(graph, name, {std::ssize(axes)}, axes);
    node.add_input(name);
    graph::remove_attribute(node, "axes");
  }
  if (node.op_type() == "Split" && (node.input_size() < 2 || node.input(1).empty()))
    graph::set_attribute(node, "num_outputs", std::int64_t{node.output_size()});
}

void raise(onnx::GraphProto& graph) {
  for (auto& node : *graph.mutable_node()) raise(graph, node);
}

}  // namespace

Result<void> raise_opset(graph::Model& model) {
  if (graph::opset_of(model) >= kGradientOpset) return {};
  SELVAGE_RETURN_IF_ERROR(graph::upgrade_opset(model, graph::kUpgradeToMax));
  raise(*model.proto().mutable_graph());
  for (auto& import : *model.proto().mutable_opset_import())
    if (import.domain().empty() || import.domain() == "ai.onnx") import.set_version(kGradientOpset);
  model.proto().set_ir_version(std::max<std::int64_t>(model.proto().ir_version(), 8));
  return {};
}

}  // namespace selvage::learn
