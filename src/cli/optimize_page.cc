// OptimizeReport as an HTML page.
#include <algorithm>
#include <cmath>

#include "cli/optimize_report.h"
#include "cli/svg.h"

namespace selvage::cli {
namespace {

using compress::Candidate;

constexpr double kWidth = 860, kHeight = 460;
constexpr double kLeft = 72, kRight = 32, kTop = 28, kBottom = 56;
constexpr double kRadiusMax = 16, kRadiusMin = 4;
/// A candidate that loses more than this many times what is allowed is drawn at the edge: where it
/// lies exactly tells nobody anything.
constexpr double kShownDrops = 6;

constexpr std::string_view kStyle =
    "body{font:15px/1.5 sans-serif;color:#1f2937;max-width:1180px;margin:2em auto;padding:0 1em}"
    "h1{font-size:1.5em}h2{font-size:1.15em;margin-top:2em}"
    "table{border-collapse:collapse}td,th{padding:.25em .7em;text-align:left;"
    "border-bottom:1px solid #e5e7eb;vertical-align:top}th{color:#6b7280;font-weight:normal}"
    ".n{text-align:right;white-space:nowrap;font-variant-numeric:tabular-nums}"
    ".taken{background:#ecfdf5;font-weight:bold}.dim{color:#6b7280;font-weight:normal}"
    "code{font-size:.85em;word-break:break-word}svg{max-width:100%}";

std::string cell(std::string_view text, std::string_view kind = "") {
  return (kind.empty() ? "<td>" : "<td class=\"" + std::string(kind) + "\">") +
         escape_markup(text) + "</td>";
}

// --- The plot
// -------------------------------------------------------------------------------------

struct Point {
  double ratio = 1, drop = 0;
};

/// Time to the right, lost quality downwards: good is at the top left.
class Plot {
 public:
  explicit Plot(const OptimizeReport& report) : report_(report) {
    ratio_max_ = 1.1;
    double drop_max = report.targets.max_drop;
    for (const auto& candidate : report.result.candidates) {
      if (!candidate.figures) continue;
      ratio_max_ = std::max(ratio_max_, 1.05 * std::min(candidate.figures->latency.ratio, 3.0));
      const auto drop = point_of(candidate).drop;
      drop_max = std::max(drop_max, drop);
      drop_min_ = std::min(drop_min_, drop);
    }
    const double allowed = std::max(report.targets.max_drop, 1e-6);
    drop_max_ = 1.1 * std::min(drop_max, kShownDrops * allowed);
    drop_min_ = std::max(drop_min_, -kShownDrops * allowed) - 0.1 * drop_max_;
  }

  [[nodiscard]] std::string draw() const {
    auto svg =
        svg_begin(kWidth, kHeight, "role=\"img\" aria-label=\"Lost quality over time of a run\"");
    svg += draw_axes() + draw_front();
    for (std::size_t i = 0; i < report_.result.candidates.size(); ++i)
      if (report_.result.candidates[i].figures) svg += draw_candidate(i);
    return svg + "</svg>\n";
  }

 private:
  [[nodiscard]] Point point_of(const Candidate& candidate) const {
    return {candidate.figures->latency.ratio,
            report_.result.candidates.front().figures->quality - candidate.figures->quality};
  }
  [[nodiscard]] double x(double ratio) const {
    return kLeft + (kWidth - kLeft - kRight) * std::clamp(ratio / ratio_max_, 0.0, 1.0);
  }
  [[nodiscard]] double y(double drop) const {
    const double part = (drop - drop_min_) / (drop_max_ - drop_min_);
    return kTop + (kHeight - kTop - kBottom) * (std::isnan(part) ? 1 : std::clamp(part, 0.0, 1.0));
  }
  [[nodiscard]] std::string drop_label(double drop) const {
    return report_.is_part ? fixed(-100 * drop, 2) : significant(-drop);
  }

