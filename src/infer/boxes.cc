#include "infer/boxes.h"

#include <algorithm>
#include <cmath>

#include "infer/elements.h"
#include "infer/labels.h"
#include "infer/scores.h"

namespace selvage::infer {
namespace {

float area(const Candidate& box) {
  return std::max(0.0f, box.right - box.left) * std::max(0.0f, box.bottom - box.top);
}

std::unexpected<Error> wrong_shape(std::string_view what, const TensorView& tensor,
                                   std::string_view wanted) {
  return fail(ErrorCode::kInvalidArgument,
              std::string(what) + " of shape " + to_string(tensor.shape) +
                  " do not fit the model card: " + std::string(wanted));
}

bool comes_before(const Candidate& a, const Candidate& b) {
  return a.score != b.score ? a.score > b.score : a.slot < b.slot;
}

/// The mean of a group, weighted by score, summed up member by member.
class Blend {
 public:
  Blend(std::span<float> points, std::size_t points_each) : points_(points), each_(points_each) {}

  void begin(const Candidate& best) {
    sum_ = {};
    weight_ = 0;
    for (float& value : points_of(best)) value *= best.score;
    best_ = points_of(best);
    add_box(best);
  }
  void add(const Candidate& member) {
    const auto more = points_of(member);
    for (std::size_t i = 0; i < each_; ++i) best_[i] += more[i] * member.score;
    add_box(member);
  }
  void finish(Candidate& best) {
    if (!(weight_ > 0)) return;
    best.left = sum_[0] / weight_;
    best.top = sum_[1] / weight_;
    best.right = sum_[2] / weight_;
    best.bottom = sum_[3] / weight_;
    for (float& value : best_) value /= weight_;
  }

 private:
  void add_box(const Candidate& box) {
    sum_[0] += box.left * box.score;
    sum_[1] += box.top * box.score;
    sum_[2] += box.right * box.score;
    sum_[3] += box.bottom * box.score;
    weight_ += box.score;
  }
  [[nodiscard]] std::span<float> points_of(const Candidate& box) const {
    return each_ == 0 ? std::span<float>() : points_.subspan(box.slot * each_, each_);
  }

