#include "cli/training_curve.h"

#include <algorithm>
#include <cmath>
#include <functional>
#include <optional>
#include <vector>

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

std::string escaped(std::string_view text) {
  std::string safe;
  for (const char c : text) safe += c == '<' ? "&lt;" : c == '&' ? "&amp;" : std::string(1, c);
  return safe;
}

std::string text_at(double x, double y, std::string_view anchor, std::string_view text) {
  return "<text x=\"" + fixed(x, 1) + "\" y=\"" + fixed(y, 1) + "\" text-anchor=\"" +
         std::string(anchor) + "\">" + escaped(text) + "</text>\n";
}

std::string line(double x1, double y1, double x2, double y2, const std::string& style) {
  return "<line x1=\"" + fixed(x1, 1) + "\" y1=\"" + fixed(y1, 1) + "\" x2=\"" + fixed(x2, 1) +
         "\" y2=\"" + fixed(y2, 1) + "\" " + style + "/>\n";
}

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
    std::string svg = text_at(left_, kTop - 14, "start", title_);
    for (int i = 0; i <= kSteps; ++i) {
      const double value = *low_ + (*high_ - *low_) * i / kSteps;
      svg += line(left_, y(value), left_ + kPanel, y(value), "stroke=\"#e5e7eb\"");
      svg += text_at(left_ - 6, y(value) + 4, "end", significant(value));
    }
    const auto last = history_.back().epoch;
    svg += text_at(x(history_.front().epoch), kHeight - kBottom + 18, "middle",
                   std::to_string(history_.front().epoch));
    svg += text_at(x(last), kHeight - kBottom + 18, "middle", std::to_string(last));
    svg += text_at(left_ + kPanel / 2, kHeight - 12, "middle", "epoch");
    for (std::size_t i = 0; i < curves_.size(); ++i) svg += draw(curves_[i], i);
    return svg;
  }

 private:
  [[nodiscard]] std::string draw(const Curve& curve, std::size_t index) const {
    std::string points;
    for (const auto& record : history_)
      if (const auto value = curve.value(record); value && std::isfinite(*value))
        points += fixed(x(record.epoch), 1) + "," + fixed(y(*value), 1) + " ";
    if (points.empty()) return "";
    const std::string style = "stroke-width=\"2\" stroke=\"" + std::string(curve.colour) + "\"";
    const double legend = left_ + kPanel - 100 * static_cast<double>(curves_.size() - index);
    return "<polyline fill=\"none\" " + style + " points=\"" + points + "\"/>\n" +
           line(legend, kTop - 18, legend + 18, kTop - 18, style) +
           text_at(legend + 24, kTop - 14, "start", curve.name);
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
  std::string svg = "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 " + fixed(kWidth, 0) +
                    " " + fixed(kHeight, 0) +
                    "\" font-family=\"sans-serif\" font-size=\"12\" fill=\"#374151\">\n"
                    "<rect width=\"100%\" height=\"100%\" fill=\"white\"/>\n";
  svg += "<g font-size=\"16\">" + text_at(kMargin, 26, "start", title) + "</g>\n";
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
  return svg + "</svg>\n";
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