  [[nodiscard]] std::string draw_axes() const {
    std::string svg;
    const double step = ratio_max_ > 2 ? 0.5 : 0.25;
    for (double ratio = 0; ratio <= ratio_max_; ratio += step) {
      svg += svg_line({x(ratio), kTop}, {x(ratio), kHeight - kBottom}, kSvgGrid);
      svg += svg_text(x(ratio), kHeight - kBottom + 18, "middle", fixed(ratio, 2) + "x");
    }
    svg += svg_line({x(1), kTop}, {x(1), kHeight - kBottom}, "stroke=\"#9ca3af\"");
    svg += svg_line({kLeft, y(0)}, {kWidth - kRight, y(0)}, "stroke=\"#9ca3af\"");
    svg += svg_text(kLeft - 8, y(0) + 4, "end", "0");
    const double allowed = report_.targets.max_drop;
    svg += svg_line({kLeft, y(allowed)}, {kWidth - kRight, y(allowed)},
                    "stroke=\"#dc2626\" stroke-dasharray=\"6 4\"");
    svg += svg_text(kLeft - 8, y(allowed) + 4, "end", drop_label(allowed));
    svg += svg_text(kWidth - kRight, y(allowed) - 5, "end", "allowed");
    svg += svg_text(kLeft, kTop - 10, "start",
                    report_.quality + (report_.is_part ? ", change in points" : ", change"));
    return svg + svg_text((kLeft + kWidth) / 2, kHeight - 12, "middle",
                          "time of a run, over the original's; circles are as large as the files");
  }

  [[nodiscard]] std::string draw_front() const {
    std::vector<Point> points;
    for (const auto& candidate : report_.result.candidates)
      if (candidate.is_on_front) points.push_back(point_of(candidate));
    std::ranges::sort(points, {}, &Point::ratio);
    std::vector<SvgPoint> path;
    for (const auto& point : points) path.push_back({x(point.ratio), y(point.drop)});
    return svg_polyline(path, "stroke=\"#93c5fd\" stroke-width=\"2\"");
  }

  [[nodiscard]] std::string draw_candidate(std::size_t index) const {
    const auto& candidate = report_.result.candidates[index];
    const auto point = point_of(candidate);
    const double largest =
        static_cast<double>(report_.result.candidates.front().figures->file_bytes);
    const double part =
        largest > 0 ? static_cast<double>(candidate.figures->file_bytes) / largest : 1;
    const double radius = std::clamp(kRadiusMax * std::sqrt(part), kRadiusMin, kRadiusMax);
    const std::string colour = index == report_.result.chosen ? "#059669"
                               : !candidate.objection.empty() ? "#9ca3af"
                                                              : "#2563eb";
    return "<circle cx=\"" + fixed(x(point.ratio), 1) + "\" cy=\"" + fixed(y(point.drop), 1) +
           "\" r=\"" + fixed(radius, 1) + "\" fill=\"" + colour +
           "\" fill-opacity=\"0.45\" stroke=\"" + colour + "\"><title>" +
           escape_markup(describe(candidate.recipe)) + "</title></circle>\n" +
           svg_text(x(point.ratio) + radius + 3, y(point.drop) + 4, "start", std::to_string(index));
  }

