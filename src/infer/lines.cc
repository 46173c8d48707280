#include "infer/lines.h"

#include <algorithm>
#include <cmath>
#include <string>

#include "infer/elements.h"
#include "infer/scores.h"

namespace selvage::infer {

void LineFinder::find_peaks(std::span<const float> scores, std::size_t width, std::size_t height) {
  peaks_.clear();
  const auto is_peak = [&](std::size_t x, std::size_t y, float score) {
    for (std::size_t v = y == 0 ? 0 : y - 1; v <= std::min(y + 1, height - 1); ++v)
      for (std::size_t u = x == 0 ? 0 : x - 1; u <= std::min(x + 1, width - 1); ++u)
        if (scores[v * width + u] > score) return false;
    return true;
  };
  const bool logits = card_.activation == Activation::kSigmoid;
  for (std::size_t y = 0; y < height; ++y)
    for (std::size_t x = 0; x < width; ++x) {
      const float raw = scores[y * width + x];
      const float score = logits ? sigmoid(raw) : raw;
      if (score > card_.threshold && is_peak(x, y, raw)) peaks_.push_back({score, x, y});
    }
  std::ranges::stable_sort(peaks_, std::ranges::greater(), &Peak::score);
}

Result<Lines> LineFinder::find(const TensorView& displacements, const TensorView& scores,
                               const Frame& frame) {
  const auto& shape = displacements.shape;
  const auto sides_fit = [&] {
    if (shape.size() != 4 || shape[0] != 1 || shape[1] < 1 || shape[2] < 1 || shape[3] != 4)
      return false;
    const auto pixels = element_count(scores.shape);
    return pixels && element_count(shape) == *pixels * 4 && *pixels == shape[1] * shape[2];
  };
  if (!sides_fit())
    return fail(ErrorCode::kInvalidArgument,
                "displacements of shape " + to_string(shape) + " and scores of shape " +
                    to_string(scores.shape) +
                    " do not fit the model card: [1, H, W, 4] and [1, H, W, 1]");
  const auto height = static_cast<std::size_t>(shape[1]),
             width = static_cast<std::size_t>(shape[2]);
  SELVAGE_TRY(const auto ends, as_floats(displacements, displacement_scratch_));
  SELVAGE_TRY(const auto centres, as_floats(scores, score_scratch_));
  find_peaks(centres, width, height);

  const double step_x = static_cast<double>(frame.tensor_width) / static_cast<double>(width);
  const double step_y = static_cast<double>(frame.tensor_height) / static_cast<double>(height);
  Lines found;
  for (const auto& peak : peaks_) {
    if (found.lines.size() == static_cast<std::size_t>(card_.max_lines)) break;
    const auto end = ends.subspan((peak.y * width + peak.x) * 4, 4);
    const double length = std::hypot((end[0] - end[2]) * step_x, (end[1] - end[3]) * step_y);
    if (!std::isfinite(length) || length < static_cast<double>(card_.min_length)) continue;
    const auto place = [&](float dx, float dy) {
      return frame.place((static_cast<double>(peak.x) + static_cast<double>(dx)) * step_x,
                         (static_cast<double>(peak.y) + static_cast<double>(dy)) * step_y);
    };
    found.lines.push_back(
        {.from = place(end[0], end[1]), .to = place(end[2], end[3]), .score = peak.score});
  }
  return found;
}

}  // namespace selvage::infer
