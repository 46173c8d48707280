// From pictures and table rows to a model's input tensor, as the card's `input` says. Sounds need
// no more than a copy: see predictor.cc.
#pragma once

#include <cstddef>
#include <span>
#include <string_view>
#include <vector>

#include "base/result.h"
#include "base/tensor.h"
#include "infer/frame.h"
#include "infer/model_card.h"
#include "infer/session.h"
#include "media/picture.h"
#include "media/transform.h"

namespace selvage::infer {

/// The declared shape with its open dimensions filled so that it holds `elements`: the last open
/// one takes what is left, the others are 1. kInvalidArgument when that cannot be.
[[nodiscard]] Result<Shape> shape_holding(const ValueInfo& declared, std::int64_t elements);
/// The declared shape with 1 for every open dimension.
[[nodiscard]] Shape smallest_shape(const ValueInfo& declared);

struct TensorSize {
  int width = 0;
  int height = 0;

  friend bool operator==(const TensorSize&, const TensorSize&) = default;
};

/// An ImageInput completed with what the model declares. Confined to one thread.
class ImagePreprocessor {
 public:
  /// kInvalidArgument when card and model disagree about size or channels; kUnimplemented for
  /// element types other than float32, float16, uint8 and int32.
  [[nodiscard]] static Result<ImagePreprocessor> create(const ImageInput& card,
                                                        const ValueInfo& declared);

  /// Both sides fixed: those. Both open: the picture's, shrunk to max_side, each rounded to the
  /// nearest multiple_of (PaddleOCR's DetResizeForTest). One open: the picture's shape, rounded up.
  [[nodiscard]] TensorSize size_for(double picture_width, double picture_height) const;
  /// What to warm up with: the fixed sides, or small ones.
  [[nodiscard]] TensorSize usual_size() const;
  [[nodiscard]] bool size_is_fixed() const { return width_ > 0 && height_ > 0; }
  [[nodiscard]] Shape shape_for(TensorSize size) const;

  /// Fills the tensor, which must have shape_for(size).
  [[nodiscard]] Result<Frame> fill(const media::PictureView& picture, TensorSize size,
                                   std::span<std::byte> tensor);
  [[nodiscard]] Result<void> fill_crop(const media::PictureView& picture, const media::Quad& crop,
                                       TensorSize size, std::span<std::byte> tensor);

 private:
  ImagePreprocessor(const ImageInput& card, DataType type, media::Transform transform)
      : card_(card), type_(type), transform_(std::move(transform)) {}

  [[nodiscard]] std::span<std::byte> transformed_part(std::span<std::byte> tensor) const;
  void finish(std::span<std::byte> tensor) const;

  ImageInput card_;
  DataType type_;
  media::Transform transform_;
  int width_ = 0, height_ = 0;  // 0 = open.
  bool has_batch_ = true;
  std::array<std::byte, 4> fourth_channel_{};  // One element.
  std::size_t fourth_channel_bytes_ = 0;       // 0 = there is none.
};

/// A TableInput completed with what the model declares. The card must outlive it. Confined to one
/// thread.
class TableEncoder {
 public:
  [[nodiscard]] static Result<TableEncoder> create(const TableInput& card,
                                                   const ValueInfo& declared);
  [[nodiscard]] const Shape& shape() const { return shape_; }

  /// `values` are in the card's column order; a categorical one is its category's index.
  /// kInvalidArgument names the column.
  [[nodiscard]] Result<void> fill(std::span<const double> values, std::span<std::byte> tensor);

 private:
  TableEncoder(const TableInput& card, DataType type) : card_(card), type_(type) {}
  const TableInput& card_;
  DataType type_;
  Shape shape_;
  std::vector<double> encoded_;
};

/// A cell's text as the value that RowView takes: a number (an empty cell is NaN), or the index of
/// a category. kInvalidArgument names the column and what it may hold.
[[nodiscard]] Result<double> parse_cell(const Column& column, std::string_view text);

}  // namespace selvage::infer
