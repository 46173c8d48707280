// `selvage optimize`: tries what makes a model smaller and faster, and takes the best.
#include "compress/optimize.h"

#include <algorithm>
#include <array>
#include <chrono>
#include <limits>
#include <optional>

#include <CLI/CLI.hpp>

#include "base/file.h"
#include "cli/command.h"
#include "cli/data_options.h"
#include "cli/interrupt.h"
#include "cli/model_change.h"
#include "cli/optimize_report.h"
#include "cli/options.h"
#include "cli/progress.h"
#include "compress/optimize_machine.h"
#include "infer/model_card.h"
#include "infer/yaml.h"

namespace selvage::cli {
namespace {

namespace fs = std::filesystem;
using compress::CandidateKind;
using std::chrono::nanoseconds;

constexpr std::array kKinds{CandidateKind::kFloat,   CandidateKind::kDynamic,
                            CandidateKind::kStatic,  CandidateKind::kWeightOnly,
                            CandidateKind::kFloat16, CandidateKind::kChannels};

struct OptimizeFlags {
  std::string model, out;
  DataFlags data;
  double max_drop = 0.01;
  std::optional<double> max_latency_ms, max_megabytes, budget_minutes;
  std::vector<std::string> only;
  std::size_t samples = 300, evaluate_samples = 2000;
  std::uint64_t seed = 0;
  std::string work, report;
  SessionFlags session;

  [[nodiscard]] fs::path work_folder() const { return work.empty() ? out + ".work" : work; }
  [[nodiscard]] compress::Targets targets() const {
    compress::Targets targets{.max_drop = max_drop, .max_latency_ms = max_latency_ms};
    if (max_megabytes) targets.max_bytes = static_cast<std::uint64_t>(*max_megabytes * kMegabyte);
    return targets;
  }
  [[nodiscard]] std::optional<nanoseconds> budget() const {
    if (!budget_minutes) return std::nullopt;
    return nanoseconds(static_cast<std::int64_t>(*budget_minutes * 60e9));
  }
};

// --- The card
// -------------------------------------------------------------------------------------

/// The file that the card's `output: labels:` names; "" where it lists them, or there are none.
std::string labels_file(const std::string& card) {
  const auto root = infer::parse_yaml(card, infer::kCardBytesMax);
  if (!root) return "";
  infer::YamlErrors errors;
  infer::YamlFields fields(*root, "", errors);
  const auto* output = fields.find("output");
  if (output == nullptr) return "";
  infer::YamlFields output_fields(*output, "output", errors);
  const auto* labels = output_fields.find("labels");
  return labels != nullptr && labels->kind == infer::YamlNode::Kind::kScalar ? labels->text : "";
}

/// A file that is there already stays: it may be somebody's work.
Result<void> copy_unless_there(const fs::path& from, const fs::path& to, Output& output) {
  std::error_code ignored;
  if (fs::equivalent(from, to, ignored)) return {};
  SELVAGE_TRY(const auto text, read_text(from, infer::kLabelsBytesMax));
  if (fs::exists(to, ignored)) {
    const auto there = read_text(to, infer::kLabelsBytesMax);
    if (!there || *there != text)
      output.note("'" + to.string() + "' differs from '" + from.string() + "' and was left alone");
    return {};
  }
  fs::create_directories(to.parent_path(), ignored);
  return write_atomically(to, text);
}

/// So that `selvage run OUT` understands the result as it does the original.
Result<void> copy_card(const fs::path& model, const fs::path& out, Output& output) {
  const auto card = infer::find_model_card(model);
  if (!card) return {};
  SELVAGE_RETURN_IF_ERROR(
      copy_unless_there(*card, fs::path(out).replace_extension(".yaml"), output));
  SELVAGE_TRY(const auto text, read_text(*card, infer::kCardBytesMax));
  const auto labels = labels_file(text);
  if (labels.empty()) return {};
  return copy_unless_there(card->parent_path() / labels, out.parent_path() / labels, output);
}

// --- Work
// -----------------------------------------------------------------------------------------

std::vector<compress::Recipe> chosen_recipes(const graph::Model& model,
                                             const std::vector<std::string>& only) {
  auto recipes = compress::recipes_for(model);
  if (!only.empty())
    std::erase_if(recipes, [&](const compress::Recipe& recipe) {
      return std::ranges::find(only, to_string(recipe.kind)) == only.end();
    });
  return recipes;
}

/// The bar is that of the candidate at work; how far the whole is, it says before.
class SearchProgress {
 public:
  explicit SearchProgress(Output& output) : output_(output) {}
  void show(const compress::OptimizeProgress& progress) {
    std::string what = std::to_string(progress.done) + " of " + std::to_string(progress.total);
    if (progress.left)
      what +=
          ", about " + fixed(std::chrono::duration<double>(*progress.left).count(), 0) + " s left";
    bar_.reset();
    bar_.emplace(output_, what + ": " + progress.what, 0);
  }

