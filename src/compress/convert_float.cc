#include "compress/convert_float.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <unordered_map>
#include <unordered_set>

#include <selvage/onnx.pb.h>

#include "base/half.h"
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

constexpr float kFloat16Max = 65504;
constexpr float kFloat16NormalMin = 0x1p-14f;

/// Operators that 16 bits spoil, or that have no such form: the field's usual list
/// (onnxconverter-common's DEFAULT_OP_BLOCK_LIST) as far as ONNX's own operators go.
// clang-format off
constexpr std::array<std::string_view, 26> kIslands{
    "Cast", "CastLike", "Celu", "Constant", "ConstantOfShape", "CumSum", "DequantizeLinear",
    "DynamicQuantizeLinear", "EyeLike", "Max", "MeanVarianceNormalization", "Min", "Multinomial",
    "NonMaxSuppression", "QuantizeLinear", "RandomNormal", "RandomNormalLike", "RandomUniform",
    "RandomUniformLike", "Range", "Resize", "RoiAlign", "ScatterElements", "ScatterND", "TopK",
    "Upsample"};
// clang-format on

void add_cast(std::vector<onnx::NodeProto>& nodes, const std::string& from, const std::string& to,
              DataType type) {
  auto& node = nodes.emplace_back();
  node.set_op_type("Cast");
  node.set_name(to + "_Cast");
  node.add_input(from);
  node.add_output(to);
  graph::set_attribute(node, "to", static_cast<std::int64_t>(type));
}

bool is_float_weight(const onnx::TensorProto& tensor) {
  return graph::type_of(tensor) == DataType::kFloat32;
}

/// Why a weight cannot be kept in 16 bits; "" if it can.
std::string_view misfit(std::span<const float> values, DataType type) {
  if (type == DataType::kBfloat16) return "";  // The range is that of float32.
  double signal = 0, noise = 0;
  for (const float value : values) {
    if (!std::isfinite(value)) continue;
    if (std::abs(value) > kFloat16Max) return "leaves the range of float16";
    const double off = static_cast<double>(value - from_half(to_half(value)));
    signal += static_cast<double>(value) * static_cast<double>(value);
    noise += off * off;
  }
  static const double ratio_min = std::pow(10, kFloat16SqnrMin / 10);
  return signal < ratio_min * noise ? "is too small for float16" : "";
}

std::unexpected<Error> nothing_to_convert(const FloatReport& report, const std::string& otherwise) {
  std::string why = otherwise;
  if (!report.islands.empty()) {
    const auto& first = report.islands.front();
    why = first.type + " '" + first.name + "': " + first.reason;
  }
  return fail(ErrorCode::kFailedPrecondition, "nothing to convert: " + why);
}

// --- Storage
// --------------------------------------------------------------------------------------

Result<FloatReport> store_in_16_bits(graph::Model& model, DataType type) {
  auto& graph = *model.proto().mutable_graph();
  Index index(graph);
  FloatReport report;
  std::vector<onnx::NodeProto> casts;
  for (auto& tensor : *graph.mutable_initializer()) {
    if (!is_float_weight(tensor) || index.constant(tensor.name()) == Index::kNone ||
        index.is_output(tensor.name()))
      continue;
    SELVAGE_TRY(const auto values, graph::read_floats(tensor, model.folder()));
    if (values.size() < kStoredElementsMin) continue;
    if (const auto why = misfit(values, type); !why.empty()) {
      report.islands.push_back({tensor.name(), "weight", std::string(why)});
      continue;
    }
    // The float32 value keeps the name, so that subgraphs find it too.
    const auto stored = index.fresh_name(tensor.name() + "_" + std::string(to_string(type)));
    add_cast(casts, stored, tensor.name(), DataType::kFloat32);
    graph::store_floats(tensor, type, graph::shape_of(tensor), values);
    tensor.set_name(stored);
    ++report.converted_weights;
  }
  if (casts.empty()) return nothing_to_convert(report, "no weight is float32");
  for (auto& node : casts) *graph.add_node() = std::move(node);
  graph::sort_nodes(model);
  return report;
}

// --- Compute
// --------------------------------------------------------------------------------------

class FloatConverter {
 public:
  FloatConverter(graph::Model& model, const FloatOptions& options, graph::TypeMap types,
                 Selector selector)
      : model_(model),
        graph_(*model.proto().mutable_graph()),
        index_(graph_),
        options_(options),
        types_(std::move(types)),
        selector_(std::move(selector)) {}

