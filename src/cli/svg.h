// Pictures as SVG, and foreign text in SVG and HTML.
#pragma once

#include <span>
#include <string>
#include <string_view>

namespace selvage::cli {

/// Foreign text for the inside of an element or of a quoted attribute: printable() (base/utf8.h),
/// since XML forbids control characters however they are written, and then `<`, `>`, `&` and `"` as
/// entities.
[[nodiscard]] std::string escape_markup(std::string_view text);

/// In pixels, from the top left.
struct SvgPoint {
  double x = 0, y = 0;
};

/// The opening tag of a picture with our font; `attributes` go in as they are.
[[nodiscard]] std::string svg_begin(double width, double height, std::string_view attributes = "");
/// A whole picture on white under a title at `left`.
[[nodiscard]] std::string svg_picture(double width, double height, double left,
                                      std::string_view title, std::string_view content);

/// `anchor`: "start", "middle" or "end"; `text` may be foreign.
[[nodiscard]] std::string svg_text(double x, double y, std::string_view anchor,
                                   std::string_view text);
/// `style`: attributes such as `stroke="#e5e7eb"`.
[[nodiscard]] std::string svg_line(SvgPoint from, SvgPoint to, std::string_view style);
[[nodiscard]] std::string svg_polyline(std::span<const SvgPoint> points, std::string_view style);

/// Of grids behind curves.
inline constexpr std::string_view kSvgGrid = "stroke=\"#e5e7eb\"";

}  // namespace selvage::cli