 private:
  Output& output_;
  std::optional<Progress> bar_;
};

/// Targets that nothing meets, not even the original, are an error: there is nothing to write.
Result<void> check_targets(const compress::OptimizeResult& found,
                           const compress::Targets& targets) {
  if (found.chosen != 0) return {};
  const auto& original = *found.candidates.front().figures;
  const bool too_slow = targets.max_latency_ms && original.latency.p50_ms > *targets.max_latency_ms;
  const bool too_large = targets.max_bytes && original.file_bytes > *targets.max_bytes;
  if (!too_slow && !too_large) return {};
  return fail(ErrorCode::kFailedPrecondition,
              "no candidate meets the targets; nothing was written. Why each was dropped stands in "
              "the table; allow a larger --max-drop, or fine-tune a pruned model");
}

Result<std::unique_ptr<compress::Machine>> make_machine(infer::Runtime& runtime,
                                                        const fs::path& path,
                                                        const infer::Dataset& calibration,
                                                        const infer::Dataset& evaluation,
                                                        const OptimizeFlags& flags,
                                                        const infer::ModelOptions& options) {
  return compress::Machine::create(runtime, path, calibration, evaluation,
                                   {.model = options,
                                    .calibration_max = flags.samples,
                                    .evaluation_max = flags.evaluate_samples,
                                    .seed = flags.seed,
                                    .keep_going = [] { return !interrupted(); }});
}

Result<compress::OptimizeResult> search(compress::Machine& machine, const OptimizeFlags& flags,
                                        Output& output) {
  SearchProgress progress(output);
  auto found = compress::optimize(
      machine, chosen_recipes(machine.folded(), flags.only),
      {.targets = flags.targets(),
       .budget = flags.budget(),
       .work = flags.work_folder(),
       .progress = [&](const compress::OptimizeProgress& now) { progress.show(now); }});
  if (!found && found.error().code == ErrorCode::kCancelled)
    return fail(ErrorCode::kCancelled, "interrupted: '" + flags.out +
                                           "' was not written; the same command goes on where "
                                           "this one stopped");
  return found;
}

/// Of what was taken, or else of the quantised candidate with the best quality.
Result<void> add_layers(compress::Machine& machine, OptimizeReport& report, Output& output) {
  const auto& candidates = report.result.candidates;
  const auto is_quantised = [](const compress::Candidate& candidate) {
    return candidate.figures && (candidate.recipe.kind == CandidateKind::kStatic ||
                                 candidate.recipe.kind == CandidateKind::kDynamic);
  };
  std::optional<std::size_t> best;
  for (std::size_t i = 0; i < candidates.size(); ++i)
    if (is_quantised(candidates[i]) &&
        (!best || i == report.result.chosen ||
         (*best != report.result.chosen &&
          candidates[i].figures->quality > candidates[*best].figures->quality)))
      best = i;
  if (!best) return {};
  const Progress progress(output, "comparing layers", 0);
  auto found = machine.compare_layers(candidates[*best].recipe);
  if (!found && found.error().code == ErrorCode::kCancelled)
    return std::unexpected(std::move(found).error());
  if (!found) return {};  // A page without this table is still one.
  report.layers_of = *best;
  report.layers = *std::move(found);
  return {};
}

void print(const OptimizeReport& report, Output& output) {
  output.print(output.json() ? to_json(report) : to_text(report, output.style()));
}

Result<void> optimize(const OptimizeFlags& flags, Output& output) {
  SELVAGE_TRY(const auto path, model_path(flags.model));
  SELVAGE_RETURN_IF_ERROR(check_output_path(path, flags.out, {flags.data.path}));
  if (std::error_code ignored; fs::equivalent(flags.work, flags.data.path, ignored))
    return fail(ErrorCode::kInvalidArgument,
                "--work " + flags.work + " is the data's folder: its files would be samples");
  if (!flags.report.empty())
    SELVAGE_RETURN_IF_ERROR(check_output_path(path, flags.report, {flags.data.path, flags.out}));
  SELVAGE_TRY(const auto options, flags.session.to_model_options());
  SELVAGE_TRY(const auto runtime, infer::Runtime::create());
  SELVAGE_TRY(const auto original, infer::Model::load(*runtime, path, options));
  const std::string outs[] = {flags.out, flags.report};
  SELVAGE_TRY(const auto calibration, flags.data.open(*original, infer::Part::kTrain, outs));
  SELVAGE_TRY(const auto evaluation, flags.data.open(*original, infer::Part::kTest, outs));
  SELVAGE_TRY(const auto machine,
              make_machine(*runtime, path, *calibration, *evaluation, flags, options));
  OptimizeReport report{.names = {.model = flags.model,
                                  .out = flags.out,
                                  .data = flags.data.path,
                                  .label = flags.data.label,
                                  .calibration_samples = machine->samples().calibration_count},
                        .targets = flags.targets(),
                        .result = {},
                        .times = {},
                        .quality = machine->quality_name(),
                        .is_part = machine->is_part(),
                        .evaluation_samples = machine->samples().evaluation.size(),
                        .change = {}};
  SELVAGE_TRY(report.result, search(*machine, flags, output));
  report.times = machine->times();
  const auto met = check_targets(report.result, flags.targets());
  report.is_written = met.has_value();
  if (report.is_written) {
    SELVAGE_RETURN_IF_ERROR(
        compress::save_candidate(*machine, report.chosen().recipe, flags.work_folder(), flags.out));
    SELVAGE_RETURN_IF_ERROR(copy_card(path, flags.out, output));
    const ChangeOptions change{.data = evaluation.get(), .samples_max = flags.evaluate_samples};
    SELVAGE_TRY(report.change, measure_change(*runtime, path, flags.out, options, change, output));
  }
  if (!flags.report.empty() || output.json())
    SELVAGE_RETURN_IF_ERROR(add_layers(*machine, report, output));
  if (!flags.report.empty())
    SELVAGE_RETURN_IF_ERROR(write_atomically(flags.report, to_html(report)));
  print(report, output);
  if (met && flags.work.empty()) compress::forget_search(*machine, flags.work_folder());
  return met;
}

void add_search_options(CLI::App& app, OptimizeFlags& flags) {
  constexpr auto kTargets = "Targets";
  app.add_option("--max-drop", flags.max_drop,
                 "How much quality may be lost: of accuracy, 0.01 is one point (0.01)")
      ->type_name("X")
      ->check(in_range(0, 1e6))
      ->group(kTargets);
  app.add_option("--max-latency", flags.max_latency_ms, "Milliseconds that half of the runs take")
      ->type_name("MS")
      ->check(in_range(1e-6, 1e9))
      ->group(kTargets);
  app.add_option("--max-size", flags.max_megabytes, "Megabytes of the file")
      ->type_name("MB")
      ->check(in_range(1e-6, 1e6))
      ->group(kTargets);
  constexpr auto kSearch = "Search";
  std::vector<std::string> kinds;
  for (const auto kind : kKinds) kinds.emplace_back(to_string(kind));
  add_list_option(app, "--only", flags.only,
                  "Try these alone: float (folded), dynamic, static (with layers in float where it "
                  "needs them), weight-only, float16, prune")
      ->type_name("KIND,...")
      ->check(one_of(kinds))
      ->group(kSearch);
  app.add_option("--samples", flags.samples, "Samples to calibrate on, spread over the data (300)")
      ->type_name("N")
      ->check(whole_in_range(1, 1'000'000))
      ->group(kSearch);
  app.add_option("--evaluate", flags.evaluate_samples,
                 "Samples to judge quality on; none of those that calibrate (2000)")
      ->type_name("N")
      ->check(whole_in_range(1, 100'000'000))
      ->group(kSearch);
  app.add_option("--budget", flags.budget_minutes,
                 "Begin no candidate after so many minutes, and take the best until then")
      ->type_name("MINUTES")
      ->check(in_range(0.001, 1e6))
      ->group(kSearch);
  app.add_option("--seed", flags.seed, "Of the choice of samples (0)")
      ->type_name("N")
      ->check(whole_in_range(0, std::numeric_limits<std::int64_t>::max()))
      ->group(kSearch);
  app.add_option("--work", flags.work,
                 "Where to keep what was found out, for the next search. Otherwise OUT.work, which "
                 "is deleted at the end")
      ->type_name("DIR")
      ->group(kSearch);
}

Action add(CLI::App& app) {
  auto flags = std::make_shared<OptimizeFlags>();
  app.add_option("MODEL", flags->model, "A model.onnx, or the folder that holds it")->required();
  app.add_option("OUT", flags->out, "The file to write; the model's card is copied beside it")
      ->required();
  add_data_options(app, flags->data);
  add_search_options(app, *flags);
  app.add_option("--report", flags->report,
                 "Write a page on what was tried, with a plot and the command for each candidate")
      ->type_name("FILE.html");
  add_session_options(app, flags->session);
  add_json_option(app);
  return [flags](Output& output) { return optimize(*flags, output); };
}

constexpr Command kCommand{
    .name = "optimize",
    .summary = "Find the smallest and fastest form of a model that keeps its quality",
    .description =
        "Builds candidates (folded float, dynamic and static int8 with several calibrations, "
        "matrices in 4 and 8 bits, 16-bit floats, pruned channels) and measures each on this "
        "machine, in turns with the original. Quality "
        "is accuracy where the data have labels, else how far a candidate agrees with the "
        "original, always on samples that did not calibrate it. A static candidate that misses "
        "--max-drop is tried again with its worst layers in float.\n\n"
        "A candidate may be taken if it keeps the targets, is not slower than the original beyond "
        "what the measurement can tell, and is faster or smaller. Of those the one with the "
        "lowest (time ratio)^2 * (size ratio) is taken; within 3 % quality decides. Where none is "
        "better, OUT is a copy of the original.\n\n"
        "An interrupted search goes on where it stopped when the same command is given again.",
    .examples =
        "selvage optimize model.onnx small.onnx --data photos/\n"
        "selvage optimize model.onnx small.onnx --data photos/ --max-drop 0.005 --report why.html\n"
        "selvage optimize model.onnx small.onnx --data x.npz --max-latency 5 --budget 10\n"
        "selvage optimize model.onnx small.onnx --data photos/ --json | jq '.candidates[].name'",
    .add = add};

}  // namespace

const Command& optimize_command() {
  return kCommand;
}

}  // namespace selvage::cli
