#include "base/random.h"

#include <array>
#include <numeric>
#include <vector>

#include <gmock/gmock.h>

namespace selvage {
namespace {

// Of the authors' programs splitmix64.c and xoshiro256starstar.c, from seed 0.
TEST(Random, TheAuthorsNumbers) {
  Random random(0);
  EXPECT_EQ(random.next(), 0x99EC5F36CB75F2B4u);
  EXPECT_EQ(random.next(), 0xBF6E1F784956452Au);
  EXPECT_EQ(random.next(), 0x1A5F849D4933E6E0u);
}

TEST(Random, BelowIsUniformAndInRange) {
  Random random(1);
  std::array<int, 7> counts{};
  for (int i = 0; i < 70'000; ++i) ++counts.at(random.below(7));
  for (const int count : counts) EXPECT_NEAR(count, 10'000, 500);
}

TEST(Random, NormalHasMeanAndDeviation) {
  Random random(2);
  double sum = 0, squares = 0;
  constexpr int kCount = 100'000;
  for (int i = 0; i < kCount; ++i) {
    const double value = random.normal();
    sum += value;
    squares += value * value;
  }
  EXPECT_NEAR(sum / kCount, 0, 0.02);
  EXPECT_NEAR(squares / kCount, 1, 0.03);
}

TEST(Random, StreamsDiffer) {
  const Random random(3);
  EXPECT_NE(random.split(0).next(), random.split(1).next());
  EXPECT_NE(random.split(0).next(), Random(4).split(0).next());
  EXPECT_EQ(random.split(5).next(), random.split(5).next());
}

TEST(Random, ShuffleKeepsEveryValueAndIsTheSameEverywhere) {
  std::vector<int> values(10);
  std::iota(values.begin(), values.end(), 0);
  Random(7).shuffle(std::span(values));
  std::vector<int> again(10);
  std::iota(again.begin(), again.end(), 0);
  Random(7).shuffle(std::span(again));
  EXPECT_EQ(values, again);
  EXPECT_THAT(values, ::testing::UnorderedElementsAre(0, 1, 2, 3, 4, 5, 6, 7, 8, 9));
  EXPECT_FALSE(std::is_sorted(values.begin(), values.end()));
}

}  // namespace
}  // namespace selvage
