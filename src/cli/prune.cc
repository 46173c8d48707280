// `selvage prune`: a model with fewer channels, or with weights that are zero.
#include <charconv>
#include <cmath>

#include <CLI/CLI.hpp>

#include "base/json_writer.h"
#include "cli/command.h"
#include "cli/data_options.h"
#include "cli/interrupt.h"
#include "cli/model_change.h"
#include "cli/options.h"
#include "cli/progress.h"
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
#include "graph/sparsity.h"
#include "infer/graph_runtime.h"
#include "infer/session.h"
#include "infer/shapes.h"

namespace selvage::cli {
namespace {

namespace fs = std::filesystem;
using compress::PruneTargetKind;
using std::chrono::nanoseconds;
using std::chrono::steady_clock;

constexpr std::array kScanRatios{0.25, 0.5, 0.75};
constexpr int kWarmUpRuns = 3;
constexpr auto kLatencyTime = std::chrono::milliseconds(300);  // For one candidate of --latency.
constexpr std::size_t kShownFrozenMax = 12;

struct PruneFlags {
  std::string model, out;
  std::string method = "structured";
  std::string amount, macs, parameters, latency;
  std::string importance = "l2";
  std::string pattern = "2:4";
  bool is_global = false;
  std::optional<std::int64_t> round_to;
  std::uint64_t seed = 0;
  std::vector<std::string> excluded;
  bool sensitivity = false, compress = false;
  DataFlags data;
  RetrainFlags finetune{.rate = 0.01};
  std::size_t evaluate_samples = 2000;
  SessionFlags session;

