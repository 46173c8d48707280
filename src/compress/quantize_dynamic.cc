#include "compress/quantize_dynamic.h"

#include <algorithm>
#include <array>
#include <map>
#include <unordered_set>

#include <selvage/onnx.pb.h>

#include "base/check.h"
#include "compress/graph_writer.h"
#include "compress/selection.h"
#include "graph/attributes.h"
#include "graph/index.h"
#include "graph/opset.h"
#include "graph/sort.h"
#include "graph/values.h"

namespace selvage::compress {
namespace {

using graph::Index;

/// DynamicQuantizeLinear is of this operator set.
constexpr std::int64_t kOpsetMin = 11;
constexpr std::array<std::string_view, 8> kSupported{"MatMul", "Gemm",      "LSTM",   "GRU",
                                                     "RNN",    "Attention", "Gather", "Conv"};

/// An activation as DynamicQuantizeLinear leaves it, or a weight as it is stored.
struct IntegerValue {
  std::string value, scale, zero_point;
};

std::string input_of(const onnx::NodeProto& node, int index) {
  return index < node.input_size() ? node.input(index) : "";
}

/// [rows, columns] of each of `count` matrices become [columns, rows].
std::vector<float> transposed(std::span<const float> values, std::size_t count, std::size_t rows,
                              std::size_t columns) {
  std::vector<float> result(values.size());
  for (std::size_t m = 0; m < count; ++m)
    for (std::size_t r = 0; r < rows; ++r)
      for (std::size_t c = 0; c < columns; ++c)
        result[(m * columns + c) * rows + r] = values[(m * rows + r) * columns + c];
  return result;
}

/// Rewrites one graph; subgraphs are graphs of their own.
class GraphQuantizer {
 public:
  GraphQuantizer(onnx::GraphProto& graph, const std::filesystem::path& folder, Index& names,
                 const DynamicOptions& options, const Selector& selector,
                 QuantizationReport& report)
      : graph_(graph),
        folder_(folder),
        names_(names),
        index_(graph),
        options_(options),
        selector_(selector),
        report_(report),
        width_(options.width.value_or(processor_multiplies_8_bits_exactly() ? Width::kFull
                                                                            : Width::kReduced)) {}

  [[nodiscard]] Result<void> run() {
    const int count = graph_.node_size();
    std::vector<bool> replaced(static_cast<std::size_t>(count));
    for (int i = 0; i < count; ++i) {
      const auto& node = graph_.node(i);
      if (!selector_.takes(node, i)) {
        note_kept(node, i, selector_.reason(node, i));
        continue;
      }
      SELVAGE_TRY(const auto obstacle, quantize(node));
      if (obstacle.empty()) {
        replaced[static_cast<std::size_t>(i)] = true;
        ++report_.quantized_nodes;
      } else {
        note_kept(node, i, obstacle);
      }
    }
    erase_nodes(graph_, std::move(replaced));
    for (auto& node : added_) *graph_.add_node() = std::move(node);
    drop_unused_initialisers(graph_, replaced_weights_);
    drop_idle_constants();
    drop_stale_value_infos(graph_);
    return {};
  }

 private:
  /// Nodes Constant whose weights are stored as integers now.
  void drop_idle_constants() {
    const Index now(graph_);
    std::vector<bool> idle;
    for (const auto& node : graph_.node())
      idle.push_back(graph::is_op(node, "Constant") && node.output_size() == 1 &&
                     replaced_weights_.contains(node.output(0)) &&
                     now.uses(node.output(0)).empty() && !now.is_output(node.output(0)));
    erase_nodes(graph_, std::move(idle));
  }

  /// Only what multiplies is worth a line.
  void note_kept(const onnx::NodeProto& node, int at, std::string reason) {
    if (std::ranges::find(kSupported, node.op_type()) != kSupported.end() ||
        node.op_type() == "ConvTranspose")
      report_.kept.push_back({node_label(node, at), node.op_type(), std::move(reason)});
  }

