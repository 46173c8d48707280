#include "infer/geometry.h"

#include <cmath>
#include <numbers>
#include <random>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace selvage::infer {
namespace {

double cross(const Point& a, const Point& b, const Point& c) {
  return (b.x - a.x) * (c.y - a.y) - (b.y - a.y) * (c.x - a.x);
}

std::vector<Point> random_points(std::mt19937& random, int range) {
  std::vector<Point> points(1 + random() % 40);
  for (auto& point : points) {
    point.x = static_cast<float>(static_cast<int>(random() % static_cast<unsigned>(range)));
    point.y = static_cast<float>(static_cast<int>(random() % static_cast<unsigned>(range)));
  }
  return points;
}

/// Area of the box around the points when the plane is turned by `angle`.
double area_at(const std::vector<Point>& points, double angle) {
  double least_u = 1e9, most_u = -1e9, least_v = 1e9, most_v = -1e9;
  for (const auto& point : points) {
    const double u = point.x * std::cos(angle) + point.y * std::sin(angle);
    const double v = -point.x * std::sin(angle) + point.y * std::cos(angle);
    least_u = std::min(least_u, u), most_u = std::max(most_u, u);
    least_v = std::min(least_v, v), most_v = std::max(most_v, v);
  }
  return (most_u - least_u) * (most_v - least_v);
}

TEST(Hull, IsConvexAndHoldsEveryPoint) {
  std::mt19937 random(11);
  for (int round = 0; round < 2000; ++round) {
    const auto points = random_points(random, round % 2 ? 5 : 100);
    auto hull = points;
    reduce_to_hull(hull);
    if (hull.size() < 3) {  // All on one line, or almost none.
      for (const auto& point : points) EXPECT_EQ(cross(hull.front(), hull.back(), point), 0);
      continue;
    }
    for (std::size_t i = 0; i < hull.size(); ++i) {
      const auto& a = hull[i];
      const auto& b = hull[(i + 1) % hull.size()];
      EXPECT_GT(cross(a, b, hull[(i + 2) % hull.size()]), 0);
      for (const auto& point : points) EXPECT_GE(cross(a, b, point), 0);
    }
  }
}

TEST(MinAreaRect, IsNoLargerThanAtAnyAngle) {
  std::mt19937 random(13);
  for (int round = 0; round < 300; ++round) {
    const auto points = random_points(random, 200);
    auto hull = points;
    reduce_to_hull(hull);
    const auto rect = min_area_rect(hull);
    const double area = static_cast<double>(rect.width) * static_cast<double>(rect.height);
    double least = 1e18;
    for (int step = 0; step < 900; ++step)
      least = std::min(least, area_at(points, step * std::numbers::pi / 1800));
    EXPECT_LE(area, least * (1 + 1e-5) + 1e-2);
    const double u = static_cast<double>(rect.axis.x), v = static_cast<double>(rect.axis.y);
    EXPECT_NEAR(std::hypot(u, v), 1, 1e-5);
    for (const auto& point : points) {
      const double x = static_cast<double>(point.x - rect.centre.x);
      const double y = static_cast<double>(point.y - rect.centre.y);
      EXPECT_LE(std::fabs(x * u + y * v), static_cast<double>(rect.width) / 2 + 1e-2);
      EXPECT_LE(std::fabs(y * u - x * v), static_cast<double>(rect.height) / 2 + 1e-2);
    }
  }
}

TEST(MinAreaRect, DegenerateHullsHaveNoArea) {
  EXPECT_EQ(min_area_rect({}).width, 0);
  const std::vector<Point> one{{3, 4}};
  EXPECT_EQ(min_area_rect(one).centre.x, 3);
  EXPECT_EQ(min_area_rect(one).width, 0);
  const std::vector<Point> two{{0, 0}, {3, 4}};
  const auto line = min_area_rect(two);
  EXPECT_FLOAT_EQ(std::max(line.width, line.height), 5);
  EXPECT_NEAR(std::min(line.width, line.height), 0, 1e-6);
}

TEST(OrderCorners, StartsTopLeftAndGoesClockwise) {
  const auto ordered = order_corners({Point{10, 5}, {0, 6}, {0, 0}, {10, -1}});
  EXPECT_EQ(ordered[0].x, 0);
  EXPECT_EQ(ordered[0].y, 0);
  EXPECT_EQ(ordered[1].y, -1);
  EXPECT_EQ(ordered[2].y, 5);
  EXPECT_EQ(ordered[3].y, 6);
}

}  // namespace
}  // namespace selvage::infer
