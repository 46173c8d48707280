// Rows of any view as RGB. Private to this folder.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

#include "base/result.h"
#include "media/picture.h"

namespace selvage::media {

[[nodiscard]] inline bool is_yuv(PixelFormat format) {
  return format == PixelFormat::kI420 || format == PixelFormat::kNv12;
}

/// Of the interleaved formats; 1 for the luma of the others.
[[nodiscard]] std::size_t pixel_bytes(PixelFormat format);

/// kInvalidArgument when a side is not positive or a plane is missing or narrower than its rows.
[[nodiscard]] Result<void> check_view(const PictureView& view);

/// Writes `rect` as RGB. For kI420 and kNv12 rect.x must be even.
void convert_to_rgb(const PictureView& view, const Rect& rect, std::uint8_t* rgb,
                    std::size_t stride_bytes);

}  // namespace selvage::media
