#include "cli/optimize_report.h"

#include <algorithm>
#include <chrono>

#include "base/json_writer.h"

namespace selvage::cli {
namespace {

using compress::Candidate;
using std::chrono::nanoseconds;

constexpr std::size_t kShownLayersMax = 8;

/// As a POSIX shell reads one word.
std::string quoted(const std::string& word) {
  constexpr std::string_view kPlain =
      "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_-+=./,:%@";
  if (!word.empty() && word.find_first_not_of(kPlain) == std::string::npos) return word;
  std::string text = "'";
  for (const char c : word) text += c == '\'' ? std::string("'\\''") : std::string(1, c);
  return text + "'";
}

double seconds(nanoseconds time) {
  return std::chrono::duration<double>(time).count();
}

std::string milliseconds(double ms) {
  return format_duration(nanoseconds(static_cast<std::int64_t>(ms * 1e6)));
}

/// Part of the search that was neither running models nor loading them.
double overhead(const OptimizeReport& report) {
  const double total = seconds(report.result.time);
  if (total <= 0) return 0;
  return std::max(0.0, total - seconds(report.times.runs) - seconds(report.times.loading)) / total;
}

void add_row(const OptimizeReport& report, std::size_t index, Table& table) {
  const auto& candidate = report.result.candidates[index];
  const bool is_chosen = report.is_written && index == report.result.chosen;
  const auto tone = is_chosen ? Tone::kGood : Tone::kPlain;
  const std::string mark = is_chosen ? ">" : candidate.is_on_front ? "*" : "";
  if (!candidate.figures) {
    table.add({mark,
               describe(candidate.recipe),
               "",
               "",
               "",
               "",
               "",
               "",
               "",
               {verdict(report, index), Tone::kDim}});
    return;
  }
  const auto& figures = *candidate.figures;
  table.add({{mark, tone},
             {describe(candidate.recipe), tone},
             quality_text(report, figures.quality),
             drop_text(report, candidate),
             milliseconds(figures.latency.p50_ms),
             fixed(figures.latency.ratio, 2) + "x",
             milliseconds(figures.latency.p99_ms),
             format_bytes(figures.file_bytes),
             format_bytes(figures.resident_bytes),
             {verdict(report, index), Tone::kDim}});
}

std::string candidates_text(const OptimizeReport& report, const Style& style) {
  Table table({{""},
               {"candidate"},
               {"quality", Align::kRight},
               {"change", Align::kRight},
               {"p50", Align::kRight},
               {"time", Align::kRight},
               {"p99", Align::kRight},
               {"file", Align::kRight},
               {"memory", Align::kRight},
               {""}});
  for (std::size_t i = 0; i < report.result.candidates.size(); ++i) add_row(report, i, table);
  return table.to_text(style) +
         style(Tone::kDim, "  > taken, * no other is as good in quality, time and size") + "\n";
}

std::string layers_text(const OptimizeReport& report, const Style& style) {
  std::string text;
  for (const auto& found : report.result.sensitivities) {
    text += "\n  " +
            style(Tone::kBold,
                  "What hurts " + describe(report.result.candidates[found.candidate].recipe)) +
            "\n";
    Table table({{"in float alone"}, {"output error left", Align::kRight}});
    const auto shown = std::min(found.layers.size(), kShownLayersMax);
    for (const auto& layer : std::span(found.layers).first(shown))
      table.add(
          {layer.nodes.front() + (layer.nodes.size() > 1
                                      ? " and " + std::to_string(layer.nodes.size() - 1) + " more"
                                      : ""),
           significant(layer.error_without) + " of " + significant(found.error)});
    text += table.to_text(style);
  }
  return text;
}

void write_figures(const compress::Figures& figures, JsonWriter& json) {
  json.field("quality", figures.quality).field("file_bytes", figures.file_bytes);
  json.field("resident_bytes", figures.resident_bytes).key("latency").begin_object();
  json.field("p50_ms", figures.latency.p50_ms).field("p99_ms", figures.latency.p99_ms);
  json.field("original_p50_ms", figures.latency.original_p50_ms);
  json.field("ratio", figures.latency.ratio).field("ratio_low", figures.latency.ratio_low);
  json.field("ratio_high", figures.latency.ratio_high).end_object();
}

}  // namespace

std::string command_line(const OptimizeReport& report, const Candidate& candidate) {
  const auto words = compress::command(candidate.recipe, report.names);
  if (words.empty()) return "";
  std::string line = "selvage";
  for (const auto& word : words) line += " " + quoted(word);
  return line;
}

std::string quality_text(const OptimizeReport& report, double quality) {
  return report.is_part ? fixed(100 * quality, 2) + " %" : significant(quality);
}

std::string drop_text(const OptimizeReport& report, const Candidate& candidate) {
  if (candidate.recipe.kind == compress::CandidateKind::kOriginal || !candidate.figures) return "";
  const double change =
      candidate.figures->quality - report.result.candidates.front().figures->quality;
  const auto text = report.is_part ? fixed(100 * change, 2) : significant(change);
  return change > 0 ? "+" + text : text;
}

std::string verdict(const OptimizeReport& report, std::size_t index) {
  const auto& candidate = report.result.candidates[index];
  if (index == report.result.chosen) return report.is_written ? "taken" : "misses the targets";
  if (!candidate.objection.empty()) return candidate.objection;
  return index == 0 ? "" : "another is better";
}

std::string effort_text(const OptimizeReport& report) {
  const double total = std::max(seconds(report.result.time), 1e-9);
  const auto part = [&](double value) { return fixed(100 * value, 0) + " %"; };
  std::string text = format_plural(report.result.candidates.size() - 1, "candidate") + " in " +
                     format_duration(report.result.time) + ": " +
                     part(seconds(report.times.runs) / total) + " running models, " +
                     part(seconds(report.times.loading) / total) + " loading them, " +
                     part(overhead(report)) + " everything else";
  const auto resumed = std::ranges::count_if(report.result.candidates, &Candidate::is_resumed);
  if (resumed > 0) text += "; " + std::to_string(resumed) + " known from an earlier search";
  if (report.result.skipped > 0)
    text += "; the time budget left out " + std::to_string(report.result.skipped);
  return text;
}

std::string to_text(const OptimizeReport& report, const Style& style) {
  const auto outcome =
      report.is_written ? describe(report.chosen().recipe) : std::string("nothing was written");
  std::string text = style(Tone::kBold, report.names.out) + ": " + outcome + "\n\n";
  if (report.change) text += to_text(*report.change, style) + "\n";
  text += candidates_text(report, style) + layers_text(report, style) + "\n";
  text += "  quality is the " + report.quality + " on " +
          format_plural(report.evaluation_samples, "sample") + "\n";
  text += "  " + effort_text(report) + "\n";
  if (!report.is_written) return text;
  if (report.result.chosen == 0)
    text += "  " +
            style(Tone::kCaution, "Nothing was better than the original, which was copied.") + "\n";
  else
    text += "  the same again: " + command_line(report, report.chosen()) + "\n";
  return text;
}

std::string to_json(const OptimizeReport& report) {
  JsonWriter json;
  json.begin_object().field("model", report.names.model).field("out", report.names.out);
  json.field("data", report.names.data).field("quality", report.quality);
  json.field("calibration_samples", report.names.calibration_samples);
  json.field("evaluation_samples", report.evaluation_samples);
  json.field("written", report.is_written)
      .field("max_drop", report.targets.max_drop)
      .field("chosen", report.result.chosen);
  json.key("candidates").begin_array();
  for (std::size_t i = 0; i < report.result.candidates.size(); ++i) {
    const auto& candidate = report.result.candidates[i];
    json.begin_object().field("name", describe(candidate.recipe));
    json.field("kind", to_string(candidate.recipe.kind)).field("verdict", verdict(report, i));
    json.field("on_front", candidate.is_on_front).field("resumed", candidate.is_resumed);
    if (const auto line = command_line(report, candidate); !line.empty())
      json.field("command", line);
    if (candidate.figures) write_figures(*candidate.figures, json);
    json.end_object();
  }
  json.end_array().key("sensitivities").begin_array();
  for (const auto& found : report.result.sensitivities) {
    json.begin_object().field("candidate", found.candidate).field("error", found.error);
    json.key("layers").begin_array();
    for (const auto& layer : found.layers)
      json.begin_object()
          .list("nodes", layer.nodes)
          .field("error_without", layer.error_without)
          .end_object();
    json.end_array().end_object();
  }
  json.end_array().key("layers").begin_array();
  for (const auto& layer : report.layers)
    json.begin_object()
        .field("value", layer.name)
        .field("type", layer.type)
        .field("sqnr_db", layer.sqnr_db)  // null where the two are equal.
        .field("largest_difference", layer.largest_difference)
        .end_object();
  json.end_array().field("layers_of", report.layers_of).field("skipped", report.result.skipped);
  json.key("seconds").begin_object().field("total", seconds(report.result.time));
  json.field("running", seconds(report.times.runs)).field("loading", seconds(report.times.loading));
  json.field("graphs", seconds(report.times.graphs)).end_object();
  json.field("overhead", overhead(report));
  if (report.change) write_json(*report.change, json);
  return json.end_object().text() + "\n";
}

}  // namespace selvage::cli
