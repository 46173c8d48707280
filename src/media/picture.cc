#include "media/picture.h"

#include <cstring>

#include <libyuv.h>

#include "base/exception.h"
#include "media/picture_codecs.h"
#include "media/pixel_rows.h"

namespace selvage::media {
namespace {

// libyuv names formats by the little-endian word: its RGB24 is B, G, R in memory. Its "Yvu"
// constants with U and V swapped give R, G, B.
const libyuv::YuvConstants* constants_of(YuvMatrix matrix) {
  switch (matrix) {
    case YuvMatrix::kBt709: return &libyuv::kYvuH709Constants;
    case YuvMatrix::kBt601Full: return &libyuv::kYvuJPEGConstants;
    case YuvMatrix::kBt601: break;
  }
  return &libyuv::kYvuI601Constants;
}

const std::uint8_t* at(const Plane& plane, int y, int x_bytes) {
  return plane.data + y * plane.stride_bytes + x_bytes;
}

void convert_yuv_row(const PictureView& view, const Rect& rect, int y, std::uint8_t* rgb) {
  const auto* luma = at(view.planes[0], y, rect.x);
  const auto* constants = constants_of(view.yuv_matrix);
  if (view.format == PixelFormat::kI420) {
    libyuv::I420ToRGB24Matrix(luma, 0, at(view.planes[2], y / 2, rect.x / 2), 0,
                              at(view.planes[1], y / 2, rect.x / 2), 0, rgb, 0, constants,
                              rect.width, 1);
  } else {
    libyuv::NV21ToRGB24Matrix(luma, 0, at(view.planes[1], y / 2, rect.x), 0, rgb, 0, constants,
                              rect.width, 1);
  }
}

void convert_interleaved_row(PixelFormat format, const std::uint8_t* from, int width,
                             std::uint8_t* rgb) {
  switch (format) {
    case PixelFormat::kBgr24: libyuv::RAWToRGB24(from, 0, rgb, 0, width, 1); return;
    case PixelFormat::kRgba32: libyuv::ARGBToRGB24(from, 0, rgb, 0, width, 1); return;
    case PixelFormat::kGray8:
      for (int x = 0; x < width; ++x, rgb += 3) rgb[0] = rgb[1] = rgb[2] = from[x];
      return;
    default: std::memcpy(rgb, from, static_cast<std::size_t>(width) * 3);
  }
}

}  // namespace

std::string_view to_string(PixelFormat format) {
  switch (format) {
    case PixelFormat::kRgb24: return "rgb24";
    case PixelFormat::kBgr24: return "bgr24";
    case PixelFormat::kRgba32: return "rgba32";
    case PixelFormat::kGray8: return "gray8";
    case PixelFormat::kI420: return "i420";
    case PixelFormat::kNv12: return "nv12";
  }
  return "unknown";
}

std::size_t pixel_bytes(PixelFormat format) {
  switch (format) {
    case PixelFormat::kRgb24:
    case PixelFormat::kBgr24: return 3;
    case PixelFormat::kRgba32: return 4;
    default: return 1;
  }
}

Result<void> check_view(const PictureView& view) {
  const auto bad = [&](std::string_view what) {
    return fail(ErrorCode::kInvalidArgument,
                "picture of " + std::to_string(view.width) + " x " + std::to_string(view.height) +
                    " pixels (" + std::string(to_string(view.format)) + "): " + std::string(what));
  };
  if (view.width <= 0 || view.height <= 0) return bad("both sides must be positive");
  const auto fits = [&](std::size_t plane, std::size_t row_bytes) {
    return view.planes[plane].data != nullptr &&
           (view.height == 1 ||
            static_cast<std::size_t>(std::abs(view.planes[plane].stride_bytes)) >= row_bytes);
  };
  const auto width = static_cast<std::size_t>(view.width);
  const auto chroma = (width + 1) / 2;
  const bool chroma_fits = view.format == PixelFormat::kI420   ? fits(1, chroma) && fits(2, chroma)
                           : view.format == PixelFormat::kNv12 ? fits(1, 2 * chroma)
                                                               : true;
  if (!fits(0, width * pixel_bytes(view.format)) || !chroma_fits)
    return bad("a plane is missing or its stride is shorter than a row");
  return {};
}

void convert_to_rgb(const PictureView& view, const Rect& rect, std::uint8_t* rgb,
                    std::size_t stride_bytes) {
  const auto x_bytes = rect.x * static_cast<int>(pixel_bytes(view.format));
  for (int y = rect.y; y < rect.y + rect.height; ++y, rgb += stride_bytes) {
    if (is_yuv(view.format))
      convert_yuv_row(view, rect, y, rgb);
    else
      convert_interleaved_row(view.format, at(view.planes[0], y, x_bytes), rect.width, rgb);
  }
}

Result<PictureView> view_pixels(PixelFormat format, int width, int height,
                                std::span<const std::uint8_t> pixels) {
  if (is_yuv(format))
    return fail(ErrorCode::kInvalidArgument,
                std::string(to_string(format)) + " has more than one plane");
  const auto row_bytes = static_cast<std::uint64_t>(std::max(width, 0)) *
                         static_cast<std::uint64_t>(pixel_bytes(format));
  if (width <= 0 || height <= 0 || pixels.size() % row_bytes != 0 ||
      pixels.size() / row_bytes != static_cast<std::uint64_t>(height))
    return fail(ErrorCode::kInvalidArgument,
                std::to_string(pixels.size()) + " bytes are not " + std::to_string(width) + " x " +
                    std::to_string(height) + " pixels of " + std::string(to_string(format)));
  PictureView view{.format = format, .width = width, .height = height};
  view.planes[0] = {pixels.data(), static_cast<std::ptrdiff_t>(row_bytes)};
  return view;
}

Picture::Picture(int width, int height)
    : width_(width),
      height_(height),
      pixels_(std::make_unique_for_overwrite<std::uint8_t[]>(bytes())) {}

std::size_t Picture::bytes() const {
  return row_offset(height_);
}

std::size_t Picture::row_offset(int y) const {
  return static_cast<std::size_t>(y) * static_cast<std::size_t>(width_) * 3;
}

PictureView Picture::view() const {
  PictureView view{.format = PixelFormat::kRgb24, .width = width_, .height = height_};
  view.planes[0] = {pixels_.get(), static_cast<std::ptrdiff_t>(width_) * 3};
  return view;
}

Result<Picture> copy_as_rgb(const PictureView& view) {
  SELVAGE_RETURN_IF_ERROR(check_view(view));
  return catch_to_result(ErrorCode::kInternal, [&]() -> Result<Picture> {
    Picture picture(view.width, view.height);
    convert_to_rgb(view, view.bounds(), picture.row(0), static_cast<std::size_t>(view.width) * 3);
    return picture;
  });
}

Result<PictureView> rgb_view(const PictureView& picture, Picture& copy) {
  if (picture.format == PixelFormat::kRgb24) return picture;
  SELVAGE_TRY(copy, copy_as_rgb(picture));
  return copy.view();
}

Result<void> check_pixels(std::uint64_t width, std::uint64_t height, const DecodeLimits& limits) {
  if (width == 0 || height == 0)
    return fail(ErrorCode::kInvalidArgument, "the picture has no pixels");
  if (width <= limits.pixels_max / height) return {};
  return fail(ErrorCode::kOutOfRange, "a picture of " + std::to_string(width) + " x " +
                                          std::to_string(height) + " is above the limit of " +
                                          std::to_string(limits.pixels_max) + " pixels");
}

Result<Picture> decode_picture(std::span<const std::byte> file, const DecodeLimits& limits) {
  const auto starts_with = [&](std::string_view magic) {
    return file.size() >= magic.size() && std::memcmp(file.data(), magic.data(), magic.size()) == 0;
  };
  return catch_to_result(ErrorCode::kInternal, [&]() -> Result<Picture> {
    if (starts_with("\xFF\xD8")) return decode_jpeg(file, limits);
    if (starts_with("\x89PNG")) return decode_png(file, limits);
    if (starts_with("P5") || starts_with("P6")) return decode_pnm(file, limits);
    return fail(ErrorCode::kInvalidArgument,
                "not a picture: JPEG, PNG and binary PGM or PPM are read");
  });
}

}  // namespace selvage::media
