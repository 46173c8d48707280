#include "cli/layer_plot.h"

#include <algorithm>
#include <cmath>

#include "cli/svg.h"
#include "cli/text.h"

namespace selvage::cli {
namespace {

constexpr double kWidth = 960, kHeight = 420;
constexpr double kLeft = 56, kRight = 16, kTop = 44, kBottom = 40;
constexpr double kTopDb = 60;  // Above it nobody sees a difference.
constexpr double kGoodDb = 30, kPoorDb = 15;
constexpr std::size_t kNamed = 5;

double height_of(double db) {
  return (kHeight - kTop - kBottom) * std::clamp(db / kTopDb, 0.0, 1.0);
}

const char* colour_of(double db) {
  return db >= kGoodDb ? "#059669" : db >= kPoorDb ? "#d97706" : "#dc2626";
}

/// "conv1 (Conv): 23.4 dB".
std::string describe(const compress::LayerDifference& layer) {
  return layer.name + " (" + layer.type + "): " + format_decibels(layer.sqnr_db);
}

}  // namespace

std::string plot_layers(const std::string& title,
                        const std::vector<compress::LayerDifference>& layers) {
  std::string svg;
  const double base = kHeight - kBottom;
  for (double db = 0; db <= kTopDb; db += 10) {
    const double y = base - height_of(db);
    svg += svg_line({kLeft, y}, {kWidth - kRight, y}, kSvgGrid);
    svg += svg_text(kLeft - 8, y + 4, "end", fixed(db, 0) + (db == 0 ? " dB" : ""));
  }
  const double step =
      (kWidth - kLeft - kRight) / static_cast<double>(std::max<std::size_t>(1, layers.size()));
  for (std::size_t i = 0; i < layers.size(); ++i) {
    const double height = std::max(1.0, height_of(layers[i].sqnr_db));
    svg += "<rect x=\"" + fixed(kLeft + step * static_cast<double>(i), 2) + "\" y=\"" +
           fixed(base - height, 1) + "\" width=\"" + fixed(std::max(0.5, step * 0.85), 2) +
           "\" height=\"" + fixed(height, 1) + "\" fill=\"" + colour_of(layers[i].sqnr_db) +
           "\"><title>" + escape_markup(describe(layers[i])) + "</title></rect>\n";
  }
  std::vector<std::size_t> worst(layers.size());
  for (std::size_t i = 0; i < worst.size(); ++i) worst[i] = i;
  std::ranges::stable_sort(worst, {}, [&](std::size_t i) { return layers[i].sqnr_db; });
  for (std::size_t k = 0; k < std::min(kNamed, worst.size()); ++k)
    svg += svg_text(kWidth - kRight, kTop + 14 * static_cast<double>(k + 1), "end",
                    describe(layers[worst[k]]));
  svg += svg_text((kLeft + kWidth) / 2, kHeight - 12, "middle",
                  "values in the order of the network; higher is closer to the original");
  return svg_picture(kWidth, kHeight, kLeft, title, svg);
}

}  // namespace selvage::cli
