#include "learn/parameters.h"

#include <algorithm>
#include <unordered_map>
#include <unordered_set>

#include <selvage/onnx.pb.h>

#include "base/tensor.h"
#include "learn/training_graph.h"

namespace selvage::learn {
namespace {

/// Operators whose inputs of these positions are parameters by their very purpose.
struct Role {
  std::string_view op;
  std::vector<int> inputs;
};
const std::vector<Role>& roles() {
  static const std::vector<Role> table = {
      {"Conv", {1, 2}},
      {"ConvTranspose", {1, 2}},
      {"Gemm", {0, 1, 2}},
      {"MatMul", {0, 1}},
      {"Einsum", {0, 1, 2, 3}},
      {"LSTM", {1, 2, 3, 7}},
      {"GRU", {1, 2, 3}},
      {"RNN", {1, 2, 3}},
      {"BatchNormalization", {1, 2}},
      {"LayerNormalization", {1, 2}},
      {"GroupNormalization", {1, 2}},
      {"InstanceNormalization", {1, 2}},
      {"RMSNormalization", {1}},
      {"SimplifiedLayerNormalization", {1}},
      {"PRelu", {1}},
      {"Gather", {0}},
  };
  return table;
}

/// They hand a parameter on in another form.
constexpr std::string_view kPassing[] = {
    "Identity", "Transpose", "Reshape", "Squeeze",        "Unsqueeze",        "Flatten",
    "Slice",    "Expand",    "Cast",    "QuantizeLinear", "DequantizeLinear", "Split"};
/// Their constants are parameters (a bias, an embedding of positions, a class token) if they meet
/// what depends on parameters already; a constant that meets the input is preprocessing.
constexpr std::string_view kMixing[] = {"Add", "Sub", "Mul", "Div", "Concat"};

bool contains(std::span<const std::string_view> list, std::string_view op) {
  return std::ranges::find(list, op) != list.end();
}

class Finder {
 public:
  explicit Finder(const graph::Model& model) : graph_(model.proto().graph()) {
    for (const auto& tensor : graph_.initializer()) add_stored(tensor.name(), tensor);
    for (const auto& node : graph_.node())
      if (node.op_type() == "Constant" && node.attribute_size() == 1 && node.attribute(0).has_t())
        add_stored(node.output(0), node.attribute(0).t());
    for (const auto& node : graph_.node()) visit(node);
  }

  [[nodiscard]] std::vector<std::string> in_order() const {
    std::vector<std::string> names;
    for (const auto& name : stored_)
      if (parameters_.contains(name)) names.push_back(name);
    return names;
  }

 private:
  void add_stored(const std::string& name, const onnx::TensorProto& tensor) {
    if (tensor.data_type() != onnx::TensorProto::FLOAT) return;
    std::int64_t elements = 1;
    for (const auto size : tensor.dims()) elements *= size;
    stored_.push_back(name);
    origin_[name] = name;
    elements_[name] = elements;
  }

  void visit(const onnx::NodeProto& node) {
    const std::string_view op = node.op_type();
    const auto origin = [&](const std::string& value) {
      const auto found = origin_.find(value);
      return found == origin_.end() ? std::string() : found->second;
    };
    if (contains(kPassing, op) && node.input_size() > 0) {
      if (const auto from = origin(node.input(0)); !from.empty())
        for (const auto& output : node.output()) origin_[output] = from;
    } else {
      const auto role = std::ranges::find(roles(), op, &Role::op);
      if (role != roles().end())
        for (const int i : role->inputs)
          if (i < node.input_size()) take(origin(node.input(i)), node);
      if (contains(kMixing, op) && depends(node))
        for (const auto& input : node.input())
          if (const auto from = origin(input); !from.empty() && elements_.at(from) > 1)
            take(from, node);
    }
    if (depends(node)) dependent_.insert(node.output().begin(), node.output().end());
  }
  void take(const std::string& name, const onnx::NodeProto& node) {
    if (name.empty()) return;
    parameters_.insert(name);
    dependent_.insert(node.output().begin(), node.output().end());
  }
  [[nodiscard]] bool depends(const onnx::NodeProto& node) const {
    return std::ranges::any_of(node.input(),
                               [&](const auto& input) { return dependent_.contains(input); });
  }

  const onnx::GraphProto& graph_;
  std::vector<std::string> stored_;                      ///< float32 tensors, in the file's order.
  std::unordered_map<std::string, std::string> origin_;  ///< Of values: the stored tensor behind.
  std::unordered_map<std::string, std::int64_t> elements_;
  std::unordered_set<std::string> dependent_;  ///< Values that depend on a parameter.
  std::unordered_set<std::string> parameters_;
};

template <typename Model>
auto find_in(Model& model, const std::string& name) -> decltype(find_stored(model, name)) {
  if constexpr (std::is_const_v<Model>) {
    for (const auto& tensor : model.proto().graph().initializer())
      if (tensor.name() == name) return &tensor;
    for (const auto& node : model.proto().graph().node())
      if (node.op_type() == "Constant" && node.attribute_size() == 1 && node.attribute(0).has_t() &&
          node.output(0) == name)
        return &node.attribute(0).t();
  } else {
    auto& graph = *model.proto().mutable_graph();
    for (auto& tensor : *graph.mutable_initializer())
      if (tensor.name() == name) return &tensor;
    for (auto& node : *graph.mutable_node())
      if (node.op_type() == "Constant" && node.attribute_size() == 1 && node.attribute(0).has_t() &&
          node.output(0) == name)
        return node.mutable_attribute(0)->mutable_t();
  }
  return nullptr;
}

}  // namespace

const onnx::TensorProto* find_stored(const graph::Model& model, const std::string& name) {
  return find_in(model, name);
}
onnx::TensorProto* find_stored(graph::Model& model, const std::string& name) {
  return find_in(model, name);
}

std::vector<std::string> trainable_parameters(const graph::Model& model) {
  return Finder(model).in_order();
}

Result<graph::Model> export_model(const graph::Model& inference,
                                  std::span<const NamedTensor> values) {
  auto model = inference.copy();
  for (const auto& [name, value] : values) {
    auto* tensor = find_stored(model, name);
    if (tensor == nullptr)
      return fail(ErrorCode::kNotFound, "the model has no initialiser '" + name + "'");
    const Shape shape(tensor->dims().begin(), tensor->dims().end());
    if (tensor->data_type() != static_cast<int>(value.type()) || shape != value.shape())
      return fail(ErrorCode::kInvalidArgument, "'" + name + "' is " + to_string(shape) +
                                                   " in the model, not " +
                                                   to_string(value.shape()));
    tensor->clear_float_data();
    tensor->clear_external_data();
    tensor->clear_data_location();
    tensor->set_raw_data(value.bytes().data(), value.bytes().size());
  }
  return model;
}

}  // namespace selvage::learn
