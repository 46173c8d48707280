#include <algorithm>
#include <map>
#include <unordered_map>

#include <selvage/onnx.pb.h>

#include "compress/candidate.h"
#include "compress/convert_float.h"
#include "compress/correct_bias.h"
#include "compress/equalize.h"
#include "compress/float_stem.h"
#include "compress/pad_inputs.h"
#include "compress/prepare.h"
#include "compress/prune_channels.h"
#include "compress/quantize_dynamic.h"
#include "compress/quantize_static.h"
#include "compress/quantize_weights.h"
#include "compress/selection.h"
#include "graph/index.h"
#include "graph/pass.h"
#include "graph/sort.h"
#include "infer/graph_runtime.h"
#include "infer/shapes.h"

namespace selvage::compress {
namespace {

using std::chrono::steady_clock;

StaticOptions static_options(const Recipe& recipe) {
  return {.activations = recipe.activations,
          .per_channel = recipe.per_channel,
          .selection = {.types = recipe.types, .excluded_nodes = recipe.float_nodes},
          .connected_only = recipe.connected};
}

bool is_product(const onnx::NodeProto& node) {
  for (const auto type : {"Conv", "ConvTranspose", "Gemm", "MatMul"})
    if (graph::is_op(node, type)) return true;
  return false;
}

}  // namespace

struct CandidateBuilder::State {
  infer::Runtime& runtime;
  std::filesystem::path path;
  Samples samples;
  BuilderOptions options;
  graph::Model folded;

  /// What static candidates start from: the folded model, perhaps with help. Its ranges do not
  /// depend on what is quantised in the end, so that mixed precision shares them.
  struct Prepared {
    graph::Model model;
    std::map<std::pair<CalibrationMethod, DataType>, RangeMap> ranges = {};
  };
  std::map<std::pair<bool, bool>, Prepared> prepared = {};  // By equalized and smoothed.

  struct Prunable {
    graph::Model model;
    Channels channels;
  };
  std::unique_ptr<Prunable> prunable = {};

