// What was measured of candidates, which of them no other beats, and which one is taken.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <vector>

namespace selvage::compress {

/// Of a candidate and of the original, which ran in turns with it, so that a machine that gets
/// slower does so for both.
struct LatencyFigures {
  double p50_ms = 0, p99_ms = 0;
  double original_p50_ms = 0;
  /// The candidate's time over the original's: the median over the turns, and the interval that
  /// holds it with a confidence of at least 95 % (order statistics: no assumption about noise).
  double ratio = 1, ratio_low = 1, ratio_high = 1;

  friend bool operator==(const LatencyFigures&, const LatencyFigures&) = default;
};

struct Figures {
  double quality = 0;  ///< Evaluation::quality(), or the agreement with the original: high is good.
  LatencyFigures latency;
  std::uint64_t file_bytes = 0;      ///< External data included.
  std::uint64_t resident_bytes = 0;  ///< What loading and running added to the process.

  friend bool operator==(const Figures&, const Figures&) = default;
};

/// The median of ratios and its 95 % interval. `ratios` must not be empty; with fewer than six the
/// interval is their extremes.
struct RatioInterval {
  double median = 1, low = 1, high = 1;
};
[[nodiscard]] RatioInterval median_interval(std::vector<double> ratios);

struct Targets {
  double max_drop = 0.01;  ///< Of the quality, absolute.
  std::optional<double> max_latency_ms;
  std::optional<std::uint64_t> max_bytes;
};

/// A candidate whose ratio may as well be 1 counts as no slower up to this.
inline constexpr double kSameLatency = 1.02;
/// A file must shrink to this part to count as smaller.
inline constexpr double kSmallerFile = 0.99;

/// Why a candidate may not be taken; "" if it may. It must be within the targets, must not be
/// slower than the original, and must be better in something: surely faster (the whole interval is
/// below 1), or smaller. Where max_bytes is asked for, it must be smaller.
[[nodiscard]] std::string objection(const Figures& candidate, const Figures& original,
                                    const Targets& targets);

/// Latency counts twice as much as size: ratio^2 * bytes / bytes of the original. Low is good.
[[nodiscard]] double score(const Figures& candidate, const Figures& original);
/// Scores this close are equal; then quality decides.
inline constexpr double kSameScore = 1.03;

/// For each one whether no other is at least as good in quality, latency ratio and size, and better
/// in one of them.
[[nodiscard]] std::vector<bool> pareto_front(std::span<const Figures> candidates);

/// The best of those that may be taken: the lowest score, among equals the highest quality, then
/// the first. Empty if none may.
[[nodiscard]] std::optional<std::size_t> choose(std::span<const Figures> candidates,
                                                const Figures& original, const Targets& targets);

}  // namespace selvage::compress
