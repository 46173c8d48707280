#include "infer/activity.h"

#include <algorithm>
#include <cmath>
#include <optional>

namespace selvage::infer {
namespace {

/// In samples, so that results are those of the original to the sample.
struct Stretch {
  std::int64_t begin, end;
};

std::int64_t samples_of(double seconds, int rate) {
  return std::llround(seconds * rate);
}

std::vector<Stretch> find_stretches(std::span<const float> scores, const SoundSpan& sound,
                                    const ActivityOutput& card) {
  // Silero's default for the lower threshold.
  const float end_threshold = card.end_threshold.value_or(std::max(card.threshold - 0.15f, 0.01f));
  const auto active_min = samples_of(card.min_active_s, sound.rate);
  const auto silence_min = samples_of(card.min_silence_s, sound.rate);
  std::vector<Stretch> stretches;
  std::optional<std::int64_t> begin, quiet_since;
  for (std::size_t i = 0; i < scores.size(); ++i) {
    const auto at = static_cast<std::int64_t>(i) * sound.window;
    if (scores[i] >= card.threshold) {
      quiet_since.reset();
      if (!begin) begin = at;
    } else if (begin && scores[i] < end_threshold) {
      if (!quiet_since) quiet_since = at;
      if (at - *quiet_since < silence_min) continue;
      if (*quiet_since - *begin > active_min) stretches.push_back({*begin, *quiet_since});
      begin.reset();
      quiet_since.reset();
    }
  }
  if (begin && sound.samples_total - *begin > active_min)
    stretches.push_back({*begin, sound.samples_total});
  return stretches;
}

void pad(std::vector<Stretch>& stretches, std::int64_t padding, std::int64_t total) {
  for (std::size_t i = 0; i < stretches.size(); ++i) {
    auto& stretch = stretches[i];
    if (i == 0) stretch.begin = std::max<std::int64_t>(0, stretch.begin - padding);
    if (i + 1 == stretches.size()) {
      stretch.end = std::min(total, stretch.end + padding);
      break;
    }
    auto& next = stretches[i + 1];
    const auto gap = next.begin - stretch.end;
    const auto share = gap < 2 * padding ? gap / 2 : padding;
    stretch.end = std::min(total, stretch.end + share);
    next.begin = std::max<std::int64_t>(0, next.begin - share);
  }
}

float mean_score(std::span<const float> scores, const Stretch& stretch, int window) {
  const auto first = static_cast<std::size_t>(stretch.begin / window);
  const auto last =
      std::min(scores.size(), static_cast<std::size_t>((stretch.end + window - 1) / window));
  double sum = 0;
  for (std::size_t i = first; i < last; ++i) sum += static_cast<double>(scores[i]);
  return last > first ? static_cast<float>(sum / static_cast<double>(last - first)) : 0;
}

}  // namespace

std::vector<Activity::Segment> find_segments(std::span<const float> scores, const SoundSpan& sound,
                                             const ActivityOutput& card) {
  auto stretches = find_stretches(scores, sound, card);
  pad(stretches, samples_of(card.pad_s, sound.rate), sound.samples_total);
  std::vector<Activity::Segment> segments;
  segments.reserve(stretches.size());
  for (const auto& stretch : stretches)
    segments.push_back({.start_s = static_cast<double>(stretch.begin) / sound.rate,
                        .end_s = static_cast<double>(stretch.end) / sound.rate,
                        .score = mean_score(scores, stretch, sound.window)});
  return segments;
}

}  // namespace selvage::infer
