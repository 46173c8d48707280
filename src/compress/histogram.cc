#include "compress/histogram.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <limits>

namespace selvage::compress {
namespace {

/// Sums of the bins before each one.
std::vector<std::uint64_t> running_sums(std::span<const std::uint64_t> counts) {
  std::vector<std::uint64_t> sums(counts.size() + 1);
  for (std::size_t i = 0; i < counts.size(); ++i) sums[i + 1] = sums[i] + counts[i];
  return sums;
}

/// The reference's smooth_distribution(): zeros become 0.0001, the others pay for it alike. False
/// if all are zero.
bool smooth(std::span<const std::uint64_t> counts, std::span<float> smoothed) {
  constexpr double kEpsilon = 0.0001;
  const auto zeros = static_cast<std::size_t>(std::ranges::count(counts, std::uint64_t{0}));
  if (zeros == counts.size()) return false;
  const auto nonzeros = static_cast<double>(counts.size() - zeros);
  const auto less = static_cast<float>(-(kEpsilon * static_cast<double>(zeros) / nonzeros));
  const auto more = static_cast<float>(kEpsilon);
  for (std::size_t i = 0; i < counts.size(); ++i)
    smoothed[i] = counts[i] == 0 ? more : static_cast<float>(counts[i]) + less;
  return true;
}

/// The search for the range with the least divergence; holds what candidates share.
class EntropySearch {
 public:
  EntropySearch(std::span<const std::uint64_t> counts, std::size_t levels)
      : counts_(counts), levels_(levels), sums_(running_sums(counts)) {
    p_.reserve(counts.size());
    q_.reserve(counts.size());
  }

  /// Of the bins [begin, end).
  [[nodiscard]] float divergence(std::size_t begin, std::size_t end) {
    p_.assign(counts_.begin() + static_cast<std::ptrdiff_t>(begin),
              counts_.begin() + static_cast<std::ptrdiff_t>(end));
    p_.front() += sums_[begin];
    p_.back() += sums_.back() - sums_[end];
    merge(begin, end);
    smooth_p_.resize(p_.size());
    smooth_q_.resize(p_.size());
    if (!smooth(p_, smooth_p_) || !smooth(q_, smooth_q_))
      return std::numeric_limits<float>::infinity();
    return counting().divergence(smooth_p_, smooth_q_);
  }

 private:
  /// q_ = the slice without outliers, merged into levels and spread over the bins that p_ fills.
  void merge(std::size_t begin, std::size_t end) {
    const auto width = (end - begin) / levels_;
    q_.assign(p_.size(), 0);
    for (std::size_t level = 0; level < levels_; ++level) {
      const auto from = level * width;
      auto merged = sums_[begin + from + width] - sums_[begin + from];
      if (level + 1 == levels_) merged += sums_[end] - sums_[begin + from + width];
      const auto filled =
          static_cast<std::size_t>(width) -
          static_cast<std::size_t>(
              std::count(p_.begin() + static_cast<std::ptrdiff_t>(from),
                         p_.begin() + static_cast<std::ptrdiff_t>(from + width), std::uint64_t{0}));
      if (filled == 0) continue;
      const auto each =
          static_cast<std::uint64_t>(static_cast<double>(merged) / static_cast<double>(filled));
      std::fill_n(q_.begin() + static_cast<std::ptrdiff_t>(from), width, each);
    }
  }

