#include "compress/static_rules.h"

#include <algorithm>
#include <array>
#include <string_view>
#include <unordered_set>

#include <selvage/onnx.pb.h>

#include "graph/index.h"

namespace selvage::compress {
namespace {

using graph::Index;

struct TypeRule {
  std::string_view type;
  StaticRule rule;
};

// The reference's registry.py, without EmbedLayerNormalization, with HardSigmoid.
constexpr std::array kRules{
    TypeRule{"Conv", StaticRule::kConv},
    TypeRule{"ConvTranspose", StaticRule::kConvTranspose},
    TypeRule{"Gemm", StaticRule::kGemm},
    TypeRule{"MatMul", StaticRule::kMatMul},
    TypeRule{"Relu", StaticRule::kRelu},
    TypeRule{"Clip", StaticRule::kRelu},
    TypeRule{"Reshape", StaticRule::kPassThrough},
    TypeRule{"Transpose", StaticRule::kPassThrough},
    TypeRule{"Squeeze", StaticRule::kPassThrough},
    TypeRule{"Unsqueeze", StaticRule::kPassThrough},
    TypeRule{"Flatten", StaticRule::kPassThrough},
    TypeRule{"Resize", StaticRule::kPassThrough},
    TypeRule{"MaxPool", StaticRule::kPassThrough},
    TypeRule{"AveragePool", StaticRule::kPassThrough},
    TypeRule{"Slice", StaticRule::kPassThrough},
    TypeRule{"TopK", StaticRule::kPassThrough},
    TypeRule{"Pad", StaticRule::kPad},
    TypeRule{"Split", StaticRule::kSplit},
    TypeRule{"Gather", StaticRule::kGather},
    TypeRule{"GatherElements", StaticRule::kGather},
    TypeRule{"Where", StaticRule::kWhere},
    TypeRule{"InstanceNormalization", StaticRule::kNormalization},
    TypeRule{"LayerNormalization", StaticRule::kNormalization},
    TypeRule{"BatchNormalization", StaticRule::kNormalization},
    TypeRule{"Add", StaticRule::kEverything},
    TypeRule{"Mul", StaticRule::kEverything},
    TypeRule{"LeakyRelu", StaticRule::kEverything},
    TypeRule{"Sigmoid", StaticRule::kEverything},
    TypeRule{"HardSigmoid", StaticRule::kHardSigmoid},
    TypeRule{"Softmax", StaticRule::kEverything},
    TypeRule{"Concat", StaticRule::kEverything},
    TypeRule{"GlobalAveragePool", StaticRule::kEverything},
    TypeRule{"ArgMax", StaticRule::kEverything},
    TypeRule{"CumSum", StaticRule::kEverything},
};

}  // namespace

std::optional<StaticRule> static_rule(const onnx::NodeProto& node) {
  const auto* found = std::ranges::find(kRules, node.op_type(), &TypeRule::type);
  return found == kRules.end() ? std::nullopt : std::optional(found->rule);
}

std::vector<std::string> static_types() {
  std::vector<std::string> types;
  for (const auto& one : kRules) types.emplace_back(one.type);
  return types;
}

bool is_product(StaticRule rule) {
  return rule == StaticRule::kConv || rule == StaticRule::kConvTranspose ||
         rule == StaticRule::kGemm || rule == StaticRule::kMatMul;
}

Result<Selector> make_selector(const onnx::GraphProto& graph, const StaticOptions& options) {
  const auto types = static_types();
  return Selector::create(options.selection, graph, types, types);
}

Result<std::vector<std::string>> static_candidates(const graph::Model& model,
                                                   const StaticOptions& options) {
  const auto& graph = model.proto().graph();
  SELVAGE_TRY(const auto selector, make_selector(graph, options));
  const Index index(graph);
  std::vector<std::string> names;
  std::unordered_set<std::string_view> known;
  const auto add = [&](const std::string& name) {
    if (!name.empty() && index.initialiser(name) == Index::kNone && known.insert(name).second)
      names.push_back(name);
  };
  for (int i = 0; i < graph.node_size(); ++i) {
    const auto& node = graph.node(i);
    const auto rule = static_rule(node);
    if (!rule || !selector.takes(node, i)) continue;
    for (const auto& name : node.input()) add(name);
    const bool shares = *rule == StaticRule::kPassThrough || *rule == StaticRule::kSplit ||
                        *rule == StaticRule::kGather;
    if (!shares)
      for (const auto& name : node.output()) add(name);
  }
  return names;
}

}  // namespace selvage::compress
