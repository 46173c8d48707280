#include "infer/text_regions.h"

#include <cmath>
#include <limits>
#include <random>

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <nlohmann/json.hpp>

#include "base/file.h"
#include "media/picture.h"

namespace selvage::infer {
namespace {

struct Map {
  int width, height;
  std::vector<float> values = std::vector<float>(static_cast<std::size_t>(width * height));

  void fill(int left, int top, int right, int bottom, float value) {
    for (int y = top; y < bottom; ++y)
      for (int x = left; x < right; ++x) values[static_cast<std::size_t>(y * width + x)] = value;
  }
};

Result<TextRegions> find(const Map& map, const TextRegionsOutput& card = {}) {
  const Shape shape{1, 1, map.height, map.width};
  const Frame frame{.picture_width = map.width,
                    .picture_height = map.height,
                    .tensor_width = map.width,
                    .tensor_height = map.height,
                    .to_picture = {}};
  return TextRegionFinder(card).find(
      {DataType::kFloat32, shape, std::as_bytes(std::span(map.values)), {}}, frame);
}

TEST(TextRegions, GrowsARectangleByAreaOverPerimeter) {
  Map map{.width = 100, .height = 60};
  map.fill(20, 20, 61, 31, 0.8f);  // 40 x 10 between pixel centres.
  const auto found = find(map);
  ASSERT_TRUE(found) << found.error().message;
  ASSERT_EQ(found->regions.size(), 1u);
  const auto& region = found->regions[0];
  EXPECT_NEAR(region.score, 0.8, 1e-5);
  const float grow = 400 * 1.5f / 100;
  EXPECT_NEAR(region.corners[0].x, 20 - grow, 1e-3);
  EXPECT_NEAR(region.corners[0].y, 20 - grow, 1e-3);
  EXPECT_NEAR(region.corners[2].x, 60 + grow, 1e-3);
  EXPECT_NEAR(region.corners[2].y, 30 + grow, 1e-3);
}

TEST(TextRegions, LeavesOutWhatIsSmallOrFaint) {
  Map map{.width = 100, .height = 60};
  map.fill(5, 5, 8, 8, 0.9f);      // Too small.
  map.fill(20, 20, 60, 30, 0.5f);  // Above the pixel threshold, below the box threshold.
  EXPECT_TRUE(find(map)->regions.empty());
  TextRegionsOutput card;
  card.box_threshold = 0.4f;
  EXPECT_EQ(find(map, card)->regions.size(), 1u);
  map.fill(70, 20, 95, 30, 0.9f);
  card.max_regions = 1;
  EXPECT_EQ(find(map, card)->regions.size(), 1u);
}

TEST(TextRegions, FindsTheOriginalsRegions) {
  const auto folder = std::filesystem::path(SELVAGE_SOURCE_DIR) / "tests/golden/infer";
  const auto file = read_bytes(folder / "text-map.png", 1 << 20);
  ASSERT_TRUE(file) << file.error().message;
  const auto picture = media::decode_picture(*file);
  ASSERT_TRUE(picture) << picture.error().message;
  Map map{.width = picture->width(), .height = picture->height()};
  for (int y = 0; y < map.height; ++y)
    for (int x = 0; x < map.width; ++x)
      map.values[static_cast<std::size_t>(y * map.width + x)] =
          static_cast<float>(picture->row(y)[3 * x]) / 255;
  const auto golden = nlohmann::json::parse(*read_text(folder / "text-map.json"));
  const auto found = find(map);
  ASSERT_TRUE(found) << found.error().message;
  ASSERT_EQ(found->regions.size(), golden.size());
  for (const auto& wanted : golden) {
    // Reading order is ours: the nearest region is the one.
    double nearest = 1e9;
    for (const auto& region : found->regions) {
      double furthest =
          std::fabs(static_cast<double>(region.score) - wanted["score"].get<double>()) * 50;
      for (std::size_t i = 0; i < 4; ++i)
        furthest = std::max({furthest,
                             std::fabs(static_cast<double>(region.corners[i].x) -
                                       wanted["corners"][i][0].get<double>()),
                             std::fabs(static_cast<double>(region.corners[i].y) -
                                       wanted["corners"][i][1].get<double>())});
      nearest = std::min(nearest, furthest);
    }
    // The original cuts corners to whole pixels before it grows a region, and rounds them after.
    EXPECT_LE(nearest, 2) << wanted.dump();
  }
}

/// Flood fill, corners included: what connected means.
std::size_t count_components(const Map& map, float threshold) {
  std::vector<bool> seen(map.values.size());
  std::size_t count = 0;
  for (std::size_t start = 0; start < seen.size(); ++start) {
    if (seen[start] || !(map.values[start] > threshold)) continue;
    ++count;
    std::vector<std::size_t> open{start};
    seen[start] = true;
    while (!open.empty()) {
      const int x = static_cast<int>(open.back()) % map.width,
                y = static_cast<int>(open.back()) / map.width;
      open.pop_back();
      for (int v = std::max(0, y - 1); v <= std::min(map.height - 1, y + 1); ++v)
        for (int u = std::max(0, x - 1); u <= std::min(map.width - 1, x + 1); ++u) {
          const auto at = static_cast<std::size_t>(v * map.width + u);
          if (seen[at] || !(map.values[at] > threshold)) continue;
          seen[at] = true;
          open.push_back(at);
        }
    }
  }
  return count;
}

TEST(TextRegions, ComponentsAreThoseOfAFloodFill) {
  std::mt19937 random(31);
  for (int round = 0; round < 300; ++round) {
    Map map{.width = 1 + static_cast<int>(random() % 24),
            .height = 1 + static_cast<int>(random() % 24)};
    const auto density = random() % 10;
    // Blocks of 5 x 5, so that no component is too small to be reported.
    Map large{.width = map.width * 5, .height = map.height * 5};
    for (int y = 0; y < map.height; ++y)
      for (int x = 0; x < map.width; ++x)
        if (random() % 10 < density) large.fill(5 * x, 5 * y, 5 * x + 5, 5 * y + 5, 1);
    TextRegionsOutput card;
    card.box_threshold = 0;
    card.max_regions = kBoxesMax;
    EXPECT_EQ(find(large, card)->regions.size(), count_components(large, card.threshold));
  }
}

TEST(TextRegions, ReadsLinesFromLeftToRight) {
  const auto at = [](float x, float y) {
    return TextRegion{.corners = {Point{x, y}, {x + 40, y}, {x + 40, y + 20}, {x, y + 20}},
                      .score = 1,
                      .text = {},
                      .confidence = 0};
  };
  std::vector<TextRegion> regions{at(100, 50), at(50, 98), at(0, 54), at(0, 100), at(50, 47)};
  sort_for_reading(regions);
  std::vector<float> order;
  for (const auto& region : regions) order.push_back(region.corners[0].x + region.corners[0].y);
  EXPECT_THAT(order, testing::ElementsAre(54, 97, 150, 100, 148));
}

TEST(TextRegions, RefusesWhatIsNoMap) {
  const std::vector<float> values(12);
  const auto bytes = std::as_bytes(std::span(values));
  const TextRegionsOutput card;
  TextRegionFinder finder(card);
  for (const Shape& shape : {Shape{}, {12}, {2, 1, 2, 3}, {1, 1, 0, 3}})
    EXPECT_FALSE(finder.find({DataType::kFloat32, shape, bytes, {}}, {})) << to_string(shape);
}

TEST(TextRegions, SurvivesNumbersThatAreNone) {
  Map map{.width = 40, .height = 40};
  map.fill(0, 0, 40, 20, std::numeric_limits<float>::quiet_NaN());
  map.fill(5, 25, 35, 35, std::numeric_limits<float>::infinity());
  const auto found = find(map);
  ASSERT_TRUE(found);
  EXPECT_EQ(found->regions.size(), 1u);
}

}  // namespace
}  // namespace selvage::infer
