// Latency histograms in the manner of HdrHistogram: fixed memory, bounded relative error, exact
// counts, cheap to record into from many threads, mergeable.
#pragma once

#include <array>
#include <atomic>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <vector>

namespace selvage {

/// What a histogram holds at one moment. Values are nanoseconds.
struct HistogramSnapshot {
  std::uint64_t count = 0;
  std::uint64_t sum_ns = 0;
  std::uint64_t min_ns = 0;  ///< Exact; 0 when empty.
  std::uint64_t max_ns = 0;  ///< Exact; 0 when empty.
  std::vector<std::uint64_t> buckets;

  /// The smallest recorded value v such that `fraction` (0 to 1) of all values are <= v, rounded up
  /// to its bucket's end and never above max_ns: at most 1/64 (1.6 %) too high. 0 when empty.
  [[nodiscard]] std::uint64_t percentile_ns(double fraction) const;
  [[nodiscard]] double mean_ns() const;
  /// How many recorded values fall into buckets that end at or below `limit_ns`.
  [[nodiscard]] std::uint64_t count_at_most(std::uint64_t limit_ns) const;
  void merge(const HistogramSnapshot& other);
};

/// Synchronised: record() is lock-free and allocates nothing; values above about 18 minutes count
/// as the largest bucket. Buckets: 64 linear steps in each power of two (HdrHistogram's layout with
/// 6 significant bits), 2,304 counters, 18 KB.
class Histogram {
 public:
  Histogram() = default;
  Histogram(const Histogram&) = delete;
  Histogram& operator=(const Histogram&) = delete;

  void record(std::chrono::nanoseconds value) {
    const auto ns = value.count() < 0 ? 0u : static_cast<std::uint64_t>(value.count());
    buckets_[bucket_of(ns)].fetch_add(1, std::memory_order_relaxed);
    sum_ns_.fetch_add(ns, std::memory_order_relaxed);
    for (auto seen = min_ns_.load(std::memory_order_relaxed);
         ns < seen && !min_ns_.compare_exchange_weak(seen, ns, std::memory_order_relaxed);) {
    }
    for (auto seen = max_ns_.load(std::memory_order_relaxed);
         ns > seen && !max_ns_.compare_exchange_weak(seen, ns, std::memory_order_relaxed);) {
    }
  }

  /// Records may arrive meanwhile: each is seen whole in `buckets` or not at all.
  [[nodiscard]] HistogramSnapshot snapshot() const;
  void reset();

  static constexpr std::size_t kSubBuckets = 64;
  static constexpr std::size_t kBucketCount = 36 * kSubBuckets;
  /// The bucket of a value, and the largest value that a bucket holds.
  [[nodiscard]] static std::size_t bucket_of(std::uint64_t ns);
  [[nodiscard]] static std::uint64_t bucket_end_ns(std::size_t bucket);

 private:
  std::array<std::atomic<std::uint64_t>, kBucketCount> buckets_{};
  std::atomic<std::uint64_t> sum_ns_{0};
  std::atomic<std::uint64_t> min_ns_{UINT64_MAX};
  std::atomic<std::uint64_t> max_ns_{0};
};

}  // namespace selvage
