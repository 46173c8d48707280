// When something is heard: segments from one probability per window.
// Source: get_speech_timestamps of Silero VAD (snakers4/silero-vad, utils_vad.py), with its
// defaults as the card's, without its upper limit on a segment's length.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "infer/model_card.h"
#include "infer/prediction.h"

namespace selvage::infer {

/// What the scores were made of.
struct SoundSpan {
  int rate = 0;                    ///< Hz.
  int window = 0;                  ///< Samples each score stands for.
  std::int64_t samples_total = 0;  ///< The last window may reach past it.
};

/// A segment begins with a window at or above `threshold` and ends where scores stay below
/// `end_threshold` for `min_silence_s`; short ones are dropped, the others padded on both sides,
/// half the gap each where two meet. NaN neither begins nor ends one.
[[nodiscard]] std::vector<Activity::Segment> find_segments(std::span<const float> scores,
                                                           const SoundSpan& sound,
                                                           const ActivityOutput& card);

}  // namespace selvage::infer
