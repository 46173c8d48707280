// One function a file format. Private to this folder: decode_picture finds out which to call.
#pragma once

#include <cstddef>
#include <span>

#include "base/result.h"
#include "media/picture.h"

namespace selvage::media {

[[nodiscard]] Result<Picture> decode_jpeg(std::span<const std::byte> file,
                                          const DecodeLimits& limits);
[[nodiscard]] Result<Picture> decode_png(std::span<const std::byte> file,
                                         const DecodeLimits& limits);
[[nodiscard]] Result<Picture> decode_pnm(std::span<const std::byte> file,
                                         const DecodeLimits& limits);

/// kOutOfRange names the size and the limit.
[[nodiscard]] Result<void> check_pixels(std::uint64_t width, std::uint64_t height,
                                        const DecodeLimits& limits);

/// The picture as RGB: itself where it is that, otherwise converted into `copy`.
[[nodiscard]] Result<PictureView> rgb_view(const PictureView& picture, Picture& copy);

}  // namespace selvage::media
