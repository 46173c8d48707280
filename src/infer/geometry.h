// Plane geometry for decoders. All functions take any finite points.
#pragma once

#include <array>
#include <span>
#include <vector>

#include "infer/prediction.h"

namespace selvage::infer {

/// Turns `points` into their convex hull, counter-clockwise in a y-up plane, without collinear
/// points (A. Andrew's monotone chain, 1979). O(n log n). Fewer than three points stay as they are,
/// repeated ones once.
void reduce_to_hull(std::vector<Point>& points);

/// A rectangle at any angle.
struct RotatedRect {
  Point centre;
  Point axis{1, 0};  ///< Unit vector along `width`.
  float width = 0;   ///< May be the shorter side.
  float height = 0;

  [[nodiscard]] std::array<Point, 4> corners() const;  ///< In turn, none special.
};

/// The rectangle of least area around a hull (rotating calipers: one side lies on the hull,
/// H. Freeman and R. Shapira, 1975). O(n). Degenerate hulls give rectangles without area.
[[nodiscard]] RotatedRect min_area_rect(std::span<const Point> hull);

/// The corners from top left, clockwise as one sees them (y down): the two leftmost are the left
/// side, as PaddleOCR's get_mini_boxes has it.
[[nodiscard]] std::array<Point, 4> order_corners(std::array<Point, 4> corners);

}  // namespace selvage::infer
