#include "media/row_source.h"

#include <cstring>

#include "media/pixel_rows.h"

namespace selvage::media {

void RowSource::open(const PictureView& view, const Rect& region, int rows_kept) {
  view_ = view;
  region_ = region;
  // The kernels read pixels in pairs, so a single column is doubled, and that needs a copy.
  direct_ = !is_yuv(view.format) && region.width > 1;
  format_ = direct_ ? view.format : PixelFormat::kRgb24;
  if (direct_) return;
  // One pixel more on the left, for chroma begins at even columns, and one on the right.
  row_bytes_ = (static_cast<std::size_t>(region.width) + 2) * 3;
  kept_.resize(row_bytes_ * static_cast<std::size_t>(rows_kept));
  kept_row_.assign(static_cast<std::size_t>(rows_kept), -1);
}

const std::uint8_t* RowSource::row(int y) {
  const int picture_y = region_.y + y;
  if (direct_)
    return view_.planes[0].data + picture_y * view_.planes[0].stride_bytes +
           region_.x * static_cast<std::ptrdiff_t>(pixel_bytes(format_));
  const auto place = static_cast<std::size_t>(y) % kept_row_.size();
  std::uint8_t* const begin = kept_.data() + place * row_bytes_;
  const int before = is_yuv(view_.format) ? region_.x % 2 : 0;
  std::uint8_t* const first = begin + std::ptrdiff_t{3} * before;
  if (kept_row_[place] != y) {
    const Rect rect{region_.x - before, picture_y, region_.width + before, 1};
    convert_to_rgb(view_, rect, begin, row_bytes_);
    std::uint8_t* const end = first + static_cast<std::size_t>(region_.width) * 3;
    std::memcpy(end, end - 3, 3);
    kept_row_[place] = y;
  }
  return first;
}

const std::uint8_t* RowSource::all_rows() {
  if (!direct_)
    for (int y = region_.height - 1; y > 0; --y) static_cast<void>(row(y));
  return row(0);
}

std::ptrdiff_t RowSource::stride_bytes() const {
  return direct_ ? view_.planes[0].stride_bytes : static_cast<std::ptrdiff_t>(row_bytes_);
}

}  // namespace selvage::media
