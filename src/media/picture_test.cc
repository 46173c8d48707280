#include "media/picture.h"

#include <array>
#include <cmath>

#include <gmock/gmock.h>

#include "media/media_testing.h"

namespace selvage::media {
namespace {

using ::testing::HasSubstr;
using Rgb = std::array<int, 3>;

Rgb pixel(const Picture& picture, int x, int y) {
  const auto* at = picture.row(y) + 3 * x;
  return {at[0], at[1], at[2]};
}

void expect_near(const Rgb& got, const Rgb& wanted, int tolerance, const std::string& where) {
  for (std::size_t c = 0; c < 3; ++c)
    EXPECT_NEAR(got[c], wanted[c], tolerance) << where << ", channel " << c;
}

Picture decoded(const std::string& name) {
  auto picture = decode_picture(corpus("picture_fuzz", name));
  EXPECT_TRUE(picture.has_value()) << name << ": " << (picture ? "" : picture.error().message);
  return picture ? *std::move(picture) : Picture(1, 1);
}

/// The picture that most corpus files hold: 16 x 12.
Rgb original(int x, int y) {
  return {x * 16, y * 21, 255 - x * 8 - y * 8};
}

TEST(DecodePicture, PngOfEveryKind) {
  for (const std::string name : {"rgb.png", "rgba.png", "rgb16.png", "interlaced.png"}) {
    const Picture picture = decoded(name);
    ASSERT_EQ(picture.width(), 16) << name;
    ASSERT_EQ(picture.height(), 12) << name;
    for (int y = 0; y < 12; ++y)
      for (int x = 0; x < 16; ++x) expect_near(pixel(picture, x, y), original(x, y), 0, name);
  }
}

// Values from Pillow 13.0's convert("RGB").
TEST(DecodePicture, PngPaletteDropsTransparency) {
  const Picture picture = decoded("palette.png");
  EXPECT_EQ(pixel(picture, 0, 0), (Rgb{48, 42, 215}));
  EXPECT_EQ(pixel(picture, 15, 11), (Rgb{208, 200, 75}));
}

TEST(DecodePicture, PngGray) {
  const Picture one_bit = decoded("gray1.png");
  for (int x = 0; x < 16; ++x) {
    const auto [red, green, blue] = pixel(one_bit, x, 11);
    EXPECT_TRUE((red == 0 || red == 255) && red == green && green == blue);
  }
  const Picture with_alpha = decoded("gray_alpha.png");
  const auto [red, green, blue] = original(7, 5);
  const int luma = static_cast<int>(std::lround(0.299 * red + 0.587 * green + 0.114 * blue));
  expect_near(pixel(with_alpha, 7, 5), {luma, luma, luma}, 1, "gray_alpha.png");
}

// Values from Pillow 13.0, whose libjpeg may round otherwise.
TEST(DecodePicture, JpegOfEveryKind) {
  struct Case {
    std::string name;
    Rgb first, middle, last;
  };
  for (const auto& [name, first, middle, last] : {
           Case{"baseline.jpg", {0, 5, 239}, {109, 107, 156}, {243, 222, 67}},
           Case{"progressive.jpg", {5, 0, 242}, {111, 108, 155}, {236, 227, 64}},
           Case{"cmyk.jpg", {0, 0, 255}, {112, 105, 159}, {240, 231, 46}},
           Case{"gray.jpg", {30, 30, 30}, {113, 113, 113}, {211, 211, 211}},
       }) {
    const Picture picture = decoded(name);
    expect_near(pixel(picture, 0, 0), first, 2, name);
    expect_near(pixel(picture, 7, 5), middle, 2, name);
    expect_near(pixel(picture, 15, 11), last, 2, name);
  }
}

// Corners as Pillow 13.0's ImageOps.exif_transpose shows them: top left, top right, bottom left.
TEST(DecodePicture, JpegIsTurnedAsItsExifSays) {
  const Rgb a{0, 0, 254}, b{241, 1, 138}, c{2, 230, 171}, d{242, 230, 50};
  const std::array<std::array<Rgb, 3>, 8> corners{
      {{a, b, c}, {b, a, d}, {d, c, b}, {c, d, a}, {a, c, b}, {c, a, d}, {d, b, c}, {b, d, a}}};
  for (std::size_t i = 0; i < corners.size(); ++i) {
    const std::string name = "orientation_" + std::to_string(i + 1) + ".jpg";
    const Picture picture = decoded(name);
    ASSERT_EQ(picture.width(), i < 4 ? 16 : 12) << name;
    expect_near(pixel(picture, 0, 0), corners[i][0], 2, name);
    expect_near(pixel(picture, picture.width() - 1, 0), corners[i][1], 2, name);
    expect_near(pixel(picture, 0, picture.height() - 1), corners[i][2], 2, name);
  }
}

TEST(DecodePicture, Pnm) {
  const Picture rgb = decoded("rgb.ppm");
  ASSERT_EQ(rgb.width(), 4);
  EXPECT_EQ(pixel(rgb, 3, 2), original(3, 2));
  const Picture gray = decoded("gray16.pgm");
  EXPECT_EQ(pixel(gray, 1, 0), (Rgb{85, 85, 85}));
  EXPECT_EQ(pixel(gray, 1, 1), (Rgb{255, 255, 255}));
}

TEST(DecodePicture, CutShortIsAnErrorAtEveryByte) {
  for (const std::string name :
       {"baseline.jpg", "progressive.jpg", "orientation_6.jpg", "cmyk.jpg", "rgb.png",
        "interlaced.png", "palette.png", "rgb.ppm", "gray16.pgm"}) {
    for_each_cut(corpus("picture_fuzz", name), [&](auto cut, std::size_t size) {
      const auto picture = decode_picture(cut);
      ASSERT_FALSE(picture.has_value()) << name << " cut at " << size;
      EXPECT_EQ(picture.error().code, ErrorCode::kInvalidArgument) << name << " cut at " << size;
      EXPECT_FALSE(picture.error().message.empty());
    });
  }
}

TEST(DecodePicture, LimitIsNamedBeforeAnythingIsAllocated) {
  const auto huge = decode_picture(corpus("picture_fuzz", "huge.png"));
  ASSERT_FALSE(huge.has_value());
  EXPECT_EQ(huge.error().code, ErrorCode::kOutOfRange);
  EXPECT_THAT(huge.error().message, HasSubstr("60000 x 60000"));
  EXPECT_THAT(huge.error().message, HasSubstr("67108864 pixels"));
  for (const std::string name : {"baseline.jpg", "rgb.png"}) {
    EXPECT_TRUE(decode_picture(corpus("picture_fuzz", name), {.pixels_max = 192}).has_value());
    const auto over = decode_picture(corpus("picture_fuzz", name), {.pixels_max = 191});
    ASSERT_FALSE(over.has_value());
    EXPECT_EQ(over.error().code, ErrorCode::kOutOfRange);
  }
}

TEST(DecodePicture, OtherFilesAreNamedAsSuch) {
  const auto wav = decode_picture(corpus("wav_fuzz", "pcm16.wav"));
  ASSERT_FALSE(wav.has_value());
  EXPECT_THAT(wav.error().message, HasSubstr("not a picture"));
}

TEST(EncodePicture, PngKeepsEveryPixelOfEveryFormat) {
  std::mt19937 random(1);
  for (const auto format :
       {PixelFormat::kRgb24, PixelFormat::kBgr24, PixelFormat::kRgba32, PixelFormat::kGray8}) {
    const std::size_t bytes = format == PixelFormat::kGray8    ? 1
                              : format == PixelFormat::kRgba32 ? 4
                                                               : 3;
    const auto pixels = random_bytes(7 * 5 * bytes, random);
    const auto view = view_pixels(format, 7, 5, pixels);
    ASSERT_TRUE(view.has_value());
    const auto file = encode_png(*view);
    ASSERT_TRUE(file.has_value());
    const auto again = decode_picture(*file);
    ASSERT_TRUE(again.has_value());
    for (int y = 0; y < 5; ++y)
      for (int x = 0; x < 7; ++x) {
        const auto* p = pixels.data() + static_cast<std::size_t>(y * 7 + x) * bytes;
        const Rgb wanted = bytes == 1                      ? Rgb{p[0], p[0], p[0]}
                           : format == PixelFormat::kBgr24 ? Rgb{p[2], p[1], p[0]}
                                                           : Rgb{p[0], p[1], p[2]};
        EXPECT_EQ(pixel(*again, x, y), wanted) << to_string(format);
      }
  }
}

TEST(EncodePicture, JpegComesCloseToThePicture) {
  const Picture picture = decoded("rgb.png");
  const auto file = encode_jpeg(picture.view(), 95);
  ASSERT_TRUE(file.has_value());
  const auto again = decode_picture(*file);
  ASSERT_TRUE(again.has_value());
  for (int y = 0; y < 12; ++y)
    for (int x = 0; x < 16; ++x) {
      const auto got = pixel(*again, x, y);
      // Chroma is halved: luma is what must come close.
      const auto wanted = original(x, y);
      const auto luma = [](const Rgb& c) { return 0.299 * c[0] + 0.587 * c[1] + 0.114 * c[2]; };
      EXPECT_NEAR(luma(got), luma(wanted), 3);
    }
  EXPECT_FALSE(encode_jpeg(picture.view(), 0).has_value());
  EXPECT_FALSE(encode_jpeg(picture.view(), 101).has_value());
}

/// The definition of BT.601 and BT.709 in floating point.
Rgb yuv_to_rgb(int y, int u, int v, YuvMatrix matrix) {
  const double kr = matrix == YuvMatrix::kBt709 ? 0.2126 : 0.299;
  const double kb = matrix == YuvMatrix::kBt709 ? 0.0722 : 0.114;
  const bool full = matrix == YuvMatrix::kBt601Full;
  const double luma = full ? y : (y - 16) * 255.0 / 219;
  const double chroma = full ? 1 : 255.0 / 224;
  const double cb = (u - 128) * chroma, cr = (v - 128) * chroma;
  const double red = luma + 2 * (1 - kr) * cr;
  const double blue = luma + 2 * (1 - kb) * cb;
  const double green = (luma - kr * red - kb * blue) / (1 - kr - kb);
  const auto byte = [](double x) {
    return static_cast<int>(std::lround(std::clamp(x, 0.0, 255.0)));
  };
  return {byte(red), byte(green), byte(blue)};
}

TEST(CopyAsRgb, YuvFollowsItsMatrix) {
  std::mt19937 random(2);
  constexpr int kWidth = 37, kHeight = 5, kChroma = 19;
  const auto luma = random_bytes(kWidth * kHeight, random);
  const auto first = random_bytes(2 * kChroma * 3, random);
  const auto second = random_bytes(kChroma * 3, random);
  for (const auto matrix : {YuvMatrix::kBt601, YuvMatrix::kBt709, YuvMatrix::kBt601Full})
    for (const auto format : {PixelFormat::kI420, PixelFormat::kNv12}) {
      PictureView view{.format = format, .width = kWidth, .height = kHeight, .yuv_matrix = matrix};
      const bool planar = format == PixelFormat::kI420;
      view.planes = {Plane{luma.data(), kWidth},
                     Plane{first.data(), planar ? kChroma : 2 * kChroma},
                     Plane{second.data(), kChroma}};
      const auto picture = copy_as_rgb(view);
      ASSERT_TRUE(picture.has_value());
      for (int y = 0; y < kHeight; ++y)
        for (int x = 0; x < kWidth; ++x) {
          const auto chroma = static_cast<std::size_t>(y / 2 * kChroma + x / 2);
          const int u = planar ? first[chroma] : first[2 * chroma];
          const int v = planar ? second[chroma] : first[2 * chroma + 1];
          const auto got = pixel(*picture, x, y);
          const auto wanted =
              yuv_to_rgb(luma[static_cast<std::size_t>(y * kWidth + x)], u, v, matrix);
          // libyuv calculates with 6 bits behind the point, and on x86 caps at 2 what saturated
          // blue is multiplied by (2.018 in BT.601, 2.112 in BT.709).
          EXPECT_NEAR(got[0], wanted[0], 3);
          EXPECT_NEAR(got[1], wanted[1], 3);
          EXPECT_NEAR(got[2], wanted[2], 3 + 0.115 * std::abs(u - 128));
        }
    }
}

TEST(ViewPixels, SizeMustFit) {
  const std::vector<std::uint8_t> pixels(24);
  EXPECT_TRUE(view_pixels(PixelFormat::kRgb24, 4, 2, pixels).has_value());
  EXPECT_FALSE(view_pixels(PixelFormat::kRgb24, 4, 3, pixels).has_value());
  EXPECT_FALSE(view_pixels(PixelFormat::kRgb24, 0, 2, pixels).has_value());
  EXPECT_FALSE(view_pixels(PixelFormat::kRgb24, -4, -2, pixels).has_value());
  EXPECT_FALSE(view_pixels(PixelFormat::kNv12, 4, 4, pixels).has_value());
}

TEST(CopyAsRgb, BadViewsAreRefused) {
  const std::vector<std::uint8_t> pixels(24);
  PictureView view{.format = PixelFormat::kRgb24, .width = 4, .height = 2};
  EXPECT_FALSE(copy_as_rgb(view).has_value());
  view.planes[0] = {pixels.data(), 11};
  EXPECT_FALSE(copy_as_rgb(view).has_value());
  view.planes[0].stride_bytes = 12;
  EXPECT_TRUE(copy_as_rgb(view).has_value());
  view.format = PixelFormat::kI420;
  EXPECT_FALSE(copy_as_rgb(view).has_value());
}

}  // namespace
}  // namespace selvage::media
