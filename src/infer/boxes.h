// Boxes from detector outputs: decoding and non-maximum suppression.
// Sources: anchors and variances as in W. Liu et al., "SSD: Single Shot MultiBox Detector" (2016);
// BlazeFace's as in MediaPipe's tensors_to_detections_calculator and
// non_max_suppression_calculator (weighted: V. Bazarevsky et al., "BlazeFace", 2019, section 3.4).
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "base/result.h"
#include "base/tensor.h"
#include "infer/frame.h"
#include "infer/model_card.h"
#include "infer/prediction.h"

namespace selvage::infer {

/// Of all candidates above the threshold, only this many of the best are compared with each other:
/// comparing takes quadratic time.
inline constexpr std::size_t kCandidatesMax = 4096;

/// A box before suppression, in any coordinates.
struct Candidate {
  float left = 0, top = 0, right = 0, bottom = 0;
  float score = 0;
  std::int32_t type = 0;   ///< Class.
  std::uint32_t slot = 0;  ///< Where its keypoints are.
};

/// Intersection over union; 0 when neither has area.
[[nodiscard]] float overlap(const Candidate& a, const Candidate& b);

struct SuppressionOptions {
  Suppression mode = Suppression::kHard;
  float iou = 0.45f;
  bool per_class = true;
  std::size_t boxes_max = 100;
};

/// Leaves the boxes that stand, best first: going through the candidates by score, each that is
/// still there removes every later one that overlaps it by more than `iou` (and is of its class).
/// Weighted: it also becomes their mean, weighted by score, and so do its keypoints, which are
/// `points_each` floats at `points[slot * points_each]`. Coordinates and scores must be finite.
void suppress(std::vector<Candidate>& candidates, const SuppressionOptions& options,
              std::span<float> points = {}, std::size_t points_each = 0);

/// Decodes one kind of output. Keeps its scratch: confined to one thread. The card must outlive it.
class BoxFinder {
 public:
  explicit BoxFinder(const BoxesOutput& card);

  /// `boxes` and `scores` are the tensors that the card names, in its order. kInvalidArgument when
  /// a shape does not fit the card. Boxes that are not finite are left out; boxes are cut at the
  /// picture's borders.
  [[nodiscard]] Result<Boxes> find(std::span<const TensorView> boxes,
                                   std::span<const TensorView> scores, const Frame& frame);

 private:
  struct Anchor {
    float x, y, width, height;
  };
  [[nodiscard]] Result<void> decode_ssd(std::span<const TensorView> boxes,
                                        std::span<const TensorView> scores);
  [[nodiscard]] Result<void> decode_ssd_part(const TensorView& boxes, const TensorView& scores,
                                             std::size_t& first_anchor);
  void decode_anchor(const Anchor& anchor, std::span<const float> encoded, float score,
                     std::int32_t type);
  [[nodiscard]] Result<void> decode_yolo(const TensorView& tensor);
  [[nodiscard]] Result<void> decode_direct(const TensorView& tensor);
  void add(const Candidate& candidate);
  [[nodiscard]] float score_of(float raw) const;
  [[nodiscard]] Boxes finish(const Frame& frame);

  const BoxesOutput& card_;
  std::vector<Anchor> anchors_;
  std::size_t keypoint_floats_ = 0;
  std::vector<Candidate> candidates_;
  std::vector<float> keypoints_;
  std::vector<float> box_scratch_, score_scratch_;
};

}  // namespace selvage::infer
