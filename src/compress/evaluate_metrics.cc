#include <algorithm>
#include <cmath>
#include <limits>
#include <numeric>

#include "compress/evaluate.h"

namespace selvage::compress {

std::optional<double> area_under_roc(std::span<const float> scores,
                                     std::span<const std::uint8_t> positive) {
  // A NaN finds nothing, and has no place in an order.
  const auto score = [&](std::uint32_t i) {
    return std::isnan(scores[i]) ? -std::numeric_limits<float>::infinity() : scores[i];
  };
  std::vector<std::uint32_t> order(scores.size());
  std::iota(order.begin(), order.end(), 0u);
  std::ranges::sort(order, {}, score);
  // Mann and Whitney: the sum of the positives' ranks, ties sharing the mean of theirs.
  double ranks = 0, positives = 0;
  for (std::size_t first = 0; first < order.size();) {
    std::size_t end = first;
    double ties = 0;
    while (end < order.size() && score(order[end]) == score(order[first]))
      ties += positive[order[end++]] ? 1 : 0;
    ranks += ties * (static_cast<double>(first + end + 1) / 2);
    positives += ties;
    first = end;
  }
  const double negatives = static_cast<double>(scores.size()) - positives;
  if (positives == 0 || negatives == 0) return std::nullopt;
  return (ranks - positives * (positives + 1) / 2) / (positives * negatives);
}

std::vector<ClassMetrics> class_metrics(std::span<const std::uint64_t> confusion,
                                        std::size_t classes) {
  std::vector<ClassMetrics> metrics(classes);
  for (std::size_t label = 0; label < classes; ++label)
    for (std::size_t predicted = 0; predicted < classes; ++predicted) {
      const auto count = confusion[label * classes + predicted];
      metrics[label].samples += count;
      metrics[predicted].predicted += count;
      if (label == predicted) metrics[label].correct = count;
    }
  for (auto& one : metrics) {
    const auto correct = static_cast<double>(one.correct);
    if (one.predicted > 0) one.precision = correct / static_cast<double>(one.predicted);
    if (one.samples > 0) one.recall = correct / static_cast<double>(one.samples);
    if (one.correct > 0) one.f1 = 2 * one.precision * one.recall / (one.precision + one.recall);
  }
  return metrics;
}

}  // namespace selvage::compress
