#include "infer/activity.h"

#include <limits>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace selvage::infer {
namespace {

/// Windows of 0.1 s.
constexpr int kRate = 1000;
constexpr int kWindow = 100;

std::vector<std::pair<double, double>> segments(const std::vector<float>& scores,
                                                const ActivityOutput& card) {
  const SoundSpan sound{.rate = kRate,
                        .window = kWindow,
                        .samples_total = static_cast<std::int64_t>(scores.size()) * kWindow - 50};
  std::vector<std::pair<double, double>> found;
  for (const auto& segment : find_segments(scores, sound, card))
    found.emplace_back(segment.start_s, segment.end_s);
  return found;
}

std::vector<float> windows(std::initializer_list<std::pair<int, float>> runs) {
  std::vector<float> scores;
  for (const auto& [count, score] : runs)
    scores.insert(scores.end(), static_cast<std::size_t>(count), score);
  return scores;
}

using testing::ElementsAre;
using testing::IsEmpty;
using testing::Pair;

TEST(Activity, IsPaddedAndEndsInSilence) {
  const ActivityOutput card;
  EXPECT_THAT(segments(windows({{5, 0}, {5, 0.9f}, {5, 0}}), card), ElementsAre(Pair(0.47, 1.03)));
  EXPECT_THAT(segments(windows({{5, 0.9f}, {5, 0}}), card), ElementsAre(Pair(0, 0.53)));
}

TEST(Activity, ReachesTheSoundsEndAtMost) {
  EXPECT_THAT(segments(windows({{5, 0}, {5, 0.9f}}), {}), ElementsAre(Pair(0.47, 0.95)));
}

TEST(Activity, TheLowerThresholdHolds) {
  EXPECT_THAT(segments(windows({{2, 0}, {3, 0.9f}, {3, 0.4f}, {3, 0.9f}, {5, 0}}), {}),
              ElementsAre(Pair(0.17, 1.13)));
  ActivityOutput card;
  card.end_threshold = 0.45f;
  EXPECT_EQ(segments(windows({{2, 0}, {3, 0.9f}, {3, 0.4f}, {3, 0.9f}, {5, 0}}), card).size(), 2u);
}

TEST(Activity, ShortOnesAreDropped) {
  EXPECT_THAT(segments(windows({{5, 0}, {2, 0.9f}, {5, 0}}), {}), IsEmpty());
  EXPECT_THAT(segments(windows({{5, 0.1f}}), {}), IsEmpty());
  EXPECT_THAT(segments({}, {}), IsEmpty());
}

TEST(Activity, NeighboursShareAShortGap) {
  ActivityOutput card;
  card.pad_s = 0.2;
  card.min_silence_s = 0.1;
  EXPECT_THAT(segments(windows({{5, 0.9f}, {3, 0}, {5, 0.9f}, {5, 0}}), card),
              ElementsAre(Pair(0, 0.65), Pair(0.65, 1.5)));
}

TEST(Activity, NanNeitherBeginsNorEnds) {
  constexpr float kNan = std::numeric_limits<float>::quiet_NaN();
  EXPECT_THAT(segments(windows({{10, kNan}}), {}), IsEmpty());
  EXPECT_EQ(segments(windows({{5, 0.9f}, {5, kNan}, {5, 0.9f}, {5, 0}}), {}).size(), 1u);
}

}  // namespace
}  // namespace selvage::infer
