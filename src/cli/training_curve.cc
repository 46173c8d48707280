#include "cli/training_curve.h"

#include <algorithm>
#include <cmath>
#include <functional>
#include <optional>
#include <vector>

#include "cli/svg.h"
#include "cli/text.h"

namespace selvage::cli {
namespace {

using learn::EpochRecord;

constexpr double kWidth = 860, kHeight = 420;
constexpr double kTop = 64, kBottom = 48, kGap = 72, kMargin = 56;
constexpr double kPanel = (kWidth - 2 * kMargin - kGap) / 2;

struct Curve {
  const char* name;
  const char* colour;
  std::function<std::optional<double>(const EpochRecord&)> value;
};

/// One pair of axes with its curves; nothing where no epoch has a value.
class Panel {
 public:
  Panel(double left, std::string title, std::span<const EpochRecord> history,
        std::vector<Curve> curves)
      : left_(left), title_(std::move(title)), history_(history), curves_(std::move(curves)) {
    for (const auto& curve : curves_)
      for (const auto& record : history_)
        if (const auto value = curve.value(record); value && std::isfinite(*value)) {
          low_ = std::min(low_.value_or(*value), *value);
          high_ = std::max(high_.value_or(*value), *value);
        }
    if (low_ && *high_ - *low_ < 1e-9) *high_ = *low_ + 1e-9;
  }

  [[nodiscard]] std::string draw() const {
    if (!low_) return "";
    constexpr int kSteps = 4;
    std::string svg = svg_text(left_, kTop - 14, "start", title_);
    for (int i = 0; i <= kSteps; ++i) {
      const double value = *low_ + (*high_ - *low_) * i / kSteps;
      svg += svg_line({left_, y(value)}, {left_ + kPanel, y(value)}, kSvgGrid);
      svg += svg_text(left_ - 6, y(value) + 4, "end", significant(value));
    }
    const auto last = history_.back().epoch;
    svg += svg_text(x(history_.front().epoch), kHeight - kBottom + 18, "middle",
                    std::to_string(history_.front().epoch));
    svg += svg_text(x(last), kHeight - kBottom + 18, "middle", std::to_string(last));
    svg += svg_text(left_ + kPanel / 2, kHeight - 12, "middle", "epoch");
    for (std::size_t i = 0; i < curves_.size(); ++i) svg += draw(curves_[i], i);
    return svg;
  }

 private:
  [[nodiscard]] std::string draw(const Curve& curve, std::size_t index) const {
    std::vector<SvgPoint> points;
    for (const auto& record : history_)
      if (const auto value = curve.value(record); value && std::isfinite(*value))
        points.push_back({x(record.epoch), y(*value)});
    if (points.empty()) return "";
    const std::string style = "stroke-width=\"2\" stroke=\"" + std::string(curve.colour) + "\"";
    const double legend = left_ + kPanel - 100 * static_cast<double>(curves_.size() - index);
    return svg_polyline(points, style) +
           svg_line({legend, kTop - 18}, {legend + 18, kTop - 18}, style) +
           svg_text(legend + 24, kTop - 14, "start", curve.name);
  }
  [[nodiscard]] double x(std::uint64_t epoch) const {
    const auto first = static_cast<double>(history_.front().epoch);
    const auto span = std::max(1.0, static_cast<double>(history_.back().epoch) - first);
    return left_ + kPanel * (static_cast<double>(epoch) - first) / span;
  }
  [[nodiscard]] double y(double value) const {
    return kHeight - kBottom - (kHeight - kTop - kBottom) * (value - *low_) / (*high_ - *low_);
  }

  double left_;
  std::string title_;
  std::span<const EpochRecord> history_;
  std::vector<Curve> curves_;
  std::optional<double> low_, high_;
};

}  // namespace

std::string plot_training(const std::string& title, std::span<const EpochRecord> history) {
  constexpr auto kTraining = "#2563eb", kValidation = "#dc2626";
  std::string svg;
  if (!history.empty()) {
    svg +=
        Panel(kMargin, "loss", history,
              {{"training", kTraining,
                [](const EpochRecord& r) { return std::optional(r.train_loss); }},
               {"validation", kValidation, [](const EpochRecord& r) { return r.validation_loss; }}})
            .draw();
    svg += Panel(kMargin + kPanel + kGap, "accuracy", history,
                 {{"training", kTraining, [](const EpochRecord& r) { return r.train_accuracy; }},
                  {"validation", kValidation,
                   [](const EpochRecord& r) { return r.validation_accuracy; }}})
               .draw();
  }
  return svg_picture(kWidth, kHeight, kMargin, title, svg);
}

std::string training_csv(std::span<const EpochRecord> history) {
  std::string csv =
      "epoch,learning_rate,train_loss,train_accuracy,validation_loss,validation_accuracy,seconds,"
      "samples_per_second\n";
  const auto cell = [](std::optional<double> value) {
    return value ? "," + shortest(*value) : std::string(",");
  };
  for (const auto& record : history)
    csv += std::to_string(record.epoch) + cell(record.learning_rate) + cell(record.train_loss) +
           cell(record.train_accuracy) + cell(record.validation_loss) +
           cell(record.validation_accuracy) + cell(record.seconds) +
           cell(record.samples_per_second) + "\n";
  return csv;
}

}  // namespace selvage::cli
