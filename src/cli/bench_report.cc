#include "cli/bench_report.h"

#include <array>
#include <fstream>

#include "base/utf8.h"
#include "cli/options.h"

namespace selvage::cli {
namespace {

using std::chrono::nanoseconds;

constexpr std::array kPercentiles{0.5, 0.9, 0.99, 0.999, 1.0};

nanoseconds percentile(const HistogramSnapshot& latency, double part) {
  return nanoseconds(static_cast<std::int64_t>(latency.percentile_ns(part)));
}

double share_under_line(const HistogramSnapshot& latency) {
  if (latency.count == 0) return 0;
  const auto line = static_cast<std::uint64_t>(nanoseconds(kLatencyLine).count());
  return static_cast<double>(latency.count_at_most(line)) / static_cast<double>(latency.count);
}

std::string latency_text(const BenchReport& report, const Style& style) {
  auto columns = latency_columns();
  columns.insert(columns.begin(), Column{"latency of a " + report.unit});
  Table table(columns);
  const auto add = [&](Cell name, const HistogramSnapshot& latency) {
    auto cells = latency_cells(latency);
    cells.insert(cells.begin(), std::move(name));
    table.add(std::move(cells));
  };
  add({report.stages.empty() ? "run" : "whole path", Tone::kBold}, report.load.latency);
  for (const auto& stage : report.stages) {
    const std::string step = stage.step.empty() ? "" : stage.step + ": ";
    add({"  " + step + std::string(to_string(stage.stage)), Tone::kDim}, stage.latency);
  }
  return "\n" + table.to_text(style) + "\n";
}

std::string line_verdict(const HistogramSnapshot& latency, const Style& style) {
  const auto p99 = percentile(latency, 0.99);
  const bool under = p99 <= kLatencyLine;
  return style(under ? Tone::kGood : Tone::kCaution,
               std::string("p99 is ") + (under ? "under" : "over") + " 10 ms") +
         "; " + fixed(100 * share_under_line(latency), latency.count >= 1000 ? 2 : 0) +
         " % of the calls were under it";
}

std::string throughput_text(const LoadResult& load) {
  const auto count = static_cast<double>(std::max<std::uint64_t>(1, load.latency.count));
  return format_rate(load.per_second()) + " a second, " +
         format_duration(nanoseconds(
             static_cast<std::int64_t>(static_cast<double>(load.cpu_time.count()) / count))) +
         " of processor time each";
}

std::string session_text(const infer::SessionOptions& session) {
  std::string text = format_plural(static_cast<std::uint64_t>(session.threads), "thread") + ", " +
                     std::string(to_string(session.power)) + " power";
  for (const auto& provider : session.providers) text += ", " + printable(provider);
  return text;
}

std::string facts_text(const BenchReport& report, const Style& style) {
  Table table({{""}, {""}});
  const auto add = [&](const char* what, std::string text) {
    table.add({{what, Tone::kDim}, std::move(text)});
  };
  add("10 ms line", line_verdict(report.load.latency, style));
  add("throughput", throughput_text(report.load));
  add("memory", format_bytes(report.memory_before.now) + " before loading, " +
                    format_bytes(report.memory_loaded.now) + " loaded, " +
                    format_bytes(report.memory_after.most) + " at most");
  if (report.cold_start) {
    const auto& cold = *report.cold_start;
    add("cold start", format_duration(cold.later) + " from process start to the first answer, " +
                          format_bytes(cold.resident_bytes) + " resident; " +
                          format_duration(cold.first) + " the very first time");
  }
  if (report.load.waiting > 0)
    add("overload", format_plural(report.load.waiting, "call") +
                        " still waited at the end: the model cannot keep up with " +
                        shortest(report.rate) + " a second");
  if (report.load.latency.count < 1000)
    add("note", "p99.9 needs 1,000 calls to mean something; these were " +
                    format_count(report.load.latency.count) + ": use --seconds or --runs");
  return table.to_text(style);
}

}  // namespace

ResidentMemory ResidentMemory::read() {
  ResidentMemory memory;
  std::ifstream status("/proc/self/status");
  for (std::string word; status >> word;) {
    if (word == "VmRSS:" && status >> memory.now) memory.now *= 1024;
    if (word == "VmHWM:" && status >> memory.most) memory.most *= 1024;
  }
  return memory;
}

std::vector<Column> latency_columns() {
  return {{"p50", Align::kRight},
          {"p90", Align::kRight},
          {"p99", Align::kRight},
          {"p99.9", Align::kRight},
          {"max", Align::kRight}};
}

std::vector<Cell> latency_cells(const HistogramSnapshot& latency) {
  std::vector<Cell> cells;
  for (const double part : kPercentiles) {
    const auto value = percentile(latency, part);
    cells.emplace_back(format_duration(value),
                       value > kLatencyLine ? Tone::kCaution : Tone::kPlain);
  }
  return cells;
}

void write_latency(std::string_view key, const HistogramSnapshot& latency, JsonWriter& json) {
  constexpr std::array kNames{"p50", "p90", "p99", "p99_9", "max"};
  json.key(key).begin_object().field("count", latency.count);
  json.field("mean", latency.mean_ns() / 1e6);
  json.field("min", static_cast<double>(latency.min_ns) / 1e6);
  for (std::size_t i = 0; i < kNames.size(); ++i)
    json.field(kNames[i], to_milliseconds(percentile(latency, kPercentiles[i])));
  json.end_object();
}

std::string to_text(const BenchReport& report, const Style& style) {
  std::string text =
      style(Tone::kBold, printable(report.model)) + " on " + printable(report.input) + "\n";
  std::string how = "  " + format_plural(report.load.latency.count, "call") + " in " +
                    fixed(std::chrono::duration<double>(report.load.elapsed).count(), 1) +
                    " s by " + format_plural(report.callers, "caller");
  if (report.rate > 0) how += ", due " + shortest(report.rate) + " a second (open loop)";
  text += style(Tone::kDim, how + "; " + session_text(report.session)) + "\n";
  return text + latency_text(report, style) + facts_text(report, style);
}

std::string to_json(const BenchReport& report) {
  JsonWriter json;
  json.begin_object().field("model", report.model).field("input", report.input);
  json.field("unit", report.unit).field("callers", report.callers).key("rate_per_s");
  report.rate > 0 ? json.value(report.rate) : json.null();
  json.key("session").begin_object().field("threads", report.session.threads);
  json.field("power", to_string(report.session.power));
  json.list("providers", report.session.providers).end_object();
  json.field("seconds", std::chrono::duration<double>(report.load.elapsed).count());
  write_latency("latency_ms", report.load.latency, json);
  json.field("under_10_ms", share_under_line(report.load.latency));
  json.field("per_second", report.load.per_second()).field("waiting", report.load.waiting);
  json.field("cpu_seconds", std::chrono::duration<double>(report.load.cpu_time).count());
  json.key("stages").begin_array();
  for (const auto& stage : report.stages) {
    json.begin_object().field("step", stage.step).field("stage", to_string(stage.stage));
    write_latency("latency_ms", stage.latency, json);
    json.end_object();
  }
  json.end_array().field("load_ms", to_milliseconds(report.load_time));
  json.key("memory_bytes").begin_object().field("before", report.memory_before.now);
  json.field("loaded", report.memory_loaded.now).field("most", report.memory_after.most);
  json.end_object().key("cold_start");
  if (report.cold_start) {
    json.begin_object().field("first_ms", to_milliseconds(report.cold_start->first));
    json.field("later_ms", to_milliseconds(report.cold_start->later));
    json.field("resident_bytes", report.cold_start->resident_bytes).end_object();
  } else {
    json.null();
  }
  json.end_object();
  return json.text() + "\n";
}

}  // namespace selvage::cli