  std::span<float> points_, best_;
  std::size_t each_;
  std::array<float, 4> sum_{};
  float weight_ = 0;
};

}  // namespace

float overlap(const Candidate& a, const Candidate& b) {
  const float width = std::min(a.right, b.right) - std::max(a.left, b.left);
  const float height = std::min(a.bottom, b.bottom) - std::max(a.top, b.top);
  const float both = std::max(0.0f, width) * std::max(0.0f, height);
  const float either = area(a) + area(b) - both;
  return either > 0 ? both / either : 0;
}

void suppress(std::vector<Candidate>& candidates, const SuppressionOptions& options,
              std::span<float> points, std::size_t points_each) {
  const auto kept_max = std::min(candidates.size(), kCandidatesMax);
  std::ranges::partial_sort(candidates, candidates.begin() + static_cast<std::ptrdiff_t>(kept_max),
                            comes_before);
  candidates.resize(kept_max);
  if (options.mode == Suppression::kNone) {
    candidates.resize(std::min(kept_max, options.boxes_max));
    return;
  }
  Blend blend(points, points_each);
  const bool weighted = options.mode == Suppression::kWeighted;
  std::size_t standing = 0;  // Before it: boxes that stand. From it on: candidates still there.
  while (standing < candidates.size() && standing < options.boxes_max) {
    const Candidate best = candidates[standing];
    if (weighted) blend.begin(best);
    const auto falls = [&](const Candidate& other) {
      if (options.per_class && other.type != best.type) return false;
      if (!(overlap(best, other) > options.iou)) return false;
      if (weighted) blend.add(other);
      return true;
    };
    const auto rest = candidates.begin() + static_cast<std::ptrdiff_t>(standing) + 1;
    candidates.erase(std::remove_if(rest, candidates.end(), falls), candidates.end());
    if (weighted) blend.finish(candidates[standing]);
    ++standing;
  }
  candidates.resize(standing);
}

BoxFinder::BoxFinder(const BoxesOutput& card) : card_(card) {
  if (card.decoder != BoxDecoder::kSsdAnchors) return;
  keypoint_floats_ = static_cast<std::size_t>(card.keypoints) * 2;
  for (const auto& layer : card.anchors)
    for (int row = 0; row < layer.rows; ++row)
      for (int column = 0; column < layer.columns; ++column)
        for (const auto& [width, height] : layer.sizes)
          anchors_.push_back(
              {.x = (static_cast<float>(column) + 0.5f) / static_cast<float>(layer.columns),
               .y = (static_cast<float>(row) + 0.5f) / static_cast<float>(layer.rows),
               .width = width,
               .height = height});
}

Result<Boxes> BoxFinder::find(std::span<const TensorView> boxes, std::span<const TensorView> scores,
                              const Frame& frame) {
  candidates_.clear();
  keypoints_.clear();
  switch (card_.decoder) {
    case BoxDecoder::kSsdAnchors: SELVAGE_RETURN_IF_ERROR(decode_ssd(boxes, scores)); break;
    case BoxDecoder::kYolo: SELVAGE_RETURN_IF_ERROR(decode_yolo(boxes[0])); break;
    case BoxDecoder::kDirect: SELVAGE_RETURN_IF_ERROR(decode_direct(boxes[0])); break;
  }
  suppress(candidates_,
           {.mode = card_.suppression,
            .iou = card_.iou,
            .per_class = card_.per_class,
            .boxes_max = static_cast<std::size_t>(card_.max_boxes)},
           keypoints_, keypoint_floats_);
  return finish(frame);
}

Result<void> BoxFinder::decode_ssd(std::span<const TensorView> boxes,
                                   std::span<const TensorView> scores) {
  std::size_t first_anchor = 0;
  for (std::size_t i = 0; i < boxes.size(); ++i)
    SELVAGE_RETURN_IF_ERROR(decode_ssd_part(boxes[i], scores[i], first_anchor));
  if (first_anchor != anchors_.size())
    return fail(ErrorCode::kInvalidArgument, "the model has " + std::to_string(first_anchor) +
                                                 " anchors, its card " +
                                                 std::to_string(anchors_.size()));
  return {};
}

Result<void> BoxFinder::decode_ssd_part(const TensorView& boxes, const TensorView& scores,
                                        std::size_t& first_anchor) {
  const std::size_t width = 4 + keypoint_floats_;
  if (boxes.shape.empty() || boxes.shape.back() != static_cast<std::int64_t>(width))
    return wrong_shape("boxes", boxes, "the last dimension must be " + std::to_string(width));
  SELVAGE_TRY(const auto encoded, as_floats(boxes, box_scratch_));
  SELVAGE_TRY(const auto raw, as_floats(scores, score_scratch_));
  const std::size_t count = encoded.size() / width;
  if (count > anchors_.size() - first_anchor)
    return wrong_shape("boxes", boxes,
                       "it has only " + std::to_string(anchors_.size()) + " anchors");
  if (count == 0 || raw.size() % count != 0)
    return wrong_shape("scores", scores, "there are " + std::to_string(count) + " boxes");
  const std::size_t classes = raw.size() / count;
  for (std::size_t i = 0; i < count; ++i)
    for (std::size_t type = 0; type < classes; ++type) {
      if (card_.background_class == static_cast<int>(type)) continue;
      const float score = score_of(raw[i * classes + type]);
      if (score >= card_.threshold)
        decode_anchor(anchors_[first_anchor + i], encoded.subspan(i * width, width), score,
                      static_cast<std::int32_t>(type));
    }
  first_anchor += count;
  return {};
}

void BoxFinder::decode_anchor(const Anchor& anchor, std::span<const float> encoded, float score,
                              std::int32_t type) {
  if (!std::ranges::all_of(encoded, [](float value) { return std::isfinite(value); })) return;
  const std::size_t x = card_.y_first ? 1 : 0, y = 1 - x;
  const auto size = [&](float raw) {
    return card_.exponential_size ? std::exp(raw / card_.wh_scale) : raw / card_.wh_scale;
  };
  const float centre_x = encoded[x] / card_.xy_scale * anchor.width + anchor.x;
  const float centre_y = encoded[y] / card_.xy_scale * anchor.height + anchor.y;
  const float half_width = size(encoded[2 + x]) * anchor.width / 2;
  const float half_height = size(encoded[2 + y]) * anchor.height / 2;
  const auto before = candidates_.size();
  add({.left = centre_x - half_width,
       .top = centre_y - half_height,
       .right = centre_x + half_width,
       .bottom = centre_y + half_height,
       .score = score,
       .type = type});
  if (candidates_.size() == before) return;
  for (std::size_t i = 4; i < encoded.size(); i += 2) {
    keypoints_.push_back(encoded[i + x] / card_.xy_scale * anchor.width + anchor.x);
    keypoints_.push_back(encoded[i + y] / card_.xy_scale * anchor.height + anchor.y);
  }
}

Result<void> BoxFinder::decode_yolo(const TensorView& tensor) {
  const std::size_t head = card_.objectness ? 5 : 4;
  const auto rank = tensor.shape.size();
  if (rank < 2 || tensor.shape[rank - 2] < 1 || tensor.shape[rank - 1] < 1)
    return wrong_shape("boxes", tensor, "[1, N, 4 + classes] or [1, 4 + classes, N]");
  const auto rows = static_cast<std::size_t>(tensor.shape[rank - 2]);
  const auto columns = static_cast<std::size_t>(tensor.shape[rank - 1]);
  const bool transposed = card_.transposed.value_or(rows < columns);
  const std::size_t count = transposed ? columns : rows, width = transposed ? rows : columns;
  if (width <= head)
    return wrong_shape("boxes", tensor, "more than " + std::to_string(head) + " values a box");
  SELVAGE_TRY(const auto values, as_floats(tensor, box_scratch_));
  if (values.size() != count * width) return wrong_shape("boxes", tensor, "a batch of one");
  const auto at = [&](std::size_t box, std::size_t value) {
    return values[transposed ? value * count + box : box * width + value];
  };
  for (std::size_t i = 0; i < count; ++i) {
    std::size_t best = head;
    for (std::size_t k = head + 1; k < width; ++k)
      if (at(i, k) > at(i, best)) best = k;
    const float object = card_.objectness ? score_of(at(i, 4)) : 1.0f;
    const float half_width = at(i, 2) / 2, half_height = at(i, 3) / 2;
    add({.left = at(i, 0) - half_width,
         .top = at(i, 1) - half_height,
         .right = at(i, 0) + half_width,
         .bottom = at(i, 1) + half_height,
         .score = score_of(at(i, best)) * object,
         .type = static_cast<std::int32_t>(best - head)});
  }
  return {};
}

Result<void> BoxFinder::decode_direct(const TensorView& tensor) {
  constexpr std::size_t kWidth = 6;
  if (tensor.shape.empty() || tensor.shape.back() != static_cast<std::int64_t>(kWidth))
    return wrong_shape("boxes", tensor, "the last dimension must be 6: two corners, score, class");
  SELVAGE_TRY(const auto values, as_floats(tensor, box_scratch_));
  const std::size_t x = card_.y_first ? 1 : 0, y = 1 - x;
  for (std::size_t i = 0; i + kWidth <= values.size(); i += kWidth) {
    const auto row = values.subspan(i, kWidth);
    if (!(row[5] >= 0 && row[5] <= static_cast<float>(kLabelsMax))) continue;
    add({.left = row[x],
         .top = row[y],
         .right = row[2 + x],
         .bottom = row[2 + y],
         .score = score_of(row[4]),
         .type = static_cast<std::int32_t>(row[5])});
  }
  return {};
}

void BoxFinder::add(const Candidate& candidate) {
  const bool finite = std::isfinite(candidate.left) && std::isfinite(candidate.top) &&
                      std::isfinite(candidate.right) && std::isfinite(candidate.bottom) &&
                      std::isfinite(candidate.score);
  if (!finite || !(candidate.score >= card_.threshold)) return;
  candidates_.push_back(candidate);
  candidates_.back().slot = static_cast<std::uint32_t>(candidates_.size() - 1);
}

float BoxFinder::score_of(float raw) const {
  if (card_.score_clip > 0) raw = std::clamp(raw, -card_.score_clip, card_.score_clip);
  return card_.activation == Activation::kSigmoid ? sigmoid(raw) : raw;
}

Boxes BoxFinder::finish(const Frame& frame) {
  const double scale_x = card_.in_pixels ? 1 : frame.tensor_width;
  const double scale_y = card_.in_pixels ? 1 : frame.tensor_height;
  const auto place = [&](float x, float y) {
    return frame.place(static_cast<double>(x) * scale_x, static_cast<double>(y) * scale_y);
  };
  const auto inside = [](float value, int side) {
    return std::clamp(value, 0.0f, static_cast<float>(side));
  };
  Boxes found;
  found.boxes.reserve(candidates_.size());
  for (const auto& candidate : candidates_) {
    const Point first = place(candidate.left, candidate.top);
    const Point last = place(candidate.right, candidate.bottom);
    Box box{.left = inside(first.x, frame.picture_width),
            .top = inside(first.y, frame.picture_height),
            .right = inside(last.x, frame.picture_width),
            .bottom = inside(last.y, frame.picture_height),
            .best = {.index = candidate.type,
                     .score = candidate.score,
                     .label = label_of(card_.labels, candidate.type)},
            .keypoints = {},
            .details = {}};
    if (!(box.right > box.left && box.bottom > box.top)) continue;
    for (std::size_t i = 0; i < keypoint_floats_; i += 2) {
      const float* point = &keypoints_[candidate.slot * keypoint_floats_ + i];
      box.keypoints.push_back(place(point[0], point[1]));
    }
    found.boxes.push_back(std::move(box));
  }
  return found;
}

}  // namespace selvage::infer