  const OptimizeReport& report_;
  double ratio_max_ = 1, drop_min_ = 0, drop_max_ = 0;
};

// --- Tables
// ---------------------------------------------------------------------------------------

std::string row(const OptimizeReport& report, std::size_t index) {
  const auto& candidate = report.result.candidates[index];
  std::string html = index == report.result.chosen ? "<tr class=\"taken\">" : "<tr>";
  html += cell(std::to_string(index), "n") +
          cell(describe(candidate.recipe) + (candidate.is_on_front ? " *" : ""));
  if (!candidate.figures)
    return html + "<td colspan=\"6\"></td>" + cell(verdict(report, index), "dim") + "</tr>\n";
  const auto& figures = *candidate.figures;
  const auto& latency = figures.latency;
  return html + cell(quality_text(report, figures.quality), "n") +
         cell(drop_text(report, candidate), "n") +
         cell(fixed(latency.p50_ms, 3) + " / " + fixed(latency.p99_ms, 3), "n") +
         cell(fixed(latency.ratio, 3) + " (" + fixed(latency.ratio_low, 3) + " to " +
                  fixed(latency.ratio_high, 3) + ")",
              "n") +
         cell(format_bytes(figures.file_bytes), "n") +
         cell(format_bytes(figures.resident_bytes), "n") + cell(verdict(report, index), "dim") +
         "</tr>\n";
}

std::string candidates_table(const OptimizeReport& report) {
  std::string html =
      "<table><tr><th></th><th>candidate</th><th>quality</th><th>change</th><th>p50 / p99, ms</th>"
      "<th>time over the original's</th><th>file</th><th>memory</th><th></th></tr>\n";
  for (std::size_t i = 0; i < report.result.candidates.size(); ++i) html += row(report, i);
  return html +
         "</table>\n<p class=\"dim\">* no other candidate is at least as good in quality, time and "
         "size and better in one of them. Time: the median of 21 turns (11 of slow models) with "
         "the original, and its "
         "95 % interval. Memory: what loading and running added to the process.</p>\n";
}

std::string layers_tables(const OptimizeReport& report) {
  std::string html;
  for (const auto& found : report.result.sensitivities) {
    html += "<h2>What hurts " +
            escape_markup(describe(report.result.candidates[found.candidate].recipe)) +
            "</h2>\n<p>The error of the outputs on calibration samples (squared differences over "
            "squares) is " +
            significant(found.error) +
            " with everything quantised; here what is left of it when one group of operators alone "
            "is in float.</p>\n<table><tr><th>in float</th><th>error left</th></tr>\n";
    for (const auto& layer : found.layers) {
      std::string names;
      for (const auto& node : layer.nodes) names += (names.empty() ? "" : ", ") + node;
      html += "<tr>" + cell(names) + cell(significant(layer.error_without), "n") + "</tr>\n";
    }
    html += "</table>\n";
  }
  return html;
}

/// Bars, the worst first: 0 dB is an error as large as the signal.
std::string differences_table(const OptimizeReport& report) {
  if (report.layers.empty()) return "";
  constexpr double kBestDb = 60, kBarWidth = 200;
  auto layers = report.layers;
  std::ranges::stable_sort(layers, {}, &compress::LayerDifference::sqnr_db);
  std::string html = "<h2>Error of each layer: " +
                     escape_markup(describe(report.result.candidates[report.layers_of].recipe)) +
                     "</h2>\n<table><tr><th>value</th><th>operator</th><th>signal to error</th>"
                     "<th></th></tr>\n";
  for (const auto& layer : layers) {
    const double width = kBarWidth * std::clamp(layer.sqnr_db / kBestDb, 0.0, 1.0);
    html += "<tr>" + cell(layer.name) + cell(layer.type) +
            cell(format_decibels(layer.sqnr_db), "n") +
            "<td><svg width=\"200\" height=\"10\"><rect width=\"" + fixed(width, 0) +
            "\" height=\"10\" fill=\"#93c5fd\"/></svg></td></tr>\n";
  }
  return html + "</table>\n";
}

std::string commands_table(const OptimizeReport& report) {
  std::string html = "<h2>The command for each</h2>\n<table>\n";
  for (std::size_t i = 1; i < report.result.candidates.size(); ++i)
    html += "<tr>" + cell(std::to_string(i), "n") + "<td><code>" +
            escape_markup(command_line(report, report.result.candidates[i])) +
            "</code></td></tr>\n";
  return html + "</table>\n";
}

}  // namespace

std::string to_html(const OptimizeReport& report) {
  std::string html = "<!DOCTYPE html>\n<html lang=\"en\"><head><meta charset=\"utf-8\"><title>" +
                     escape_markup(report.names.out) + "</title>\n<style>" + std::string(kStyle) +
                     "</style></head><body>\n<h1>" + escape_markup(report.names.model) +
                     " optimised</h1>\n<p>Taken: <b>" +
                     escape_markup(describe(report.chosen().recipe)) + "</b>. Quality is the " +
                     escape_markup(report.quality) + " on " +
                     format_plural(report.evaluation_samples, "sample") + " of " +
                     escape_markup(report.names.data) + "; it may drop by " +
                     (report.is_part ? fixed(100 * report.targets.max_drop, 2) + " points"
                                     : significant(report.targets.max_drop));
  if (report.targets.max_latency_ms)
    html += "; a run may take " + significant(*report.targets.max_latency_ms) + " ms";
  if (report.targets.max_bytes)
    html += "; the file may have " + format_bytes(*report.targets.max_bytes);
  html += ". " + format_plural(report.names.calibration_samples, "sample") +
          " calibrated.</p>\n<p class=\"dim\">" + escape_markup(effort_text(report)) + ".</p>\n";
  return html + Plot(report).draw() + candidates_table(report) + layers_tables(report) +
         differences_table(report) + commands_table(report) + "</body></html>\n";
}

}  // namespace selvage::cli
