// `selvage prune`: a model with fewer channels, or with weights that are zero.
#include <CLI/CLI.hpp>

#include "cli/command.h"
#include "cli/interrupt.h"
#include "cli/model_change.h"
#include "cli/progress.h"
#include "cli/prune_options.h"
#include "cli/prune_report.h"
#include "cli/random_input.h"
#include "cli/retrain.h"
#include "cli/scratch_folder.h"
#include "cli/training_run.h"
#include "compress/evaluate.h"
#include "compress/prune_channels.h"
#include "compress/prune_weights.h"
#include "compress/release_file.h"
#include "graph/pass.h"
#include "graph/sort.h"
#include "infer/graph_runtime.h"
#include "infer/session.h"
#include "infer/shapes.h"

namespace selvage::cli {
namespace {

namespace fs = std::filesystem;
using std::chrono::nanoseconds;
using std::chrono::steady_clock;

constexpr int kWarmUpRuns = 3;
constexpr auto kLatencyTime = std::chrono::milliseconds(300);  // For one candidate of --latency.

/// The median time of a run on random inputs.
Result<nanoseconds> measure_latency(infer::Runtime& runtime, const graph::Model& model,
                                    const infer::SessionOptions& options) {
  SELVAGE_TRY(const auto bytes, model.serialise());
  SELVAGE_TRY(const auto session, infer::Session::load(runtime, bytes, options));
  SELVAGE_TRY(const auto binding, bind_random_inputs(*session, {}));
  for (int i = 0; i < kWarmUpRuns; ++i) SELVAGE_RETURN_IF_ERROR(binding->run());
  std::vector<nanoseconds> times;
  for (const auto end = steady_clock::now() + kLatencyTime; steady_clock::now() < end;) {
    const auto start = steady_clock::now();
    SELVAGE_RETURN_IF_ERROR(binding->run());
    times.push_back(steady_clock::now() - start);
  }
  if (interrupted()) return fail(ErrorCode::kCancelled, "interrupted");
  std::ranges::sort(times);
  return times[times.size() / 2];
}

/// The commands' work on one model; whatever it was given outlives it.
class Pruner {
 public:
  Pruner(infer::Runtime& runtime, const fs::path& path, const infer::ModelOptions& options,
         const PruneFlags& flags, Output& output)
      : runtime_(runtime), path_(path), options_(options), flags_(flags), output_(output) {}

  /// Only scans.
  Result<std::vector<compress::Sensitivity>> scan(const infer::Model& original,
                                                  const infer::Dataset& data);
  Result<PruneReport> prune(graph::Model& model);

 private:
  /// Constants folded and dead code gone, so that the analysis sees what matters. Batch norms stay:
  /// they rank channels, and fine-tuning wants them.
  Result<void> tidy(graph::Model& model) const {
    const graph::PassOptions options{.context = infer::graph_context(runtime_),
                                     .disabled = {"fold-batch-norm"}};
    SELVAGE_RETURN_IF_ERROR(graph::run_passes(model, graph::standard_passes(), options));
    return {};
  }
  Result<compress::Channels> analyse(const graph::Model& model) const {
    SELVAGE_TRY(const auto shapes,
                infer::resolve_shapes(runtime_, model, options_.overrides.dimensions));
    return compress::Channels::analyse(model, shapes);
  }
  Result<compress::ChannelOptions> channel_options_for(const graph::Model& model) const {
    auto options = flags_.channel_options();
    if (options.importance == compress::Importance::kGiven) {
      SELVAGE_TRY(options.scores, taylor_scores(runtime_, path_, options_, model, flags_.data));
    }
    return options;
  }
  Result<void> prune_structured(graph::Model& model, PruneReport& report);
  Result<void> prune_weights(graph::Model& model, PruneReport& report);
  Result<std::string> verify(const Result<infer::RecordedRun>& masked,
                             const graph::Model& pruned) const;

