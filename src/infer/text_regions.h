// Lines of text from a text probability map.
// Source: M. Liao et al., "Real-time Scene Text Detection with Differentiable Binarization" (2020),
// as PaddleOCR's DBPostProcess implements it (box_type quad, score_mode fast): components of the
// thresholded map, their rectangle of least area, its mean probability, and the rectangle grown by
// area * ratio / perimeter on each side.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "base/result.h"
#include "base/tensor.h"
#include "infer/frame.h"
#include "infer/geometry.h"
#include "infer/model_card.h"
#include "infer/prediction.h"

namespace selvage::infer {

/// Keeps its scratch: confined to one thread. The card must outlive it.
class TextRegionFinder {
 public:
  explicit TextRegionFinder(const TextRegionsOutput& card) : card_(card) {}

  /// `map` is [1, 1, H, W]: kInvalidArgument otherwise. NaN is no text.
  [[nodiscard]] Result<TextRegions> find(const TensorView& map, const Frame& frame);

 private:
  /// Neighbouring pixels of one row that are text: [begin, end).
  struct Run {
    int row, begin, end;
    std::uint32_t parent;  // Union-find over runs.
  };
  void find_runs(std::span<const float> map, int width, int height);
  void join_rows(std::size_t above, std::size_t below, std::size_t end);
  [[nodiscard]] std::uint32_t root_of(std::uint32_t run);
  void group_runs();
  [[nodiscard]] bool add_region(std::span<const std::uint32_t> runs, std::span<const float> map,
                                int width, int height, const Frame& frame, TextRegions& found);

  const TextRegionsOutput& card_;
  std::vector<Run> runs_;
  std::vector<std::uint32_t> by_component_;
  std::vector<Point> points_;
  std::vector<float> scratch_;
};

/// The mean of the map over the pixels in the quadrilateral, its edges included.
[[nodiscard]] float mean_inside(std::span<const float> map, int width, int height,
                                std::array<Point, 4> corners);

/// Sorts from top to bottom, and those on one line (tops less than half the smaller height apart)
/// from left to right.
void sort_for_reading(std::vector<TextRegion>& regions);

}  // namespace selvage::infer
