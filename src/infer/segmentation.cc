#include "infer/segmentation.h"

#include <algorithm>
#include <cmath>
#include <string>

#include "infer/elements.h"

namespace selvage::infer {
namespace {

constexpr std::size_t kClassesMax = 256;

/// The tensor element in which the centre of a picture pixel lies.
std::size_t nearest(int pixel, double scale, double offset, std::size_t count) {
  const double position = std::floor((pixel + 0.5 - offset) / scale);
  if (!(position > 0)) return 0;
  return std::min(count - 1, static_cast<std::size_t>(std::min(position, 1e9)));
}

}  // namespace

Result<void> Segmenter::classify(const TensorView& scores) {
  const auto& shape = scores.shape;
  const auto wrong = [&] {
    return fail(ErrorCode::kInvalidArgument,
                "class scores of shape " + to_string(shape) +
                    " do not fit the model card: [1, C, H, W], [1, H, W, C] or [1, H, W]");
  };
  const auto rank = shape.size();
  if (rank < 3 || rank > 4 || shape[0] != 1 ||
      std::ranges::any_of(shape, [](std::int64_t n) { return n < 1 || n > (1 << 20); }))
    return wrong();
  // Classes stand before or after the picture's sides: by the labels, else where there are fewer.
  const auto labels = static_cast<std::int64_t>(card_.labels.size());
  const bool last =
      rank == 4 && (labels > 0 && shape[1] != shape[3] && shape[1] != 1 ? shape[3] == labels
                                                                        : shape[3] < shape[1]);
  const std::size_t first = rank == 3 || last ? 1 : 2;
  height_ = static_cast<std::size_t>(shape[first]);
  width_ = static_cast<std::size_t>(shape[first + 1]);
  const auto classes = rank == 3 ? 1 : static_cast<std::size_t>(shape[last ? 3 : 1]);
  if (classes > kClassesMax) return wrong();
  SELVAGE_TRY(const auto values, as_floats(scores, scratch_));
  const std::size_t pixels = width_ * height_;
  if (values.size() != pixels * classes) return wrong();
  classes_.assign(pixels, 0);
  if (classes == 1) {
    for (std::size_t i = 0; i < pixels; ++i)
      classes_[i] =
          rank == 3 ? static_cast<std::uint8_t>(values[i] >= 0 ? std::min(values[i], 255.0f) : 0.0f)
                    : values[i] >= card_.threshold;
    return {};
  }
  const std::size_t class_step = last ? 1 : pixels, pixel_step = last ? classes : 1;
  best_.resize(pixels);
  for (std::size_t i = 0; i < pixels; ++i) best_[i] = values[i * pixel_step];
  for (std::size_t c = 1; c < classes; ++c)
    for (std::size_t i = 0; i < pixels; ++i) {
      const float score = values[c * class_step + i * pixel_step];
      if (!(score > best_[i])) continue;
      best_[i] = score;
      classes_[i] = static_cast<std::uint8_t>(c);
    }
  return {};
}

Result<Segmentation> Segmenter::segment(const TensorView& scores, const Frame& frame) {
  SELVAGE_RETURN_IF_ERROR(classify(scores));
  // The model may answer at another resolution than it was asked.
  const auto& map = frame.to_picture;
  const double step_x = static_cast<double>(frame.tensor_width) / static_cast<double>(width_);
  const double step_y = static_cast<double>(frame.tensor_height) / static_cast<double>(height_);
  Segmentation result{.width = frame.picture_width,
                      .height = frame.picture_height,
                      .classes = {},
                      .labels = card_.labels};
  const auto columns = static_cast<std::size_t>(frame.picture_width);
  result.classes.resize(columns * static_cast<std::size_t>(frame.picture_height));
  columns_.resize(columns);
  for (std::size_t x = 0; x < columns; ++x)
    columns_[x] = nearest(static_cast<int>(x), map.scale_x * step_x, map.offset_x, width_);
  auto* to = result.classes.data();
  for (int y = 0; y < frame.picture_height; ++y) {
    const auto* row = &classes_[nearest(y, map.scale_y * step_y, map.offset_y, height_) * width_];
    for (const auto column : columns_) *to++ = row[column];
  }
  return result;
}

}  // namespace selvage::infer