  [[nodiscard]] Result<FloatReport> convert() {
    std::vector<int> chosen;
    for (int i = 0; i < graph_.node_size(); ++i) {
      const auto& node = graph_.node(i);
      if (!has_floats(node)) continue;
      auto why = island_reason(node, i);
      if (why.empty())
        chosen.push_back(i);
      else
        report_.islands.push_back({node_label(node, i), node.op_type(), std::move(why)});
    }
    if (chosen.empty()) return nothing_to_convert(report_, "no operator computes in float32");
    for (const int i : chosen)
      for (const auto& name : graph_.node(i).output())
        if (is_float_value(name)) narrow_.insert(name);
    const std::unordered_set<int> converted(chosen.begin(), chosen.end());
    for (int i = 0; i < graph_.node_size(); ++i) {
      SELVAGE_RETURN_IF_ERROR(rewire(i, converted.contains(i)));
    }
    widen_outputs();
    widen_captures();
    for (auto& node : casts_) *graph_.add_node() = std::move(node);
    graph::sort_nodes(model_);
    drop_unused_initialisers(graph_, replaced_);
    drop_narrow_infos();
    report_.converted_nodes = chosen.size();
    return std::move(report_);
  }

 private:
  [[nodiscard]] const onnx::TensorProto* constant(const std::string& name) const {
    const int at = index_.constant(name);
    return at == Index::kNone ? nullptr : &graph_.initializer(at);
  }
  [[nodiscard]] bool is_float_value(const std::string& name) const {
    const auto found = types_.find(name);
    return found != types_.end() && found->second.type == DataType::kFloat32;
  }
  [[nodiscard]] bool is_float(const std::string& name) const {
    if (name.empty()) return false;
    const auto* tensor = constant(name);
    return tensor != nullptr ? is_float_weight(*tensor) : is_float_value(name);
  }
  [[nodiscard]] bool has_floats(const onnx::NodeProto& node) const {
    const auto is = [&](const std::string& name) { return is_float(name); };
    return std::ranges::any_of(node.input(), is) || std::ranges::any_of(node.output(), is);
  }

  [[nodiscard]] std::string island_reason(const onnx::NodeProto& node, int at) const {
    if (!selector_.takes(node, at)) return selector_.reason(node, at);
    if (std::ranges::find(kIslands, node.op_type()) != kIslands.end())
      return "16 bits are too few for operators of this type";
    for (const auto& attribute : node.attribute())
      if (attribute.has_g() || attribute.graphs_size() > 0) return "has a subgraph";
    for (const auto& name : node.input())
      if (const auto* tensor = constant(name); tensor != nullptr && is_float_weight(*tensor))
        if (const auto why = misfit_of(*tensor); !why.empty()) return told(name, why);
    for (const auto* names : {&node.input(), &node.output()})
      for (const auto& name : *names)
        if (const auto why = misfit_of(name); !why.empty()) return told(name, why);
    // A value whose type nobody knows cannot be told from a float.
    for (const auto* names : {&node.input(), &node.output()})
      for (const auto& name : *names)
        if (!name.empty() && constant(name) == nullptr && !types_.contains(name))
          return "the type of '" + name + "' is unknown";
    return "";
  }
  [[nodiscard]] static std::string told(const std::string& name, std::string_view why) {
    return "'" + name + "' " + std::string(why);
  }
  [[nodiscard]] std::string_view misfit_of(const onnx::TensorProto& tensor) const {
    const auto values = graph::read_floats(tensor, model_.folder());
    return values ? misfit(*values, options_.type) : "cannot be read";
  }
  [[nodiscard]] std::string_view misfit_of(const std::string& name) const {
    if (options_.ranges == nullptr || options_.type == DataType::kBfloat16) return "";
    const auto found = options_.ranges->find(name);
    if (found == options_.ranges->end()) return "";
    const float largest = std::max(std::abs(found->second.min), std::abs(found->second.max));
    if (largest > kFloat16Max / 2) return "leaves the range of float16";
    return largest > 0 && largest < kFloat16NormalMin ? "is too small for float16" : "";
  }

  /// The 16-bit form of a value that is float32, or the other way round; a Cast the first time.
  [[nodiscard]] Result<std::string> in_type(const std::string& name, DataType type) {
    auto& known = type == DataType::kFloat32 ? widened_ : narrowed_;
    if (const auto found = known.find(name); found != known.end()) return found->second;
    auto converted = index_.fresh_name(name + "_" + std::string(to_string(type)));
    if (const auto* tensor = constant(name)) {
      SELVAGE_TRY(const auto values, graph::read_floats(*tensor, model_.folder()));
      const auto shape = graph::shape_of(*tensor);
      auto& added = *graph_.add_initializer();
      added.set_name(converted);
      graph::store_floats(added, type, shape, values);
      replaced_.insert(name);
      ++report_.converted_weights;
    } else {
      add_cast(casts_, name, converted, type);
    }
    known.emplace(name, converted);
    return converted;
  }

