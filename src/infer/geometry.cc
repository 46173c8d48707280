#include "infer/geometry.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <optional>

namespace selvage::infer {
namespace {

double cross(const Point& origin, const Point& a, const Point& b) {
  return (static_cast<double>(a.x) - origin.x) * (static_cast<double>(b.y) - origin.y) -
         (static_cast<double>(a.y) - origin.y) * (static_cast<double>(b.x) - origin.x);
}

/// Where a hull extends to along a direction, followed as the direction turns.
class Caliper {
 public:
  Caliper(std::span<const Point> hull, double x, double y) : hull_(hull) {
    for (std::size_t i = 1; i < hull.size(); ++i)
      if (reach(i, x, y) > reach(at_, x, y)) at_ = i;
  }
  double turn_to(double x, double y) {
    // One turn around the hull at most: rounding must not make this endless.
    for (std::size_t steps = 0; steps < hull_.size(); ++steps) {
      const auto next = at_ + 1 == hull_.size() ? 0 : at_ + 1;
      if (reach(next, x, y) < reach(at_, x, y)) break;
      at_ = next;
    }
    return reach(at_, x, y);
  }

 private:
  [[nodiscard]] double reach(std::size_t i, double x, double y) const {
    return hull_[i].x * x + hull_[i].y * y;
  }
  std::span<const Point> hull_;
  std::size_t at_ = 0;
};

}  // namespace

void reduce_to_hull(std::vector<Point>& points) {
  std::ranges::sort(
      points, [](const Point& a, const Point& b) { return a.x != b.x ? a.x < b.x : a.y < b.y; });
  const auto same = [](const Point& a, const Point& b) { return a.x == b.x && a.y == b.y; };
  points.erase(std::unique(points.begin(), points.end(), same), points.end());
  const std::size_t count = points.size();
  if (count < 3) return;
  std::vector<Point> hull;
  hull.reserve(count + 1);
  const auto extend = [&hull](const Point& point, std::size_t fixed) {
    while (hull.size() > fixed && cross(hull[hull.size() - 2], hull.back(), point) <= 0)
      hull.pop_back();
    hull.push_back(point);
  };
  for (const auto& point : points) extend(point, 1);
  const std::size_t lower = hull.size();
  for (std::size_t i = count - 1; i-- > 0;) extend(points[i], lower);
  hull.pop_back();  // The first point again.
  points.swap(hull);
}

std::array<Point, 4> RotatedRect::corners() const {
  const float wx = axis.x * width / 2, wy = axis.y * width / 2;
  const float hx = -axis.y * height / 2, hy = axis.x * height / 2;
  return {
      Point{centre.x - wx - hx, centre.y - wy - hy}, Point{centre.x + wx - hx, centre.y + wy - hy},
      Point{centre.x + wx + hx, centre.y + wy + hy}, Point{centre.x - wx + hx, centre.y - wy + hy}};
}

RotatedRect min_area_rect(std::span<const Point> hull) {
  if (hull.empty()) return {};
  if (hull.size() == 1) return {.centre = hull[0]};
  RotatedRect best;
  double area_least = std::numeric_limits<double>::infinity();
  std::optional<Caliper> right, top, left;
  for (std::size_t i = 0; i < hull.size(); ++i) {
    const auto& from = hull[i];
    const auto& to = hull[i + 1 == hull.size() ? 0 : i + 1];
    const double length =
        std::hypot(static_cast<double>(to.x) - from.x, static_cast<double>(to.y) - from.y);
    if (!(length > 0)) continue;
    const double x = (static_cast<double>(to.x) - from.x) / length;
    const double y = (static_cast<double>(to.y) - from.y) / length;
    if (!right) {
      right.emplace(hull, x, y);
      top.emplace(hull, -y, x);
      left.emplace(hull, -x, -y);
    }
    const double high_u = right->turn_to(x, y);
    const double low_u = -left->turn_to(-x, -y);
    const double high_v = top->turn_to(-y, x);
    const double low_v = -from.x * y + from.y * x;  // The edge itself.
    const double area = (high_u - low_u) * (high_v - low_v);
    if (!(area < area_least)) continue;
    area_least = area;
    const double u = (high_u + low_u) / 2, v = (high_v + low_v) / 2;
    best = {.centre = {static_cast<float>(u * x - v * y), static_cast<float>(u * y + v * x)},
            .axis = {static_cast<float>(x), static_cast<float>(y)},
            .width = static_cast<float>(high_u - low_u),
            .height = static_cast<float>(high_v - low_v)};
  }
  return best;
}

std::array<Point, 4> order_corners(std::array<Point, 4> corners) {
  std::ranges::sort(
      corners, [](const Point& a, const Point& b) { return a.x != b.x ? a.x < b.x : a.y < b.y; });
  if (corners[0].y > corners[1].y) std::swap(corners[0], corners[1]);
  if (corners[2].y > corners[3].y) std::swap(corners[2], corners[3]);
  return {corners[0], corners[2], corners[3], corners[1]};
}

}  // namespace selvage::infer
