// Straight lines from centre scores and displacements to both ends.
// Source: G. Gu et al., "Towards Light-weight and Real-time Line Segment Detection" (M-LSD, 2021),
// section 3.2 and its pred_lines().
#pragma once

#include <vector>

#include "base/result.h"
#include "base/tensor.h"
#include "infer/frame.h"
#include "infer/model_card.h"
#include "infer/prediction.h"

namespace selvage::infer {

/// Keeps its scratch: confined to one thread. The card must outlive it.
class LineFinder {
 public:
  explicit LineFinder(const LinesOutput& card) : card_(card) {}

  /// The card's best `max_lines` centres that are above its threshold, the largest of their 3 x 3
  /// neighbours, and of lines at least `min_length` long; best first. kInvalidArgument unless the
  /// tensors are [1, H, W, 4] (x and y to one end, x and y to the other) and [1, H, W, 1].
  [[nodiscard]] Result<Lines> find(const TensorView& displacements, const TensorView& scores,
                                   const Frame& frame);

 private:
  struct Peak {
    float score;
    std::size_t x, y;
  };
  void find_peaks(std::span<const float> scores, std::size_t width, std::size_t height);

  const LinesOutput& card_;
  std::vector<Peak> peaks_;
  std::vector<float> displacement_scratch_, score_scratch_;
};

}  // namespace selvage::infer
