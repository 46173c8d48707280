// If whose condition is a constant: the branch that is taken becomes part of the main graph, where
// the other passes, the quantisers and the calibration see it.
#include <unordered_set>

#include <selvage/onnx.pb.h>

#include "graph/attributes.h"
#include "graph/erase.h"
#include "graph/index.h"
#include "graph/passes.h"
#include "graph/rename.h"
#include "graph/sort.h"
#include "graph/values.h"

namespace selvage::graph {
namespace {

class BranchInliner {
 public:
  explicit BranchInliner(Model& model) : model_(model), graph_(*model.proto().mutable_graph()) {}

  std::size_t run() {
    auto taken = take_decided();
    if (taken.empty()) return 0;
    Index names(graph_);
    // What nobody reads is in no index; a fresh name must not be it all the same.
    for (const auto& decided : taken)
      for (const auto& output : decided.node.output()) (void)names.fresh_name(output);
    for (auto& decided : taken) inline_branch(decided, names);
    sort_nodes(model_);
    return taken.size();
  }

 private:
  struct Decided {
    onnx::NodeProto node;
    bool condition = false;
  };

  /// Takes the nodes out of the graph.
  std::vector<Decided> take_decided() {
    const Index index(graph_);
    std::vector<Decided> taken;
    std::vector<bool> marked(static_cast<std::size_t>(graph_.node_size()), false);
    for (int i = 0; i < graph_.node_size(); ++i) {
      const auto condition = condition_of(graph_.node(i), index);
      if (!condition) continue;
      auto& decided = taken.emplace_back();
      decided.node.Swap(graph_.mutable_node(i));
      decided.condition = *condition;
      marked[static_cast<std::size_t>(i)] = true;
    }
    erase_marked(*graph_.mutable_node(), marked);
    return taken;
  }

  /// What a node If always decides; nothing for others, and for one whose branches do not have the
  /// outputs that it has.
  [[nodiscard]] std::optional<bool> condition_of(const onnx::NodeProto& node,
                                                 const Index& index) const {
    if (!is_op(node, "If") || node.input_size() != 1) return std::nullopt;
    const int constant = index.constant(node.input(0));
    if (constant == Index::kNone) return std::nullopt;
    const auto values = read_integers(graph_.initializer(constant), model_.folder(), 1);
    if (!values || values->size() != 1) return std::nullopt;
    const bool condition = values->front() != 0;
    const auto* branch = find_attribute(node, branch_name(condition));
    if (branch == nullptr || !branch->has_g() || branch->g().output_size() < node.output_size())
      return std::nullopt;
    return condition;
  }

  void inline_branch(Decided& decided, Index& names) {
    onnx::GraphProto branch;
    for (auto& attribute : *decided.node.mutable_attribute())
      if (attribute.name() == branch_name(decided.condition)) branch.Swap(attribute.mutable_g());
    std::unordered_set<std::string> made;
    for (const auto& node : branch.node()) made.insert(node.output().begin(), node.output().end());
    Renames renames;
    std::vector<int> passed_on;  // Outputs that no node of the branch makes for itself.
    for (int i = 0; i < decided.node.output_size(); ++i) {
      const auto &inside = branch.output(i).name(), &outside = decided.node.output(i);
      if (!outside.empty() && (!made.contains(inside) || !renames.emplace(inside, outside).second))
        passed_on.push_back(i);
    }
    rename_definitions(branch, std::move(renames), names);
    for (const int i : passed_on) {
      auto& identity = *branch.add_node();
      identity.set_op_type("Identity");
      identity.set_name(decided.node.output(i));
      identity.add_input(branch.output(i).name());
      identity.add_output(decided.node.output(i));
    }
    append(*branch.mutable_node(), *graph_.mutable_node());
    append(*branch.mutable_initializer(), *graph_.mutable_initializer());
    append(*branch.mutable_sparse_initializer(), *graph_.mutable_sparse_initializer());
    append(*branch.mutable_quantization_annotation(), *graph_.mutable_quantization_annotation());
    append(*branch.mutable_value_info(), *graph_.mutable_value_info());
  }

  template <typename T>
  static void append(google::protobuf::RepeatedPtrField<T>& from,
                     google::protobuf::RepeatedPtrField<T>& to) {
    for (auto& element : from) to.Add()->Swap(&element);
  }

  [[nodiscard]] static std::string_view branch_name(bool condition) {
    return condition ? "then_branch" : "else_branch";
  }

  Model& model_;
  onnx::GraphProto& graph_;
};

}  // namespace

Result<std::size_t> inline_branches(Model& model, const PassContext& context) {
  // New initialisers of an older model would have to be inputs, too.
  if (model.proto().ir_version() < 4) return 0;
  std::size_t total = 0;
  while (const auto edits = BranchInliner(model).run()) {
    total += edits;
    // What the branch computes of constants may decide the next one.
    for (const auto pass : {store_constant_nodes, remove_identities, fold_constants})
      SELVAGE_RETURN_IF_ERROR(pass(model, context));
  }
  return total;
}

}  // namespace selvage::graph
