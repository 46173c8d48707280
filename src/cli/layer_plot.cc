#include "cli/layer_plot.h"

#include <algorithm>
#include <cmath>

#include "cli/text.h"

namespace selvage::cli {
namespace {

constexpr double kWidth = 960, kHeight = 420;
constexpr double kLeft = 56, kRight = 16, kTop = 44, kBottom = 40;
constexpr double kTopDb = 60;  // Above it nobody sees a difference.
constexpr double kGoodDb = 30, kPoorDb = 15;
constexpr std::size_t kNamed = 5;

std::string escaped(std::string_view text) {
  std::string safe;
  for (const char c : text) {
    if (c == '<')
      safe += "&lt;";
    else if (c == '&')
      safe += "&amp;";
    else
      safe += c;
  }
  return safe;
}

std::string text_at(double x, double y, std::string_view anchor, std::string_view text) {
  return "<text x=\"" + fixed(x, 1) + "\" y=\"" + fixed(y, 1) + "\" text-anchor=\"" +
         std::string(anchor) + "\">" + escaped(text) + "</text>\n";
}

double height_of(double db) {
  return (kHeight - kTop - kBottom) * std::clamp(db / kTopDb, 0.0, 1.0);
}

const char* colour_of(double db) {
  return db >= kGoodDb ? "#059669" : db >= kPoorDb ? "#d97706" : "#dc2626";
}

}  // namespace

std::string plot_layers(const std::string& title,
                        const std::vector<compress::LayerDifference>& layers) {
  std::string svg = "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 " + fixed(kWidth, 0) +
                    " " + fixed(kHeight, 0) +
                    "\" font-family=\"sans-serif\" font-size=\"12\" fill=\"#374151\">\n"
                    "<rect width=\"100%\" height=\"100%\" fill=\"white\"/>\n";
  svg += "<g font-size=\"16\">" + text_at(kLeft, 24, "start", title) + "</g>\n";
  const double base = kHeight - kBottom;
  for (double db = 0; db <= kTopDb; db += 10) {
    const double y = base - height_of(db);
    svg += "<line x1=\"" + fixed(kLeft, 1) + "\" x2=\"" + fixed(kWidth - kRight, 1) + "\" y1=\"" +
           fixed(y, 1) + "\" y2=\"" + fixed(y, 1) + "\" stroke=\"#e5e7eb\"/>\n";
    svg += text_at(kLeft - 8, y + 4, "end", fixed(db, 0) + (db == 0 ? " dB" : ""));
  }
  const double step =
      (kWidth - kLeft - kRight) / static_cast<double>(std::max<std::size_t>(1, layers.size()));
  for (std::size_t i = 0; i < layers.size(); ++i) {
    const double height = std::max(1.0, height_of(layers[i].sqnr_db));
    svg += "<rect x=\"" + fixed(kLeft + step * static_cast<double>(i), 2) + "\" y=\"" +
           fixed(base - height, 1) + "\" width=\"" + fixed(std::max(0.5, step * 0.85), 2) +
           "\" height=\"" + fixed(height, 1) + "\" fill=\"" + colour_of(layers[i].sqnr_db) +
           "\"><title>" + escaped(layers[i].name) + " (" + escaped(layers[i].type) +
           "): " + fixed(std::min(layers[i].sqnr_db, 999.0), 1) + " dB</title></rect>\n";
  }
  std::vector<std::size_t> worst(layers.size());
  for (std::size_t i = 0; i < worst.size(); ++i) worst[i] = i;
  std::ranges::stable_sort(worst, {}, [&](std::size_t i) { return layers[i].sqnr_db; });
  for (std::size_t k = 0; k < std::min(kNamed, worst.size()); ++k) {
    const auto& layer = layers[worst[k]];
    svg += text_at(kWidth - kRight, kTop + 14 * static_cast<double>(k + 1), "end",
                   layer.name + " (" + layer.type + "): " + fixed(layer.sqnr_db, 1) + " dB");
  }
  return svg +
         text_at((kLeft + kWidth) / 2, kHeight - 12, "middle",
                 "values in the order of the network; higher is closer to the original") +
         "</svg>\n";
}

}  // namespace selvage::cli
