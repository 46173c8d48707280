#include "compress/pareto.h"

#include <algorithm>
#include <array>
#include <charconv>
#include <cmath>
#include <limits>

namespace selvage::compress {
namespace {

constexpr double kRounding = 1e-9;
constexpr double kMegabyte = 1e6;

/// Three significant digits.
std::string text_of(double value) {
  std::array<char, 32> buffer{};
  const auto end = std::to_chars(buffer.data(), buffer.data() + buffer.size(), value,
                                 std::chars_format::general, 3)
                       .ptr;
  return {buffer.data(), end};
}

bool dominates(const Figures& a, const Figures& b) {
  const bool is_as_good =
      a.quality >= b.quality && a.latency.ratio <= b.latency.ratio && a.file_bytes <= b.file_bytes;
  return is_as_good && (a.quality > b.quality || a.latency.ratio < b.latency.ratio ||
                        a.file_bytes < b.file_bytes);
}

/// How many of the smallest (and of the largest) of `count` values lie outside of the interval: the
/// largest k with P(Binomial(count, 1/2) < k) <= 2.5 %.
std::size_t outside(std::size_t count) {
  constexpr double kTail = 0.025;
  double term = std::pow(0.5, static_cast<double>(count));  // Binomial(count, 0)
  double below = term;
  std::size_t k = 0;
  while (below <= kTail && k < count / 2) {
    ++k;
    term *= static_cast<double>(count - k + 1) / static_cast<double>(k);
    below += term;
  }
  return k;
}

}  // namespace

RatioInterval median_interval(std::vector<double> ratios) {
  std::ranges::sort(ratios);
  const auto count = ratios.size();
  const auto k = outside(count);
  const auto low = k == 0 ? 0 : k - 1;
  const double median =
      count % 2 == 1 ? ratios[count / 2] : (ratios[count / 2 - 1] + ratios[count / 2]) / 2;
  return {.median = median, .low = ratios[low], .high = ratios[count - 1 - low]};
}

std::string objection(const Figures& candidate, const Figures& original, const Targets& targets) {
  const double drop = original.quality - candidate.quality;
  // A drop of three samples in a thousand is 0.003, however it is rounded; NaN is never allowed.
  if (!(drop <= targets.max_drop + kRounding))
    return "quality drops by " + text_of(drop) + ", " + text_of(targets.max_drop) + " is allowed";
  const auto& latency = candidate.latency;
  if (targets.max_latency_ms && latency.p50_ms > *targets.max_latency_ms)
    return "takes " + text_of(latency.p50_ms) + " ms, " + text_of(*targets.max_latency_ms) +
           " are allowed";
  if (targets.max_bytes && candidate.file_bytes > *targets.max_bytes)
    return "has " + text_of(static_cast<double>(candidate.file_bytes) / kMegabyte) + " MB, " +
           text_of(static_cast<double>(*targets.max_bytes) / kMegabyte) + " are allowed";
  if (latency.ratio_low > 1 || latency.ratio > kSameLatency)
    return "slower than the original: " + text_of(latency.ratio) + "x (" +
           text_of(latency.ratio_low) + " to " + text_of(latency.ratio_high) + ")";
  const bool is_smaller = static_cast<double>(candidate.file_bytes) <=
                          kSmallerFile * static_cast<double>(original.file_bytes);
  if (targets.max_bytes && !is_smaller) return "no smaller than the original";
  if (latency.ratio_high >= 1 && !is_smaller)
    return "no better than the original: " + text_of(latency.ratio) + "x (" +
           text_of(latency.ratio_low) + " to " + text_of(latency.ratio_high) +
           ") of its time, no smaller";
  return "";
}

double score(const Figures& candidate, const Figures& original) {
  const double size = original.file_bytes == 0 ? 1
                                               : static_cast<double>(candidate.file_bytes) /
                                                     static_cast<double>(original.file_bytes);
  return candidate.latency.ratio * candidate.latency.ratio * size;
}

std::vector<bool> pareto_front(std::span<const Figures> candidates) {
  std::vector<bool> on_front(candidates.size());
  for (std::size_t i = 0; i < candidates.size(); ++i)
    on_front[i] = std::ranges::none_of(
        candidates, [&](const Figures& other) { return dominates(other, candidates[i]); });
  return on_front;
}

std::optional<std::size_t> choose(std::span<const Figures> candidates, const Figures& original,
                                  const Targets& targets) {
  std::vector<std::size_t> allowed;
  double best = std::numeric_limits<double>::infinity();
  for (std::size_t i = 0; i < candidates.size(); ++i) {
    if (!objection(candidates[i], original, targets).empty()) continue;
    allowed.push_back(i);
    best = std::min(best, score(candidates[i], original));
  }
  std::optional<std::size_t> chosen;
  for (const auto i : allowed)
    if (score(candidates[i], original) <= kSameScore * best &&
        (!chosen || candidates[i].quality > candidates[*chosen].quality))
      chosen = i;
  return chosen;
}

}  // namespace selvage::compress
