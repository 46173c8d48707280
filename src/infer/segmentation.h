// A class for every pixel of the picture from dense class scores.
#pragma once

#include <vector>

#include "base/result.h"
#include "base/tensor.h"
#include "infer/frame.h"
#include "infer/model_card.h"
#include "infer/prediction.h"

namespace selvage::infer {

/// Keeps its scratch: confined to one thread. The card must outlive it.
class Segmenter {
 public:
  explicit Segmenter(const SegmentationOutput& card) : card_(card) {}

  /// `scores` is one of the forms that SegmentationOutput names: kInvalidArgument otherwise, or
  /// when it has more than 256 classes. The best class of each tensor element, then the nearest
  /// element for each picture pixel.
  [[nodiscard]] Result<Segmentation> segment(const TensorView& scores, const Frame& frame);

 private:
  [[nodiscard]] Result<void> classify(const TensorView& scores);

  const SegmentationOutput& card_;
  std::size_t width_ = 0, height_ = 0;
  std::vector<std::uint8_t> classes_;  // Of the tensor's elements.
  std::vector<float> best_, scratch_;
  std::vector<std::size_t> columns_;
};

}  // namespace selvage::infer
