#include "compress/qoperator.h"

#include <algorithm>
#include <array>
#include <optional>
#include <string>
#include <unordered_set>
#include <vector>

#include <selvage/onnx.pb.h>

#include "compress/graph_writer.h"
#include "graph/attributes.h"
#include "graph/index.h"
#include "graph/sort.h"

namespace selvage::compress {
namespace {

using graph::Index;

/// How an operator's integer form takes its inputs.
enum class Form : std::uint8_t {
  kConv,         ///< x and its parameters, w and its, y's, bias.
  kGemm,         ///< The same with bias before y's.
  kTriples,      ///< Each input with its parameters, then y's.
  kOutputFirst,  ///< y's parameters, then each input with its own.
  kMoving,       ///< The operator itself, on integers.
};

struct IntegerOperator {
  std::string_view type, integer_type, domain;
  Form form;
};

constexpr std::array kOperators{
    IntegerOperator{"Conv", "QLinearConv", "", Form::kConv},
    IntegerOperator{"MatMul", "QLinearMatMul", "", Form::kTriples},
    IntegerOperator{"Gemm", "QGemm", kMicrosoftDomain, Form::kGemm},
    IntegerOperator{"Add", "QLinearAdd", kMicrosoftDomain, Form::kTriples},
    IntegerOperator{"Mul", "QLinearMul", kMicrosoftDomain, Form::kTriples},
    IntegerOperator{"LeakyRelu", "QLinearLeakyRelu", kMicrosoftDomain, Form::kTriples},
    IntegerOperator{"Sigmoid", "QLinearSigmoid", kMicrosoftDomain, Form::kTriples},
    IntegerOperator{"GlobalAveragePool", "QLinearGlobalAveragePool", kMicrosoftDomain,
                    Form::kTriples},
    IntegerOperator{"AveragePool", "QLinearAveragePool", kMicrosoftDomain, Form::kTriples},
    IntegerOperator{"Concat", "QLinearConcat", kMicrosoftDomain, Form::kOutputFirst},
    IntegerOperator{"MaxPool", "MaxPool", "", Form::kMoving},
    IntegerOperator{"Reshape", "Reshape", "", Form::kMoving},
    IntegerOperator{"Transpose", "Transpose", "", Form::kMoving},
    IntegerOperator{"Squeeze", "Squeeze", "", Form::kMoving},
    IntegerOperator{"Unsqueeze", "Unsqueeze", "", Form::kMoving},
    IntegerOperator{"Flatten", "Flatten", "", Form::kMoving},
    IntegerOperator{"Gather", "Gather", "", Form::kMoving},
    IntegerOperator{"Slice", "Slice", "", Form::kMoving},
};

bool is_dequantize(const onnx::NodeProto& node) {
  return node.op_type() == "DequantizeLinear";
}

class Fuser {
 public:
  explicit Fuser(graph::Model& model)
      : model_(model), graph_(*model.proto().mutable_graph()), index_(graph_) {}

  std::size_t run() {
    std::size_t fused = 0;
    const int count = graph_.node_size();
    for (int i = 0; i < count; ++i)
      if (fuse(i)) ++fused;
    if (fused == 0) return 0;
    // In place, so that the order stays right: an integer operator stands where its float form did.
    if (uses_microsoft_) import_microsoft_domain(model_);
    erase_idle();
    return fused;
  }

 private:
  [[nodiscard]] const onnx::NodeProto* dequantizer_of(const std::string& value) const {
    const int at = index_.producer(value);
    if (at == Index::kNone || !is_dequantize(graph_.node(at))) return nullptr;
    return &graph_.node(at);
  }

  /// The only reader of a value, if that quantises it.
  [[nodiscard]] int quantizer_of(const std::string& value) const {
    if (!index_.has_one_reader(value)) return Index::kNone;
    const int at = index_.uses(value).front().node;
    return graph_.node(at).op_type() == "QuantizeLinear" ? at : Index::kNone;
  }