  /// "", or why the node stays in float.
  [[nodiscard]] Result<std::string> quantize(const onnx::NodeProto& node) {
    if (node.op_type() == "MatMul") return quantize_matmul(node);
    if (node.op_type() == "Gemm") return quantize_gemm(node);
    if (node.op_type() == "LSTM") return quantize_lstm(node);
    if (node.op_type() == "GRU" || node.op_type() == "RNN") return store_gru(node);
    if (node.op_type() == "Attention") return quantize_attention(node);
    if (node.op_type() == "Gather") return quantize_gather(node);
    return quantize_conv(node);
  }

  // --- Weights

  /// An initialiser, or what a node Constant holds; null for anything but float32.
  [[nodiscard]] const onnx::TensorProto* weight(const std::string& name) const {
    const onnx::TensorProto* tensor = nullptr;
    if (const int at = index_.constant(name); at != Index::kNone) {
      tensor = &graph_.initializer(at);
    } else if (const int from = index_.producer(name);
               from != Index::kNone && graph::is_op(graph_.node(from), "Constant")) {
      const auto* value = graph::find_attribute(graph_.node(from), "value");
      if (value != nullptr && value->has_t()) tensor = &value->t();
    }
    const bool is_float = tensor != nullptr && graph::type_of(*tensor) == DataType::kFloat32;
    return is_float ? tensor : nullptr;
  }

  struct Stored {
    std::string name;
    graph::Floats values;
    Shape shape;
  };
  /// The values of a constant weight of `rank` dimensions (0: any), or why it cannot be taken.
  [[nodiscard]] Result<std::string> read_weight(const std::string& name, int rank, Stored& stored) {
    const auto* tensor = weight(name);
    if (tensor == nullptr) {
      const int maker = index_.producer(name);
      if (maker == Index::kNone || graph::is_op(graph_.node(maker), "Constant"))
        return "its weight is no float32 constant of its graph";
      return "its weight is not stored but computed, by " + graph_.node(maker).op_type();
    }
    if (rank != 0 && tensor->dims_size() != rank) return "its weight has another rank";
    stored.name = name;
    stored.shape = graph::shape_of(*tensor);
    SELVAGE_TRY(stored.values, graph::Floats::view(*tensor, folder_));
    if (std::span<const float>(stored.values).empty()) return "its weight is empty";
    if (!graph::all_finite(stored.values)) return "its weight holds NaN or infinity";
    return "";
  }

  struct Storage {
    DataType type;
    std::optional<std::size_t> axis = std::nullopt;   ///< Of the scales.
    std::optional<Shape> scale_shape = std::nullopt;  ///< Empty: a list, or a scalar without axis.
    float factor = 1;                                 ///< Of the scales.
    Width width;
  };
  /// Stores a weight as integers.
  [[nodiscard]] Result<IntegerValue> store(const Stored& weight, const Storage& storage) {
    const auto& [type, axis, scale_shape, factor, width] = storage;
    const auto symmetry = type == DataType::kInt8 ? Symmetry::kSymmetric : Symmetry::kAsymmetric;
    SELVAGE_TRY(auto parameters,
                weight_parameters(weight.values, weight.shape,
                                  {.type = type,
                                   .symmetry = axis ? Symmetry::kSymmetric : symmetry,
                                   .width = width,
                                   .axis = axis}));
    const auto stored = quantize_weight(weight.values, weight.shape, type, parameters, axis);
    IntegerValue names{names_.fresh_name(weight.name + "_quantized"),
                       names_.fresh_name(weight.name + "_scale"),
                       names_.fresh_name(weight.name + "_zero_point")};
    add_tensor(graph_, names.value, type, weight.shape, stored.bytes);
    const auto list = Shape{static_cast<std::int64_t>(parameters.size())};
    const auto shape = scale_shape.value_or(axis ? list : Shape{});
    std::vector<float> scales;
    for (const auto& one : parameters) scales.push_back(one.scale * factor);
    graph::add_initialiser(graph_, names.scale, shape, scales);
    add_tensor(graph_, names.zero_point, type, shape, zero_point_bytes(type, parameters));
    replaced_weights_.insert(weight.name);
    ++report_.quantized_weights;
    return names;
  }

  // --- Nodes

