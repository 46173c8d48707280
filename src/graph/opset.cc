#include "graph/opset.h"

#include <array>
#include <unordered_map>

#include <selvage/onnx.pb.h>

#include "graph/attributes.h"
#include "graph/index.h"
#include "graph/names.h"
#include "graph/pass.h"
#include "graph/passes.h"
#include "graph/values.h"

namespace selvage::graph {
namespace {

using Nodes = google::protobuf::RepeatedPtrField<onnx::NodeProto>;

/// The newest IR version that knows all of an operator set: 8 came with 15 and is all that 17
/// needs.
constexpr std::int64_t kIrVersion = 8;

class Upgrader {
 public:
  Upgrader(Model& model, std::int64_t from, std::int64_t to)
      : graph_(*model.proto().mutable_graph()),
        index_(graph_),
        folder_(model.folder()),
        from_(from),
        to_(to) {
    collect_types(graph_);
  }

  Result<void> run() { return upgrade(*graph_.mutable_node()); }

 private:
  using Rewrite = Result<void> (Upgrader::*)(onnx::NodeProto&);
  struct Change {
    std::string_view type;
    std::int64_t version;  ///< That changed the meaning.
    Rewrite rewrite;
  };
  static const std::array<Change, 23> kChanges;

  Result<void> upgrade(Nodes& nodes);
  Result<void> upgrade_one(onnx::NodeProto& node);

  Result<void> squeeze_axes(onnx::NodeProto& node) { return move_list(node, "axes", 1); }
  Result<void> split_sizes(onnx::NodeProto& node) { return move_list(node, "split", 1); }
  Result<void> slice_bounds(onnx::NodeProto& node);
  Result<void> top_k(onnx::NodeProto& node);
  Result<void> pad_sizes(onnx::NodeProto& node);
  Result<void> clip_bounds(onnx::NodeProto& node);
  Result<void> dropout_ratio(onnx::NodeProto& node);
  Result<void> softmax_axis(onnx::NodeProto& node);
  Result<void> upsample_scales(onnx::NodeProto& node);
  Result<void> upsample_to_resize(onnx::NodeProto& node);
  Result<void> resize_coordinates(onnx::NodeProto& node);
  Result<void> batch_norm_spatial(onnx::NodeProto& node);
  Result<void> batch_norm_outputs(onnx::NodeProto& node);
  Result<void> rename_scatter(onnx::NodeProto& node);
  Result<void> roi_align_mode(onnx::NodeProto& node);
  Result<void> refuse(onnx::NodeProto& node);

  Result<void> move_list(onnx::NodeProto& node, std::string_view attribute, int input);
  void set_input(onnx::NodeProto& node, int input, const std::string& name);
  std::string integers(const onnx::NodeProto& node, std::string_view what, const Shape& values);
  std::string floats(const onnx::NodeProto& node, std::string_view what, const Shape& shape,
                     std::span<const float> values, DataType type = DataType::kFloat32);
  Result<DataType> scalar_type(const onnx::NodeProto& node);
  void collect_types(const onnx::GraphProto& graph);
  [[nodiscard]] std::unexpected<Error> unknown(const onnx::NodeProto& node,
                                               std::string_view why) const;

