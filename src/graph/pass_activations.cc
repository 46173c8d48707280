// Hard sigmoids that were written as arithmetic: Clip(x + c, 0, h) / h is HardSigmoid(x; 1/h, c/h),
// and z * Clip(x + c, 0, h) / h is z times that. Exporters write HardSwish so, five passes over
// memory instead of two. HardSwish itself, which runtimes expand, becomes the same two nodes.
#include <algorithm>
#include <cmath>

#include <selvage/onnx.pb.h>

#include "graph/attributes.h"
#include "graph/erase.h"
#include "graph/index.h"
#include "graph/layer.h"
#include "graph/opset.h"
#include "graph/passes.h"
#include "graph/sort.h"

namespace selvage::graph {
namespace {

/// How far h times the factor behind may be from 1: constants are written with few digits.
constexpr double kSameFactor = 1e-5;

class HardSigmoidFinder {
 public:
  explicit HardSigmoidFinder(Model& model)
      : model_(model), graph_(*model.proto().mutable_graph()), editor_(model) {}

  std::size_t run() {
    std::size_t edits = 0;
    const int count = graph_.node_size();
    erased_.resize(static_cast<std::size_t>(count), false);
    for (int i = 0; i < count; ++i)
      if (expand(i) || join(i)) ++edits;
    erased_.resize(static_cast<std::size_t>(graph_.node_size()), false);
    erase_marked(*graph_.mutable_node(), erased_);
    if (graph_.node_size() != count) sort_nodes(model_);
    return edits;
  }

 private:
  struct Found {
    std::string input;
    double addend = 0, limit = 0;
    int add = 0;
  };

  bool expand(int at);
  bool join(int at);
  [[nodiscard]] std::optional<Found> clipped_sum(const onnx::NodeProto& clip) const;
  [[nodiscard]] std::optional<float> limit(const onnx::NodeProto& clip, int input,
                                           std::string_view attribute) const;
  [[nodiscard]] int reader_of(const std::string& value) const;
  [[nodiscard]] bool divides(int at, double limit) const;
  static void make_hard_sigmoid(onnx::NodeProto& node, const std::string& input, double alpha,
                                double beta);

  Model& model_;
  onnx::GraphProto& graph_;
  LayerEditor editor_;
  std::vector<bool> erased_;
};

std::optional<float> HardSigmoidFinder::limit(const onnx::NodeProto& clip, int input,
                                              std::string_view attribute) const {
  if (const auto* stated = find_attribute(clip, attribute)) return stated->f();
  if (input >= clip.input_size()) return std::nullopt;
  const auto values = editor_.floats(clip.input(input));
  if (!values || values->size() != 1) return std::nullopt;
  return values->front();
}

std::optional<HardSigmoidFinder::Found> HardSigmoidFinder::clipped_sum(
    const onnx::NodeProto& clip) const {
  if (!is_op(clip, "Clip") || clip.input_size() == 0) return std::nullopt;
  const auto low = limit(clip, 1, "min"), high = limit(clip, 2, "max");
  if (!low || !high || *low != 0 || !(*high > 0)) return std::nullopt;
  const int add = editor_.index().producer(clip.input(0));
  if (add == Index::kNone || !editor_.index().has_one_reader(clip.input(0))) return std::nullopt;
  const auto sum = editor_.arithmetic_at(add);
  if (!sum || sum->affine.scale.size() != 1 || sum->shape.size() > 1 || sum->affine.scale[0] != 1)
    return std::nullopt;
  return Found{.input = sum->value,
               .addend = sum->affine.shift[0],
               .limit = static_cast<double>(*high),
               .add = add};
}

/// The one node that reads a value; kNone where there are more, or it is an output.
int HardSigmoidFinder::reader_of(const std::string& value) const {
  return editor_.index().has_one_reader(value) ? editor_.index().uses(value)[0].node : Index::kNone;
}

bool HardSigmoidFinder::divides(int at, double limit) const {
  if (at == Index::kNone) return false;
  const auto found = editor_.arithmetic_at(at);
  return found && found->affine.scale.size() == 1 && found->shape.size() <= 1 &&
         found->affine.shift[0] == 0 && std::abs(found->affine.scale[0] * limit - 1) <= kSameFactor;
}

void HardSigmoidFinder::make_hard_sigmoid(onnx::NodeProto& node, const std::string& input,
                                          double alpha, double beta) {
  node.set_op_type("HardSigmoid");
  node.clear_input();
  node.clear_attribute();
  node.add_input(input);
  set_attribute(node, "alpha", static_cast<float>(alpha));
  set_attribute(node, "beta", static_cast<float>(beta));
}

bool HardSigmoidFinder::join(int at) {
  auto& clip = *graph_.mutable_node(at);
  const auto found = clipped_sum(clip);
  if (!found) return false;
  const int next = reader_of(clip.output(0));
  if (next == Index::kNone) return false;
  int divisor = next;
  if (!divides(divisor, found->limit)) {
    // z * clip, and then the division.
    const auto& product = graph_.node(next);
    if (!is_op(product, "Mul") || product.attribute_size() > 0 ||
        editor_.arithmetic_at(next).has_value())
      return false;
    divisor = reader_of(product.output(0));
    if (!divides(divisor, found->limit)) return false;
    graph_.mutable_node(next)->set_output(0, graph_.node(divisor).output(0));
  } else {
    clip.set_output(0, graph_.node(divisor).output(0));
  }
  make_hard_sigmoid(clip, found->input, 1 / found->limit, found->addend / found->limit);
  erased_[static_cast<std::size_t>(divisor)] = true;
  erased_[static_cast<std::size_t>(found->add)] = true;
  return true;
}

bool HardSigmoidFinder::expand(int at) {
  auto& node = *graph_.mutable_node(at);
  if (!is_op(node, "HardSwish") || node.input_size() != 1) return false;
  const auto input = node.input(0);
  const auto gate = editor_.index().fresh_name(node.output(0) + "_gate");
  node.set_op_type("Mul");
  node.add_input(gate);
  auto& sigmoid = *graph_.add_node();
  sigmoid.set_name(gate);
  sigmoid.add_output(gate);
  make_hard_sigmoid(sigmoid, input, 1.0 / 6, 0.5);
  return true;
}

}  // namespace

Result<std::size_t> find_hard_sigmoids(Model& model, const PassContext&) {
  if (opset_of(model) < 7) return 0;  // Mul does not broadcast by itself.
  return HardSigmoidFinder(model).run();
}

}  // namespace selvage::graph
