#include <algorithm>
#include <cmath>

#include "cli/describe.h"
#include "media/draw.h"

namespace selvage::cli {
namespace {

using media::Colour;
using media::Picture;

media::Point point_of(const infer::Point& point) {
  return {point.x, point.y};
}

std::string label_of(const infer::Class& found) {
  return (found.label.empty() ? std::to_string(found.index) : found.label) + " " +
         fixed(found.score, 2);
}

void blend(std::uint8_t* pixel, Colour colour, double share) {
  const auto mix = [&](std::uint8_t old, std::uint8_t added) {
    return static_cast<std::uint8_t>(std::lround(old * (1 - share) + added * share));
  };
  pixel[0] = mix(pixel[0], colour.red);
  pixel[1] = mix(pixel[1], colour.green);
  pixel[2] = mix(pixel[2], colour.blue);
}

struct Marks {
  Picture& picture;
  int thickness;
  int scale;

  void operator()(const infer::Boxes& found) const {
    for (const auto& box : found.boxes) {
      const auto colour =
          media::palette_colour(static_cast<std::size_t>(std::max(0, box.best.index)));
      media::draw_box(picture, {box.left, box.top}, {box.right, box.bottom}, colour, thickness);
      for (const auto& point : box.keypoints)
        media::draw_point(picture, point_of(point), colour, thickness + 1);
      std::string label = label_of(box.best);
      for (const auto& detail : box.details) label += ", " + label_of(detail.found);
      media::draw_label(picture, label, {box.left, box.top}, colour, scale);
    }
  }

  void operator()(const infer::TextRegions& found) const {
    for (std::size_t i = 0; i < found.regions.size(); ++i) {
      const auto& region = found.regions[i];
      const auto colour = media::palette_colour(i);
      media::Quad quad;
      std::ranges::transform(region.corners, quad.begin(), point_of);
      media::draw_quad(picture, quad, colour, thickness);
      if (!region.text.empty()) media::draw_label(picture, region.text, quad[0], colour, scale);
    }
  }

  void operator()(const infer::Segmentation& found) const {
    if (found.width != picture.width() || found.height != picture.height()) return;
    for (int y = 0; y < picture.height(); ++y) {
      auto* row = picture.row(y);
      for (int x = 0; x < picture.width(); ++x) {
        const auto at = static_cast<std::size_t>(y) * static_cast<std::size_t>(found.width) +
                        static_cast<std::size_t>(x);
        if (found.classes[at] != 0)
          blend(row + std::ptrdiff_t{3} * x, media::palette_colour(found.classes[at]), 0.5);
      }
    }
  }

  void operator()(const infer::Keypoints& found) const {
    for (std::size_t i = 0; i < found.points.size(); ++i)
      media::draw_point(picture, point_of(found.points[i].point), media::palette_colour(i),
                        thickness + 2);
  }

  void operator()(const infer::Lines& found) const {
    for (std::size_t i = 0; i < found.lines.size(); ++i)
      media::draw_line(picture, point_of(found.lines[i].from), point_of(found.lines[i].to),
                       media::palette_colour(i), thickness);
  }

  template <typename Other>
  void operator()(const Other& other) const {
    const double bottom = media::text_size("X", scale).height + 4.0;
    media::draw_label(picture, headline(infer::Prediction(other)), {0, bottom},
                      media::palette_colour(0), scale);
  }
};

// --- Sound
// ----------------------------------------------------------------------------------------

constexpr int kSoundWidth = 1200;
constexpr int kSoundHeight = 360;
constexpr int kMargin = 16;
constexpr int kTop = 48;  // Above it the headline stands.
constexpr Colour kPaper{250, 250, 248};
constexpr Colour kInk{60, 64, 72};
constexpr Colour kHeard{255, 214, 140};
constexpr Colour kCurve{200, 60, 40};

void fill(Picture& picture, int left, int right, int top, int bottom, Colour colour) {
  for (int y = std::max(0, top); y < std::min(bottom, picture.height()); ++y)
    for (int x = std::max(0, left); x < std::min(right, picture.width()); ++x)
      blend(picture.row(y) + std::ptrdiff_t{3} * x, colour, 1);
}

/// The loudest sample that falls on each column, 0 to 1.
std::vector<float> envelope(std::span<const float> samples, std::size_t columns) {
  std::vector<float> peaks(columns, 0);
  for (std::size_t i = 0; i < samples.size(); ++i) {
    float& peak = peaks[i * columns / samples.size()];
    peak = std::max(peak, std::min(1.0f, std::abs(samples[i])));
  }
  const float loudest = std::max(0.01f, *std::ranges::max_element(peaks));
  for (float& peak : peaks) peak /= loudest;
  return peaks;
}

}  // namespace

void draw(const infer::Prediction& found, Picture& picture) {
  std::visit(Marks{picture, media::line_thickness_for(picture), media::text_scale_for(picture)},
             found);
}

Picture draw_sound(const infer::Activity& activity, const media::Sound& sound) {
  Picture picture(kSoundWidth, kSoundHeight);
  fill(picture, 0, kSoundWidth, 0, kSoundHeight, kPaper);
  const int width = kSoundWidth - 2 * kMargin;
  const double seconds = std::max(sound.seconds(), 1e-3);
  const auto x_of = [&](double time) {
    return kMargin + static_cast<int>(std::clamp(time / seconds, 0.0, 1.0) * width);
  };
  const int bottom = kSoundHeight - kMargin;
  for (const auto& segment : activity.segments)
    fill(picture, x_of(segment.start_s), x_of(segment.end_s), kTop, bottom, kHeard);

  const int middle = (kTop + bottom) / 2;
  const auto peaks = envelope(sound.samples, static_cast<std::size_t>(width));
  for (int x = 0; x < width; ++x) {
    const int half = static_cast<int>(peaks[static_cast<std::size_t>(x)] *
                                      static_cast<float>(bottom - kTop) / 2.2f);
    fill(picture, kMargin + x, kMargin + x + 1, middle - half, middle + half + 1, kInk);
  }
  const auto y_of = [&](float score) { return bottom - double{score} * (bottom - kTop); };
  for (std::size_t i = 1; i < activity.scores.size(); ++i)
    media::draw_line(
        picture,
        {1.0 * x_of(static_cast<double>(i - 1) * activity.frame_s), y_of(activity.scores[i - 1])},
        {1.0 * x_of(static_cast<double>(i) * activity.frame_s), y_of(activity.scores[i])}, kCurve,
        2);
  media::draw_text(picture, headline(infer::Prediction(activity)), {kMargin, kMargin}, kInk, 2);
  return picture;
}

}  // namespace selvage::cli