  onnx::NodeProto& add_node(std::string_view type, const std::vector<std::string>& inputs,
                            const std::vector<std::string>& outputs, std::string_view domain = "") {
    auto& node = added_.emplace_back();
    node.set_op_type(std::string(type));
    node.set_domain(std::string(domain));
    node.set_name(names_.fresh_name(outputs.front() + "_" + std::string(type)));
    for (const auto& name : inputs) node.add_input(name);
    for (const auto& name : outputs) node.add_output(name);
    return node;
  }

  /// Quantises an activation as it comes, once for all its readers.
  [[nodiscard]] const IntegerValue& dynamic(const std::string& name) {
    const auto found = dynamic_.find(name);
    if (found != dynamic_.end()) return found->second;
    IntegerValue value{names_.fresh_name(name + "_quantized"), names_.fresh_name(name + "_scale"),
                       names_.fresh_name(name + "_zero_point")};
    add_node("DynamicQuantizeLinear", {name}, {value.value, value.scale, value.zero_point});
    return dynamic_.emplace(name, std::move(value)).first->second;
  }

  /// output = (sum of products) * (scale of the activation * scale of the weight).
  void add_scaling(const std::string& sum, const std::string& activation_scale,
                   const std::string& weight_scale, const std::string& output) {
    const auto real = names_.fresh_name(output + "_cast");
    auto& cast = add_node("Cast", {sum}, {real});
    graph::set_attribute(cast, "to", static_cast<std::int64_t>(DataType::kFloat32));
    const auto scale = names_.fresh_name(output + "_scales");
    add_node("Mul", {activation_scale, weight_scale}, {scale});
    add_node("Mul", {real, scale}, {output});
  }

  void add_product(const std::string& a, const IntegerValue& b, const std::string& output) {
    const auto& quantized = dynamic(a);
    const auto sum = names_.fresh_name(output + "_integer");
    add_node("MatMulInteger", {quantized.value, b.value, quantized.zero_point, b.zero_point},
             {sum});
    add_scaling(sum, quantized.scale, b.scale, output);
  }

  [[nodiscard]] Result<std::string> quantize_matmul(const onnx::NodeProto& node) {
    Stored b;
    SELVAGE_TRY(auto obstacle, read_weight(input_of(node, 1), 0, b));
    if (!obstacle.empty()) return obstacle;
    if (b.shape.size() < 2) return "its weight has another rank";
    const bool by_column = options_.per_channel && b.shape.size() == 2;
    SELVAGE_TRY(const auto stored, store(b, by_channel(by_column)));
    add_product(node.input(0), stored, node.output(0));
    return "";
  }

  [[nodiscard]] Result<std::string> quantize_gemm(const onnx::NodeProto& node) {
    if (graph::int_attribute(node, "transA", 0) != 0) return "its input is transposed";
    const auto bias = input_of(node, 2);
    const float beta = graph::float_attribute(node, "beta", 1);
    if (!bias.empty() && beta != 1) return "its bias is scaled";
    Stored b;
    SELVAGE_TRY(auto obstacle, read_weight(input_of(node, 1), 2, b));
    if (!obstacle.empty()) return obstacle;
    if (graph::int_attribute(node, "transB", 0) != 0) {
      b.values = graph::Floats(transposed(b.values, 1, static_cast<std::size_t>(b.shape[0]),
                                          static_cast<std::size_t>(b.shape[1])));
      std::swap(b.shape[0], b.shape[1]);
    }
    const float alpha = graph::float_attribute(node, "alpha", 1);
    auto storage = by_channel(options_.per_channel);
    storage.factor = alpha;
    SELVAGE_TRY(const auto stored, store(b, storage));
    if (bias.empty()) {
      add_product(node.input(0), stored, node.output(0));
      return "";
    }
    const auto product = names_.fresh_name(node.output(0) + "_product");
    add_product(node.input(0), stored, product);
    add_node("Add", {product, bias}, {node.output(0)});
    return "";
  }

  /// Of a matrix, with a scale a column or one of all.
  [[nodiscard]] Storage by_channel(bool is_by_channel) const {
    Storage storage{.type = options_.weights, .width = width_};
    if (is_by_channel) storage.axis = 1;
    return storage;
  }

