#include "base/histogram.h"

#include <algorithm>
#include <random>
#include <thread>

#include <gtest/gtest.h>

namespace selvage {
namespace {

using std::chrono::nanoseconds;

TEST(Histogram, BucketsCoverEveryValueWithinTheirError) {
  std::uint64_t expected_start = 0;
  for (std::size_t i = 0; i < Histogram::kBucketCount; ++i) {
    EXPECT_EQ(Histogram::bucket_of(expected_start), i);
    const auto end = Histogram::bucket_end_ns(i);
    EXPECT_EQ(Histogram::bucket_of(end), i);
    EXPECT_LE(end - expected_start, std::max<std::uint64_t>(end / 64, 0));
    expected_start = end + 1;
  }
  EXPECT_GT(Histogram::bucket_end_ns(Histogram::kBucketCount - 1), 1'000'000'000'000u);
  EXPECT_EQ(Histogram::bucket_of(UINT64_MAX), Histogram::kBucketCount - 1);
}

TEST(Histogram, PercentilesAgreeWithSortedValues) {
  std::mt19937_64 random(7);
  std::lognormal_distribution<double> latency(13.0, 1.5);
  Histogram histogram;
  std::vector<std::uint64_t> values;
  for (int i = 0; i < 20'000; ++i) {
    values.push_back(static_cast<std::uint64_t>(latency(random)));
    histogram.record(nanoseconds(values.back()));
  }
  std::sort(values.begin(), values.end());
  const auto snapshot = histogram.snapshot();
  for (const double fraction : {0.0, 0.5, 0.9, 0.99, 0.999, 1.0}) {
    const auto rank = std::max<std::size_t>(
        1, static_cast<std::size_t>(std::ceil(fraction * static_cast<double>(values.size()))));
    const auto exact = values[rank - 1];
    EXPECT_GE(snapshot.percentile_ns(fraction), exact);
    EXPECT_LE(static_cast<double>(snapshot.percentile_ns(fraction)),
              static_cast<double>(exact) * 1.016 + 1);
  }
  EXPECT_EQ(snapshot.min_ns, values.front());
  EXPECT_EQ(snapshot.max_ns, values.back());
}

TEST(Histogram, EmptyAndNegativeAreSafe) {
  Histogram histogram;
  EXPECT_EQ(histogram.snapshot().percentile_ns(0.99), 0u);
  histogram.record(nanoseconds(-5));
  EXPECT_EQ(histogram.snapshot().max_ns, 0u);
  EXPECT_EQ(histogram.snapshot().count, 1u);
}

TEST(Histogram, MergeEqualsRecordingIntoOne) {
  Histogram left, right, both;
  for (std::int64_t i = 1; i < 5'000; ++i) {
    (i % 3 == 0 ? left : right).record(nanoseconds(i * i));
    both.record(nanoseconds(i * i));
  }
  auto merged = HistogramSnapshot();
  merged.merge(left.snapshot());
  merged.merge(right.snapshot());
  const auto expected = both.snapshot();
  EXPECT_EQ(merged.buckets, expected.buckets);
  EXPECT_EQ(merged.count, expected.count);
  EXPECT_EQ(merged.sum_ns, expected.sum_ns);
  EXPECT_EQ(merged.min_ns, expected.min_ns);
  EXPECT_EQ(merged.max_ns, expected.max_ns);
  EXPECT_EQ(merged.count_at_most(UINT64_MAX), merged.count);
}

TEST(Histogram, LosesNothingUnderConcurrentRecording) {
  Histogram histogram;
  {
    std::vector<std::jthread> threads;
    for (int t = 0; t < 4; ++t)
      threads.emplace_back([&] {
        for (std::int64_t i = 0; i < 10'000; ++i) histogram.record(nanoseconds(i));
      });
  }
  EXPECT_EQ(histogram.snapshot().count, 40'000u);
  EXPECT_EQ(histogram.snapshot().sum_ns, 4u * 49'995'000u);
}

}  // namespace
}  // namespace selvage
