#include "infer/scores.h"

#include <cmath>
#include <limits>
#include <numeric>
#include <random>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace selvage::infer {
namespace {

using testing::Each;
using testing::ElementsAre;
using testing::FloatEq;

constexpr float kInfinity = std::numeric_limits<float>::infinity();
constexpr float kNan = std::numeric_limits<float>::quiet_NaN();

std::vector<float> softmax(std::vector<float> scores) {
  activate(scores, Activation::kSoftmax);
  return scores;
}

TEST(Softmax, EqualsTheDefinitionInDoublePrecision) {
  std::mt19937 random(7);
  std::normal_distribution<float> normal(0, 5);
  for (int round = 0; round < 200; ++round) {
    std::vector<float> scores(1 + random() % 50);
    std::ranges::generate(scores, [&] { return normal(random); });
    double sum = 0;
    for (const float score : scores) sum += std::exp(static_cast<double>(score));
    const auto got = softmax(scores);
    for (std::size_t i = 0; i < scores.size(); ++i)
      EXPECT_NEAR(got[i], std::exp(static_cast<double>(scores[i])) / sum, 1e-6);
  }
}

TEST(Softmax, IsStableForLargeScores) {
  EXPECT_THAT(softmax({1e30f, 1e30f}), ElementsAre(FloatEq(0.5f), FloatEq(0.5f)));
  EXPECT_THAT(softmax({-1e30f, -1e30f}), ElementsAre(FloatEq(0.5f), FloatEq(0.5f)));
  EXPECT_THAT(softmax({1000, 0}), ElementsAre(FloatEq(1), FloatEq(0)));
  const auto shifted = softmax({10001, 10002, 10003}), plain = softmax({1, 2, 3});
  for (std::size_t i = 0; i < 3; ++i) EXPECT_FLOAT_EQ(shifted[i], plain[i]);
}

TEST(Softmax, StaysFiniteForWhatIsNot) {
  EXPECT_THAT(softmax({kInfinity, kInfinity, 0}), ElementsAre(0.5f, 0.5f, 0.0f));
  EXPECT_THAT(softmax({kNan, 1, 1}), ElementsAre(testing::IsNan(), 0.5f, 0.5f));
  EXPECT_THAT(softmax({kNan, kNan}), Each(testing::IsNan()));  // No class reaches a threshold.
  EXPECT_THAT(softmax({-kInfinity, 0}), ElementsAre(0.0f, 1.0f));
  EXPECT_THAT(softmax({}), ElementsAre());
}

TEST(Sigmoid, StaysWithinZeroAndOne) {
  EXPECT_EQ(sigmoid(0), 0.5f);
  EXPECT_EQ(sigmoid(1e30f), 1.0f);
  EXPECT_EQ(sigmoid(-1e30f), 0.0f);
  EXPECT_FLOAT_EQ(sigmoid(2), 0.880797078f);
}

TEST(IndexOfMax, EqualsTheStandardLibrary) {
  std::mt19937 random(3);
  for (int round = 0; round < 500; ++round) {
    std::vector<float> values(1 + random() % 70);
    std::ranges::generate(values, [&] { return static_cast<float>(random() % 20) - 10; });
    EXPECT_EQ(index_of_max(values),
              static_cast<std::size_t>(std::ranges::max_element(values) - values.begin()));
  }
}

TEST(IndexOfMax, PassesOverNan) {
  EXPECT_EQ(index_of_max(std::vector{kNan, -3.0f, kNan}), 1u);
  EXPECT_EQ(index_of_max(std::vector{kNan, kNan}), 0u);
  EXPECT_EQ(index_of_max(std::vector{-kInfinity, kNan}), 0u);
  EXPECT_EQ(index_of_max({}), 0u);
}

TEST(TopClasses, EqualsASortOfEverything) {
  std::mt19937 random(5);
  std::vector<std::size_t> scratch;
  for (int round = 0; round < 200; ++round) {
    std::vector<float> scores(random() % 30);
    std::ranges::generate(scores, [&] { return static_cast<float>(random() % 10) / 10; });
    ClassificationOutput card;
    card.top = 1 + static_cast<int>(random() % 8);
    card.threshold = 0.3f;
    std::vector<std::size_t> order(scores.size());
    std::iota(order.begin(), order.end(), 0u);
    std::ranges::stable_sort(order, [&](auto a, auto b) { return scores[a] > scores[b]; });
    std::erase_if(order, [&](auto i) { return scores[i] < 0.3f; });
    order.resize(std::min(order.size(), static_cast<std::size_t>(card.top)));
    const auto got = top_classes(scores, card, scratch).classes;
    ASSERT_EQ(got.size(), order.size());
    for (std::size_t i = 0; i < order.size(); ++i)
      EXPECT_EQ(static_cast<std::size_t>(got[i].index), order[i]);
  }
}

TEST(TopClasses, LeavesOutNanAndNamesWhatHasAName) {
  ClassificationOutput card;
  card.labels = {"zero", "one"};
  card.threshold = -1;
  std::vector<std::size_t> scratch;
  const auto classes = top_classes(std::vector{kNan, 0.2f, 0.7f}, card, scratch).classes;
  ASSERT_EQ(classes.size(), 2u);
  EXPECT_EQ(classes[0].index, 2);
  EXPECT_EQ(classes[0].label, "");
  EXPECT_EQ(classes[1].label, "one");
}

}  // namespace
}  // namespace selvage::infer
