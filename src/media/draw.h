// Marks on a picture for people: boxes, lines, points and labels. What lies outside is cut off.
#pragma once

#include <cstdint>
#include <string_view>

#include "media/picture.h"
#include "media/transform.h"

namespace selvage::media {

struct Colour {
  std::uint8_t red = 0;
  std::uint8_t green = 0;
  std::uint8_t blue = 0;

  friend bool operator==(const Colour&, const Colour&) = default;
};

/// One of a few well distinguishable colours, the same for the same index.
[[nodiscard]] Colour palette_colour(std::size_t index);

/// Coordinates are pixels from the top left corner of the top left pixel. Not finite: not drawn.
void draw_line(Picture& picture, Point from, Point to, Colour colour, int thickness);
void draw_box(Picture& picture, Point top_left, Point bottom_right, Colour colour, int thickness);
void draw_quad(Picture& picture, const Quad& quad, Colour colour, int thickness);
/// A filled disc.
void draw_point(Picture& picture, Point centre, Colour colour, int radius);

/// A fixed font of 7 x 13 pixels, enlarged `scale` times (1 to 32). ASCII; every other UTF-8
/// character is drawn as an empty box.
struct TextSize {
  int width = 0;
  int height = 0;
};
[[nodiscard]] TextSize text_size(std::string_view text, int scale);
void draw_text(Picture& picture, std::string_view text, Point top_left, Colour colour, int scale);
/// Black or white text, whichever reads better, on a filled box whose bottom left corner is
/// `anchor`: what goes above a box. Moved inside the picture where it would stick out.
void draw_label(Picture& picture, std::string_view text, Point anchor, Colour background,
                int scale);

/// Thickness and text scale that suit a picture of this size.
[[nodiscard]] int line_thickness_for(const Picture& picture);
[[nodiscard]] int text_scale_for(const Picture& picture);

}  // namespace selvage::media
