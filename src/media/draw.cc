#include "media/draw.h"

#include <algorithm>
#include <array>
#include <cmath>

#include "media/glyphs.h"

namespace selvage::media {
namespace {

constexpr int kScaleMax = 32;
constexpr int kThicknessMax = 1'000;
constexpr int kLabelMargin = 2;  // Pixels around a label's text, at scale 1.

// Okabe and Ito's palette, which colour-blind people can tell apart, without its black.
constexpr std::array<Colour, 7> kPalette{{{230, 159, 0},
                                          {86, 180, 233},
                                          {0, 158, 115},
                                          {240, 228, 66},
                                          {0, 114, 178},
                                          {213, 94, 0},
                                          {204, 121, 167}}};

bool is_finite(const Point& point) {
  return std::isfinite(point.x) && std::isfinite(point.y);
}

/// To whole pixels. Far outside stays far outside, and sums with sizes do not overflow.
int to_pixel(double coordinate) {
  constexpr double kFar = 1 << 24;
  return static_cast<int>(std::floor(std::clamp(coordinate, -kFar, kFar)));
}

void fill_rect(Picture& picture, int left, int top, int right, int bottom, Colour colour) {
  left = std::max(left, 0);
  right = std::min(right, picture.width());
  for (int y = std::max(top, 0); y < std::min(bottom, picture.height()); ++y) {
    std::uint8_t* pixel = picture.row(y) + 3 * std::ptrdiff_t{left};
    for (int x = left; x < right; ++x, pixel += 3) {
      pixel[0] = colour.red;
      pixel[1] = colour.green;
      pixel[2] = colour.blue;
    }
  }
}

/// Fills what lies within `radius` of the segment: a line with round ends, or a disc.
void fill_capsule(Picture& picture, Point from, Point to, double radius, Colour colour) {
  const double dx = to.x - from.x;
  const double dy = to.y - from.y;
  const double length_squared = dx * dx + dy * dy;
  const int top = std::max(to_pixel(std::min(from.y, to.y) - radius), 0);
  const int bottom = std::min(to_pixel(std::max(from.y, to.y) + radius) + 1, picture.height());
  for (int y = top; y < bottom; ++y) {
    // The part of the segment that can reach this row bounds the columns to look at.
    const double reach_low = dy == 0 ? 0 : (y + 0.5 - radius - from.y) / dy;
    const double reach_high = dy == 0 ? 1 : (y + 0.5 + radius - from.y) / dy;
    const double t_low = std::clamp(std::min(reach_low, reach_high), 0.0, 1.0);
    const double t_high = std::clamp(std::max(reach_low, reach_high), 0.0, 1.0);
    const double x_low = from.x + std::min(dx * t_low, dx * t_high);
    const double x_high = from.x + std::max(dx * t_low, dx * t_high);
    const int left = std::max(to_pixel(x_low - radius), 0);
    const int right = std::min(to_pixel(x_high + radius) + 1, picture.width());
    for (int x = left; x < right; ++x) {
      const double px = x + 0.5 - from.x;
      const double py = y + 0.5 - from.y;
      const double t =
          length_squared > 0 ? std::clamp((px * dx + py * dy) / length_squared, 0.0, 1.0) : 0;
      if (std::hypot(px - t * dx, py - t * dy) <= radius)
        fill_rect(picture, x, y, x + 1, y + 1, colour);
    }
  }
}

/// Takes the next UTF-8 character off `text`; bytes that begin none count as one each.
const Glyph& take_glyph(std::string_view& text) {
  const auto lead = static_cast<unsigned char>(text.front());
  text.remove_prefix(1);
  if (lead >= 0x80)
    while (!text.empty() && (static_cast<unsigned char>(text.front()) & 0xC0) == 0x80)
      text.remove_prefix(1);
  return lead >= kGlyphFirst && lead <= kGlyphLast ? kGlyphs[lead - kGlyphFirst] : kGlyphMissing;
}

bool is_light(Colour colour) {
  return 0.299 * colour.red + 0.587 * colour.green + 0.114 * colour.blue > 140;
}

}  // namespace

Colour palette_colour(std::size_t index) {
  return kPalette[index % kPalette.size()];
}

void draw_line(Picture& picture, Point from, Point to, Colour colour, int thickness) {
  if (!is_finite(from) || !is_finite(to)) return;
  fill_capsule(picture, from, to, std::clamp(thickness, 1, kThicknessMax) / 2.0, colour);
}

void draw_box(Picture& picture, Point top_left, Point bottom_right, Colour colour, int thickness) {
  if (!is_finite(top_left) || !is_finite(bottom_right)) return;
  const int width = std::clamp(thickness, 1, kThicknessMax);
  // The outline lies half outside the box and half inside.
  const int left = to_pixel(top_left.x) - width / 2;
  const int top = to_pixel(top_left.y) - width / 2;
  const int right = to_pixel(bottom_right.x) - width / 2;
  const int bottom = to_pixel(bottom_right.y) - width / 2;
  fill_rect(picture, left, top, right + width, top + width, colour);
  fill_rect(picture, left, bottom, right + width, bottom + width, colour);
  fill_rect(picture, left, top, left + width, bottom + width, colour);
  fill_rect(picture, right, top, right + width, bottom + width, colour);
}

void draw_quad(Picture& picture, const Quad& quad, Colour colour, int thickness) {
  for (std::size_t i = 0; i < quad.size(); ++i)
    draw_line(picture, quad[i], quad[(i + 1) % quad.size()], colour, thickness);
}

void draw_point(Picture& picture, Point centre, Colour colour, int radius) {
  if (!is_finite(centre)) return;
  fill_capsule(picture, centre, centre, std::clamp(radius, 1, kThicknessMax), colour);
}

TextSize text_size(std::string_view text, int scale) {
  scale = std::clamp(scale, 1, kScaleMax);
  int width = 0;
  for (; !text.empty(); width += kGlyphWidth * scale) static_cast<void>(take_glyph(text));
  return {.width = width, .height = kGlyphHeight * scale};
}

void draw_text(Picture& picture, std::string_view text, Point top_left, Colour colour, int scale) {
  if (!is_finite(top_left)) return;
  scale = std::clamp(scale, 1, kScaleMax);
  const int top = to_pixel(top_left.y);
  for (int x = to_pixel(top_left.x); !text.empty() && x < picture.width();
       x += kGlyphWidth * scale) {
    const Glyph& glyph = take_glyph(text);
    for (int row = 0; row < kGlyphHeight; ++row)
      for (int column = 0; column < kGlyphWidth; ++column)
        if (glyph[static_cast<std::size_t>(row)] >> (kGlyphWidth - 1 - column) & 1) {
          const int left = x + column * scale;
          const int above = top + row * scale;
          fill_rect(picture, left, above, left + scale, above + scale, colour);
        }
  }
}

void draw_label(Picture& picture, std::string_view text, Point anchor, Colour background,
                int scale) {
  if (!is_finite(anchor) || text.empty()) return;
  scale = std::clamp(scale, 1, kScaleMax);
  const int margin = kLabelMargin * scale;
  const TextSize size = text_size(text, scale);
  const int width = size.width + 2 * margin;
  const int height = size.height + 2 * margin;
  const int left = std::max(std::min(to_pixel(anchor.x), picture.width() - width), 0);
  const int top = std::max(std::min(to_pixel(anchor.y) - height, picture.height() - height), 0);
  fill_rect(picture, left, top, left + width, top + height, background);
  const Colour ink = is_light(background) ? Colour{0, 0, 0} : Colour{255, 255, 255};
  draw_text(picture, text, {static_cast<double>(left + margin), static_cast<double>(top + margin)},
            ink, scale);
}

int line_thickness_for(const Picture& picture) {
  return std::max(2, std::min(picture.width(), picture.height()) / 240);
}

int text_scale_for(const Picture& picture) {
  return std::clamp(std::min(picture.width(), picture.height()) / 480, 1, kScaleMax);
}

}  // namespace selvage::media
