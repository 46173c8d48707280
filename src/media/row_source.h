// The rows of a region as the kernels want them: interleaved, at least two pixels wide. Rows that
// are so already are not copied. Private to this folder.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

#include "media/picture.h"

namespace selvage::media {

class RowSource {
 public:
  /// Rows stay valid until `rows_kept` rows with higher or lower numbers have been asked for.
  void open(const PictureView& view, const Rect& region, int rows_kept);

  /// Of the interleaved pixels: kRgb24 when the picture had planes, else its own format.
  [[nodiscard]] PixelFormat format() const { return format_; }
  /// The first pixel of the region's row y.
  [[nodiscard]] const std::uint8_t* row(int y);
  /// The first pixel of the region, all of whose rows are there, stride_bytes() apart. `rows_kept`
  /// was the region's height.
  [[nodiscard]] const std::uint8_t* all_rows();
  [[nodiscard]] std::ptrdiff_t stride_bytes() const;

 private:
  PictureView view_;
  Rect region_;
  PixelFormat format_ = PixelFormat::kRgb24;
  bool direct_ = true;
  std::size_t row_bytes_ = 0;
  std::vector<std::uint8_t> kept_;  // A ring of rows by y modulo their number...
  std::vector<int> kept_row_;       // ... and which row each place holds; -1: none.
};

}  // namespace selvage::media