  /// W or R of a recurrent layer, [directions, gates * hidden, inputs], with a scale a direction or
  /// a row.
  [[nodiscard]] Result<IntegerValue> store_recurrent(Stored weight, Storage storage) {
    const auto directions = weight.shape[0], rows = weight.shape[1], columns = weight.shape[2];
    storage.axis = 0;
    storage.scale_shape = Shape{directions};
    if (options_.per_channel) {
      // Both are one axis here.
      weight.shape = {directions * rows, columns};
      storage.scale_shape->push_back(rows);
    }
    SELVAGE_TRY(auto names, store(weight, storage));
    set_shape(tensor_of(names), {directions, rows, columns});
    return names;
  }

  /// What store() has just written.
  [[nodiscard]] onnx::TensorProto& tensor_of(const IntegerValue& names) {
    auto& tensor = *graph_.mutable_initializer(graph_.initializer_size() - 3);
    SELVAGE_CHECK(tensor.name() == names.value);
    return tensor;
  }

  static void set_shape(onnx::TensorProto& tensor, const Shape& shape) {
    tensor.clear_dims();
    for (const auto size : shape) tensor.add_dims(size);
  }

  /// As DynamicQuantizeLSTM takes it: transposed.
  [[nodiscard]] Result<IntegerValue> store_transposed(Stored weight) {
    const auto shape = weight.shape;
    SELVAGE_TRY(auto names,
                store_recurrent(std::move(weight), {.type = options_.weights, .width = width_}));
    auto& tensor = tensor_of(names);
    const auto count = static_cast<std::size_t>(shape[0]);
    const auto rows = static_cast<std::size_t>(shape[1]);
    const auto columns = static_cast<std::size_t>(shape[2]);
    const std::string from = tensor.raw_data();
    std::string& to = *tensor.mutable_raw_data();
    for (std::size_t m = 0; m < count; ++m)
      for (std::size_t r = 0; r < rows; ++r)
        for (std::size_t c = 0; c < columns; ++c)
          to[(m * columns + c) * rows + r] = from[(m * rows + r) * columns + c];
    set_shape(tensor, {shape[0], shape[2], shape[1]});
    return names;
  }

  /// Stored in 8 bits and made real again when the model is loaded, for what the runtime computes
  /// in float only. It folds a Cast and a Mul of constants, but runs a DequantizeLinear each time.
  [[nodiscard]] Result<std::string> store_widened(Stored weight) {
    const auto name = weight.name;
    SELVAGE_TRY(const auto names, store_recurrent(std::move(weight), {.type = DataType::kInt8,
                                                                      .width = Width::kFull}));
    graph_.mutable_initializer()->RemoveLast();  // The zero point is 0.
    auto& scale = *graph_.mutable_initializer(graph_.initializer_size() - 1);
    while (scale.dims_size() < 3) scale.add_dims(1);
    const auto wide = names_.fresh_name(name + "_cast");
    auto real = names_.fresh_name(name + "_real");
    auto& cast = add_node("Cast", {names.value}, {wide});
    graph::set_attribute(cast, "to", static_cast<std::int64_t>(DataType::kFloat32));
    add_node("Mul", {wide, names.scale}, {real});
    return real;
  }

  /// The runtime has neither GRU nor RNN of integers: the file is a quarter, the time is the same.
  [[nodiscard]] Result<std::string> store_gru(const onnx::NodeProto& node) {
    Stored w, r;
    SELVAGE_TRY(auto obstacle, read_weight(input_of(node, 1), 3, w));
    if (!obstacle.empty()) return obstacle;
    SELVAGE_TRY(obstacle, read_weight(input_of(node, 2), 3, r));
    if (!obstacle.empty()) return obstacle;
    std::vector<std::string> inputs(node.input().begin(), node.input().end());
    SELVAGE_TRY(inputs[1], store_widened(std::move(w)));
    SELVAGE_TRY(inputs[2], store_widened(std::move(r)));
    auto& layer = add_node(node.op_type(), inputs, {node.output().begin(), node.output().end()});
    copy_attributes(node, layer, {});
    return "";
  }