  /// Runs models, and says how long that took.
  template <typename Work>
  auto timed(const Work& work) {
    const auto begin = steady_clock::now();
    auto result = work();
    if (options.calibrated) options.calibrated(steady_clock::now() - begin);
    return result;
  }
  [[nodiscard]] Result<Prepared*> prepare(const Recipe& recipe);
  [[nodiscard]] Result<const RangeMap*> ranges_for(const Recipe& recipe, Prepared& start);
  [[nodiscard]] Result<graph::Model> build_static(const Recipe& recipe);
  [[nodiscard]] Result<graph::Model> build_pruned(const Recipe& recipe);
  [[nodiscard]] Result<void> analyse_channels();
};

Result<CandidateBuilder::State::Prepared*> CandidateBuilder::State::prepare(const Recipe& recipe) {
  const std::pair key(recipe.equalized, recipe.smoothed);
  if (const auto found = prepared.find(key); found != prepared.end()) return &found->second;
  auto model = folded.copy();
  if (recipe.equalized) {
    SELVAGE_TRY(const auto pairs, equalize_layers(model));
    if (pairs == 0) return fail(ErrorCode::kFailedPrecondition, "no layers can be equalised");
  }
  if (recipe.smoothed) {
    SELVAGE_TRY(const auto count,
                timed([&] { return smooth_activations(runtime, model, samples); }));
    if (count == 0) return fail(ErrorCode::kFailedPrecondition, "no activations can be smoothed");
  }
  return &prepared.emplace(key, Prepared{.model = std::move(model)}).first->second;
}

Result<const RangeMap*> CandidateBuilder::State::ranges_for(const Recipe& recipe, Prepared& start) {
  // Only the mean squared error asks what the values will become.
  const auto type =
      recipe.calibration == CalibrationMethod::kMse ? recipe.activations : DataType::kInt8;
  const std::pair key(recipe.calibration, type);
  if (const auto found = start.ranges.find(key); found != start.ranges.end()) return &found->second;
  SELVAGE_TRY(const auto values,
              static_candidates(start.model, {.activations = recipe.activations}));
  const CalibrationOptions calibration{.method = recipe.calibration,
                                       .type = recipe.activations,
                                       .progress = [this](std::size_t, std::size_t) {
                                         return !options.keep_going || options.keep_going();
                                       }};
  SELVAGE_TRY(auto made,
              timed([&] { return calibrate(runtime, start.model, values, samples, calibration); }));
  return &start.ranges.emplace(key, std::move(made)).first->second;
}

Result<graph::Model> CandidateBuilder::State::build_static(const Recipe& recipe) {
  SELVAGE_TRY(auto* start, prepare(recipe));
  SELVAGE_TRY(const auto* ranges, ranges_for(recipe, *start));
  auto settings = static_options(recipe);
  auto model = start->model.copy();
  // Ranges are those of values that keep their names.
  if constexpr (kPadsThinInputs) (void)keep_stem_in_float(model, settings);
  if (recipe.bias_corrected) {
    SELVAGE_TRY(const auto count,
                timed([&] { return correct_biases(runtime, model, *ranges, settings, samples); }));
    if (count == 0) return fail(ErrorCode::kFailedPrecondition, "no bias can be corrected");
  }
  SELVAGE_RETURN_IF_ERROR(quantize_static(model, *ranges, settings));
  if constexpr (kPadsThinInputs) pad_thin_inputs(model);
  return model;
}

Result<void> CandidateBuilder::State::analyse_channels() {
  SELVAGE_TRY(auto model, graph::load_whole(path));
  // As `selvage prune` does it: batch norms stay, since fine-tuning wants them.
  SELVAGE_RETURN_IF_ERROR(graph::run_passes(
      model, graph::standard_passes(),
      {.context = infer::graph_context(runtime), .disabled = {"fold-batch-norm"}}));
  SELVAGE_TRY(const auto shapes, infer::resolve_shapes(runtime, model, options.dimensions));
  SELVAGE_TRY(auto channels, Channels::analyse(model, shapes));
  prunable = std::make_unique<Prunable>(std::move(model), std::move(channels));
  return {};
}

Result<graph::Model> CandidateBuilder::State::build_pruned(const Recipe& recipe) {
  if (!prunable) SELVAGE_RETURN_IF_ERROR(analyse_channels());
  const PruneTarget target{.kind = PruneTargetKind::kMacs, .value = recipe.macs};
  SELVAGE_TRY(const auto plan, plan_removal(prunable->model, prunable->channels, target));
  auto model = prunable->model.copy();
  SELVAGE_RETURN_IF_ERROR(prunable->channels.remove(model, plan.removal));
  return model;
}

Result<CandidateBuilder> CandidateBuilder::create(infer::Runtime& runtime,
                                                  std::filesystem::path path,
                                                  const infer::Model& original, Samples samples,
                                                  BuilderOptions options) {
  SELVAGE_TRY(auto model, graph::load_whole(path));
  SELVAGE_RETURN_IF_ERROR(prepare_model(runtime, model, original));
  return CandidateBuilder(std::make_unique<State>(State{.runtime = runtime,
                                                        .path = std::move(path),
                                                        .samples = std::move(samples),
                                                        .options = std::move(options),
                                                        .folded = std::move(model)}));
}

CandidateBuilder::CandidateBuilder(std::unique_ptr<State> state) : state_(std::move(state)) {}
CandidateBuilder::CandidateBuilder(CandidateBuilder&&) noexcept = default;
CandidateBuilder::~CandidateBuilder() = default;

const graph::Model& CandidateBuilder::folded() const {
  return state_->folded;
}

Result<graph::Model> CandidateBuilder::build(const Recipe& recipe) {
  switch (recipe.kind) {
    case CandidateKind::kOriginal: return graph::load_checked(state_->path);
    case CandidateKind::kFloat: return state_->folded.copy();
    case CandidateKind::kStatic: return state_->build_static(recipe);
    case CandidateKind::kChannels: return state_->build_pruned(recipe);
    default: break;
  }
  auto model = state_->folded.copy();
  if (recipe.kind == CandidateKind::kWeightOnly) {
    SELVAGE_RETURN_IF_ERROR(
        quantize_weights(model, WeightOnlyOptions{.bits = recipe.bits, .accuracy_level = 4}));
  } else if (recipe.kind == CandidateKind::kFloat16) {
    const auto use = recipe.computes_in_16_bits ? FloatUse::kCompute : FloatUse::kStorage;
    SELVAGE_RETURN_IF_ERROR(
        convert_floats(model, FloatOptions{.use = use}, infer::graph_context(state_->runtime)));
  } else {
    SELVAGE_RETURN_IF_ERROR(quantize_dynamic(model, {.per_channel = recipe.per_channel}));
  }
  return model;
}

Result<std::vector<std::vector<std::string>>> CandidateBuilder::groups(const Recipe& recipe) {
  SELVAGE_TRY(const auto* start, state_->prepare(recipe));
  const auto& graph = start->model.proto().graph();
  const auto types = static_types();
  SELVAGE_TRY(const auto selector,
              Selector::create(static_options(recipe).selection, graph, types, types));
  std::vector<std::vector<std::string>> groups(1);  // The first: what no product comes before.
  std::unordered_map<std::string, std::size_t> group_of;  // Of values.
  for (int i = 0; i < graph.node_size(); ++i) {
    const auto& node = graph.node(i);
    std::size_t own = 0;
    if (is_product(node)) {
      own = groups.size();
      groups.emplace_back();
    } else {
      const auto known = [&](const auto& input) { return group_of.contains(input); };
      const auto first = std::ranges::find_if(node.input(), known);
      if (first != node.input().end()) own = group_of[*first];
    }
    for (const auto& output : node.output()) group_of[output] = own;
    if (selector.takes(node, i)) groups[own].push_back(node_label(node, i));
  }
  std::erase_if(groups, [](const auto& group) { return group.empty(); });
  return groups;
}

}  // namespace selvage::compress
