#include "base/histogram.h"

#include <algorithm>
#include <bit>
#include <cmath>

namespace selvage {

std::size_t Histogram::bucket_of(std::uint64_t ns) {
  if (ns < kSubBuckets) return static_cast<std::size_t>(ns);
  // The top set bit chooses the power of two, the next six bits the step within it.
  const auto exponent = static_cast<std::size_t>(std::bit_width(ns)) - 7;
  const auto bucket = (exponent + 1) * kSubBuckets + ((ns >> exponent) - kSubBuckets);
  return std::min<std::size_t>(bucket, kBucketCount - 1);
}

std::uint64_t Histogram::bucket_end_ns(std::size_t bucket) {
  if (bucket < kSubBuckets) return bucket;
  const auto exponent = bucket / kSubBuckets - 1;
  const auto step = bucket % kSubBuckets + kSubBuckets;
  return ((step + 1) << exponent) - 1;
}

HistogramSnapshot Histogram::snapshot() const {
  HistogramSnapshot result;
  result.buckets.resize(kBucketCount);
  for (std::size_t i = 0; i < kBucketCount; ++i) {
    result.buckets[i] = buckets_[i].load(std::memory_order_relaxed);
    result.count += result.buckets[i];
  }
  if (result.count == 0) return result;
  result.sum_ns = sum_ns_.load(std::memory_order_relaxed);
  result.max_ns = max_ns_.load(std::memory_order_relaxed);
  result.min_ns = std::min(min_ns_.load(std::memory_order_relaxed), result.max_ns);
  return result;
}

void Histogram::reset() {
  for (auto& bucket : buckets_) bucket.store(0, std::memory_order_relaxed);
  sum_ns_.store(0, std::memory_order_relaxed);
  min_ns_.store(UINT64_MAX, std::memory_order_relaxed);
  max_ns_.store(0, std::memory_order_relaxed);
}

std::uint64_t HistogramSnapshot::percentile_ns(double fraction) const {
  if (count == 0) return 0;
  const auto clamped = std::clamp(fraction, 0.0, 1.0);
  const auto rank = std::max<std::uint64_t>(
      1, static_cast<std::uint64_t>(std::ceil(clamped * static_cast<double>(count))));
  std::uint64_t seen = 0;
  for (std::size_t i = 0; i < buckets.size(); ++i) {
    seen += buckets[i];
    if (seen >= rank) return std::clamp(Histogram::bucket_end_ns(i), min_ns, max_ns);
  }
  return max_ns;
}

double HistogramSnapshot::mean_ns() const {
  return count == 0 ? 0.0 : static_cast<double>(sum_ns) / static_cast<double>(count);
}

std::uint64_t HistogramSnapshot::count_at_most(std::uint64_t limit_ns) const {
  std::uint64_t total = 0;
  for (std::size_t i = 0; i < buckets.size() && Histogram::bucket_end_ns(i) <= limit_ns; ++i)
    total += buckets[i];
  return total;
}

void HistogramSnapshot::merge(const HistogramSnapshot& other) {
  if (other.count == 0) return;
  if (buckets.size() < other.buckets.size()) buckets.resize(other.buckets.size());
  for (std::size_t i = 0; i < other.buckets.size(); ++i) buckets[i] += other.buckets[i];
  min_ns = count == 0 ? other.min_ns : std::min(min_ns, other.min_ns);
  max_ns = std::max(max_ns, other.max_ns);
  count += other.count;
  sum_ns += other.sum_ns;
}

}  // namespace selvage
