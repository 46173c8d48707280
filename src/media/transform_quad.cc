#include "media/transform_quad.h"

#include <cmath>

namespace selvage::media {
namespace {

// Far outside any picture, and small enough that no product below overflows.
constexpr double kCoordinateMax = 1e6;
// Twice the area of a corner's triangle, in square pixels, below which a quad has no area.
constexpr double kAreaMin = 1e-3;

/// Twice the signed area of the triangle p, q, r.
double turn(const Point& p, const Point& q, const Point& r) {
  return (q.x - p.x) * (r.y - q.y) - (q.y - p.y) * (r.x - q.x);
}

}  // namespace

Result<void> check_quad(const Quad& quad) {
  int left = 0;
  int right = 0;
  for (std::size_t i = 0; i < 4; ++i) {
    // What is not a number fails the comparison.
    if (!(std::abs(quad[i].x) <= kCoordinateMax && std::abs(quad[i].y) <= kCoordinateMax))
      return fail(ErrorCode::kInvalidArgument, "a corner of the quad is not finite or far away");
    const double area = turn(quad[i], quad[(i + 1) % 4], quad[(i + 2) % 4]);
    left += area > kAreaMin;
    right += area < -kAreaMin;
  }
  if (left != 4 && right != 4)
    return fail(ErrorCode::kInvalidArgument, "the quad is not convex or has no area");
  return {};
}

QuadSize size_of(const Quad& quad) {
  const auto side = [&](std::size_t from, std::size_t to) {
    return std::hypot(quad[to].x - quad[from].x, quad[to].y - quad[from].y);
  };
  return {.width = std::max(side(0, 1), side(3, 2)), .height = std::max(side(0, 3), side(1, 2))};
}

Rect quad_bounds(const Quad& quad, const PictureView& picture) {
  const auto [left, right] = std::minmax({quad[0].x, quad[1].x, quad[2].x, quad[3].x});
  const auto [top, bottom] = std::minmax({quad[0].y, quad[1].y, quad[2].y, quad[3].y});
  // One pixel more on each side: samples lie between the centres of pixels.
  const auto range = [](double low, double high, int size) {
    const int begin = static_cast<int>(std::clamp<double>(std::floor(low) - 1, 0, size - 1));
    const int end = static_cast<int>(std::clamp<double>(std::ceil(high) + 1, begin + 1, size));
    return std::pair(begin, end - begin);
  };
  const auto [x, width] = range(left, right, picture.width);
  const auto [y, height] = range(top, bottom, picture.height);
  return {x, y, width, height};
}

Homography homography_of(const Quad& quad) {
  const auto& [p0, p1, p2, p3] = quad;
  const double dx1 = p1.x - p2.x, dx2 = p3.x - p2.x, sx = p0.x - p1.x + p2.x - p3.x;
  const double dy1 = p1.y - p2.y, dy2 = p3.y - p2.y, sy = p0.y - p1.y + p2.y - p3.y;
  const double area = dx1 * dy2 - dx2 * dy1;  // Not 0: the quad is convex.
  const double g = (sx * dy2 - dx2 * sy) / area;
  const double h = (dx1 * sy - sx * dy1) / area;
  return {.a = p1.x - p0.x + g * p1.x,
          .b = p3.x - p0.x + h * p3.x,
          .c = p0.x,
          .d = p1.y - p0.y + g * p1.y,
          .e = p3.y - p0.y + h * p3.y,
          .f = p0.y,
          .g = g,
          .h = h};
}

Point Homography::operator()(double u, double v) const {
  // Positive inside a convex quad; rounding must not make it 0.
  const double scale = 1 / std::max(g * u + h * v + 1, 1e-12);
  return {(a * u + b * v + c) * scale, (d * u + e * v + f) * scale};
}

}  // namespace selvage::media