  std::span<const std::uint64_t> counts_;
  std::size_t levels_;
  std::vector<std::uint64_t> sums_, p_, q_;
  std::vector<float> smooth_p_, smooth_q_;
};

RealRange bounded(RealRange range, RealRange observed) {
  return {std::max(range.min, observed.min), std::min(range.max, observed.max)};
}

/// numpy.searchsorted: the first bin whose share of the sum reaches `share`.
std::int32_t bin_reaching(std::span<const std::uint64_t> counts, double share) {
  double total = 0;
  for (const auto count : counts) total += static_cast<double>(count);
  double reached = 0;
  std::int32_t bin = 0;
  for (const auto count : counts) {
    reached += static_cast<double>(count) / total;
    if (reached >= share) break;
    ++bin;
  }
  return bin;
}

}  // namespace

Histogram::Histogram(const UniformBins& bins)
    : bins_(bins), counts_(static_cast<std::size_t>(bins.count) + 1) {}

void Histogram::add(std::span<const float> values) {
  constexpr std::size_t kBlock = 1024;
  constexpr std::size_t kTables = 4;
  std::array<std::int32_t, kBlock> found;
  // Equal neighbours (zeros behind a Relu) would wait for each other at one counter, so that
  // several tables take turns. Few values are not worth them.
  const bool is_small = values.size() < 4 * counts_.size();
  std::vector<std::uint64_t> tables(is_small ? 0 : kTables * counts_.size());
  const auto size = counts_.size();
  for (std::size_t begin = 0; begin < values.size(); begin += kBlock) {
    const auto count = std::min(kBlock, values.size() - begin);
    counting().find_bins(bins_, values.data() + begin, count, found.data());
    if (is_small || count < kBlock) {
      for (std::size_t i = 0; i < count; ++i) ++counts_[static_cast<std::size_t>(found[i])];
      continue;
    }
    for (std::size_t i = 0; i < kBlock; i += kTables)
      for (std::size_t k = 0; k < kTables; ++k)
        ++tables[k * size + static_cast<std::size_t>(found[i + k])];
  }
  for (std::size_t i = 0; i < tables.size(); ++i) counts_[i % size] += tables[i];
}

RealRange entropy_range(const Histogram& histogram, RealRange observed, int quantized_bins) {
  const auto counts = histogram.counts();
  const auto centre = counts.size() / 2;
  const auto levels = static_cast<std::size_t>(quantized_bins);
  EntropySearch search(counts, levels);
  RealRange best{};
  float least = std::numeric_limits<float>::infinity();
  bool is_first = true;
  for (std::size_t i = levels / 2; i <= centre; ++i) {
    const auto begin = centre - i;
    const auto end = std::min(centre + i + 1, counts.size());
    const float divergence = search.divergence(begin, end);
    if (!is_first && !(divergence < least)) continue;
    is_first = false;
    least = divergence;
    best = {histogram.bins().edge(static_cast<std::int32_t>(begin)),
            histogram.bins().edge(static_cast<std::int32_t>(end))};
  }
  return bounded(best, observed);
}

RealRange percentile_range(const Histogram& histogram, RealRange observed, double percentile) {
  const auto& bins = histogram.bins();
  const auto edge = [&](double share) {
    return bins.edge(bin_reaching(histogram.counts(), share));
  };
  if (bins.absolute) {
    const float limit = edge(percentile / 100.0);
    return bounded({-limit, limit}, observed);
  }
  const double cut = (100.0 - percentile) / 200.0;
  return bounded({edge(cut), edge(1.0 - cut)}, observed);
}

RealRange mse_range(const Histogram& histogram, RealRange observed, QuantizedRange quantized,
                    Symmetry symmetry) {
  const auto counts = histogram.counts();
  RealRange best = observed;
  double least = std::numeric_limits<double>::infinity();
  for (int step = kMseSteps; step >= 1; --step) {
    const float factor = static_cast<float>(step) / kMseSteps;
    const RealRange candidate{observed.min * factor, observed.max * factor};
    const auto parameters = compute_scale_zero_point(candidate, quantized, symmetry);
    double error = 0;
    for (std::size_t i = 0; i < counts.size() && error < least; ++i) {
      if (counts[i] == 0) continue;
      const auto index = static_cast<std::int32_t>(i);
      const double centre = 0.5 * (static_cast<double>(histogram.bins().edge(index)) +
                                   static_cast<double>(histogram.bins().edge(index + 1)));
      const double stored = std::clamp(
          std::nearbyint(centre / static_cast<double>(parameters.scale)) + parameters.zero_point,
          static_cast<double>(quantized.min), static_cast<double>(quantized.max));
      const double off =
          centre - (stored - parameters.zero_point) * static_cast<double>(parameters.scale);
      error += static_cast<double>(counts[i]) * off * off;
    }
    if (error >= least) continue;
    least = error;
    best = candidate;
  }
  return best;
}

}  // namespace selvage::compress
