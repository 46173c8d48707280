#include "cli/percentile_plot.h"

#include <algorithm>
#include <array>
#include <cmath>

#include "cli/subject.h"
#include "cli/svg.h"
#include "cli/text.h"

namespace selvage::cli {
namespace {

constexpr double kWidth = 860, kHeight = 480;
constexpr double kLeft = 64, kRight = 36, kTop = 48, kBottom = 56;
constexpr std::array kColours{"#2563eb", "#dc2626", "#059669", "#d97706", "#7c3aed",
                              "#0891b2", "#be185d", "#4d7c0f", "#78716c", "#1e293b"};
constexpr double kPointsPerDecade = 40;

/// A round step that divides `range` into 4 to 10 parts.
double step_for(double range) {
  const double power = std::pow(10, std::floor(std::log10(range / 4)));
  for (const double factor : {1.0, 2.0, 5.0})
    if (range / (factor * power) <= 8) return factor * power;
  return 10 * power;
}

class Axes {
 public:
  explicit Axes(const std::vector<PlottedLatency>& curves) {
    double longest_ms = 1e-6;
    std::uint64_t count = 10;
    for (const auto& curve : curves) {
      longest_ms = std::max(longest_ms, static_cast<double>(curve.latency.max_ns) / 1e6);
      count = std::max(count, curve.latency.count);
    }
    // The 10 ms line is shown where it is not far above everything.
    const double line_ms = std::chrono::duration<double, std::milli>(kLatencyLine).count();
    y_max_ = 1.08 * (longest_ms > line_ms / 4 ? std::max(longest_ms, line_ms) : longest_ms);
    decades_ = std::clamp(std::ceil(std::log10(static_cast<double>(count))), 2.0, 6.0);
  }
  [[nodiscard]] double x(double decade) const {
    return kLeft + (kWidth - kLeft - kRight) * decade / decades_;
  }
  [[nodiscard]] double y(double ms) const {
    return kHeight - kBottom - (kHeight - kTop - kBottom) * std::min(1.0, ms / y_max_);
  }
  [[nodiscard]] double decades() const { return decades_; }
  [[nodiscard]] double y_max() const { return y_max_; }

 private:
  double y_max_ = 1;
  double decades_ = 2;
};

std::string draw_axes(const Axes& axes) {
  constexpr std::array kNames{"0", "90 %", "99 %", "99.9 %", "99.99 %", "99.999 %", "99.9999 %"};
  std::string svg;
  for (std::size_t d = 0; static_cast<double>(d) <= axes.decades(); ++d) {
    const double x = axes.x(static_cast<double>(d));
    svg += svg_line({x, kTop}, {x, kHeight - kBottom}, kSvgGrid);
    svg += svg_text(x, kHeight - kBottom + 18, "middle", kNames[d]);
  }
  const double median = axes.x(std::log10(2.0));
  svg += svg_line({median, kTop}, {median, kHeight - kBottom}, kSvgGrid);
  svg += svg_text(median, kHeight - kBottom + 18, "middle", "50 %");
  const double step = step_for(axes.y_max());
  for (double ms = 0; ms <= axes.y_max(); ms += step) {
    svg += svg_line({kLeft, axes.y(ms)}, {kWidth - kRight, axes.y(ms)}, kSvgGrid);
    svg += svg_text(kLeft - 8, axes.y(ms) + 4, "end", ms == 0 ? "0 ms" : shortest(ms));
  }
  const double line_ms = std::chrono::duration<double, std::milli>(kLatencyLine).count();
  if (line_ms <= axes.y_max()) {
    svg += svg_line({kLeft, axes.y(line_ms)}, {kWidth - kRight, axes.y(line_ms)},
                    "stroke=\"#dc2626\" stroke-dasharray=\"6 4\"");
    svg += svg_text(kWidth - kRight, axes.y(line_ms) - 5, "end", "10 ms");
  }
  return svg + svg_text((kLeft + kWidth) / 2, kHeight - 14, "middle",
                        "share of calls that were at least this fast");
}

std::string draw_curve(const Axes& axes, const HistogramSnapshot& latency,
                       std::string_view colour) {
  std::vector<SvgPoint> points;
  const double end = std::min(axes.decades(), std::log10(static_cast<double>(latency.count)));
  for (double d = 0; d <= end; d += 1 / kPointsPerDecade) {
    const double ms = static_cast<double>(latency.percentile_ns(1 - std::pow(10, -d))) / 1e6;
    points.push_back({axes.x(d), axes.y(ms)});
  }
  points.push_back({axes.x(end), axes.y(static_cast<double>(latency.max_ns) / 1e6)});
  return svg_polyline(points, "stroke-width=\"2\" stroke=\"" + std::string(colour) + "\"");
}

}  // namespace

std::string plot_percentiles(const std::string& title, const std::vector<PlottedLatency>& curves) {
  const Axes axes(curves);
  std::string svg = draw_axes(axes);
  for (std::size_t i = 0; i < curves.size(); ++i) {
    const auto* colour = kColours[i % kColours.size()];
    if (curves[i].latency.count > 0) svg += draw_curve(axes, curves[i].latency, colour);
    const double y = kTop + 16 + 18 * static_cast<double>(i);
    svg += svg_line({kLeft + 12, y - 4}, {kLeft + 36, y - 4},
                    "stroke-width=\"2\" stroke=\"" + std::string(colour) + "\"");
    svg += svg_text(kLeft + 42, y, "start", curves[i].name);
  }
  return svg_picture(kWidth, kHeight, kLeft, title, svg);
}

}  // namespace selvage::cli
