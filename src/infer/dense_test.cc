// Segmentation and lines: decoders of tensors that are as wide and high as the picture.
#include <limits>
#include <random>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "infer/lines.h"
#include "infer/segmentation.h"

namespace selvage::infer {
namespace {

using testing::ElementsAre;

constexpr float kNan = std::numeric_limits<float>::quiet_NaN();

TensorView view(const Shape& shape, const std::vector<float>& values) {
  return {DataType::kFloat32, shape, std::as_bytes(std::span(values)), {}};
}

Frame frame(int picture, int tensor) {
  const double scale = static_cast<double>(picture) / tensor;
  return {.picture_width = picture,
          .picture_height = picture,
          .tensor_width = tensor,
          .tensor_height = tensor,
          .to_picture = {.scale_x = scale, .scale_y = scale}};
}

TEST(Segmenter, TakesTheBestClassInEveryLayout) {
  SegmentationOutput card;
  Segmenter segmenter(card);
  // Three classes on 2 x 2 pixels; the classes are 2, 0, 1, 1.
  const std::vector<float> by_class{0.1f, 0.9f, 0, 0.2f, 0.2f, 0, 1, 0.5f, 0.7f, 0.1f, 0, 0.3f};
  std::vector<float> by_pixel;
  for (std::size_t pixel = 0; pixel < 4; ++pixel)
    for (std::size_t c = 0; c < 3; ++c) by_pixel.push_back(by_class[c * 4 + pixel]);
  card.labels = {"a", "b", "c"};
  EXPECT_THAT(segmenter.segment(view({1, 3, 2, 2}, by_class), frame(2, 2))->classes,
              ElementsAre(2, 0, 1, 1));
  EXPECT_THAT(segmenter.segment(view({1, 2, 2, 3}, by_pixel), frame(2, 2))->classes,
              ElementsAre(2, 0, 1, 1));
  EXPECT_THAT(segmenter.segment(view({1, 2, 2}, {2, 0, 1, 1}), frame(2, 2))->classes,
              ElementsAre(2, 0, 1, 1));
  EXPECT_THAT(segmenter.segment(view({1, 1, 2, 2}, {0.9f, 0.1f, 0.5f, kNan}), frame(2, 2))->classes,
              ElementsAre(1, 0, 1, 0));
}

TEST(Segmenter, CoversThePicture) {
  SegmentationOutput card;
  Segmenter segmenter(card);
  const auto result = segmenter.segment(view({1, 2, 2}, {0, 1, 2, 3}), frame(4, 8));
  ASSERT_TRUE(result) << result.error().message;
  EXPECT_EQ(result->width, 4);
  EXPECT_THAT(result->classes, ElementsAre(0, 0, 1, 1, 0, 0, 1, 1, 2, 2, 3, 3, 2, 2, 3, 3));
}

TEST(Segmenter, RefusesOtherShapes) {
  SegmentationOutput card;
  Segmenter segmenter(card);
  const std::vector<float> values(300 * 301);
  for (const Shape& shape : {Shape{}, {300 * 301}, {2, 3, 10, 10}, {1, 300, 1, 301}, {1, 0, 2, 2}})
    EXPECT_FALSE(segmenter.segment(view(shape, values), frame(2, 2))) << to_string(shape);
  EXPECT_TRUE(segmenter.segment(view({1, 10, 20}, std::vector<float>(200, kNan)), frame(2, 2)));
}

TEST(LineFinder, GoesFromCentresToBothEnds) {
  LinesOutput card;
  card.min_length = 4;
  std::vector<float> scores(64), ends(256);
  const auto put = [&](std::size_t x, std::size_t y, float score, std::vector<float> displacement) {
    scores[y * 8 + x] = score;
    std::ranges::copy(displacement, ends.begin() + static_cast<std::ptrdiff_t>((y * 8 + x) * 4));
  };
  put(3, 3, 0.5f, {-2, 0, 2, 1});
  put(4, 3, 0.4f, {-3, 0, 3, 0});        // Not the largest around.
  put(6, 6, 0.9f, {-0.5f, 0, 0.5f, 0});  // Too short.
  put(0, 7, 0.8f, {kNan, 0, 5, 0});
  put(7, 0, 0.6f, {-4, 0, 0, 0});
  const auto found =
      LineFinder(card).find(view({1, 8, 8, 4}, ends), view({1, 8, 8, 1}, scores), frame(32, 16));
  ASSERT_TRUE(found) << found.error().message;
  ASSERT_EQ(found->lines.size(), 2u);
  EXPECT_FLOAT_EQ(found->lines[0].score, 0.6f);
  EXPECT_FLOAT_EQ(found->lines[0].from.x, 12);
  EXPECT_FLOAT_EQ(found->lines[1].from.x, 4);
  EXPECT_FLOAT_EQ(found->lines[1].to.x, 20);
  EXPECT_FLOAT_EQ(found->lines[1].to.y, 16);
  card.max_lines = 1;
  EXPECT_EQ(LineFinder(card)
                .find(view({1, 8, 8, 4}, ends), view({1, 8, 8, 1}, scores), frame(32, 16))
                ->lines.size(),
            1u);
}

TEST(LineFinder, RefusesTensorsThatDoNotFit) {
  const LinesOutput card;
  LineFinder finder(card);
  const std::vector<float> ends(16), scores(4);
  EXPECT_TRUE(finder.find(view({1, 2, 2, 4}, ends), view({1, 2, 2, 1}, scores), {}));
  EXPECT_FALSE(finder.find(view({1, 2, 2, 4}, ends), view({1, 1, 2, 1}, scores), {}));
  EXPECT_FALSE(finder.find(view({1, 4, 4}, ends), view({1, 2, 2, 1}, scores), {}));
  EXPECT_FALSE(finder.find(view({}, ends), view({}, scores), {}));
}

}  // namespace
}  // namespace selvage::infer