  bool fuse(int at) {
    const auto node = graph_.node(at);
    const auto* found = std::ranges::find(kOperators, node.op_type(), &IntegerOperator::type);
    if (found == kOperators.end() || node.output_size() != 1 || node.input_size() == 0)
      return false;
    const int quantizer = quantizer_of(node.output(0));
    if (quantizer == Index::kNone) return false;
    onnx::NodeProto integer = node;
    integer.set_op_type(std::string(found->integer_type));
    integer.set_domain(std::string(found->domain));
    integer.clear_input();
    if (!fill_inputs(*found, node, graph_.node(quantizer), integer)) return false;
    integer.set_output(0, graph_.node(quantizer).output(0));
    if (!integer.name().empty()) integer.set_name(integer.name() + "_quant");
    if (node.op_type() == "Gemm") graph::remove_attribute(integer, "beta");
    if (node.op_type() == "GlobalAveragePool" || node.op_type() == "AveragePool")
      graph::set_attribute(integer, "channels_last", std::int64_t{0});
    uses_microsoft_ = uses_microsoft_ || !found->domain.empty();
    *graph_.mutable_node(at) = std::move(integer);
    idle_.insert(quantizer);
    return true;
  }

  void add_input(onnx::NodeProto& node, const onnx::NodeProto& dequantizer) const {
    for (const auto& name : dequantizer.input()) node.add_input(name);
  }

  [[nodiscard]] bool fill_inputs(const IntegerOperator& op, const onnx::NodeProto& node,
                                 const onnx::NodeProto& quantizer, onnx::NodeProto& integer) const {
    std::vector<const onnx::NodeProto*> from;
    for (const auto& name : node.input()) from.push_back(dequantizer_of(name));
    const auto add_output = [&] {
      integer.add_input(quantizer.input(1));
      integer.add_input(quantizer.input(2));
    };
    if (op.form == Form::kMoving) {
      if (from[0] == nullptr || from[0]->input(1) != quantizer.input(1)) return false;
      integer.add_input(from[0]->input(0));
      for (int i = 1; i < node.input_size(); ++i) integer.add_input(node.input(i));
      return true;
    }
    // Only what quantize_static() wrote has all inputs as integers; a bias left in float has not.
    if (std::ranges::any_of(from, [](const auto* one) { return one == nullptr; })) return false;
    if (op.form == Form::kOutputFirst) add_output();
    const std::size_t pairs = op.form == Form::kConv || op.form == Form::kGemm ? 2 : from.size();
    for (std::size_t i = 0; i < pairs; ++i) add_input(integer, *from[i]);
    const auto bias = from.size() > pairs ? from[pairs]->input(0) : std::string();
    if (op.form == Form::kGemm) integer.add_input(bias);
    if (op.form != Form::kOutputFirst) add_output();
    if (op.form == Form::kConv && !bias.empty()) integer.add_input(bias);
    return true;
  }

  /// Quantisers whose work is done elsewhere, and dequantisers that nobody reads any more.
  void erase_idle() {
    std::vector<bool> marked(static_cast<std::size_t>(graph_.node_size()));
    for (const int at : idle_) marked[static_cast<std::size_t>(at)] = true;
    erase_nodes(graph_, std::move(marked));
    graph::sort_nodes(model_);
    const Index after(graph_);
    std::unordered_set<std::string> candidates;
    marked.assign(static_cast<std::size_t>(graph_.node_size()), false);
    for (int i = 0; i < graph_.node_size(); ++i) {
      const auto& node = graph_.node(i);
      if (!is_dequantize(node) || !after.uses(node.output(0)).empty() ||
          after.is_output(node.output(0)))
        continue;
      marked[static_cast<std::size_t>(i)] = true;
      candidates.insert(node.input().begin(), node.input().end());
    }
    erase_nodes(graph_, std::move(marked));
    drop_unused_initialisers(graph_, candidates);
    drop_stale_value_infos(graph_);
  }

  graph::Model& model_;
  onnx::GraphProto& graph_;
  const Index index_;
  std::unordered_set<int> idle_;
  bool uses_microsoft_ = false;
};

}  // namespace

std::size_t fuse_into_operators(graph::Model& model) {
  return Fuser(model).run();
}

}  // namespace selvage::compress