  [[nodiscard]] bool is_structured() const { return method == "structured"; }
};

struct Report {
  std::optional<compress::PruneWeightsReport> weights;
  std::vector<compress::FrozenChannels> frozen;
  struct Group {
    std::string name;
    std::size_t before = 0, after = 0;
  };
  std::vector<Group> groups;
  std::string verified;  ///< How the result was held against the masked original.
  std::optional<std::uint64_t> gzip_before, gzip_after;
  std::optional<learn::TrainResult> training;
  std::optional<ModelChange> change;
};

// --- What was typed
// -------------------------------------------------------------------------------

std::optional<double> number(std::string_view text) {
  double value = 0;
  const auto* end = text.data() + text.size();
  const auto parsed = std::from_chars(text.data(), end, value);
  if (parsed.ec != std::errc() || parsed.ptr != end || !std::isfinite(value)) return std::nullopt;
  return value;
}

/// "30%" or "0.3".
Result<double> fraction(const std::string& option, std::string_view text) {
  const bool is_percent = text.ends_with('%');
  const auto value = number(is_percent ? text.substr(0, text.size() - 1) : text);
  const double part = value.value_or(-1) / (is_percent ? 100 : 1);
  if (!value || part < 0 || part > 1)
    return fail(ErrorCode::kInvalidArgument,
                option + " " + std::string(text) + ": write a part of the whole, as 0.5 or 50%");
  return part;
}

/// torch's rule: a whole number is a count, anything with a point or a percent sign a fraction.
Result<std::variant<double, std::uint64_t>> weight_amount(const std::string& text) {
  std::uint64_t count = 0;
  const auto* end = text.data() + text.size();
  const auto parsed = std::from_chars(text.data(), end, count);
  if (parsed.ec == std::errc() && parsed.ptr == end) return count;
  SELVAGE_TRY(const auto part, fraction("--amount", text));
  return part;
}

Result<compress::PruneWeightsOptions> weight_options(const PruneFlags& flags) {
  compress::PruneWeightsOptions options{
      .is_global = flags.is_global, .seed = flags.seed, .excluded = flags.excluded};
  if (!flags.amount.empty()) {
    SELVAGE_TRY(options.amount, weight_amount(flags.amount));
  }
  if (flags.method == "random") options.criterion = compress::WeightCriterion::kRandom;
  if (flags.method != "nm") return options;
  options.criterion = compress::WeightCriterion::kNOfM;
  const auto colon = flags.pattern.find(':');
  const auto n = number(flags.pattern.substr(0, colon));
  const auto m =
      colon == std::string::npos ? std::nullopt : number(flags.pattern.substr(colon + 1));
  if (!n || !m || *n != std::floor(*n) || *m != std::floor(*m) || *n < 0 || *m < 1 || *n > 1e6 ||
      *m > 1e6)
    return fail(ErrorCode::kInvalidArgument,
                "--pattern " + flags.pattern + ": write N:M, as 2:4: of every M weights N stay");
  options.n = static_cast<int>(*n);
  options.m = static_cast<int>(*m);
  return options;
}

compress::ChannelOptions channel_options(const PruneFlags& flags) {
  const auto importance = flags.importance == "l1"       ? compress::Importance::kL1
                          : flags.importance == "bn"     ? compress::Importance::kBatchNorm
                          : flags.importance == "taylor" ? compress::Importance::kGiven
                                                         : compress::Importance::kL2;
  return {.importance = importance,
          .is_global = flags.is_global,
          .round_to = flags.round_to,
          .excluded = flags.excluded};
}

/// `latency` "2.5ms" is a time, "60%" a part of `whole`.
Result<compress::PruneTarget> latency_target(const std::string& text,
                                             const compress::ChannelOptions& options,
                                             const graph::Model& model) {
  if (!text.ends_with("ms")) {
    SELVAGE_TRY(const auto part, fraction("--latency", text));
    return compress::PruneTarget{.kind = PruneTargetKind::kLatency, .value = part};
  }
  const auto wanted = number(std::string_view(text).substr(0, text.size() - 2));
  if (!wanted || *wanted <= 0)
    return fail(ErrorCode::kInvalidArgument, "--latency " + text + ": write 60% or 2.5ms");
  SELVAGE_TRY(const auto now, options.measure(model));
  if (to_milliseconds(now) <= *wanted)
    return fail(ErrorCode::kFailedPrecondition,
                "the model is faster than " + text + " already: nothing needs to be pruned");
  return compress::PruneTarget{.kind = PruneTargetKind::kLatency,
                               .value = *wanted / to_milliseconds(now)};
}

Result<compress::PruneTarget> target_of(const PruneFlags& flags,
                                        const compress::ChannelOptions& options,
                                        const graph::Model& model) {
  compress::PruneTarget target{.kind = PruneTargetKind::kRatio, .value = 0.3};
  if (!flags.latency.empty()) return latency_target(flags.latency, options, model);
  if (!flags.macs.empty()) {
    target.kind = PruneTargetKind::kMacs;
    SELVAGE_TRY(target.value, fraction("--macs", flags.macs));
  } else if (!flags.parameters.empty()) {
    target.kind = PruneTargetKind::kParameters;
    SELVAGE_TRY(target.value, fraction("--params", flags.parameters));
  } else if (!flags.amount.empty()) {
    SELVAGE_TRY(target.value, fraction("--amount", flags.amount));
  }
  return target;
}

// --- Work
// -----------------------------------------------------------------------------------------

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
  Result<Report> prune(graph::Model& model);

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
    auto options = channel_options(flags_);
    if (options.importance == compress::Importance::kGiven) {
      SELVAGE_TRY(options.scores, taylor_scores(runtime_, path_, options_, model, flags_.data));
    }
    return options;
  }
  Result<void> prune_structured(graph::Model& model, Report& report);
  Result<void> prune_weights(graph::Model& model, Report& report);
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

Result<void> Pruner::prune_structured(graph::Model& model, Report& report) {
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
  SELVAGE_TRY(const auto target, target_of(flags_, options, model));
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

Result<void> Pruner::prune_weights(graph::Model& model, Report& report) {
  SELVAGE_TRY(const auto options, weight_options(flags_));
  // Weights may hide in Constant nodes, and be inputs only because the file is old.
  const auto passes = graph::standard_passes().first(2);
  SELVAGE_RETURN_IF_ERROR(graph::run_passes(model, passes));
  SELVAGE_TRY(report.weights, compress::prune_weights(model, options));
  if (report.weights->after.empty())
    return fail(ErrorCode::kFailedPrecondition,
                "the model has no weights to prune (Conv, Gemm, MatMul or recurrent, in float)");
  return {};
}

Result<Report> Pruner::prune(graph::Model& model) {
  Report report;
  if (flags_.is_structured())
    SELVAGE_RETURN_IF_ERROR(prune_structured(model, report));
  else
    SELVAGE_RETURN_IF_ERROR(prune_weights(model, report));
  return report;
}

Result<std::vector<compress::Sensitivity>> Pruner::scan(const infer::Model& original,
                                                        const infer::Dataset& data) {
  SELVAGE_TRY(auto model, graph::load_checked(path_));
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

// --- Text
// -----------------------------------------------------------------------------------------

std::string percent(double part) {
  return fixed(100 * part, 1) + " %";
}

double zero_part(std::span<const graph::TensorSparsity> tensors) {
  double zeros = 0, elements = 0;
  for (const auto& tensor : tensors) {
    zeros += static_cast<double>(tensor.zeros);
    elements += static_cast<double>(tensor.elements);
  }
  return elements > 0 ? zeros / elements : 0;
}

std::string weights_text(const compress::PruneWeightsReport& found, const Style& style) {
  std::string text = "  zero weights  " + percent(zero_part(found.before)) + " before, " +
                     percent(zero_part(found.after)) + " after, in " +
                     format_plural(found.after.size(), "tensor") + "\n";
  for (const auto& skipped : found.skipped)
    text +=
        "  " + style(Tone::kDim, "left alone") + "  " + skipped.name + ": " + skipped.reason + "\n";
  return text + "  " +
         style(Tone::kCaution,
               "The runtime computes with zeros as with any number: this saves space once the file "
               "is compressed, not time.") +
         "\n";
}

std::string channels_text(const Report& report, const Style& style) {
  Table table({{"channels"}, {"before", Align::kRight}, {"after", Align::kRight}});
  for (const auto& group : report.groups)
    table.add({group.name, format_count(group.before), format_count(group.after)});
  auto text = table.to_text(style) + "  " + style(Tone::kDim, report.verified) + "\n";
  if (report.frozen.empty()) return text;
  text += "\n  " + style(Tone::kBold, "Channels that must stay") + "\n";
  Table frozen({{""}, {"", Align::kRight}, {""}});
  for (const auto& entry :
       std::span(report.frozen).first(std::min(report.frozen.size(), kShownFrozenMax)))
    frozen.add({entry.name,
                format_count(static_cast<std::uint64_t>(entry.channels)),
                {entry.reason, Tone::kDim}});
  text += frozen.to_text(style);
  if (report.frozen.size() > kShownFrozenMax)
    text += "  and " + format_plural(report.frozen.size() - kShownFrozenMax, "layer") +
            " more (--json)\n";
  return text;
}

std::string report_text(const Report& report, const PruneFlags& flags, const Style& style) {
  std::string text = style(Tone::kBold, flags.out) + ": " + flags.method + " pruning\n\n";
  text += to_text(*report.change, style) + "\n";
  text += report.weights ? weights_text(*report.weights, style) : channels_text(report, style);
  if (report.training) text += "  fine-tuned    " + summary_text(*report.training) + "\n";
  if (report.gzip_after)
    text +=
        "  compressed    " + format_bytes(*report.gzip_after) + ", " +
        fixed(static_cast<double>(*report.gzip_after) / static_cast<double>(*report.gzip_before),
              2) +
        "x of the original compressed, in " + flags.out + ".gz\n";
  return text;
}

std::string report_json(const Report& report, const PruneFlags& flags) {
  JsonWriter json;
  json.begin_object().field("model", flags.model).field("out", flags.out);
  json.field("method", flags.method);
  if (report.weights) {
    json.field("zeros_before", zero_part(report.weights->before));
    json.field("zeros_after", zero_part(report.weights->after));
    json.key("tensors").begin_array();
    for (const auto& tensor : report.weights->after)
      json.begin_object()
          .field("name", tensor.name)
          .field("elements", tensor.elements)
          .field("zeros", tensor.zeros)
          .end_object();
    json.end_array().key("skipped").begin_array();
    for (const auto& skipped : report.weights->skipped)
      json.begin_object().field("name", skipped.name).field("reason", skipped.reason).end_object();
    json.end_array();
  } else {
    json.field("verified", report.verified).key("groups").begin_array();
    for (const auto& group : report.groups)
      json.begin_object()
          .field("name", group.name)
          .field("before", group.before)
          .field("after", group.after)
          .end_object();
    json.end_array().key("frozen").begin_array();
    for (const auto& entry : report.frozen)
      json.begin_object()
          .field("name", entry.name)
          .field("channels", entry.channels)
          .field("reason", entry.reason)
          .end_object();
    json.end_array();
  }
  if (report.gzip_after)
    json.field("gzip_bytes_before", *report.gzip_before)
        .field("gzip_bytes_after", *report.gzip_after);
  if (report.training) {
    json.key("finetuned").begin_object();
    write_json(*report.training, json);
    json.end_object();
  }
  write_json(*report.change, json);
  return json.end_object().text() + "\n";
}

std::string scan_text(const std::vector<compress::Sensitivity>& found, const Style& style) {
  std::vector<Column> columns{{"pruned alone"}, {"channels", Align::kRight}};
  for (const auto ratio : kScanRatios) columns.push_back({"-" + percent(ratio), Align::kRight});
  Table table(std::move(columns));
  for (const auto& group : found) {
    std::vector<Cell> row{group.group, format_count(static_cast<std::uint64_t>(group.channels))};
    for (std::size_t i = 0; i < kScanRatios.size(); ++i)
      row.emplace_back(i < group.points.size() ? fixed(group.points[i].metric, 4) + " (-" +
                                                     percent(group.points[i].ratio) + ")"
                                               : "");
    table.add(std::move(row));
  }
  return table.to_text(style);
}

std::string scan_json(const std::vector<compress::Sensitivity>& found, const PruneFlags& flags) {
  JsonWriter json;
  json.begin_object().field("model", flags.model).key("sensitivity").begin_array();
  for (const auto& group : found) {
    json.begin_object().field("group", group.group).field("channels", group.channels);
    json.key("points").begin_array();
    for (const auto& point : group.points)
      json.begin_object().field("ratio", point.ratio).field("metric", point.metric).end_object();
    json.end_array().end_object();
  }
  return json.end_array().end_object().text() + "\n";
}

// --- The command
// ----------------------------------------------------------------------------------

/// Options that the chosen method does not know are refused rather than ignored.
Result<void> check_flags(const PruneFlags& flags) {
  const auto refuse = [&](const char* option) {
    return fail(ErrorCode::kInvalidArgument,
                std::string(option) + " means nothing to --method " + flags.method);
  };
  if (flags.sensitivity && !flags.is_structured()) return refuse("--sensitivity");
  if (flags.sensitivity && flags.data.path.empty())
    return fail(ErrorCode::kInvalidArgument, "--sensitivity evaluates the model: add --data");
  if (flags.out.empty() && !flags.sensitivity)
    return fail(ErrorCode::kInvalidArgument, "OUT is missing: name the file to write");
  if (flags.finetune.wanted && flags.sensitivity)
    return fail(ErrorCode::kInvalidArgument, "--sensitivity writes nothing to --finetune");
  if (!flags.is_structured()) {
    if (flags.finetune.wanted)
      return fail(ErrorCode::kInvalidArgument,
                  "--finetune would fill the zeros of --method " + flags.method + " again");
    if (!flags.macs.empty()) return refuse("--macs");
    if (!flags.parameters.empty()) return refuse("--params");
    if (!flags.latency.empty()) return refuse("--latency");
  }
  if (flags.method == "nm" && !flags.amount.empty()) return refuse("--amount");
  return {};
}

Result<void> compress_both(const fs::path& path, const PruneFlags& flags, Report& report,
                           Output& output) {
  const Progress progress(output, "compressing", 0);
  SELVAGE_TRY(const auto scratch, ScratchFolder::create());
  SELVAGE_TRY(report.gzip_before, compress::write_gzip(path, scratch.path() / "original.gz"));
  SELVAGE_TRY(report.gzip_after, compress::write_gzip(flags.out, flags.out + ".gz"));
  return {};
}

Result<void> prune(const PruneFlags& flags, Output& output) {
  SELVAGE_RETURN_IF_ERROR(check_flags(flags));
  SELVAGE_TRY(const auto path, model_path(flags.model));
  if (!flags.out.empty()) SELVAGE_RETURN_IF_ERROR(check_output_path(path, flags.out));
  SELVAGE_TRY(const auto options, flags.session.to_model_options());
  SELVAGE_TRY(const auto runtime, infer::Runtime::create());
  std::unique_ptr<infer::Model> original;
  std::unique_ptr<infer::Dataset> data;
  if (!flags.data.path.empty()) {
    SELVAGE_TRY(original, infer::Model::load(*runtime, path, options));
    SELVAGE_TRY(data, flags.data.open(*original, infer::Part::kTest));
  }
  Pruner pruner(*runtime, path, options, flags, output);
  if (flags.sensitivity) {
    SELVAGE_TRY(const auto found, pruner.scan(*original, *data));
    output.print(output.json() ? scan_json(found, flags) : scan_text(found, output.style()));
    return {};
  }
  SELVAGE_TRY(auto model, graph::load_checked(path));
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
  output.print(output.json() ? report_json(report, flags)
                             : report_text(report, flags, output.style()));
  return {};
}

void add_target_options(CLI::App& app, PruneFlags& flags) {
  constexpr auto kGroup = "How much";
  auto* amount = app.add_option("--amount", flags.amount,
                                "structured: the part of each group's channels to remove; l1, "
                                "random: a part of the weights that are not zero yet, or a whole "
                                "number of them (30%)")
                     ->type_name("PART|COUNT")
                     ->group(kGroup);
  auto* macs = app.add_option("--macs", flags.macs, "structured: multiply-accumulates to keep, 50%")
                   ->type_name("PART")
                   ->excludes(amount)
                   ->group(kGroup);
  auto* parameters = app.add_option("--params", flags.parameters, "structured: parameters to keep")
                         ->type_name("PART")
                         ->excludes(amount, macs)
                         ->group(kGroup);
  app.add_option("--latency", flags.latency,
                 "structured: the time of a run to reach, measured on this machine, 60% or 2.5ms")
      ->type_name("PART|TIME")
      ->excludes(amount, macs, parameters)
      ->group(kGroup);
  app.add_flag("--global", flags.is_global,
               "Rank all channels or weights together instead of layer by layer")
      ->group(kGroup);
  app.add_option("--round", flags.round_to,
                 "structured: channels kept are a multiple of this, which processors like (16 with "
                 "AVX-512 where that leaves enough to remove, otherwise 8)")
      ->type_name("N")
      ->check(whole_in_range(1, 1024))
      ->group(kGroup);
}

Action add(CLI::App& app) {
  auto flags = std::make_shared<PruneFlags>();
  app.add_option("MODEL", flags->model, "A model.onnx, or the folder that holds it")->required();
  app.add_option("OUT", flags->out, "The file to write");
  app.add_option("--method", flags->method,
                 "structured (whole channels leave, the default), l1 (the smallest weights become "
                 "zero), random, or nm (of every M weights the N largest stay)")
      ->type_name("METHOD")
      ->check(one_of({"structured", "l1", "random", "nm"}));
  app.add_option(
         "--importance", flags->importance,
         "structured: what a channel is worth: l1, l2 (the default), bn (the scale of its batch "
         "norm) or taylor (what the loss on --data would change without it)")
      ->type_name("NORM")
      ->check(one_of({"l1", "l2", "bn", "taylor"}));
  app.add_option("--pattern", flags->pattern, "nm: N:M (2:4)")->type_name("N:M");
  app.add_option("--seed", flags->seed, "random: as torch.manual_seed (0)")->type_name("N");
  app.add_option("--exclude", flags->excluded,
                 "Leave these layers alone: names of nodes, or of groups as they are printed")
      ->type_name("NAME,...")
      ->delimiter(',')
      ->allow_extra_args(false);
  add_target_options(app, *flags);
  add_data_options(app, flags->data);
  app.get_option("--data")->required(false);
  app.add_option("--evaluate-samples", flags->evaluate_samples,
                 "Samples to measure quality on, spread over the data (2000)")
      ->type_name("N")
      ->check(whole_in_range(1, 100'000'000));
  app.add_flag("--sensitivity", flags->sensitivity,
               "Prune each group alone by a quarter, half and three quarters, and say how good the "
               "model is then; writes nothing");
  app.add_flag("--compress", flags->compress, "Also write OUT.gz, and say what compression gives");
  add_retrain_options(app, flags->finetune, "--finetune",
                      "structured: train what is left on --data before it is written");
  add_session_options(app, flags->session);
  add_json_option(app);
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
