#include "learn/training_mode.h"

#include <algorithm>
#include <cstring>
#include <unordered_map>

#include <selvage/onnx.pb.h>

#include "graph/attributes.h"
#include "graph/tensor.h"
#include "graph/values.h"

namespace selvage::learn {
namespace {

class Switcher {
 public:
  Switcher(PreparedModel& prepared, const std::unordered_set<std::string>& trained)
      : graph_(*prepared.model.proto().mutable_graph()),
        types_(prepared.types),
        trained_(trained) {}

  Result<TrainingMode> run() {
    swap_relu_and_pool();
    for (auto& node : *graph_.mutable_node()) {
      if (node.op_type() == "BatchNormalization") switch_batch_norm(node);
      if (node.op_type() == "Dropout") SELVAGE_RETURN_IF_ERROR(switch_dropout(node));
    }
    return std::move(mode_);
  }

 private:
  void switch_batch_norm(onnx::NodeProto& node);
  Result<void> switch_dropout(onnx::NodeProto& node);
  void swap_relu_and_pool();
  [[nodiscard]] bool is_output(const std::string& name) const {
    return std::ranges::find(graph_.output(), name, &onnx::ValueInfoProto::name) !=
           graph_.output().end();
  }

  onnx::GraphProto& graph_;
  ValueTypes& types_;
  const std::unordered_set<std::string>& trained_;
  TrainingMode mode_;
};

void Switcher::switch_batch_norm(onnx::NodeProto& node) {
  if (node.input_size() != 5 || !trained_.contains(node.input(1))) return;
  const auto x = types_.find(node.input(0));
  const auto mean = types_.find(node.input(3));
  if (x == types_.end() || mean == types_.end() || x->second.shape.size() < 2 ||
      mean->second.shape.size() != 1 || mean->second.type != DataType::kFloat32)
    return;
  const double momentum = graph::float_attribute(node, "momentum", 0.9f);
  graph::remove_attribute(node, "momentum");
  graph::set_attribute(node, "training_mode", std::int64_t{1});
  // With momentum 0 the operator returns the batch's own statistics, which the gradient needs.
  auto* attribute = node.add_attribute();
  attribute->set_name("momentum");
  attribute->set_type(onnx::AttributeProto::FLOAT);
  attribute->set_f(0);
  while (node.output_size() > 1) node.mutable_output()->RemoveLast();
  const auto base = node.output(0);
  for (const auto* kind : {"/batch_mean", "/batch_variance"}) {
    node.add_output(base + kind);
    types_[base + kind] = mean->second;
  }
  // The runtime writes the statistics over its inputs, state of ours or not, so that each node gets
  // inputs of its own; with momentum 0 what they hold does not matter. They differ from each other,
  // since the runtime merges equal ones.
  const auto statistics = std::pair(node.input(3), node.input(4));
  for (const int input : {3, 4}) {
    const auto name = base + "/unused_" + std::to_string(input);
    const std::vector<float> values(
        static_cast<std::size_t>(mean->second.shape.at(0)),
        static_cast<float>(mode_.statistics.size() + 2) + static_cast<float>(input) * 0.125f);
    graph::add_initialiser(graph_, name, mean->second.shape, values);
    types_[name] = mean->second;
    node.set_input(input, name);
  }
  // The running variance estimates that of the population, as all frameworks keep it.
  const auto count = static_cast<double>(element_count(x->second.shape).value_or(0)) /
                     static_cast<double>(x->second.shape[1]);
  mode_.statistics.push_back({statistics.first, base + "/batch_mean", momentum, 1});
  mode_.statistics.push_back(
      {statistics.second, base + "/batch_variance", momentum, count > 1 ? count / (count - 1) : 1});
}

/// The runtime's own Dropout draws from a generator whose state nobody can save.
Result<void> Switcher::switch_dropout(onnx::NodeProto& node) {
  float ratio = 0.5f;
  if (node.input_size() > 1 && !node.input(1).empty()) {
    const auto tensor =
        std::ranges::find(graph_.initializer(), node.input(1), &onnx::TensorProto::name);
    if (tensor == graph_.initializer().end())
      return fail(ErrorCode::kUnimplemented,
                  "Dropout '" + node.name() + "': its ratio is no constant");
    SELVAGE_TRY(const auto data, graph::TensorData::open(*tensor, {}));
    if (data.view().type == DataType::kFloat32 && data.view().bytes.size() == sizeof ratio)
      std::memcpy(&ratio, data.view().bytes.data(), sizeof ratio);
  }
  if (!(ratio >= 0 && ratio < 1))
    return fail(ErrorCode::kInvalidArgument,
                "Dropout '" + node.name() + "': its ratio must be at least 0 and below 1");
  const auto type = types_.find(node.input(0));
  if (ratio == 0 || type == types_.end() || type->second.type != DataType::kFloat32) return {};
  const auto mask = node.output(0) + "/mask";
  mode_.masks.push_back({mask, type->second.shape, ratio});
  types_[mask] = type->second;
  node.set_op_type("Mul");
  node.clear_attribute();
  while (node.input_size() > 1) node.mutable_input()->RemoveLast();
  while (node.output_size() > 1) node.mutable_output()->RemoveLast();
  node.add_input(mask);
  return {};
}

/// max(relu(x)) = relu(max(x)), and so are the gradients, ties included.
void Switcher::swap_relu_and_pool() {
  std::unordered_map<std::string, std::vector<int>> consumers;
  for (int i = 0; i < graph_.node_size(); ++i)
    for (const auto& input : graph_.node(i).input()) consumers[input].push_back(i);
  for (int i = 0; i < graph_.node_size(); ++i) {
    auto& relu = *graph_.mutable_node(i);
    if (relu.op_type() != "Relu" || is_output(relu.output(0))) continue;
    const auto& users = consumers[relu.output(0)];
    if (users.size() != 1) continue;
    auto& pool = *graph_.mutable_node(users[0]);
    if (pool.op_type() != "MaxPool" || pool.output_size() != 1) continue;
    const auto full = types_.find(relu.input(0)), small = types_.find(pool.output(0));
    if (full == types_.end() || small == types_.end()) continue;
    // relu: a -> b, pool: b -> c becomes pool: a -> b', relu: b' -> c, each at the other's place.
    const auto a = relu.input(0), b = relu.output(0), c = pool.output(0);
    pool.set_input(0, a);
    pool.set_output(0, b);
    relu.set_input(0, b);
    relu.set_output(0, c);
    types_[b] = small->second;
    graph_.mutable_node()->SwapElements(i, users[0]);
  }
}

}  // namespace

Result<TrainingMode> enter_training_mode(PreparedModel& prepared,
                                         const std::unordered_set<std::string>& trained) {
  return Switcher(prepared, trained).run();
}

}  // namespace selvage::learn