  [[nodiscard]] Result<std::string> quantize_lstm(const onnx::NodeProto& node) {
    if (graph::int_attribute(node, "layout", 0) != 0) return "its layout is batch first";
    Stored w, r;
    SELVAGE_TRY(auto obstacle, read_weight(input_of(node, 1), 3, w));
    if (!obstacle.empty()) return obstacle;
    SELVAGE_TRY(obstacle, read_weight(input_of(node, 2), 3, r));
    if (!obstacle.empty()) return obstacle;
    SELVAGE_TRY(const auto input_weights, store_transposed(std::move(w)));
    SELVAGE_TRY(const auto recurrent_weights, store_transposed(std::move(r)));
    std::vector<std::string> inputs{node.input(0), input_weights.value, recurrent_weights.value};
    for (int i = 3; i < 8; ++i) inputs.push_back(input_of(node, i));
    for (const auto* one : {&input_weights, &recurrent_weights}) {
      inputs.push_back(one->scale);
      inputs.push_back(one->zero_point);
    }
    auto& lstm = add_node("DynamicQuantizeLSTM", inputs,
                          {node.output().begin(), node.output().end()}, kMicrosoftDomain);
    copy_attributes(node, lstm, {"layout"});
    return "";
  }

  [[nodiscard]] Result<std::string> quantize_attention(const onnx::NodeProto& node) {
    if (node.domain() != kMicrosoftDomain) return "only com.microsoft's Attention is known";
    if (!input_of(node, 5).empty() || node.output_size() > 2 ||
        graph::find_attribute(node, "qkv_hidden_sizes") != nullptr)
      return "QAttention has not all that it uses";
    Stored weights;
    SELVAGE_TRY(auto obstacle, read_weight(input_of(node, 1), 2, weights));
    if (!obstacle.empty()) return obstacle;
    SELVAGE_TRY(const auto stored, store(weights, by_channel(options_.per_channel)));
    const auto& input = dynamic(node.input(0));
    auto& attention =
        add_node("QAttention",
                 {input.value, stored.value, input_of(node, 2), input.scale, stored.scale,
                  input_of(node, 3), input.zero_point, stored.zero_point, input_of(node, 4)},
                 {node.output().begin(), node.output().end()}, kMicrosoftDomain);
    copy_attributes(node, attention, {});
    return "";
  }

  [[nodiscard]] Result<std::string> quantize_gather(const onnx::NodeProto& node) {
    Stored table;
    SELVAGE_TRY(auto obstacle, read_weight(node.input(0), 0, table));
    if (!obstacle.empty()) return obstacle;
    SELVAGE_TRY(const auto stored, store(table, by_channel(false)));
    const auto rows = names_.fresh_name(node.output(0) + "_quantized");
    auto& gather = add_node("Gather", {stored.value, node.input(1)}, {rows});
    copy_attributes(node, gather, {});
    add_node("DequantizeLinear", {rows, stored.scale, stored.zero_point}, {node.output(0)});
    return "";
  }

  [[nodiscard]] Result<std::string> quantize_conv(const onnx::NodeProto& node) {
    Stored w;
    SELVAGE_TRY(auto obstacle, read_weight(input_of(node, 1), 0, w));
    if (!obstacle.empty()) return obstacle;
    if (w.shape.size() < 3) return "its weight has another rank";
    const auto rank = w.shape.size();
    // The runtime's ConvInteger takes unsigned weights only.
    SELVAGE_TRY(const auto stored, store(w, {.type = DataType::kUint8, .width = width_}));
    const auto& input = dynamic(node.input(0));
    const auto sum = names_.fresh_name(node.output(0) + "_integer");
    auto& conv = add_node("ConvInteger",
                          {input.value, stored.value, input.zero_point, stored.zero_point}, {sum});
    copy_attributes(node, conv, {});
    const auto bias = input_of(node, 2);
    if (bias.empty()) {
      add_scaling(sum, input.scale, stored.scale, node.output(0));
      return "";
    }
    const auto scaled = names_.fresh_name(node.output(0) + "_scaled");
    add_scaling(sum, input.scale, stored.scale, scaled);
    Shape shape(rank, 1);
    shape[1] = -1;
    const auto shape_name = names_.fresh_name(bias + "_shape");
    graph::add_initialiser(graph_, shape_name, {static_cast<std::int64_t>(rank)},
                           std::span<const std::int64_t>(shape));
    const auto column = names_.fresh_name(bias + "_column");
    add_node("Reshape", {bias, shape_name}, {column});
    add_node("Add", {scaled, column}, {node.output(0)});
    return "";
  }