  onnx::GraphProto& graph_;
  Index index_;
  const std::filesystem::path& folder_;
  std::int64_t from_, to_;
  std::unordered_map<std::string, DataType> types_;
  bool is_float32_only_ = true;
  std::vector<onnx::NodeProto> before_, after_;  // To be put around the current node.
};

// In the order of the versions, so that a node goes through all that apply.
const std::array<Upgrader::Change, 23> Upgrader::kChanges = {{
    {"Upsample", 9, &Upgrader::upsample_scales},
    {"BatchNormalization", 9, &Upgrader::batch_norm_spatial},
    {"Scan", 9, &Upgrader::refuse},
    {"Upsample", 10, &Upgrader::upsample_to_resize},
    {"Slice", 10, &Upgrader::slice_bounds},
    {"TopK", 10, &Upgrader::top_k},
    {"Resize", 11, &Upgrader::resize_coordinates},
    {"Pad", 11, &Upgrader::pad_sizes},
    {"Clip", 11, &Upgrader::clip_bounds},
    {"Scatter", 11, &Upgrader::rename_scatter},
    {"Dropout", 12, &Upgrader::dropout_ratio},
    {"Squeeze", 13, &Upgrader::squeeze_axes},
    {"Unsqueeze", 13, &Upgrader::squeeze_axes},
    {"ReduceSum", 13, &Upgrader::squeeze_axes},
    {"Split", 13, &Upgrader::split_sizes},
    {"Softmax", 13, &Upgrader::softmax_axis},
    {"LogSoftmax", 13, &Upgrader::softmax_axis},
    {"Hardmax", 13, &Upgrader::softmax_axis},
    {"BatchNormalization", 14, &Upgrader::batch_norm_outputs},
    {"RoiAlign", 16, &Upgrader::roi_align_mode},
    // Experimental operators that never had a version.
    {"Affine", 10, &Upgrader::refuse},
    {"ImageScaler", 10, &Upgrader::refuse},
    {"Crop", 10, &Upgrader::refuse},
}};

std::unexpected<Error> Upgrader::unknown(const onnx::NodeProto& node, std::string_view why) const {
  return fail(ErrorCode::kUnimplemented, describe(node, 0) + " " + std::string(why) +
                                             ": it cannot be written for operator set " +
                                             std::to_string(to_));
}

void Upgrader::set_input(onnx::NodeProto& node, int input, const std::string& name) {
  while (node.input_size() <= input) node.add_input("");
  node.set_input(input, name);
}

std::string Upgrader::integers(const onnx::NodeProto& node, std::string_view what,
                               const Shape& values) {
  const auto name = index_.fresh_name(node.output(0) + "_" + std::string(what));
  add_initialiser(graph_, name, {static_cast<std::int64_t>(values.size())},
                  std::span<const std::int64_t>(values));
  return name;
}

std::string Upgrader::floats(const onnx::NodeProto& node, std::string_view what, const Shape& shape,
                             std::span<const float> values, DataType type) {
  const auto name = index_.fresh_name(node.output(0) + "_" + std::string(what));
  auto& tensor = *graph_.add_initializer();
  tensor.set_name(name);
  store_floats(tensor, type, shape, values);
  return name;
}

void Upgrader::collect_types(const onnx::GraphProto& graph) {
  const auto keep = [this](const std::string& name, int number) {
    const auto type = static_cast<DataType>(number);
    types_.emplace(name, type);
    is_float32_only_ = is_float32_only_ && (!is_float(type) || type == DataType::kFloat32);
  };
  for (const auto* values : {&graph.input(), &graph.value_info(), &graph.output()})
    for (const auto& value : *values)
      if (value.type().has_tensor_type())
        keep(value.name(), value.type().tensor_type().elem_type());
  for (const auto& tensor : graph.initializer()) keep(tensor.name(), tensor.data_type());
}

/// The type that a bound or a filling of the node's input must have.
Result<DataType> Upgrader::scalar_type(const onnx::NodeProto& node) {
  const auto found = types_.find(node.input(0));
  if (found != types_.end() && is_float(found->second)) return found->second;
  if (found == types_.end() && is_float32_only_) return DataType::kFloat32;
  return unknown(node, "has an input of unknown type");
}

Result<void> Upgrader::move_list(onnx::NodeProto& node, std::string_view attribute, int input) {
  if (find_attribute(node, attribute) == nullptr) return {};
  set_input(node, input, integers(node, attribute, ints_attribute(node, attribute)));
  remove_attribute(node, attribute);
  return {};
}

Result<void> Upgrader::slice_bounds(onnx::NodeProto& node) {
  SELVAGE_RETURN_IF_ERROR(move_list(node, "starts", 1));
  SELVAGE_RETURN_IF_ERROR(move_list(node, "ends", 2));
  return move_list(node, "axes", 3);
}

Result<void> Upgrader::top_k(onnx::NodeProto& node) {
  set_input(node, 1, integers(node, "k", {int_attribute(node, "k", 1)}));
  remove_attribute(node, "k");
  return {};
}

Result<void> Upgrader::pad_sizes(onnx::NodeProto& node) {
  const float value = float_attribute(node, "value", 0);
  if (value != 0) {
    SELVAGE_TRY(const auto type, scalar_type(node));
    set_input(node, 2, floats(node, "value", {}, std::array{value}, type));
  }
  remove_attribute(node, "value");
  return move_list(node, "pads", 1);
}

Result<void> Upgrader::clip_bounds(onnx::NodeProto& node) {
  int input = 1;
  for (const auto* bound : {"min", "max"}) {
    if (find_attribute(node, bound) != nullptr) {
      SELVAGE_TRY(const auto type, scalar_type(node));
      const std::array value{float_attribute(node, bound, 0)};
      set_input(node, input, floats(node, bound, {}, value, type));
      remove_attribute(node, bound);
    }
    ++input;
  }
  return {};
}

Result<void> Upgrader::dropout_ratio(onnx::NodeProto& node) {
  const std::array ratio{float_attribute(node, "ratio", 0.5f)};
  remove_attribute(node, "ratio");
  // Until 10 the mask had the type of the data.
  if (from_ < 10 && node.output_size() > 1 && !node.output(1).empty() &&
      (!index_.uses(node.output(1)).empty() || index_.is_output(node.output(1))))
    return unknown(node, "gives its mask");
  set_input(node, 1, floats(node, "ratio", {}, ratio));
  return {};
}

/// Until 13 everything from the axis on was one row: now a Flatten before and a Reshape after do
/// that.
Result<void> Upgrader::softmax_axis(onnx::NodeProto& node) {
  const auto axis = int_attribute(node, "axis", 1);
  set_attribute(node, "axis", std::int64_t{-1});
  if (axis == -1) return {};
  const auto result = node.output(0);
  const auto add = [&](std::vector<onnx::NodeProto>& place, std::string_view type,
                       const std::vector<std::string>& inputs, const std::string& output) {
    auto& added = place.emplace_back();
    added.set_op_type(std::string(type));
    for (const auto& input : inputs) added.add_input(input);
    added.add_output(output);
    return &added;
  };
  const auto shape = index_.fresh_name(result + "_shape");
  const auto flat = index_.fresh_name(result + "_flat");
  const auto rows = index_.fresh_name(result + "_rows");
  add(before_, "Shape", {node.input(0)}, shape);
  set_attribute(*add(before_, "Flatten", {node.input(0)}, flat), "axis", axis);
  node.set_input(0, flat);
  node.set_output(0, rows);
  add(after_, "Reshape", {rows, shape}, result);
  return {};
}

Result<void> Upgrader::upsample_scales(onnx::NodeProto& node) {
  const auto* scales = find_attribute(node, "scales");
  if (scales == nullptr) return unknown(node, "has no scales");
  const std::vector<float> values(scales->floats().begin(), scales->floats().end());
  set_input(node, 1, floats(node, "scales", {static_cast<std::int64_t>(values.size())}, values));
  remove_attribute(node, "scales");
  return {};
}

/// Upsample only enlarges, so its nearest element lies below.
Result<void> Upgrader::upsample_to_resize(onnx::NodeProto& node) {
  node.set_op_type("Resize");
  if (to_ < 11) return {};
  const auto scales = node.input(1);
  set_input(node, 2, scales);
  node.set_input(1, to_ < 13 ? floats(node, "roi", {0}, {}) : "");
  set_attribute(node, "coordinate_transformation_mode", "asymmetric");
  if (string_attribute(node, "mode", "nearest") == "nearest")
    set_attribute(node, "nearest_mode", "floor");
  return {};
}

/// Resize of operator set 10 rounded down where it enlarged and up where it shrank.
Result<void> Upgrader::resize_coordinates(onnx::NodeProto& node) {
  if (from_ < 10) return {};  // It was an Upsample, and has become what it must be.
  const bool is_nearest = string_attribute(node, "mode", "nearest") == "nearest";
  const auto scales = node.input(1);
  if (is_nearest) {
    const int constant = index_.constant(scales);
    if (constant == Index::kNone) return unknown(node, "has computed scales");
    SELVAGE_TRY(const auto values, read_floats(graph_.initializer(constant), folder_));
    const bool enlarges = std::ranges::all_of(values, [](float scale) { return scale >= 1; });
    const bool shrinks = std::ranges::all_of(values, [](float scale) { return scale <= 1; });
    if (!enlarges && !shrinks) return unknown(node, "both enlarges and shrinks");
    set_attribute(node, "nearest_mode", enlarges ? "floor" : "ceil");
  }
  set_input(node, 2, scales);
  node.set_input(1, to_ < 13 ? floats(node, "roi", {0}, {}) : "");
  set_attribute(node, "coordinate_transformation_mode", "asymmetric");
  return {};
}

Result<void> Upgrader::batch_norm_spatial(onnx::NodeProto& node) {
  if (int_attribute(node, "spatial", 1) != 1) return unknown(node, "normalises each pixel");
  remove_attribute(node, "spatial");
  return {};
}

Result<void> Upgrader::batch_norm_outputs(onnx::NodeProto& node) {
  for (int i = 1; i < node.output_size(); ++i) {
    const auto& name = node.output(i);
    if (!name.empty() && (!index_.uses(name).empty() || index_.is_output(name)))
      return unknown(node, "gives its statistics");
  }
  while (node.output_size() > 1) node.mutable_output()->RemoveLast();
  return {};
}

Result<void> Upgrader::rename_scatter(onnx::NodeProto& node) {
  node.set_op_type("ScatterElements");
  return {};
}

Result<void> Upgrader::roi_align_mode(onnx::NodeProto& node) {
  if (find_attribute(node, "coordinate_transformation_mode") == nullptr)
    set_attribute(node, "coordinate_transformation_mode", "output_half_pixel");
  return {};
}

Result<void> Upgrader::refuse(onnx::NodeProto& node) {
  return unknown(node, "has no equal there");
}

Result<void> Upgrader::upgrade_one(onnx::NodeProto& node) {
  for (const auto& change : kChanges) {
    if (change.version <= from_ || change.version > to_ || !is_op(node, change.type)) continue;
    SELVAGE_RETURN_IF_ERROR((this->*change.rewrite)(node));
  }
  for (auto& attribute : *node.mutable_attribute()) {
    if (attribute.has_g()) {
      collect_types(attribute.g());
      SELVAGE_RETURN_IF_ERROR(upgrade(*attribute.mutable_g()->mutable_node()));
    }
    for (auto& inner : *attribute.mutable_graphs())
      SELVAGE_RETURN_IF_ERROR(upgrade(*inner.mutable_node()));
  }
  return {};
}

Result<void> Upgrader::upgrade(Nodes& nodes) {
  Nodes upgraded;
  for (auto& node : nodes) {
    if (node.output_size() > 0) SELVAGE_RETURN_IF_ERROR(upgrade_one(node));
    for (auto& added : before_) upgraded.Add()->Swap(&added);
    upgraded.Add()->Swap(&node);
    for (auto& added : after_) upgraded.Add()->Swap(&added);
    before_.clear();
    after_.clear();
  }
  nodes.Swap(&upgraded);
  return {};
}

}  // namespace

std::int64_t opset_of(const Model& model) {
  for (const auto& import : model.proto().opset_import())
    if (canonical_domain(import.domain()).empty()) return import.version();
  return 0;
}

Result<void> upgrade_opset(Model& model, std::int64_t version) {
  const auto from = opset_of(model);
  if (from >= version) return {};
  if (from < kUpgradeFromMin || version > kUpgradeToMax)
    return fail(ErrorCode::kFailedPrecondition,
                "operator set " + std::to_string(from) + " cannot become " +
                    std::to_string(version) + "; known are " + std::to_string(kUpgradeFromMin) +
                    " to " + std::to_string(kUpgradeToMax) + ": export the model again");
  if (model.proto().functions_size() > 0)
    return fail(ErrorCode::kFailedPrecondition,
                "a model with functions of its own cannot be upgraded: export it again");
  auto upgraded = model.copy();
  SELVAGE_RETURN_IF_ERROR(drop_initialiser_inputs(upgraded, {}));
  SELVAGE_RETURN_IF_ERROR(Upgrader(upgraded, from, version).run());
  for (auto& import : *upgraded.proto().mutable_opset_import())
    if (canonical_domain(import.domain()).empty()) import.set_version(version);
  if (upgraded.proto().ir_version() < kIrVersion) upgraded.proto().set_ir_version(kIrVersion);
  model = std::move(upgraded);
  return {};
}

}  // namespace selvage::graph
