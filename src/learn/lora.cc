#include "learn/lora.h"

#include <algorithm>
#include <cmath>
#include <unordered_set>

#include <selvage/onnx.pb.h>

#include "graph/attributes.h"
#include "learn/name_pattern.h"
#include "learn/random.h"

namespace selvage::learn {
namespace {

/// Names of the weights that take an adapter: second inputs of products and ungrouped convolutions.
std::unordered_set<std::string> weights_of(const onnx::GraphProto& graph) {
  std::unordered_set<std::string> weights;
  for (const auto& node : graph.node()) {
    const bool is_product = node.op_type() == "MatMul" || node.op_type() == "Gemm";
    const bool is_conv = node.op_type() == "Conv" && graph::int_attribute(node, "group", 1) == 1;
    if ((is_product || is_conv) && node.input_size() > 1) weights.insert(node.input(1));
  }
  return weights;
}

Result<AddedAdapter> make_adapter(const std::string& weight, Tensor base,
                                  const LoraOptions& options, std::uint64_t stream) {
  const auto rows = base.shape()[0];
  const auto columns = element_count(base.shape()).value_or(0) / std::max<std::int64_t>(rows, 1);
  SELVAGE_TRY(auto a, Tensor::create(DataType::kFloat32, {rows, options.rank}));
  SELVAGE_TRY(auto b, Tensor::create(DataType::kFloat32, {options.rank, columns}));
  fill_normal(a.as<float>(), 1 / std::sqrt(static_cast<float>(rows)), options.seed, stream);
  return AddedAdapter{.adapter = {.weight = weight,
                                  .a = "adapter/a/" + weight,
                                  .b = "adapter/b/" + weight,
                                  .scale = options.scale / static_cast<float>(options.rank),
                                  .base = std::move(base)},
                      .a = std::move(a),
                      .b = std::move(b)};
}

}  // namespace

Result<std::vector<AddedAdapter>> add_adapters(graph::Model& model, ValueTypes& types,
                                               const LoraOptions& options,
                                               std::span<const std::string> parameters) {
  std::vector<AddedAdapter> added;
  if (options.rank == 0) return added;
  if (options.rank < 0 || !std::isfinite(options.scale))
    return fail(ErrorCode::kInvalidArgument, "adapters need a positive rank and a finite scale");
  auto& graph = *model.proto().mutable_graph();
  const auto weights = weights_of(graph);
  const int before = graph.node_size();
  GraphBuilder builder(graph, types);
  builder.set_prefix("adapter");
  for (const auto& name : parameters) {
    const auto weight = builder.value(name);
    if (!weights.contains(name) || !matches_any(name, options.patterns) || weight.rank() < 2)
      continue;
    auto base = builder.constant_value(weight);
    if (!base || base->type() != DataType::kFloat32) continue;
    SELVAGE_TRY(auto entry, make_adapter(name, *std::move(base), options, added.size()));
    const auto a = builder.declare(entry.adapter.a, DataType::kFloat32, entry.a.shape());
    const auto b = builder.declare(entry.adapter.b, DataType::kFloat32, entry.b.shape());
    const auto adapted =
        weight + reshape(matmul(a, b), weight.shape()) * static_cast<double>(entry.adapter.scale);
    for (int i = 0; i < before; ++i)
      for (auto& input : *graph.mutable_node(i)->mutable_input())
        if (input == name) input = adapted.name();
    added.push_back(std::move(entry));
  }
  // What was appended is needed first.
  std::rotate(graph.mutable_node()->pointer_begin(), graph.mutable_node()->pointer_begin() + before,
              graph.mutable_node()->pointer_end());
  types = builder.types();
  if (added.empty())
    return fail(ErrorCode::kFailedPrecondition,
                "no weight of a MatMul, Gemm or ungrouped Conv fits the adapters' patterns");
  return added;
}

}  // namespace selvage::learn
