// The passes that only take away: names of inputs, identities, what nothing needs.
#include <unordered_set>

#include <selvage/onnx.pb.h>

#include "graph/attributes.h"
#include "graph/erase.h"
#include "graph/index.h"
#include "graph/opset.h"
#include "graph/passes.h"
#include "graph/values.h"

namespace selvage::graph {
namespace {

using Marks = std::vector<bool>;

Marks marks_for(int count) {
  return Marks(static_cast<std::size_t>(count), false);
}

std::size_t count(const Marks& marks) {
  return static_cast<std::size_t>(std::ranges::count(marks, true));
}

/// Drops the declarations of values that are gone.
void forget_values(onnx::GraphProto& graph) {
  std::unordered_set<std::string_view> known;
  for (const auto& input : graph.input()) known.insert(input.name());
  for (const auto& tensor : graph.initializer()) known.insert(tensor.name());
  for (const auto& tensor : graph.sparse_initializer()) known.insert(tensor.values().name());
  for (const auto& node : graph.node()) known.insert(node.output().begin(), node.output().end());
  auto marked = marks_for(graph.value_info_size());
  for (int i = 0; i < graph.value_info_size(); ++i)
    marked[static_cast<std::size_t>(i)] = !known.contains(graph.value_info(i).name());
  erase_marked(*graph.mutable_value_info(), marked);
}

/// Whether Dropout passes its input on: it does not train, and nobody asks for its mask.
bool is_inactive_dropout(const onnx::NodeProto& node, const Index& index, const Model& model) {
  if (!is_op(node, "Dropout") || node.output_size() == 0) return false;
  if (node.output_size() > 1 && !node.output(1).empty() &&
      (!index.uses(node.output(1)).empty() || index.is_output(node.output(1))))
    return false;
  if (opset_of(model) < 7) return int_attribute(node, "is_test", 0) != 0;
  if (node.input_size() < 3 || node.input(2).empty()) return true;
  const int training = index.constant(node.input(2));
  if (training == Index::kNone) return false;
  const auto flag = read_integers(model.proto().graph().initializer(training), model.folder());
  return flag && flag->size() == 1 && flag->front() == 0;
}

/// Whether a node multiplies by 1 or adds 0: the exporters of some frameworks write such. A number
/// without dimensions gives its other operand no other shape.
bool is_neutral(const onnx::NodeProto& node, const Index& index, const Model& model) {
  const bool is_factor = is_op(node, "Mul") || is_op(node, "Div");
  if (!is_factor && !is_op(node, "Add") && !is_op(node, "Sub")) return false;
  if (node.input_size() != 2 || node.output_size() != 1) return false;
  const int operand = index.constant(node.input(1));
  if (operand == Index::kNone) return false;
  const auto& tensor = model.proto().graph().initializer(operand);
  if (tensor.dims_size() != 0) return false;
  const auto value = read_floats(tensor, model.folder());
  // Adding 0 makes 0 of -0: the sign of a zero is nothing that a model is about.
  return value && value->size() == 1 && value->front() == (is_factor ? 1.0f : 0.0f);
}

bool is_captured(const Index& index, std::string_view value) {
  return std::ranges::any_of(index.uses(value),
                             [](const Use& use) { return use.input == Use::kCapture; });
}

void redirect(onnx::GraphProto& graph, const Index& index, const std::string& from,
              const std::string& to) {
  for (const auto& use : index.uses(from)) graph.mutable_node(use.node)->set_input(use.input, to);
}

/// Makes the readers of an identity's output read its input, or its producer write its output. The
/// names in subgraphs stay as they are.
bool bypass(onnx::GraphProto& graph, const Index& index, int node) {
  const std::string x = graph.node(node).input(0);
  const std::string y = graph.node(node).output(0);
  if (is_captured(index, y)) return false;
  if (!index.is_output(y)) {
    redirect(graph, index, y, x);
    return true;
  }
  const int producer = index.producer(x);
  if (producer == Index::kNone || index.is_output(x) || is_captured(index, x)) return false;
  redirect(graph, index, x, y);
  for (auto& output : *graph.mutable_node(producer)->mutable_output())
    if (output == x) output = y;
  return true;
}

}  // namespace

Result<std::size_t> drop_initialiser_inputs(Model& model, const PassContext&) {
  auto& proto = model.proto();
  if (proto.ir_version() >= 4) return 0;
  auto& graph = *proto.mutable_graph();
  const Index index(graph);
  auto marked = marks_for(graph.input_size());
  for (int i = 0; i < graph.input_size(); ++i)
    marked[static_cast<std::size_t>(i)] = index.initialiser(graph.input(i).name()) != Index::kNone;
  erase_marked(*graph.mutable_input(), marked);
  proto.set_ir_version(4);
  return count(marked) + 1;
}

Result<std::size_t> remove_identities(Model& model, const PassContext&) {
  auto& graph = *model.proto().mutable_graph();
  std::size_t edits = 0;
  // An edit renames what the index knows, so each sweep takes nodes that do not touch each other.
  for (bool again = true; again;) {
    const Index index(graph);
    auto marked = marks_for(graph.node_size());
    std::unordered_set<std::string> touched;
    again = false;
    for (int i = 0; i < graph.node_size(); ++i) {
      const auto& node = graph.node(i);
      const bool passes_on =
          (is_op(node, "Identity") && node.input_size() == 1 && node.output_size() == 1) ||
          is_inactive_dropout(node, index, model) || is_neutral(node, index, model);
      if (!passes_on || node.input_size() == 0 || node.input(0).empty() || node.output(0).empty())
        continue;
      if (touched.contains(node.input(0)) || touched.contains(node.output(0))) {
        again = true;
        continue;
      }
      const std::string x = node.input(0), y = node.output(0);
      if (!bypass(graph, index, i)) continue;
      marked[static_cast<std::size_t>(i)] = true;
      touched.insert(x);
      touched.insert(y);
    }
    erase_marked(*graph.mutable_node(), marked);
    edits += count(marked);
    again = again && count(marked) > 0;
  }
  if (edits > 0) forget_values(graph);
  return edits;
}

Result<std::size_t> remove_dead_code(Model& model, const PassContext&) {
  auto& graph = *model.proto().mutable_graph();
  const Index index(graph);
  std::unordered_set<std::string_view> needed;
  std::vector<int> open;
  auto dead = Marks(static_cast<std::size_t>(graph.node_size()), true);
  const auto need = [&](std::string_view value) {
    if (value.empty() || !needed.insert(value).second) return;
    const int producer = index.producer(value);
    if (producer == Index::kNone || !dead[static_cast<std::size_t>(producer)]) return;
    dead[static_cast<std::size_t>(producer)] = false;
    open.push_back(producer);
  };
  for (const auto& output : graph.output()) need(output.name());
  while (!open.empty()) {
    const auto& node = graph.node(open.back());
    open.pop_back();
    for (const auto& input : node.input()) need(input);
    for (const auto name : captures(node)) need(name);
  }
  const auto is_unused = [&](const std::string& name) {
    return !needed.contains(name) && !index.is_input(name);
  };
  auto unused = marks_for(graph.initializer_size());
  for (int i = 0; i < graph.initializer_size(); ++i)
    unused[static_cast<std::size_t>(i)] = is_unused(graph.initializer(i).name());
  erase_marked(*graph.mutable_node(), dead);
  erase_marked(*graph.mutable_initializer(), unused);
  forget_values(graph);
  return count(dead) + count(unused);
}

}  // namespace selvage::graph