  infer::Runtime& runtime_;
  const fs::path& path_;
  const infer::ModelOptions& options_;
  const PruneFlags& flags_;
  Output& output_;
};

/// Holds the result against the original with zeros in place of the channels, on random inputs.
Result<std::string> Pruner::verify(const Result<infer::RecordedRun>& masked,
                                   const graph::Model& pruned) const {
  if (!masked) return "not compared with the masked original: " + masked.error().message;
  const std::string computes = "computes what the original does with those channels at zero";
  const auto difference = infer::compare_with(runtime_, *masked, pruned);
  if (difference)
    return computes + (*difference > 0 ? ", within " + significant(*difference) : ", exactly");
  // A peak that is one by a hair's breadth, as line and face detectors look for.
  constexpr double kOutliers = 0.001;
  if (infer::compare_with(runtime_, *masked, pruned, {.outliers = kOutliers}))
    return computes + ", but for less than 0.1 % of an output, which rounding decides";
  return fail(ErrorCode::kInternal, "the pruned model does not compute what the masked one does: " +
                                        difference.error().message + "; please report");
}

Result<void> Pruner::prune_structured(graph::Model& model, PruneReport& report) {
  SELVAGE_RETURN_IF_ERROR(tidy(model));
  SELVAGE_TRY(const auto channels, analyse(model));
  report.frozen.assign(channels.frozen().begin(), channels.frozen().end());
  SELVAGE_TRY(auto options, channel_options_for(model));
  infer::SessionOptions session = options_.session;
  session.threads = options_.overrides.threads.value_or(1);
  session.dimensions = options_.overrides.dimensions;
  options.measure = [&](const graph::Model& candidate) {
    return measure_latency(runtime_, candidate, session);
  };
  SELVAGE_TRY(const auto target, flags_.target(options, model));
  compress::RemovalPlan plan;
  {
    const Progress progress(output_, "choosing channels", 0);
    SELVAGE_TRY(plan, compress::plan_removal(model, channels, target, options));
  }
  for (std::size_t g = 0; g < plan.removal.size(); ++g) {
    const auto removed = static_cast<std::size_t>(std::ranges::count(plan.removal[g], true));
    const auto& group = channels.groups()[g];
    report.groups.push_back({group.name, group.channels.size(), group.channels.size() - removed});
  }
  const Progress progress(output_, "comparing with the masked original", 0);
  // One model after the other: what mask() sets to zero, remove() takes out.
  SELVAGE_RETURN_IF_ERROR(channels.mask(model, plan.removal));
  const auto masked = infer::record_run(runtime_, model);
  SELVAGE_RETURN_IF_ERROR(channels.remove(model, plan.removal));
  SELVAGE_TRY(report.verified, verify(masked, model));
  return {};
}

Result<void> Pruner::prune_weights(graph::Model& model, PruneReport& report) {
  SELVAGE_TRY(const auto options, flags_.weight_options());
  // Weights may hide in Constant nodes, and be inputs only because the file is old.
  const auto passes = graph::standard_passes().first(2);
  SELVAGE_RETURN_IF_ERROR(graph::run_passes(model, passes));
  SELVAGE_TRY(report.weights, compress::prune_weights(model, options));
  if (report.weights->after.empty())
    return fail(ErrorCode::kFailedPrecondition,
                "the model has no weights to prune (Conv, Gemm, MatMul or recurrent, in float)");
  return {};
}

Result<PruneReport> Pruner::prune(graph::Model& model) {
  PruneReport report;
  if (flags_.is_structured())
    SELVAGE_RETURN_IF_ERROR(prune_structured(model, report));
  else
    SELVAGE_RETURN_IF_ERROR(prune_weights(model, report));
  return report;
}

Result<std::vector<compress::Sensitivity>> Pruner::scan(const infer::Model& original,
                                                        const infer::Dataset& data) {
  SELVAGE_TRY(auto model, graph::load_whole(path_));
  SELVAGE_RETURN_IF_ERROR(tidy(model));
  SELVAGE_TRY(const auto channels, analyse(model));
  SELVAGE_TRY(const auto scratch, ScratchFolder::create());
  compress::EvaluateOptions evaluation;
  const auto count = std::min(flags_.evaluate_samples, data.size());
  for (std::size_t i = 0; i < count; ++i) evaluation.samples.push_back(i * data.size() / count);
  Progress progress(output_, "scanning", channels.groups().size() * kScanRatios.size());
  const auto evaluate = [&](const graph::Model& candidate) -> Result<double> {
    if (interrupted()) return fail(ErrorCode::kCancelled, "interrupted");
    auto file = candidate.copy();
    const auto path = scratch.path() / "model.onnx";
    SELVAGE_RETURN_IF_ERROR(file.save(path));
    auto options = options_;
    options.card_beside = path_;
    SELVAGE_TRY(const auto loaded, infer::Model::load(runtime_, path, options));
    progress.advance();
    if (data.target_kind() == infer::TargetKind::kNone) {
      SELVAGE_TRY(const auto found, compress::compare(*loaded, original, data, evaluation));
      return found.agreement;
    }
    SELVAGE_TRY(const auto found, compress::evaluate(*loaded, data, evaluation));
    return found.quality();
  };
  SELVAGE_TRY(const auto channel_options, channel_options_for(model));
  return compress::scan_sensitivity(model, channels, channel_options, kScanRatios, evaluate);
}

Result<void> compress_both(const fs::path& path, const PruneFlags& flags, PruneReport& report,
                           Output& output) {
  const Progress progress(output, "compressing", 0);
  SELVAGE_TRY(const auto scratch, ScratchFolder::create());
  SELVAGE_TRY(report.gzip_before, compress::write_gzip(path, scratch.path() / "original.gz"));
  SELVAGE_TRY(report.gzip_after, compress::write_gzip(flags.out, flags.out + ".gz"));
  return {};
}

Result<void> prune(const PruneFlags& flags, Output& output) {
  SELVAGE_RETURN_IF_ERROR(flags.check());
  SELVAGE_TRY(const auto path, model_path(flags.model));
  if (!flags.out.empty())
    SELVAGE_RETURN_IF_ERROR(check_output_path(path, flags.out, {flags.data.path}));
  SELVAGE_TRY(const auto options, flags.session.to_model_options());
  SELVAGE_TRY(const auto runtime, infer::Runtime::create());
  // What the runtime does not run is refused before anything is written.
  SELVAGE_TRY(auto original, infer::Model::load(*runtime, path, options));
  std::unique_ptr<infer::Dataset> data;
  if (flags.data.path.empty()) {
    original.reset();
  } else {
    const std::string outs[] = {flags.out, flags.out + ".gz"};
    SELVAGE_TRY(data, flags.data.open(*original, infer::Part::kTest, outs));
    // What fine-tuning would read is not written over either.
    SELVAGE_RETURN_IF_ERROR(flags.data.open(*original, infer::Part::kTrain, outs));
  }
  Pruner pruner(*runtime, path, options, flags, output);
  if (flags.sensitivity) {
    SELVAGE_TRY(const auto found, pruner.scan(*original, *data));
    output.print(output.json() ? to_json(found, flags) : to_text(found, output.style()));
    return {};
  }
  SELVAGE_TRY(auto model, graph::load_whole(path));
  SELVAGE_TRY(auto report, pruner.prune(model));
  if (interrupted()) return fail(ErrorCode::kCancelled, "interrupted: nothing was written");
  if (flags.finetune.wanted) {
    const RetrainTask task{path, flags.data, flags.out, flags.session.threads.value_or(0)};
    SELVAGE_TRY(report.training, retrain(*runtime, model, task, flags.finetune, output));
    model = std::move(report.training->model);
  }
  SELVAGE_RETURN_IF_ERROR(model.save(flags.out));
  if (flags.finetune.wanted) remove_checkpoint(flags.out);
  const ChangeOptions change{.data = data.get(), .samples_max = flags.evaluate_samples};
  SELVAGE_TRY(report.change, measure_change(*runtime, path, flags.out, options, change, output));
  if (flags.compress) SELVAGE_RETURN_IF_ERROR(compress_both(path, flags, report, output));
  output.print(output.json() ? to_json(report, flags) : to_text(report, flags, output.style()));
  return {};
}

Action add(CLI::App& app) {
  auto flags = std::make_shared<PruneFlags>();
  add_prune_options(app, *flags);
  return [flags](Output& output) { return prune(*flags, output); };
}

constexpr Command kCommand{
    .name = "prune",
    .summary = "Make a model smaller and faster by taking channels or weights out",
    .description =
        "Structured pruning removes whole channels, through residuals, concatenations, grouped "
        "convolutions and attention heads: the model is smaller and faster on any runtime, and "
        "computes what it would with those channels at zero. Which layers must keep theirs is "
        "listed, with the reason. The other methods set single weights to zero as "
        "torch.nn.utils.prune does; they make the file smaller once it is compressed, and nothing "
        "faster. Accuracy falls in any case: --finetune trains what is left, on the labels and on "
        "what the original answers.",
    .examples =
        "selvage prune model.onnx small.onnx --macs 50%\n"
        "selvage prune model.onnx small.onnx --latency 60% --global --data photos/\n"
        "selvage prune model.onnx small.onnx --macs 50% --data photos/ --finetune --epochs 10\n"
        "selvage prune model.onnx --sensitivity --data photos/\n"
        "selvage prune model.onnx sparse.onnx --method l1 --amount 0.8 --compress",
    .add = add};

}  // namespace

const Command& prune_command() {
  return kCommand;
}

}  // namespace selvage::cli
