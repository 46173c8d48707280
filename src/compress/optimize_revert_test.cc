// Which groups go back to float, and when it ends.
#include "compress/optimize_revert.h"

#include <algorithm>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace selvage::compress {
namespace {

using testing::ElementsAre;
using testing::IsEmpty;

/// Each group costs quality as long as it is quantised, and adds as much to the output's error.
struct Costs {
  std::vector<double> of;
  std::vector<Reverted> asked = {};
  bool may_go_on = true;

  [[nodiscard]] double left(const Reverted& reverted) const {
    double sum = 0;
    for (std::size_t g = 0; g < of.size(); ++g)
      if (std::ranges::find(reverted, g) == reverted.end()) sum += of[g];
    return sum;
  }
  RevertOptions options(double wanted) {
    return {
        .groups = of.size(),
        .quality = 1 - left({}),
        .quality_wanted = wanted,
        .quality_of = [this](const Reverted& reverted) -> Result<double> {
          asked.push_back(reverted);
          return 1 - left(reverted);
        },
        .error_of = [this](const Reverted& reverted) -> Result<double> { return left(reverted); },
        .keep_going = [this] { return may_go_on; }};
  }
};

TEST(Revert, TakesTheWorstFirstAndStopsWhenItIsGoodEnough) {
  Costs costs{{0.01, 0.2, 0.02, 0.1}};
  const auto found = revert_until_good(costs.options(0.96));
  ASSERT_TRUE(found);
  EXPECT_THAT(found->reverted, ElementsAre(1, 3));
  EXPECT_NEAR(found->quality, 0.97, 1e-12);
  EXPECT_EQ(found->evaluations, 2);
  ASSERT_EQ(found->errors.size(), 4);
  EXPECT_NEAR(found->errors[1], 0.13, 1e-12);  // Without the worst the least is left.
}

TEST(Revert, EndsWhenEverythingIsInFloat) {
  Costs costs{{0.1, 0.1, 0.1}};
  const auto found = revert_until_good(costs.options(2));
  ASSERT_TRUE(found);
  EXPECT_EQ(found->reverted.size(), 3);
}

TEST(Revert, DoesNothingToWhatIsGoodEnough) {
  Costs costs{{0.001}};
  const auto found = revert_until_good(costs.options(0.9));
  ASSERT_TRUE(found);
  EXPECT_THAT(found->reverted, IsEmpty());
  EXPECT_EQ(found->evaluations, 0);
}

TEST(Revert, ToleratesOneWorseStepAndTakesBackTheNext) {
  // By error: 0, 1, 2, 3. But 0, 1 and 2 make the quality worse, whatever the ranking says.
  Costs costs{{0.4, 0.3, 0.2, 0.1}};
  auto options = costs.options(0.5);
  options.quality = 0;
  std::vector<Reverted> asked;
  options.quality_of = [&](const Reverted& reverted) -> Result<double> {
    asked.push_back(reverted);
    const bool has_good = std::ranges::find(reverted, 3) != reverted.end();
    return (has_good ? 0.9 : 0) - 0.1 * static_cast<double>(reverted.size());
  };
  const auto found = revert_until_good(options);
  ASSERT_TRUE(found);
  // 0: worse, tolerated at the start. 1: worse again, taken back. 2: worse, tolerated. 3: good.
  EXPECT_THAT(asked, ElementsAre(ElementsAre(0), ElementsAre(0, 1), ElementsAre(0, 2),
                                 ElementsAre(0, 2, 3)));
  EXPECT_THAT(found->reverted, ElementsAre(0, 2, 3));
}

TEST(Revert, StopsWhenAsked) {
  Costs costs{{0.1, 0.1}};
  costs.may_go_on = false;
  const auto found = revert_until_good(costs.options(2));
  ASSERT_TRUE(found);
  EXPECT_THAT(found->reverted, IsEmpty());
  EXPECT_THAT(found->errors, IsEmpty());
}

TEST(Revert, RanksLastWhatCannotBeRankedButNotACancellation) {
  Costs costs{{0.1, 0.2}};
  auto options = costs.options(1);
  options.error_of = [&](const Reverted& reverted) -> Result<double> {
    if (reverted.back() == 1) return fail(ErrorCode::kFailedPrecondition, "no");
    return costs.left(reverted);
  };
  const auto found = revert_until_good(options);
  ASSERT_TRUE(found);
  EXPECT_THAT(costs.asked.front(), ElementsAre(0));

  options.error_of = [](const Reverted&) -> Result<double> {
    return fail(ErrorCode::kCancelled, "stop");
  };
  const auto stopped = revert_until_good(options);
  ASSERT_FALSE(stopped);
  EXPECT_EQ(stopped.error().code, ErrorCode::kCancelled);
}

}  // namespace
}  // namespace selvage::compress
