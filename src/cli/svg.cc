#include "cli/svg.h"

#include "base/utf8.h"
#include "cli/text.h"

namespace selvage::cli {
namespace {

constexpr double kTitleBase = 24;

std::string at(std::string_view x_name, std::string_view y_name, SvgPoint point) {
  return " " + std::string(x_name) + "=\"" + fixed(point.x, 1) + "\" " + std::string(y_name) +
         "=\"" + fixed(point.y, 1) + "\"";
}

}  // namespace

std::string escape_markup(std::string_view text) {
  std::string safe;
  for (const char c : printable(text)) {
    switch (c) {
      case '<': safe += "&lt;"; break;
      case '>': safe += "&gt;"; break;
      case '&': safe += "&amp;"; break;
      case '"': safe += "&quot;"; break;
      default: safe += c;
    }
  }
  return safe;
}

std::string svg_begin(double width, double height, std::string_view attributes) {
  return "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 " + fixed(width, 0) + " " +
         fixed(height, 0) + "\" font-family=\"sans-serif\" font-size=\"12\" fill=\"#374151\"" +
         std::string(attributes.empty() ? "" : " ").append(attributes) + ">\n";
}

std::string svg_picture(double width, double height, double left, std::string_view title,
                        std::string_view content) {
  return svg_begin(width, height) + "<rect width=\"100%\" height=\"100%\" fill=\"white\"/>\n" +
         "<g font-size=\"16\">" + svg_text(left, kTitleBase, "start", title) + "</g>\n" +
         std::string(content) + "</svg>\n";
}

std::string svg_text(double x, double y, std::string_view anchor, std::string_view text) {
  return "<text" + at("x", "y", {x, y}) + " text-anchor=\"" + std::string(anchor) + "\">" +
         escape_markup(text) + "</text>\n";
}

std::string svg_line(SvgPoint from, SvgPoint to, std::string_view style) {
  return "<line" + at("x1", "y1", from) + at("x2", "y2", to) + " " + std::string(style) + "/>\n";
}

std::string svg_polyline(std::span<const SvgPoint> points, std::string_view style) {
  std::string path;
  for (const auto& point : points)
    path += (path.empty() ? "" : " ") + fixed(point.x, 1) + "," + fixed(point.y, 1);
  return "<polyline fill=\"none\" " + std::string(style) + " points=\"" + path + "\"/>\n";
}

}  // namespace selvage::cli
