// Pictures in memory, and the still-picture files they come from and go to.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <string_view>
#include <vector>

#include "base/result.h"

namespace selvage::media {

/// 8 bits a sample. kI420: planes Y, U, V; kNv12: planes Y and interleaved UV; chroma halved both
/// ways, rounded up. The others are one interleaved plane, named in memory order.
enum class PixelFormat : std::uint8_t { kRgb24, kBgr24, kRgba32, kGray8, kI420, kNv12 };

[[nodiscard]] std::string_view to_string(PixelFormat format);

/// How the luma and chroma of kI420 and kNv12 become RGB. Cameras and standard-definition video:
/// kBt601; high-definition video: kBt709; motion JPEG: kBt601Full (luma 0 to 255, not 16 to 235).
enum class YuvMatrix : std::uint8_t { kBt601, kBt709, kBt601Full };

/// One plane of samples: row y starts at data + y * stride_bytes.
struct Plane {
  const std::uint8_t* data = nullptr;
  std::ptrdiff_t stride_bytes = 0;
};

/// A part of a picture, in pixels.
struct Rect {
  int x = 0;
  int y = 0;
  int width = 0;
  int height = 0;

  friend bool operator==(const Rect&, const Rect&) = default;
};

/// Somebody else's pixels: valid while their owner lives and leaves them alone.
struct PictureView {
  PixelFormat format = PixelFormat::kRgb24;
  int width = 0;
  int height = 0;
  std::array<Plane, 3> planes{};
  YuvMatrix yuv_matrix = YuvMatrix::kBt601;

  [[nodiscard]] Rect bounds() const { return {0, 0, width, height}; }
};

/// A view of one interleaved plane without padding between rows.
/// kInvalidArgument unless `pixels` holds exactly width x height pixels of a format with one plane.
[[nodiscard]] Result<PictureView> view_pixels(PixelFormat format, int width, int height,
                                              std::span<const std::uint8_t> pixels);

/// An owned picture: RGB, 8 bits a sample, rows without padding.
class Picture {
 public:
  /// An empty picture: no pixels.
  Picture() = default;
  /// Pixels are not initialised. The caller has bounded the size.
  Picture(int width, int height);
  Picture(Picture&&) noexcept = default;
  Picture& operator=(Picture&&) noexcept = default;

  [[nodiscard]] int width() const { return width_; }
  [[nodiscard]] int height() const { return height_; }
  [[nodiscard]] std::size_t bytes() const;
  [[nodiscard]] std::uint8_t* row(int y) { return pixels_.get() + row_offset(y); }
  [[nodiscard]] const std::uint8_t* row(int y) const { return pixels_.get() + row_offset(y); }
  [[nodiscard]] PictureView view() const;

 private:
  [[nodiscard]] std::size_t row_offset(int y) const;

  int width_ = 0;
  int height_ = 0;
  std::unique_ptr<std::uint8_t[]> pixels_;
};

/// A copy of any view as RGB. kInvalidArgument when the view is empty or lacks a plane.
[[nodiscard]] Result<Picture> copy_as_rgb(const PictureView& view);

struct DecodeLimits {
  std::uint64_t pixels_max = 64u << 20;  ///< Width x height. RGB takes three bytes of each.
};

/// Decodes JPEG (baseline and progressive; the EXIF orientation is applied; CMYK is converted), PNG
/// (all kinds; 16 bits become 8; alpha is dropped, as Pillow's convert("RGB") and OpenCV's imread
/// do) and binary PGM and PPM. Recognised by content, not by name.
/// kInvalidArgument: not a picture, or damaged or cut short (nothing is filled in);
/// kOutOfRange: more pixels than the limit, found before any are allocated.
[[nodiscard]] Result<Picture> decode_picture(std::span<const std::byte> file,
                                             const DecodeLimits& limits = {});

/// `quality` is libjpeg's scale, 1 to 100. Takes any format.
[[nodiscard]] Result<std::vector<std::byte>> encode_jpeg(const PictureView& picture,
                                                         int quality = 90);
[[nodiscard]] Result<std::vector<std::byte>> encode_png(const PictureView& picture);

}  // namespace selvage::media
