#include "cli/compare.h"

#include <algorithm>
#include <numeric>
#include <thread>

#include "base/json_writer.h"
#include "base/utf8.h"
#include "cli/bench_report.h"
#include "cli/interrupt.h"
#include "cli/options.h"
#include "cli/progress.h"
#include "cli/providers.h"
#include "cli/random_input.h"

namespace selvage::cli {
namespace {

using infer::PowerProfile;
using std::chrono::nanoseconds;

/// A setting within this of the best tail is as good, and the least processor time decides.
constexpr double kTailTolerance = 1.10;
/// More throughput than this over the recommended setting is worth mentioning.
constexpr double kThroughputGain = 1.15;
constexpr std::array<std::int64_t, 3> kBatches{2, 4, 8};

int cores() {
  return static_cast<int>(std::clamp(std::thread::hardware_concurrency(), 1u, 256u));
}

std::vector<Setting> settings_for(const infer::Runtime& runtime, const WorkloadOptions& workload,
                                  bool batches) {
  std::vector<Setting> settings;
  std::vector<int> counts;
  for (int threads = 1; threads < cores(); threads *= 2) counts.push_back(threads);
  counts.push_back(cores());
  for (const int threads : counts)
    for (const auto power : {PowerProfile::kBalanced, PowerProfile::kLatency})
      settings.push_back({.threads = threads, .power = power});
  settings.push_back({.power = PowerProfile::kLowPower});
  for (const auto& provider : quiet_usable_providers(runtime))
    if (provider != "CPUExecutionProvider")
      settings.push_back({.threads = cores(), .provider = provider});
  if (workload.input.empty() && batches)
    for (const auto batch : kBatches) settings.push_back({.threads = cores(), .batch = batch});
  if (cores() > 1) settings.push_back({.callers = cores()});
  return settings;
}

Result<LoadResult> measure(infer::Runtime& runtime, WorkloadOptions workload,
                           infer::ModelOptions model, const Setting& setting, nanoseconds time) {
  workload.batch = setting.batch;
  workload.callers = setting.callers;
  model.overrides.threads = setting.threads;
  model.overrides.power = setting.power;
  model.overrides.spin_us.reset();
  model.overrides.providers.emplace();
  if (!setting.provider.empty()) model.overrides.providers->push_back(setting.provider);
  SELVAGE_TRY(auto loaded, Workload::create(runtime, workload, model));
  SELVAGE_RETURN_IF_ERROR(warm_up(loaded.callers()));
  return apply_load(loaded.callers(), {.time = time});
}

void add(LoadResult& sum, const LoadResult& part) {
  sum.latency.merge(part.latency);
  sum.elapsed += part.elapsed;
  sum.cpu_time += part.cpu_time;
}

nanoseconds tail(const Compared& result) {
  return nanoseconds(static_cast<std::int64_t>(result.load.latency.percentile_ns(0.99)));
}

double cpu_per_call(const Compared& result) {
  return static_cast<double>(result.load.cpu_time.count()) /
         static_cast<double>(std::max<std::uint64_t>(1, result.load.latency.count));
}

bool is_measured(const Compared& result) {
  return result.load.latency.count > 0;
}

/// Only single calls compete on latency: batches and many callers trade it for throughput.
std::size_t recommend(const std::vector<Compared>& results) {
  const auto competes = [](const Compared& result) {
    return is_measured(result) && result.setting.batch == 1 && result.setting.callers == 1;
  };
  nanoseconds best = nanoseconds::max();
  for (const auto& result : results)
    if (competes(result)) best = std::min(best, tail(result));
  std::size_t chosen = 0;
  double least = 1e300;
  for (std::size_t i = 0; i < results.size(); ++i) {
    const bool near = static_cast<double>(tail(results[i]).count()) <=
                      kTailTolerance * static_cast<double>(best.count());
    if (!competes(results[i]) || !near || cpu_per_call(results[i]) >= least) continue;
    chosen = i;
    least = cpu_per_call(results[i]);
  }
  return chosen;
}

std::string yaml_block(const Setting& setting) {
  std::string yaml = "session:\n  threads: " + std::to_string(setting.threads) +
                     "\n  power: " + std::string(to_string(setting.power)) + "\n";
  if (!setting.provider.empty()) yaml += "  providers: [" + setting.provider + "]\n";
  return yaml;
}

}  // namespace

std::string Setting::name() const {
  std::string text = format_plural(static_cast<std::uint64_t>(threads), "thread");
  if (callers > 1) text += " x " + format_plural(static_cast<std::uint64_t>(callers), "caller");
  text += ", " + std::string(to_string(power));
  if (batch > 1) text += ", batch " + std::to_string(batch);
  if (!provider.empty()) text += ", " + provider;
  return text;
}

Result<Comparison> compare(infer::Runtime& runtime, const WorkloadOptions& workload,
                           const infer::ModelOptions& model, nanoseconds time, Output& output) {
  Comparison comparison;
  bool batches = false;
  {
    const Progress progress(output, "loading " + workload.model.string(), 0);
    SELVAGE_TRY(const auto first, Workload::create(runtime, workload, model));
    comparison.model = first.subject().name();
    comparison.input = first.input();
    batches = takes_batches(first.subject().first_model().session());
  }
  for (auto& setting : settings_for(runtime, workload, batches))
    comparison.results.push_back({setting, {}, ""});
  auto& results = comparison.results;
  Progress progress(output, "comparing settings", 2 * results.size());
  const auto slice = time / static_cast<std::int64_t>(2 * results.size());
  for (std::size_t i = 0; i < 2 * results.size(); ++i) {
    auto& result = results[i < results.size() ? i : 2 * results.size() - 1 - i];
    if (interrupted()) return fail(ErrorCode::kCancelled, "interrupted");
    if (result.problem.empty()) {
      const auto part = measure(runtime, workload, model, result.setting, slice);
      if (part)
        add(result.load, *part);
      else if (result.setting.provider.empty() && result.setting.batch == 1)
        return std::unexpected(part.error());
      else
        result.problem = part.error().message;
    }
    progress.advance();
  }
  comparison.recommended = recommend(results);
  comparison.fastest = static_cast<std::size_t>(
      std::ranges::max_element(results, {}, &Compared::per_second) - results.begin());
  return comparison;
}

std::string to_text(const Comparison& comparison, const Style& style) {
  auto columns = latency_columns();
  columns.insert(columns.begin(), Column{"settings"});
  columns.push_back({"a second", Align::kRight});
  columns.push_back({"processor", Align::kRight});
  columns.push_back({""});
  Table table(columns);
  for (std::size_t i = 0; i < comparison.results.size(); ++i) {
    const auto& result = comparison.results[i];
    if (!is_measured(result)) {
      table.add(
          {result.setting.name(), "", "", "", "", "", "", "", "not usable: " + result.problem});
      continue;
    }
    auto cells = latency_cells(result.load.latency);
    const bool chosen = i == comparison.recommended;
    cells.insert(cells.begin(), {result.setting.name(), chosen ? Tone::kBold : Tone::kPlain});
    cells.emplace_back(format_rate(result.per_second()));
    cells.emplace_back(
        format_duration(nanoseconds(static_cast<std::int64_t>(cpu_per_call(result)))));
    cells.emplace_back(chosen ? "recommended" : "", Tone::kGood);
    table.add(std::move(cells));
  }
  const auto& best = comparison.results[comparison.recommended];
  const auto& fastest = comparison.results[comparison.fastest];
  std::string text = style(Tone::kBold, printable(comparison.model)) + " on " +
                     printable(comparison.input) + "\n\n" + table.to_text(style) + "\n" +
                     "For the lowest tail at the least processor time, paste into model.yaml:\n\n" +
                     yaml_block(best.setting);
  if (fastest.per_second() > kThroughputGain * best.per_second())
    text += "\nFor throughput: " + fastest.setting.name() + " gives " +
            fixed(fastest.per_second() / best.per_second(), 2) + " times as many a second.\n";
  return text;
}

std::string to_json(const Comparison& comparison) {
  JsonWriter json;
  json.begin_object().field("model", comparison.model).field("input", comparison.input);
  json.key("results").begin_array();
  for (const auto& result : comparison.results) {
    json.begin_object().field("name", result.setting.name());
    json.field("threads", result.setting.threads);
    json.field("power", to_string(result.setting.power)).field("provider", result.setting.provider);
    json.field("batch", result.setting.batch).field("callers", result.setting.callers);
    write_latency("latency_ms", result.load.latency, json);
    json.field("per_second", result.per_second());
    json.field("cpu_ms_per_call", cpu_per_call(result) / 1e6);
    json.field("problem", result.problem).end_object();
  }
  json.end_array().field("recommended", comparison.recommended);
  json.field("fastest", comparison.fastest);
  json.field("model_yaml", yaml_block(comparison.results[comparison.recommended].setting));
  json.end_object();
  return json.text() + "\n";
}

}  // namespace selvage::cli
