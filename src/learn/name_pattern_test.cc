#include "learn/name_pattern.h"

#include <gtest/gtest.h>

namespace selvage::learn {
namespace {

TEST(NamePattern, MatchesWholeNames) {
  EXPECT_TRUE(matches("conv1.weight", "conv1.weight"));
  EXPECT_TRUE(matches("conv1.weight", "conv*"));
  EXPECT_TRUE(matches("conv1.weight", "*.weight"));
  EXPECT_TRUE(matches("conv1.weight", "c*1*t"));
  EXPECT_TRUE(matches("conv1.weight", "conv?.weight"));
  EXPECT_TRUE(matches("", "*"));
  EXPECT_TRUE(matches("aab", "*a*b"));
  EXPECT_FALSE(matches("conv1.weight", "conv"));
  EXPECT_FALSE(matches("conv1.weight", "weight"));
  EXPECT_FALSE(matches("conv", "conv?"));
  EXPECT_FALSE(matches("", "?"));
  EXPECT_FALSE(matches("a", ""));
}

TEST(NamePattern, IsNotMisledByManyStars) {
  const std::string name(2000, 'a');
  EXPECT_FALSE(matches(name, "*a*a*a*a*a*a*a*a*a*a*a*ab"));
}

TEST(NamePattern, TakesAnyOfAList) {
  const std::string patterns[] = {"conv*", "*.bias"};
  EXPECT_TRUE(matches_any("fc.bias", patterns));
  EXPECT_FALSE(matches_any("fc.weight", patterns));
  EXPECT_FALSE(matches_any("fc.weight", {}));
}

}  // namespace
}  // namespace selvage::learn
