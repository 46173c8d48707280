// `selvage bench`: how fast, how steady, how much memory.
#include <CLI/CLI.hpp>

#include "base/file.h"
#include "cli/bench_report.h"
#include "cli/command.h"
#include "cli/compare.h"
#include "cli/interrupt.h"
#include "cli/options.h"
#include "cli/percentile_plot.h"
#include "cli/progress.h"
#include "cli/random_input.h"
#include "cli/workload.h"

namespace selvage::cli {
namespace {

using std::chrono::nanoseconds;
using std::chrono::steady_clock;

constexpr double kSecondsDefault = 3;
constexpr double kCompareSecondsDefault = 12;

struct BenchFlags {
  std::string model, input, plot;
  std::vector<std::string> shapes;
  std::int64_t batch = 1;
  std::optional<double> seconds;
  std::uint64_t runs = 0;
  int concurrency = 1;
  double rate = 0;
  bool compare = false;
  bool no_cold_start = false;
  bool once = false;
  SessionFlags session;

  [[nodiscard]] WorkloadOptions workload() const {
    return {
        .model = model, .input = input, .shapes = shapes, .batch = batch, .callers = concurrency};
  }
  [[nodiscard]] nanoseconds time() const {
    // A number of runs has all the time it needs, unless that is limited too.
    const double fallback = compare ? kCompareSecondsDefault : runs > 0 ? 1e6 : kSecondsDefault;
    return nanoseconds(static_cast<std::int64_t>(seconds.value_or(fallback) * 1e9));
  }
  /// What a child is started with to measure a cold start.
  [[nodiscard]] std::vector<std::string> once_arguments() const {
    std::vector<std::string> arguments{"bench", model, "--once"};
    if (input.empty())
      arguments.insert(arguments.end(), {"--batch", std::to_string(batch)});
    else
      arguments.insert(arguments.end(), {"--input", input});
    for (const auto& shape : shapes) arguments.insert(arguments.end(), {"--shape", shape});
    const auto more = session.to_arguments();
    arguments.insert(arguments.end(), more.begin(), more.end());
    return arguments;
  }
};

std::vector<StageLatency> stage_latencies(const Subject& subject) {
  std::vector<StageLatency> stages;
  for (const auto& step : subject.steps())
    for (const auto stage :
         {infer::Stage::kPreprocess, infer::Stage::kRun, infer::Stage::kPostprocess})
      stages.push_back({std::string(step.name), stage, step.model->times(stage).snapshot()});
  return stages;
}

void forget_stages(const Subject& subject) {
  for (const auto& step : subject.steps())
    for (std::size_t s = 0; s < infer::kStageCount; ++s)
      step.model->times(static_cast<infer::Stage>(s)).reset();
}

Result<BenchReport> measure(const BenchFlags& flags, infer::Runtime& runtime, Output& output) {
  BenchReport report{.callers = static_cast<std::size_t>(flags.concurrency), .rate = flags.rate};
  SELVAGE_TRY(const auto options, flags.session.to_model_options());
  report.memory_before = ResidentMemory::read();
  std::optional<Progress> progress(std::in_place, output, "loading " + flags.model, 0);
  const auto start = steady_clock::now();
  SELVAGE_TRY(auto workload, Workload::create(runtime, flags.workload(), options));
  report.load_time = steady_clock::now() - start;
  report.memory_loaded = ResidentMemory::read();
  SELVAGE_RETURN_IF_ERROR(warm_up(workload.callers()));
  forget_stages(workload.subject());

  const auto time = flags.time();
  progress.emplace(output, "measuring",
                   flags.runs > 0
                       ? flags.runs
                       : static_cast<std::uint64_t>(time / std::chrono::milliseconds(1)));
  const auto begin = steady_clock::now();
  const auto on_done = [&] {
    if (flags.runs > 0)
      progress->advance();
    else
      progress->set(
          static_cast<std::uint64_t>((steady_clock::now() - begin) / std::chrono::milliseconds(1)));
  };
  SELVAGE_TRY(
      report.load,
      apply_load(workload.callers(), {.time = time, .runs_max = flags.runs, .rate = flags.rate},
                 output.progress() ? std::function<void()>(on_done) : nullptr));
  progress.reset();
  report.memory_after = ResidentMemory::read();
  report.model = workload.subject().name();
  report.input = workload.input();
  report.unit = workload.unit();
  report.session = workload.subject().first_model().session().options();
  if (workload.whole_path()) report.stages = stage_latencies(workload.subject());
  return report;
}

Result<void> bench_once(const BenchFlags& flags, Output& output) {
  SELVAGE_TRY(const auto options, flags.session.to_model_options());
  SELVAGE_TRY(const auto runtime, infer::Runtime::create());
  SELVAGE_TRY(auto workload, Workload::create(*runtime, flags.workload(), options));
  SELVAGE_RETURN_IF_ERROR(workload.callers().front()());
  output.print("answered\n");
  return {};
}

Result<void> save_plot(const BenchFlags& flags, const std::string& title,
                       const std::vector<PlottedLatency>& curves, Output& output) {
  if (flags.plot.empty()) return {};
  SELVAGE_RETURN_IF_ERROR(write_atomically(flags.plot, plot_percentiles(title, curves)));
  output.note("the latency percentiles are drawn in " + flags.plot);
  return {};
}

Result<void> bench_comparison(const BenchFlags& flags, infer::Runtime& runtime, Output& output) {
  SELVAGE_TRY(const auto options, flags.session.to_model_options());
  SELVAGE_TRY(const auto comparison,
              compare(runtime, flags.workload(), options, flags.time(), output));
  std::vector<PlottedLatency> curves;
  curves.reserve(comparison.results.size());
  for (const auto& result : comparison.results)
    curves.push_back({result.setting.name(), result.load.latency});
  // First what can fail: standard output holds one JSON object, the report or the error.
  SELVAGE_RETURN_IF_ERROR(save_plot(flags, comparison.model, curves, output));
  output.print(output.json() ? to_json(comparison) : to_text(comparison, output.style()));
  return {};
}

Result<void> bench(const BenchFlags& flags, Output& output) {
  if (flags.once) return bench_once(flags, output);
  SELVAGE_TRY(const auto runtime, infer::Runtime::create());
  if (flags.compare) return bench_comparison(flags, *runtime, output);
  SELVAGE_TRY(auto report, measure(flags, *runtime, output));
  if (!flags.no_cold_start && !interrupted()) {
    const Progress progress(output, "measuring cold starts", 0);
    auto cold = measure_cold_start(flags.once_arguments());
    if (cold)
      report.cold_start = *cold;
    else
      output.note("the cold start was not measured: " + cold.error().message);
  }
  SELVAGE_RETURN_IF_ERROR(
      save_plot(flags, report.model + " on " + report.input,
                {{format_plural(report.callers, "caller"), report.load.latency}}, output));
  output.print(output.json() ? to_json(report) : to_text(report, output.style()));
  return {};
}

/// A comparison decides these by itself.
void add_load_options(CLI::App& app, BenchFlags& flags, CLI::Option& compare) {
  constexpr auto kGroup = "Load";
  app.add_option("--seconds", flags.seconds, "How long to measure (3; with --compare 12 in all)")
      ->type_name("S")
      ->check(in_range(0.1, 86'400))
      ->group(kGroup);
  app.add_option("--runs", flags.runs, "Stop after N calls")
      ->type_name("N")
      ->check(whole_in_range(1, 1'000'000'000'000))
      ->excludes(&compare)
      ->group(kGroup);
  app.add_option("--concurrency", flags.concurrency,
                 "Callers that use the model at the same time (1)")
      ->type_name("N")
      ->check(whole_in_range(1, 1024))
      ->excludes(&compare)
      ->group(kGroup);
  app.add_option(
         "--rate", flags.rate,
         "Open loop: N calls a second are due, and latency counts from when a call was due, "
         "so that waiting is not hidden")
      ->type_name("N")
      ->check(in_range(0.001, 1e6))
      ->excludes(&compare)
      ->group(kGroup);
}

Action add(CLI::App& app) {
  auto flags = std::make_shared<BenchFlags>();
  app.add_option("MODEL", flags->model,
                 "A model.onnx, an ensemble.yaml, or the folder that holds one of them")
      ->required();
  auto* input = app.add_option(
      "--input", flags->input,
      "Measure the whole path on this file's first picture, sound, row or frame: "
      "preprocessing, run and postprocessing. Otherwise the run alone, on random tensors");
  input->type_name("FILE");
  app.add_option("--shape", flags->shapes,
                 "Size of a random tensor, such as x=1x3x640x640; open dimensions are 1 otherwise. "
                 "May be repeated")
      ->type_name("INPUT=AxBx...")
      ->check(parsed_by(parse_input_shape))
      ->allow_extra_args(false)
      ->excludes(input);
  auto* batch = app.add_option("--batch", flags->batch,
                               "Size of the first dimension of random tensors, where open");
  batch->type_name("N")->check(whole_in_range(1, 4096))->excludes(input);
  auto* compare = app.add_flag(
      "--compare", flags->compare,
      "Measure thread counts, power profiles, providers, batches and callers against each "
      "other, and recommend settings for model.yaml");
  compare->excludes(batch);
  app.add_option("--plot", flags->plot, "Draw the latency percentiles into this SVG file")
      ->type_name("FILE");
  app.add_flag("--no-cold-start", flags->no_cold_start,
               "Do not start further processes to measure the time to the first answer");
  app.add_flag("--once", flags->once, "Answer once and say so: what cold starts are measured on")
      ->group("");
  add_load_options(app, *flags, *compare);
  add_session_options(app, flags->session);
  add_json_option(app);
  return [flags](Output& output) { return bench(*flags, output); };
}

constexpr Command kCommand{
    .name = "bench",
    .summary = "Measure latency, throughput, memory and cold start",
    .description =
        "Measures a warm model under load and says how far the slow calls are from the fast ones: "
        "p99 is what one call in a hundred exceeds. A model that listens to a stream is measured "
        "window by window, as a microphone would feed it.",
    .examples =
        "selvage bench blazeface/ --input photo.jpg\n"
        "selvage bench model.onnx --shape x=1x3x640x640 --threads 2\n"
        "selvage bench blazeface/ --input photo.jpg --rate 30 --seconds 60\n"
        "selvage bench blazeface/ --input photo.jpg --compare --plot latency.svg\n"
        "selvage bench model.onnx --json | jq .latency_ms.p99",
    .add = add};

}  // namespace

const Command& bench_command() {
  return kCommand;
}

}  // namespace selvage::cli
