#include "compress/pad_inputs.h"

#include <optional>
#include <span>
#include <string>
#include <unordered_set>
#include <vector>

#include <selvage/onnx.pb.h>

#include "compress/graph_writer.h"
#include "graph/attributes.h"
#include "graph/index.h"
#include "graph/opset.h"
#include "graph/sort.h"
#include "graph/values.h"

namespace selvage::compress {
namespace {

using graph::Index;

class Padder {
 public:
  explicit Padder(graph::Model& model)
      : model_(model), graph_(*model.proto().mutable_graph()), index_(graph_) {}

  std::size_t run() {
    std::size_t padded = 0;
    for (int i = 0, count = graph_.node_size(); i < count; ++i)
      if (pad(i)) ++padded;
    if (padded > 0) graph::sort_nodes(model_);
    drop_unused_initialisers(graph_, replaced_);
    return padded;
  }

 private:
  /// The stored weight [M, C, ...] of a quantised Conv; null for any other reader of `value`.
  [[nodiscard]] const onnx::TensorProto* weight_of(const onnx::NodeProto& conv,
                                                   const std::string& value) const {
    if (!graph::is_op(conv, "Conv") || conv.input(0) != value ||
        graph::int_attribute(conv, "group", 1) != 1)
      return nullptr;
    const int at = index_.producer(conv.input(1));
    if (at == Index::kNone || graph_.node(at).op_type() != "DequantizeLinear") return nullptr;
    const int stored = index_.constant(graph_.node(at).input(0));
    if (stored == Index::kNone || !index_.has_one_reader(conv.input(1))) return nullptr;
    const auto& weight = graph_.initializer(stored);
    const bool fits = graph::type_of(weight) == DataType::kInt8 && weight.dims_size() > 2 &&
                      !weight.raw_data().empty();
    return fits ? &weight : nullptr;
  }

  /// The convolutions that alone read a value, if all have weights for the same number of channels.
  [[nodiscard]] std::optional<std::int64_t> channels_of(const std::string& value) const {
    std::optional<std::int64_t> channels;
    for (const auto& use : index_.uses(value)) {
      const auto* weight = weight_of(graph_.node(use.node), value);
      if (weight == nullptr || (channels && *channels != weight->dims(1))) return std::nullopt;
      channels = weight->dims(1);
    }
    return channels;
  }

  bool pad(int at) {
    const auto& quantizer = graph_.node(at);
    if (quantizer.op_type() != "QuantizeLinear" || quantizer.input_size() < 3 ||
        !index_.is_input(quantizer.input(0)) || !index_.has_one_reader(quantizer.output(0)))
      return false;
    const int zero_point = index_.constant(quantizer.input(2));
    const int reader = index_.uses(quantizer.output(0)).front().node;
    const auto& dequantizer = graph_.node(reader);
    if (dequantizer.op_type() != "DequantizeLinear" || zero_point == Index::kNone ||
        graph::type_of(graph_.initializer(zero_point)) != DataType::kUint8)
      return false;
    const auto channels = channels_of(dequantizer.output(0));
    if (!channels || *channels % kConvolutionChannels == 0) return false;
    const auto missing = kConvolutionChannels - *channels % kConvolutionChannels;
    int rank = 0;
    for (const auto& use : index_.uses(dequantizer.output(0))) rank = widen(use.node, missing);
    graph_.mutable_node(reader)->set_input(
        0, add_pad(quantizer.output(0), quantizer.input(2), rank, missing));
    return true;
  }

  /// Gives the convolution's weight `missing` more input channels of zeros. Returns its rank.
  int widen(int conv, std::int64_t missing) {
    const int at = index_.producer(graph_.node(conv).input(1));
    const auto& old = graph_.initializer(index_.constant(graph_.node(at).input(0)));
    auto shape = graph::shape_of(old);
    const auto from = std::as_bytes(std::span(old.raw_data()));
    const auto row = from.size() / static_cast<std::size_t>(shape[0]);
    const auto added = row / static_cast<std::size_t>(shape[1]) * static_cast<std::size_t>(missing);
    std::vector<std::byte> bytes;
    for (std::size_t begin = 0; begin < from.size(); begin += row) {
      const auto part = from.subspan(begin, row);
      bytes.insert(bytes.end(), part.begin(), part.end());
      bytes.resize(bytes.size() + added);
    }
    shape[1] += missing;
    const auto name = index_.fresh_name(old.name() + "_padded");
    replaced_.insert(old.name());
    add_tensor(graph_, name, DataType::kInt8, shape, bytes);
    graph_.mutable_node(at)->set_input(0, name);
    return static_cast<int>(shape.size());
  }

  std::string add_pad(const std::string& value, const std::string& zero, int rank,
                      std::int64_t missing) {
    Shape pads(static_cast<std::size_t>(2 * rank));
    pads[static_cast<std::size_t>(rank) + 1] = missing;
    const auto output = index_.fresh_name(value + "_padded");
    const auto sizes = index_.fresh_name(value + "_pads");
    graph::add_initialiser(graph_, sizes, {std::int64_t{2} * rank},
                           std::span<const std::int64_t>(pads));
    auto& node = *graph_.add_node();
    node.set_op_type("Pad");
    node.set_name(output);
    for (const auto* input : {&value, &sizes, &zero}) node.add_input(*input);
    node.add_output(output);
    return output;
  }

  graph::Model& model_;
  onnx::GraphProto& graph_;
  Index index_;
  std::unordered_set<std::string> replaced_;
};

}  // namespace

std::size_t pad_thin_inputs(graph::Model& model) {
  constexpr std::int64_t kOpsetMin = 13;
  if (graph::opset_of(model) < kOpsetMin) return 0;
  return Padder(model).run();
}

}  // namespace selvage::compress
