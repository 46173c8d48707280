// Which candidate is taken.
#include "compress/pareto.h"

#include <cmath>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace selvage::compress {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;

/// Surely as fast as `ratio` says: the interval is narrow.
Figures figures(double quality, double ratio, std::uint64_t bytes) {
  return {.quality = quality,
          .latency = {.p50_ms = 10 * ratio,
                      .p99_ms = 12 * ratio,
                      .original_p50_ms = 10,
                      .ratio = ratio,
                      .ratio_low = ratio * 0.99,
                      .ratio_high = ratio * 1.01},
          .file_bytes = bytes,
          .resident_bytes = 2 * bytes};
}

const Figures kOriginal = figures(0.9, 1, 1000);

TEST(Interval, OfAMedianLeavesOutWhatTheBinomialTailAllows) {
  std::vector<double> ratios(21);
  for (std::size_t i = 0; i < ratios.size(); ++i) ratios[i] = static_cast<double>((i * 8) % 21);
  const auto found = median_interval(ratios);
  EXPECT_EQ(found.median, 10);
  EXPECT_EQ(found.low, 5);  // P(Binomial(21, 1/2) < 6) = 1.3 %, P(... < 7) = 3.9 %.
  EXPECT_EQ(found.high, 15);
}

TEST(Interval, OfFewRatiosIsTheirExtremes) {
  const auto found = median_interval({3, 1, 2, 4});
  EXPECT_EQ(found.median, 2.5);
  EXPECT_EQ(found.low, 1);
  EXPECT_EQ(found.high, 4);
  EXPECT_EQ(median_interval({7}).low, 7);
}

TEST(Objection, NamesWhatACandidateMisses) {
  const auto why = [](const Figures& candidate, const Targets& targets = {}) {
    return objection(candidate, kOriginal, targets);
  };
  EXPECT_THAT(why(figures(0.895, 0.5, 300)), IsEmpty());
  EXPECT_THAT(objection(figures(0.915, 0.5, 300), figures(0.918, 1, 1000), {.max_drop = 0.003}),
              IsEmpty());
  EXPECT_THAT(why(figures(0.88, 0.5, 300)), HasSubstr("quality drops by 0.02"));
  EXPECT_THAT(why(figures(std::nan(""), 0.5, 300)), HasSubstr("quality"));
  EXPECT_THAT(why(figures(0.9, 0.5, 300), {.max_latency_ms = 4}), HasSubstr("5 ms, 4 are allowed"));
  EXPECT_THAT(why(figures(0.9, 0.5, 3'000'000), {.max_bytes = 2'000'000}), HasSubstr("3 MB, 2"));
  EXPECT_THAT(why(figures(0.9, 1.3, 300)), HasSubstr("slower than the original: 1.3x"));
}

TEST(Objection, HasNoiseInMind) {
  // Nobody can tell whether it is faster: it has to be smaller.
  EXPECT_THAT(objection(figures(0.9, 0.995, 1000), kOriginal, {}), HasSubstr("no better"));
  EXPECT_THAT(objection(figures(0.9, 1.005, 400), kOriginal, {}), IsEmpty());
  // Surely slower, if only a little.
  auto slower = figures(0.9, 1.015, 400);
  slower.latency.ratio_low = 1.001;
  EXPECT_THAT(objection(slower, kOriginal, {}), HasSubstr("slower"));
  // Not surely, but too much to believe in its being equal.
  auto doubtful = figures(0.9, 1.2, 400);
  doubtful.latency.ratio_low = 0.9;
  EXPECT_THAT(objection(doubtful, kOriginal, {}), HasSubstr("slower"));
}

TEST(Objection, WhereSizeIsTheAimWantsASmallerFile) {
  EXPECT_THAT(objection(figures(0.9, 0.5, 1000), kOriginal, {.max_bytes = 5000}),
              HasSubstr("no smaller"));
  EXPECT_THAT(objection(figures(0.9, 0.5, 1000), kOriginal, {}), IsEmpty());
}

TEST(ParetoFront, HoldsWhatNoOtherBeats) {
  const std::vector<Figures> candidates{
      kOriginal,                // the best quality
      figures(0.89, 0.5, 300),  // fast
      figures(0.89, 0.6, 300),  // beaten by the second
      figures(0.80, 0.9, 100),  // small
      figures(0.89, 0.5, 300),  // equal to the second: neither beats the other
  };
  EXPECT_THAT(pareto_front(candidates), ElementsAre(true, true, false, true, true));
}

TEST(Choice, WeighsLatencyTwice) {
  const std::vector<Figures> candidates{
      figures(0.9, 0.8, 250),  // 0.8^2 * 0.25 = 0.16
      figures(0.9, 0.5, 500),  // 0.5^2 * 0.5 = 0.125
      figures(0.5, 0.1, 100),  // loses too much
  };
  EXPECT_EQ(choose(candidates, kOriginal, {}), 1);
}

TEST(Choice, BetweenEqualsIsQuality) {
  const std::vector<Figures> candidates{figures(0.893, 0.500, 300), figures(0.899, 0.505, 300),
                                        figures(0.900, 0.600, 300)};
  EXPECT_EQ(choose(candidates, kOriginal, {}), 1);
}

TEST(Choice, IsNothingWhereNothingIsBetter) {
  const std::vector<Figures> candidates{figures(0.9, 1.5, 300), figures(0.9, 1, 1000)};
  EXPECT_EQ(choose(candidates, kOriginal, {}), std::nullopt);
  EXPECT_EQ(choose({}, kOriginal, {}), std::nullopt);
}

}  // namespace
}  // namespace selvage::compress
