#include "learn/augment.h"

#include <cmath>
#include <numeric>

#include <gmock/gmock.h>

namespace selvage::learn {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;

const Shape kPicture{1, 2, 3};

std::vector<float> counting(std::size_t count) {
  std::vector<float> values(count);
  std::iota(values.begin(), values.end(), 1.0f);
  return values;
}

/// What many seeds make of 1, 2, ..., each kind once.
std::set<std::vector<float>> outcomes(const AugmentOptions& options, const Shape& shape) {
  std::set<std::vector<float>> found;
  for (std::uint64_t seed = 0; seed < 300; ++seed) {
    auto sample = counting(static_cast<std::size_t>(*element_count(shape)));
    Augmenter(options, shape).apply(sample, Random(seed));
    found.insert(sample);
  }
  return found;
}

TEST(Augment, FlipMirrorsHalfOfThePictures) {
  EXPECT_THAT(
      outcomes({.flip = true}, kPicture),
      ElementsAre(std::vector<float>{1, 2, 3, 4, 5, 6}, std::vector<float>{3, 2, 1, 6, 5, 4}));
}

TEST(Augment, ShiftMovesEveryWayAndFillsZeros) {
  const auto found = outcomes({.shift = 1}, kPicture);
  EXPECT_EQ(found.size(), 9u);
  EXPECT_TRUE(found.contains({0, 1, 2, 0, 4, 5}));
  EXPECT_TRUE(found.contains({5, 6, 0, 0, 0, 0}));
  EXPECT_TRUE(found.contains({0, 0, 0, 1, 2, 3}));
}

TEST(Augment, ShiftOfASignalLeavesItsChannelsTogether) {
  const auto found = outcomes({.shift = 1}, {2, 3});
  EXPECT_THAT(
      found, ElementsAre(std::vector<float>{0, 1, 2, 0, 4, 5}, std::vector<float>{1, 2, 3, 4, 5, 6},
                         std::vector<float>{2, 3, 0, 5, 6, 0}));
}

TEST(Augment, CropStaysWithinThePicture) {
  for (const auto& sample : outcomes({.crop = 0.3f}, {1, 4, 4}))
    for (const float value : sample) {
      EXPECT_GE(value, 1);
      EXPECT_LE(value, 16);
    }
  // A crop of almost everything is almost the picture.
  for (const auto& sample : outcomes({.crop = 0.9999f}, {1, 4, 4}))
    for (std::size_t i = 0; i < sample.size(); ++i)
      EXPECT_NEAR(sample[i], static_cast<float>(i + 1), 0.01f);
}

TEST(Augment, NoiseHasItsDeviation) {
  std::vector<float> sample(100'000, 1.0f);
  Augmenter({.noise = 0.5f}, Shape{100'000}).apply(sample, Random(1));
  double sum = 0, squares = 0;
  for (const float value : sample) {
    sum += value - 1.0;
    squares += (value - 1.0) * (value - 1.0);
  }
  EXPECT_NEAR(sum / 100'000, 0, 0.01);
  EXPECT_NEAR(std::sqrt(squares / 100'000), 0.5, 0.01);
}

TEST(Augment, ASeedRepeats) {
  const AugmentOptions all{.flip = true, .crop = 0.5f, .shift = 1, .colour = 0.3f, .noise = 0.1f};
  auto first = counting(12), second = counting(12);
  Augmenter(all, Shape{3, 2, 2}).apply(first, Random(9));
  Augmenter(all, Shape{3, 2, 2}).apply(second, Random(9));
  EXPECT_EQ(first, second);
}

TEST(Augment, MixupSharesLieBetweenHalfAndOne) {
  Random random(4);
  double sum = 0;
  for (int i = 0; i < 10'000; ++i) {
    const float share = mixup_share(1, random);
    ASSERT_GE(share, 0.5f);
    ASSERT_LE(share, 1.0f);
    sum += static_cast<double>(share);
  }
  EXPECT_NEAR(sum / 10'000, 0.75, 0.01);  // The larger of u and 1 - u.
}

TEST(Augment, TextGoesBothWays) {
  const auto options = parse_augmentation("flip,shift=2,noise=0.05,mixup=0.2");
  ASSERT_TRUE(options);
  EXPECT_EQ(options->shift, 2);
  EXPECT_EQ(to_text(*options), "flip,shift=2,noise=0.05,mixup=0.2");
  EXPECT_EQ(to_text(*parse_augmentation("")), "");
  EXPECT_THAT(parse_augmentation("shift=2,flip,shift=3").error().message, HasSubstr("shift twice"));
  for (const auto* wrong :
       {"spin", "shift", "shift=1.5", "crop=2", "noise=x", "flip=1", "noise=-1"})
    EXPECT_THAT(parse_augmentation(wrong).error().message, HasSubstr(wrong));
}

TEST(Augment, RefusesShapesThatDoNotFit) {
  EXPECT_FALSE(check_augmentation({.flip = true}, Shape{6}));
  EXPECT_FALSE(check_augmentation({.shift = 3}, Shape{1, 2, 3}));
  EXPECT_TRUE(check_augmentation({.noise = 1}, Shape{6}));
}

}  // namespace
}  // namespace selvage::learn
