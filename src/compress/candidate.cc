#include "compress/candidate.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <set>

#include <selvage/onnx.pb.h>

#include "compress/quantize_dynamic.h"
#include "compress/quantize_static.h"

namespace selvage::compress {
namespace {

/// Where an 8-bit processor earns its speed; the rest is often cheaper in float than its borders.
constexpr std::array<std::string_view, 4> kProductTypes{"Conv", "ConvTranspose", "Gemm", "MatMul"};
constexpr std::array kMacLevels{0.75, 0.5};

std::set<std::string> types_in(const graph::Model& model) {
  std::set<std::string> types;
  for (const auto& node : model.proto().graph().node()) types.insert(node.op_type());
  return types;
}

std::string percent(double part) {
  return std::to_string(static_cast<int>(std::lround(100 * part))) + "%";
}

std::string joined(const std::vector<std::string>& words) {
  std::string text;
  for (const auto& word : words) text += (text.empty() ? "" : ",") + word;
  return text;
}

/// Whether most weights are matrices: then reading them is most of the time.
bool is_mostly_matrices(const graph::Model& model) {
  const auto& graph = model.proto().graph();
  std::set<std::string> matrices;
  for (const auto& node : graph.node())
    if ((node.op_type() == "MatMul" || node.op_type() == "Gemm") && node.input_size() > 1)
      matrices.insert(node.input(1));
  double all = 0, in_matrices = 0;
  for (const auto& weight : graph.initializer()) {
    double elements = 1;
    for (const auto size : weight.dims()) elements *= static_cast<double>(size);
    all += elements;
    if (matrices.contains(weight.name())) in_matrices += elements;
  }
  return in_matrices > all / 2;
}

constexpr DataType kOtherActivations =
    kFastActivations == DataType::kUint8 ? DataType::kInt8 : DataType::kUint8;

void add_static(std::vector<Recipe>& recipes, std::vector<std::string> products) {
  Recipe per_channel{
      .kind = CandidateKind::kStatic, .per_channel = true, .activations = kFastActivations};
  auto per_tensor = per_channel;
  per_tensor.per_channel = false;
  auto other_sign = per_channel;
  other_sign.activations = kOtherActivations;
  auto products_alone = per_channel;
  products_alone.types = std::move(products);
  auto connected = per_channel;
  connected.connected = true;
  for (auto* recipe : {&connected, &per_channel, &per_tensor, &products_alone, &other_sign})
    recipes.push_back(std::move(*recipe));
}

void add_static_arguments(const Recipe& recipe, const CommandNames& names,
                          std::vector<std::string>& words) {
  const auto add = [&](const std::string& option, const std::string& value) {
    words.push_back(option);
    words.push_back(value);
  };
  words.emplace_back("--static");
  add("--samples", std::to_string(names.calibration_samples));
  add("--calibration", std::string(to_string(recipe.calibration)));
  // Said even where it is the default, which differs from one processor to another.
  add("--activations", std::string(to_string(recipe.activations)));
  if (!recipe.types.empty()) add("--types", joined(recipe.types));
  if (recipe.connected) words.emplace_back("--connected");
  for (const auto& node : recipe.float_nodes) add("--exclude-nodes", node);
  if (recipe.equalized) words.emplace_back("--equalize");
  if (recipe.bias_corrected) words.emplace_back("--correct-bias");
  if (recipe.smoothed) add("--smooth", "0.5");
}

}  // namespace

std::string_view to_string(CandidateKind kind) {
  switch (kind) {
    case CandidateKind::kOriginal: return "original";
    case CandidateKind::kFloat: return "float";
    case CandidateKind::kDynamic: return "dynamic";
    case CandidateKind::kStatic: return "static";
    case CandidateKind::kWeightOnly: return "weight-only";
    case CandidateKind::kFloat16: return "float16";
    case CandidateKind::kChannels: return "prune";
  }
  return "";
}

std::string describe(const Recipe& recipe) {
  const std::string granularity = recipe.per_channel ? ", per channel" : ", per tensor";
  switch (recipe.kind) {
    case CandidateKind::kOriginal: return "original";
    case CandidateKind::kFloat: return "float, folded";
    case CandidateKind::kDynamic: return "dynamic int8" + granularity;
    case CandidateKind::kWeightOnly:
      return "weights alone in " + std::to_string(recipe.bits) + " bits";
    case CandidateKind::kFloat16:
      return recipe.computes_in_16_bits ? "float16" : "float16 weights, computed in float32";
    case CandidateKind::kChannels: return "pruned to " + percent(recipe.macs) + " of MACs";
    case CandidateKind::kStatic: break;
  }
  std::string text = "static " + std::string(to_string(recipe.activations)) + granularity + ", " +
                     std::string(to_string(recipe.calibration));
  if (!recipe.types.empty()) text += ", " + joined(recipe.types) + " only";
  if (recipe.connected) text += ", where connected";
  if (recipe.equalized) text += ", equalised";
  if (recipe.smoothed) text += ", smoothed";
  if (recipe.bias_corrected) text += ", bias corrected";
  if (!recipe.float_nodes.empty())
    text += ", " + std::to_string(recipe.float_nodes.size()) +
            (recipe.float_nodes.size() == 1 ? " node in float" : " nodes in float");
  return text;
}

std::vector<std::string> command(const Recipe& recipe, const CommandNames& names) {
  std::vector<std::string> words{"quantize", names.model, names.out};
  switch (recipe.kind) {
    case CandidateKind::kOriginal: return {};
    case CandidateKind::kChannels:
      return {"prune", names.model, names.out, "--macs", percent(recipe.macs)};
    case CandidateKind::kWeightOnly:
      for (const auto* word : {"--weight-only", "--accuracy-level", "4", "--bits"})
        words.emplace_back(word);
      words.push_back(std::to_string(recipe.bits));
      return words;
    case CandidateKind::kFloat16:
      words.emplace_back("--to");
      words.emplace_back("float16");
      if (!recipe.computes_in_16_bits) words.emplace_back("--storage");
      return words;
    case CandidateKind::kFloat: words = {"optimize", names.model, names.out}; break;
    case CandidateKind::kDynamic: words.emplace_back("--dynamic"); break;
    case CandidateKind::kStatic: add_static_arguments(recipe, names, words); break;
  }
  if (recipe.per_channel) words.emplace_back("--per-channel");
  if (recipe.kind == CandidateKind::kDynamic) return words;
  words.emplace_back("--data");
  words.push_back(names.data);
  if (!names.label.empty()) {
    words.emplace_back("--label");
    words.push_back(names.label);
  }
  if (recipe.kind == CandidateKind::kFloat) {
    words.emplace_back("--only");
    words.emplace_back("float");
  }
  return words;
}

std::vector<Recipe> recipes_for(const graph::Model& model) {
  const auto types = types_in(model);
  const auto has = [&](const auto& wanted) {
    return std::ranges::any_of(wanted,
                               [&](const auto& type) { return types.contains(std::string(type)); });
  };
  std::vector<Recipe> recipes{{.kind = CandidateKind::kFloat}};
  if (has(dynamic_types())) {
    recipes.push_back({.kind = CandidateKind::kDynamic});
    recipes.push_back({.kind = CandidateKind::kDynamic, .per_channel = true});
  }
  recipes.push_back({.kind = CandidateKind::kFloat16});
#if defined(__aarch64__)
  recipes.push_back({.kind = CandidateKind::kFloat16, .computes_in_16_bits = true});
#endif
  if (!has(kProductTypes)) return recipes;
  std::vector<std::string> products;
  for (const auto type : kProductTypes)
    if (types.contains(std::string(type))) products.emplace_back(type);
  add_static(recipes, std::move(products));
  if (is_mostly_matrices(model))
    for (const int bits : {8, 4})
      recipes.push_back({.kind = CandidateKind::kWeightOnly, .bits = bits});
  for (const double macs : kMacLevels)
    recipes.push_back({.kind = CandidateKind::kChannels, .macs = macs});
  return recipes;
}

std::vector<Recipe> calibrations_of(const Recipe& recipe) {
  if (recipe.kind != CandidateKind::kStatic) return {};
  std::vector<Recipe> others;
  for (const auto method : {CalibrationMethod::kPercentile, CalibrationMethod::kMse,
                            CalibrationMethod::kEntropy, CalibrationMethod::kMinMax})
    if (method != recipe.calibration) others.emplace_back(recipe).calibration = method;
  return others;
}

std::vector<Recipe> rescues_of(const Recipe& recipe) {
  if (recipe.kind != CandidateKind::kStatic || recipe.equalized || recipe.bias_corrected ||
      recipe.smoothed)
    return {};
  std::vector<Recipe> rescues(4, recipe);
  rescues[0].bias_corrected = true;
  rescues[1].equalized = true;
  rescues[2].bias_corrected = rescues[2].equalized = true;
  rescues[3].smoothed = true;
  return rescues;
}

}  // namespace selvage::compress