  static void copy_attributes(const onnx::NodeProto& from, onnx::NodeProto& to,
                              std::initializer_list<std::string_view> without) {
    for (const auto& attribute : from.attribute())
      if (std::ranges::find(without, attribute.name()) == without.end())
        *to.add_attribute() = attribute;
  }

  onnx::GraphProto& graph_;
  const std::filesystem::path& folder_;
  Index& names_;  ///< Of the whole model: makes names that are new everywhere.
  const Index index_;
  const DynamicOptions& options_;
  const Selector& selector_;
  QuantizationReport& report_;
  Width width_;
  std::map<std::string, IntegerValue> dynamic_;
  std::unordered_set<std::string> replaced_weights_;
  std::vector<onnx::NodeProto> added_;
};

/// The graph and those inside it, innermost first.
template <typename Visit>
Result<void> visit_graphs(onnx::GraphProto& graph, Visit& visit) {
  for (auto& node : *graph.mutable_node()) {
    for (auto& attribute : *node.mutable_attribute()) {
      if (attribute.has_g()) SELVAGE_RETURN_IF_ERROR(visit_graphs(*attribute.mutable_g(), visit));
      for (auto& inner : *attribute.mutable_graphs())
        SELVAGE_RETURN_IF_ERROR(visit_graphs(inner, visit));
    }
  }
  return visit(graph);
}

/// One node of each type, those last whose tables are mostly integers that shapes are made of.
std::string reasons(std::vector<KeptNode> kept) {
  std::ranges::stable_partition(kept, [](const auto& node) { return node.type != "Gather"; });
  std::string text;
  std::unordered_set<std::string> told;
  for (const auto& node : kept)
    if (told.insert(node.type).second)
      text += (text.empty() ? "" : "; ") + node.type + " '" + node.name + "': " + node.reason;
  return text;
}

}  // namespace

std::vector<std::string> dynamic_types() {
  return {"MatMul", "Gemm", "LSTM", "GRU", "RNN", "Attention", "Gather"};
}

Result<QuantizationReport> quantize_dynamic(graph::Model& model, const DynamicOptions& options) {
  if (options.weights != DataType::kInt8 && options.weights != DataType::kUint8)
    return fail(ErrorCode::kInvalidArgument,
                "dynamic quantisation stores weights as int8 or uint8, not as " +
                    std::string(to_string(options.weights)));
  if (graph::opset_of(model) < kOpsetMin) {
    SELVAGE_RETURN_IF_ERROR(graph::upgrade_opset(model, kOpsetMin));
  }
  auto& main = *model.proto().mutable_graph();
  const std::vector<std::string> supported(kSupported.begin(), kSupported.end());
  SELVAGE_TRY(const auto selector,
              Selector::create(options.selection, main, dynamic_types(), supported));
  QuantizationReport report;
  Index names(main);
  auto visit = [&](onnx::GraphProto& graph) {
    return GraphQuantizer(graph, model.folder(), names, options, selector, report).run();
  };
  SELVAGE_RETURN_IF_ERROR(visit_graphs(main, visit));
  if (report.quantized_nodes == 0)
    return fail(
        ErrorCode::kFailedPrecondition,
        report.kept.empty()
            ? "nothing to quantise dynamically: the model has no MatMul, Gemm, LSTM, GRU, RNN, "
              "Attention or Gather with float32 weights"
            : "nothing to quantise dynamically: " + reasons(std::move(report.kept)));
  import_microsoft_domain(model);
  graph::sort_nodes(model);
  return report;
}

}  // namespace selvage::compress
