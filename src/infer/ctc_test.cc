#include "infer/ctc.h"

#include <limits>
#include <random>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace selvage::infer {
namespace {

using testing::HasSubstr;

Result<Text> decode(const CtcTextOutput& card, std::int64_t steps,
                    const std::vector<float>& values) {
  std::vector<float> scratch;
  const Shape shape{1, steps,
                    static_cast<std::int64_t>(values.size()) / std::max<std::int64_t>(steps, 1)};
  return decode_ctc({DataType::kFloat32, shape, std::as_bytes(std::span(values)), {}}, card,
                    scratch);
}

/// One step a class, with a score of its own; the rest is shared out.
std::vector<float> steps_of(const std::vector<std::size_t>& path, std::size_t classes,
                            std::mt19937& random, std::vector<float>& scores) {
  std::vector<float> values;
  for (const auto best : path) {
    scores.push_back(0.6f + static_cast<float>(random() % 40) / 100);
    for (std::size_t c = 0; c < classes; ++c)
      values.push_back(c == best ? scores.back()
                                 : (1 - scores.back()) / static_cast<float>(classes));
  }
  return values;
}

TEST(Ctc, EqualsTheDefinition) {
  std::mt19937 random(29);
  for (int round = 0; round < 500; ++round) {
    CtcTextOutput card;
    card.labels = {"a", "b", "ü"};
    card.append_space = round % 2;
    const std::size_t classes = card.append_space ? 5 : 4;
    card.blank = static_cast<int>(random() % 4);
    std::vector<std::size_t> path(random() % 20);
    for (auto& step : path) step = random() % classes;
    std::vector<float> scores;
    const auto values = steps_of(path, classes, random, scores);

    const auto blank = static_cast<std::size_t>(card.blank);
    std::string text;
    double sum = 0;
    int kept = 0;
    for (std::size_t t = 0; t < path.size(); ++t) {
      if (path[t] == blank || (t > 0 && path[t] == path[t - 1])) continue;
      const auto label = path[t] < blank ? path[t] : path[t] - 1;
      text += label == 3 ? " " : card.labels[label];
      sum += static_cast<double>(scores[t]);
      ++kept;
    }
    if (path.empty()) continue;
    const auto got = decode(card, static_cast<std::int64_t>(path.size()), values);
    ASSERT_TRUE(got) << got.error().message;
    EXPECT_EQ(got->text, text);
    EXPECT_NEAR(got->confidence, kept ? sum / kept : 0, 1e-5);
  }
}

TEST(Ctc, ActivatesOnlyForTheConfidence) {
  CtcTextOutput card;
  card.labels = {"a"};
  card.activation = Activation::kSoftmax;
  const auto got = decode(card, 1, {0, 0.5f});
  ASSERT_TRUE(got);
  EXPECT_EQ(got->text, "a");
  EXPECT_NEAR(got->confidence, 0.6224593, 1e-6);
}

TEST(Ctc, RefusesOtherShapes) {
  CtcTextOutput card;
  card.labels = {"a", "b"};
  EXPECT_THAT(decode(card, 1, {1, 2}).error().message, HasSubstr("[1, T, 3] for 2 labels"));
  const auto none =
      decode_ctc({DataType::kFloat32, {}, {}, {}}, card, *std::make_unique<std::vector<float>>());
  EXPECT_FALSE(none);
}

TEST(Ctc, SurvivesNumbersThatAreNone) {
  constexpr float kNan = std::numeric_limits<float>::quiet_NaN();
  CtcTextOutput card;
  card.labels = {"a", "b"};
  const auto got =
      decode(card, 2, {kNan, kNan, kNan, kNan, std::numeric_limits<float>::infinity(), 1});
  ASSERT_TRUE(got);
  EXPECT_EQ(got->text, "a");
}

}  // namespace
}  // namespace selvage::infer