  [[nodiscard]] Result<void> rewire(int at, bool is_converted) {
    auto& node = *graph_.mutable_node(at);
    for (auto& name : *node.mutable_input()) {
      if (!is_float(name)) continue;
      const bool is_narrow = narrow_.contains(name);
      if (is_narrow == is_converted) continue;
      SELVAGE_TRY(name, in_type(name, is_converted ? options_.type : DataType::kFloat32));
    }
    return {};
  }

  /// Outputs of the graph keep their type: what makes them in 16 bits gets another name.
  void widen_outputs() {
    for (const auto& output : graph_.output()) {
      const auto& name = output.name();
      if (!narrow_.contains(name)) continue;
      const auto narrow = index_.fresh_name(name + "_" + std::string(to_string(options_.type)));
      auto& outputs = *graph_.mutable_node(index_.producer(name))->mutable_output();
      *std::ranges::find(outputs, name) = narrow;
      for (auto& node : *graph_.mutable_node())
        std::ranges::replace(*node.mutable_input(), name, narrow);
      for (auto& node : casts_) std::ranges::replace(*node.mutable_input(), name, narrow);
      add_cast(casts_, narrow, name, DataType::kFloat32);
      narrow_.erase(name);
    }
  }

  /// Subgraphs read outer values by name, in the type they always had.
  void widen_captures() {
    const Index now(graph_);
    for (const auto& node : graph_.node())
      for (const auto captured : graph::captures(node)) {
        const std::string name(captured);
        if (!narrow_.contains(name)) continue;
        const auto narrow = index_.fresh_name(name + "_" + std::string(to_string(options_.type)));
        auto& outputs = *graph_.mutable_node(now.producer(name))->mutable_output();
        *std::ranges::find(outputs, name) = narrow;
        for (auto& reader : *graph_.mutable_node())
          std::ranges::replace(*reader.mutable_input(), name, narrow);
        for (auto& cast : casts_) std::ranges::replace(*cast.mutable_input(), name, narrow);
        add_cast(casts_, narrow, name, DataType::kFloat32);
        narrow_.erase(name);
      }
  }

  void drop_narrow_infos() {
    auto& infos = *graph_.mutable_value_info();
    for (int i = infos.size() - 1; i >= 0; --i)
      if (narrow_.contains(infos[i].name())) infos.DeleteSubrange(i, 1);
  }

  graph::Model& model_;
  onnx::GraphProto& graph_;
  Index index_;
  const FloatOptions& options_;
  graph::TypeMap types_;
  Selector selector_;
  FloatReport report_;
  std::unordered_set<std::string> narrow_;  ///< Values that converted nodes make.
  std::unordered_map<std::string, std::string> narrowed_, widened_;
  std::unordered_set<std::string> replaced_;
  std::vector<onnx::NodeProto> casts_;
};

/// Every type of operator that the graph has: all are chosen unless excluded.
std::vector<std::string> types_of(const onnx::GraphProto& graph) {
  std::vector<std::string> types;
  for (const auto& node : graph.node()) types.push_back(node.op_type());
  return types;
}

}  // namespace

std::vector<std::string> computed_values(const graph::Model& model) {
  std::vector<std::string> names;
  for (const auto& input : model.proto().graph().input()) names.push_back(input.name());
  for (const auto& node : model.proto().graph().node())
    for (const auto& name : node.output())
      if (!name.empty()) names.push_back(name);
  return names;
}

Result<FloatReport> convert_floats(graph::Model& model, const FloatOptions& options,
                                   const graph::PassContext& context) {
  if (options.type != DataType::kFloat16 && options.type != DataType::kBfloat16)
    return fail(ErrorCode::kInvalidArgument,
                "floats become float16 or bfloat16, not " + std::string(to_string(options.type)));
  if (graph::opset_of(model) < graph::kUpgradeFromMin)
    return fail(ErrorCode::kFailedPrecondition,
                "the model has operator set " + std::to_string(graph::opset_of(model)) +
                    ", whose Cast is another: export it again with " +
                    std::to_string(graph::kUpgradeFromMin) + " or newer");
  auto copy = model.copy();
  if (options.use == FloatUse::kStorage) {
    SELVAGE_TRY(auto report, store_in_16_bits(copy, options.type));
    model = std::move(copy);
    return report;
  }
  if (!context.infer_types)
    return fail(ErrorCode::kFailedPrecondition, "converting operators needs the values' types");
  SELVAGE_TRY(auto types, context.infer_types(model));
  const auto present = types_of(model.proto().graph());
  SELVAGE_TRY(auto selector,
              Selector::create(options.selection, model.proto().graph(), present, present));
  SELVAGE_TRY(auto report,
              FloatConverter(copy, options, std::move(types), std::move(selector)).convert());
  model = std::move(copy);
  return report;
}

}  // namespace selvage::compress
