#include "media/transform.h"

#include <atomic>
#include <bit>
#include <cmath>
#include <cstdlib>
#include <new>

#include <gmock/gmock.h>

#include "media/media_testing.h"
#include "media/pixel_rows.h"
#include "media/transform_axis.h"

namespace {
std::atomic<std::size_t> allocations{0};
}  // namespace

// Counts what the whole program allocates.
[[gnu::noinline]] void* operator new(std::size_t bytes) {
  ++allocations;
  if (void* memory = std::malloc(bytes)) return memory;
  throw std::bad_alloc();
}
[[gnu::noinline]] void* operator new(std::size_t bytes, const std::nothrow_t&) noexcept {
  ++allocations;
  return std::malloc(bytes);
}
[[gnu::noinline]] void operator delete(void* memory) noexcept {
  std::free(memory);
}
[[gnu::noinline]] void operator delete(void* memory, std::size_t) noexcept {
  std::free(memory);
}

namespace selvage::media {
namespace {

using ::testing::HasSubstr;

/// Pixels with rows apart, so that a wrong stride shows.
struct TestPicture {
  PictureView view;
  std::vector<std::uint8_t> bytes;

  static TestPicture random(PixelFormat format, int width, int height, std::mt19937& random) {
    const std::size_t each = format == PixelFormat::kGray8    ? 1
                             : format == PixelFormat::kRgba32 ? 4
                                                              : 3;
    const std::size_t stride = static_cast<std::size_t>(width) * each + random() % 9;
    TestPicture picture;
    // The last row has no padding: a read behind it is a read behind the memory.
    picture.bytes = random_bytes(
        stride * static_cast<std::size_t>(height - 1) + static_cast<std::size_t>(width) * each,
        random);
    picture.view = {.format = format, .width = width, .height = height};
    picture.view.planes[0] = {picture.bytes.data(), static_cast<std::ptrdiff_t>(stride)};
    return picture;
  }
  static TestPicture random_yuv(PixelFormat format, int width, int height, std::mt19937& random) {
    const auto w = static_cast<std::size_t>(width), h = static_cast<std::size_t>(height);
    const std::size_t cw = (w + 1) / 2, ch = (h + 1) / 2;
    TestPicture picture;
    picture.bytes = random_bytes(w * h + 2 * cw * ch, random);
    const auto* data = picture.bytes.data();
    picture.view = {.format = format, .width = width, .height = height};
    if (format == PixelFormat::kI420)
      picture.view.planes = {Plane{data, width},
                             Plane{data + w * h, static_cast<std::ptrdiff_t>(cw)},
                             Plane{data + w * h + cw * ch, static_cast<std::ptrdiff_t>(cw)}};
    else
      picture.view.planes = {Plane{data, width},
                             Plane{data + w * h, static_cast<std::ptrdiff_t>(2 * cw)}, Plane{}};
    return picture;
  }
};

/// RGB of a pixel whatever the format: the slow way.
std::array<double, 3> colour_at(const PictureView& view, int x, int y) {
  const auto* row = view.planes[0].data + y * view.planes[0].stride_bytes;
  switch (view.format) {
    case PixelFormat::kGray8: return {double(row[x]), double(row[x]), double(row[x])};
    case PixelFormat::kBgr24:
      return {double(row[3 * x + 2]), double(row[3 * x + 1]), double(row[3 * x])};
    case PixelFormat::kRgba32:
      return {double(row[4 * x]), double(row[4 * x + 1]), double(row[4 * x + 2])};
    default: return {double(row[3 * x]), double(row[3 * x + 1]), double(row[3 * x + 2])};
  }
}

/// One sample by the definitions in the header, in double precision.
double slow_sample(const PictureView& rgb, const Rect& region, Filter filter, double x, double y,
                   double step_x, double step_y, std::size_t channel) {
  const auto weight = [filter](double centre, double step, int pixel, int size) {
    switch (filter) {
      case Filter::kNearest: {
        const int nearest = std::clamp(static_cast<int>(std::floor(centre)), 0, size - 1);
        return pixel == nearest ? 1.0 : 0.0;
      }
      case Filter::kBilinear: {
        const double position = std::clamp(centre - 0.5, 0.0, size - 1.0);
        return std::max(0.0, 1 - std::abs(position - pixel));
      }
      case Filter::kAntialias: break;
    }
    return std::max(0.0, 1 - std::abs(pixel + 0.5 - centre) / std::max(step, 1.0));
  };
  double sum = 0, weights = 0;
  for (int py = 0; py < region.height; ++py) {
    const double wy = weight(y, step_y, py, region.height);
    if (wy == 0) continue;
    for (int px = 0; px < region.width; ++px) {
      const double w = wy * weight(x, step_x, px, region.width);
      if (w == 0) continue;
      sum += w * colour_at(rgb, region.x + px, region.y + py)[channel];
      weights += w;
    }
  }
  return sum / weights;
}

double slow_element(const PictureView& rgb, const Rect& region, const TransformOptions& options,
                    const Placements& to, int x, int y, std::size_t channel) {
  const auto inside = [](const Placement& p, int i) {
    return i >= p.begin && i < p.begin + p.count;
  };
  double value = options.pad_value;
  if (inside(to.x, x) && inside(to.y, y)) {
    const double source_x = to.x.origin + (x - to.x.begin + 0.5) * to.x.step;
    const double source_y = to.y.origin + (y - to.y.begin + 0.5) * to.y.step;
    const auto sample = [&](std::size_t c) {
      return slow_sample(rgb, region, options.filter, source_x, source_y, to.x.step, to.y.step, c);
    };
    value = options.colour == ColourOrder::kGray
                ? 0.299 * sample(0) + 0.587 * sample(1) + 0.114 * sample(2)
                : sample(options.colour == ColourOrder::kBgr ? 2 - channel : channel);
  }
  return (value * options.value_scale - options.mean[channel]) / options.deviation[channel];
}

double half_to_double(std::uint16_t half) {
  const int exponent = half >> 10 & 31;
  const double mantissa = half & 1023;
  const double magnitude =
      exponent == 0 ? std::ldexp(mantissa, -24) : std::ldexp(1024 + mantissa, exponent - 25);
  return half & 0x8000 ? -magnitude : magnitude;
}

double element_at(const TransformOptions& options, const std::vector<std::byte>& tensor, int width,
                  int height, int x, int y, std::size_t channel) {
  const auto channels = static_cast<std::size_t>(options.channels());
  const auto pixel =
      static_cast<std::size_t>(y) * static_cast<std::size_t>(width) + static_cast<std::size_t>(x);
  const std::size_t index =
      options.layout == Layout::kNchw
          ? channel * static_cast<std::size_t>(width) * static_cast<std::size_t>(height) + pixel
          : pixel * channels + channel;
  switch (options.element) {
    case TensorElement::kFloat32: return reinterpret_cast<const float*>(tensor.data())[index];
    case TensorElement::kFloat16:
      return half_to_double(reinterpret_cast<const std::uint16_t*>(tensor.data())[index]);
    case TensorElement::kUint8: break;
  }
  return std::to_integer<int>(tensor[index]);
}

std::vector<std::byte> tensor_for(const TransformOptions& options, int width, int height) {
  return std::vector<std::byte>(static_cast<std::size_t>(width) * static_cast<std::size_t>(height) *
                                    static_cast<std::size_t>(options.channels()) *
                                    element_bytes(options.element),
                                std::byte{0xCD});
}

void expect_equal_to_slow(Transform& transform, const PictureView& view, const PictureView& rgb,
                          const Rect& region, int width, int height) {
  const auto& options = transform.options();
  auto tensor = tensor_for(options, width, height);
  const auto map = transform.apply(view, region, width, height, tensor);
  ASSERT_TRUE(map.has_value()) << map.error().message;
  const auto to = place(options, region.width, region.height, width, height);
  for (int y = 0; y < height; ++y)
    for (int x = 0; x < width; ++x)
      for (std::size_t c = 0; c < static_cast<std::size_t>(options.channels()); ++c) {
        double wanted = slow_element(rgb, region, options, to, x, y, c);
        double tolerance = 2e-3 * std::abs(options.value_scale / options.deviation[c]) + 1e-6;
        if (options.element == TensorElement::kFloat16) tolerance += std::abs(wanted) / 1024;
        if (options.element == TensorElement::kUint8) {
          wanted = std::clamp(wanted, 0.0, 255.0);
          tolerance += 0.5;
        }
        ASSERT_NEAR(element_at(options, tensor, width, height, x, y, c), wanted, tolerance)
            << "at " << x << ", " << y << ", channel " << c << " of " << width << " x " << height
            << " from " << region.width << " x " << region.height << " " << to_string(view.format)
            << ", filter " << static_cast<int>(options.filter) << ", fit "
            << static_cast<int>(options.fit);
      }
}

template <typename... Values>
auto one_of(std::mt19937& random, Values... values) {
  const std::array all{values...};
  return all[random() % all.size()];
}

int up_to(std::mt19937& random, int max) {
  return 1 + static_cast<int>(random() % static_cast<unsigned>(max));
}

TransformOptions random_options(std::mt19937& random) {
  TransformOptions options;
  options.filter = one_of(random, Filter::kNearest, Filter::kBilinear, Filter::kAntialias);
  options.fit = one_of(random, Fit::kStretch, Fit::kLetterbox, Fit::kLetterboxTopLeft, Fit::kCover);
  options.pad_value = one_of(random, 0.0f, 114.0f);
  options.cover_fraction = one_of(random, 1.0, 0.875);
  options.colour = one_of(random, ColourOrder::kRgb, ColourOrder::kBgr, ColourOrder::kGray);
  options.layout = one_of(random, Layout::kNchw, Layout::kNhwc);
  options.element =
      one_of(random, TensorElement::kFloat32, TensorElement::kFloat16, TensorElement::kUint8);
  if (options.element != TensorElement::kUint8) {
    options.value_scale = 1.0f / 255;
    options.mean = {0.485f, 0.456f, 0.406f};
    options.deviation = {0.229f, 0.224f, 0.225f};
  }
  return options;
}

Rect random_region(std::mt19937& random, const PictureView& view) {
  const int width = up_to(random, view.width), height = up_to(random, view.height);
  return {static_cast<int>(random() % static_cast<unsigned>(view.width - width + 1)),
          static_cast<int>(random() % static_cast<unsigned>(view.height - height + 1)), width,
          height};
}

/// The samples that come right at a pixel's border may fall to either side.
bool has_nearest_ties(const TransformOptions& options, const Rect& region, int width, int height) {
  if (options.filter != Filter::kNearest) return false;
  const auto to = place(options, region.width, region.height, width, height);
  for (const auto& p : {to.x, to.y})
    for (int i = 0; i < p.count; ++i) {
      const double centre = p.origin + (i + 0.5) * p.step;
      if (std::abs(centre - std::round(centre)) < 1e-6) return true;
    }
  return false;
}

TEST(Transform, EqualsTheSlowDefinitionForRandomEverything) {
  std::mt19937 random(3);
  for (int round = 0; round < 400; ++round) {
    const auto options = random_options(random);
    auto transform = Transform::create(options);
    ASSERT_TRUE(transform.has_value());
    const auto format = one_of(random, PixelFormat::kRgb24, PixelFormat::kBgr24,
                               PixelFormat::kRgba32, PixelFormat::kGray8);
    const auto picture = TestPicture::random(format, up_to(random, 40), up_to(random, 40), random);
    const auto region = random_region(random, picture.view);
    const int width = up_to(random, 24), height = up_to(random, 24);
    if (has_nearest_ties(options, region, width, height)) continue;
    expect_equal_to_slow(*transform, picture.view, picture.view, region, width, height);
    if (HasFatalFailure()) return;
  }
}

TEST(Transform, YuvEqualsConvertingFirst) {
  std::mt19937 random(4);
  for (int round = 0; round < 120; ++round) {
    const auto options = random_options(random);
    auto transform = Transform::create(options);
    const auto format = one_of(random, PixelFormat::kI420, PixelFormat::kNv12);
    const auto picture =
        TestPicture::random_yuv(format, up_to(random, 40), up_to(random, 40), random);
    const auto rgb = copy_as_rgb(picture.view);
    ASSERT_TRUE(rgb.has_value());
    const auto region = random_region(random, picture.view);
    const int width = up_to(random, 24), height = up_to(random, 24);
    if (has_nearest_ties(options, region, width, height)) continue;
    expect_equal_to_slow(*transform, picture.view, rgb->view(), region, width, height);
    if (HasFatalFailure()) return;
  }
}

/// 7 x 5 pixels, channel c of pixel (x, y) is (37 x + 59 y + 101 c + 7 x y) mod 256.
Picture known_picture() {
  Picture picture(7, 5);
  for (int y = 0; y < 5; ++y)
    for (int x = 0; x < 7; ++x)
      for (int c = 0; c < 3; ++c)
        picture.row(y)[3 * x + c] =
            static_cast<std::uint8_t>((x * 37 + y * 59 + c * 101 + x * y * 7) % 256);
  return picture;
}

std::vector<float> transformed(const TransformOptions& options, const PictureView& view,
                               const Rect& region, int width, int height) {
  auto transform = Transform::create(options);
  std::vector<float> tensor(static_cast<std::size_t>(width * height * options.channels()));
  const auto map =
      transform->apply(view, region, width, height, std::as_writable_bytes(std::span(tensor)));
  EXPECT_TRUE(map.has_value());
  return tensor;
}

void expect_all_near(const std::vector<float>& got, const std::vector<float>& wanted,
                     float tolerance) {
  ASSERT_EQ(got.size(), wanted.size());
  for (std::size_t i = 0; i < got.size(); ++i) EXPECT_NEAR(got[i], wanted[i], tolerance) << i;
}

// From Image.resize((3, 2), Image.BILINEAR) and (..., box=(1, 1, 6, 4)) of Pillow 13.0, which
// rounds to whole numbers twice: after the columns and after the rows.
TEST(Transform, AntialiasIsPillowsBilinear) {
  const Picture picture = known_picture();
  const TransformOptions options{.filter = Filter::kAntialias, .layout = Layout::kNhwc};
  expect_all_near(
      transformed(options, picture.view(), picture.view().bounds(), 3, 2),
      {95, 149, 107, 133, 143, 117, 129, 118, 124, 152, 104, 156, 124, 136, 129, 120, 136, 144},
      1.01f);
}

// From Image.resize((3, 2), Image.NEAREST) of Pillow 13.0.
TEST(Transform, NearestIsPillowsNearest) {
  const Picture picture = known_picture();
  const TransformOptions options{.filter = Filter::kNearest, .layout = Layout::kNhwc};
  expect_all_near(
      transformed(options, picture.view(), picture.view().bounds(), 3, 2),
      {103, 204, 49, 191, 36, 137, 23, 124, 225, 235, 80, 181, 95, 196, 41, 211, 56, 157}, 0);
}

// From cv2.resize(picture.astype(float32), (3, 2), interpolation=cv2.INTER_LINEAR) of OpenCV 5.0.
TEST(Transform, BilinearIsOpenCvsLinear) {
  const Picture picture = known_picture();
  const TransformOptions options{.filter = Filter::kBilinear, .layout = Layout::kNhwc};
  expect_all_near(transformed(options, picture.view(), picture.view().bounds(), 3, 2),
                  {72.417f, 173.417f, 82.417f, 171.0f, 80.0f, 117.0f, 77.583f, 114.583f, 151.583f,
                   188.917f, 76.583f, 177.583f, 115.0f, 152.0f, 61.0f, 126.417f, 99.417f, 179.083f},
                  0.001f);
  // cv2.resize to (9, 7), the first two rows of red; OpenCV rounds its weights to
  // 1/2048 and the result to whole numbers.
  const auto larger = transformed({}, picture.view(), picture.view().bounds(), 9, 7);
  expect_all_near(
      {larger.begin(), larger.begin() + 18},
      {0, 25, 53, 82, 111, 140, 168, 197, 222, 34, 61, 93, 125, 157, 188, 139, 106, 133}, 0.65f);
}

TEST(Transform, MapLeadsBackToThePicture) {
  const Picture picture(200, 100);
  const Rect region{20, 10, 100, 50};
  struct Case {
    Fit fit;
    double fraction;
    CoordinateMap wanted;
  };
  for (const auto& [fit, fraction, wanted] : {
           Case{Fit::kStretch, 1, {2, 1, 20, 10}},
           // 100 x 50 becomes 50 x 25, with 12 rows free above.
           Case{Fit::kLetterbox, 1, {2, 2, 20, 10 - 12 * 2}},
           Case{Fit::kLetterboxTopLeft, 1, {2, 2, 20, 10}},
           // The middle 50 x 50, and 0.8 of it.
           Case{Fit::kCover, 1, {1, 1, 45, 10}},
           Case{Fit::kCover, 0.8, {0.8, 0.8, 50, 15}},
       }) {
    auto transform = Transform::create({.fit = fit, .cover_fraction = fraction});
    std::vector<float> tensor(50 * 50 * 3);
    const auto map =
        transform->apply(picture.view(), region, 50, 50, std::as_writable_bytes(std::span(tensor)));
    ASSERT_TRUE(map.has_value());
    EXPECT_DOUBLE_EQ(map->scale_x, wanted.scale_x);
    EXPECT_DOUBLE_EQ(map->scale_y, wanted.scale_y);
    EXPECT_NEAR(map->offset_x, wanted.offset_x, 1e-9);
    EXPECT_NEAR(map->offset_y, wanted.offset_y, 1e-9);
    EXPECT_NEAR(map->x(25), wanted.scale_x * 25 + wanted.offset_x, 1e-9);
    EXPECT_NEAR(map->y(25), wanted.scale_y * 25 + wanted.offset_y, 1e-9);
  }
}

// A straight quad is a rectangle.
TEST(Transform, StraightQuadEqualsTheRegion) {
  std::mt19937 random(5);
  for (const auto format : {PixelFormat::kRgb24, PixelFormat::kBgr24, PixelFormat::kGray8,
                            PixelFormat::kRgba32, PixelFormat::kI420}) {
    const auto picture = is_yuv(format) ? TestPicture::random_yuv(format, 31, 23, random)
                                        : TestPicture::random(format, 31, 23, random);
    for (const auto fit : {Fit::kStretch, Fit::kLetterbox, Fit::kLetterboxTopLeft, Fit::kCover}) {
      const TransformOptions options{.fit = fit, .pad_value = 9, .layout = Layout::kNhwc};
      // The whole picture: inside it, a region's border and a quad's neighbours would differ.
      const auto wanted = transformed(options, picture.view, picture.view.bounds(), 20, 9);
      auto transform = Transform::create(options);
      std::vector<float> tensor(20 * 9 * 3);
      const auto done = transform->apply_quad(picture.view, {{{0, 0}, {31, 0}, {31, 23}, {0, 23}}},
                                              20, 9, std::as_writable_bytes(std::span(tensor)));
      ASSERT_TRUE(done.has_value()) << done.error().message;
      expect_all_near(tensor, wanted, 0.01f);
    }
  }
}

// A quad turned by a quarter is the picture turned by a quarter.
TEST(Transform, TurnedQuadTurnsThePicture) {
  const Picture picture = known_picture();
  auto transform = Transform::create({.layout = Layout::kNhwc});
  std::vector<float> tensor(5 * 7 * 3);
  ASSERT_TRUE(transform
                  ->apply_quad(picture.view(), {{{7, 0}, {7, 5}, {0, 5}, {0, 0}}}, 5, 7,
                               std::as_writable_bytes(std::span(tensor)))
                  .has_value());
  for (int y = 0; y < 7; ++y)
    for (int x = 0; x < 5; ++x)
      for (int c = 0; c < 3; ++c)
        EXPECT_NEAR(tensor[static_cast<std::size_t>((y * 5 + x) * 3 + c)],
                    picture.row(x)[3 * (6 - y) + c], 0.01);
}

// From cv2.warpPerspective of OpenCV 5.0 with INTER_LINEAR and BORDER_REPLICATE on floats, corners
// moved by half a pixel, which is where OpenCV counts from. It rounds positions to 1/32 pixel.
TEST(Transform, QuadIsOpenCvsPerspectiveWarp) {
  const Picture picture = known_picture();
  auto transform = Transform::create({.layout = Layout::kNhwc});
  std::vector<float> tensor(4 * 3 * 3);
  ASSERT_TRUE(transform
                  ->apply_quad(picture.view(), {{{1, 0.5}, {6, 1}, {5.5, 4.5}, {0.5, 4}}}, 4, 3,
                               std::as_writable_bytes(std::span(tensor)))
                  .has_value());
  expect_all_near(tensor,
                  {81.36f, 182.36f, 114.24f, 142.64f, 186.08f, 88.64f, 206.11f, 77.77f,  152.11f,
                   67.98f, 116.76f, 212.43f, 150.41f, 69.41f,  96.41f, 191.76f, 80.76f,  167.76f,
                   39.29f, 140.29f, 135.29f, 115.01f, 186.01f, 61.01f, 216.75f, 63.31f,  162.75f,
                   51.71f, 143.16f, 218.6f,  125.75f, 168.08f, 71.75f, 169.98f, 146.09f, 157.53f},
                  3.0f);
}

TEST(Transform, AntialiasedQuadAveragesWhatItCovers) {
  // Stripes one pixel wide: any honest reduction by eight gives their mean.
  Picture picture(64, 64);
  for (int y = 0; y < 64; ++y)
    for (int x = 0; x < 64; ++x)
      for (int c = 0; c < 3; ++c) picture.row(y)[3 * x + c] = x % 2 ? 255 : 0;
  auto transform = Transform::create({.filter = Filter::kAntialias});
  std::vector<float> tensor(7 * 7 * 3);
  ASSERT_TRUE(transform
                  ->apply_quad(picture.view(), {{{4, 4}, {60, 4}, {60, 60}, {4, 60}}}, 7, 7,
                               std::as_writable_bytes(std::span(tensor)))
                  .has_value());
  for (const float value : tensor) EXPECT_NEAR(value, 127.5, 0.01);
}

TEST(Transform, QuadsOutsideReadTheBorderAndBadOnesAreRefused) {
  std::mt19937 random(6);
  const auto picture = TestPicture::random(PixelFormat::kRgb24, 9, 9, random);
  auto transform = Transform::create({});
  std::vector<float> tensor(4 * 4 * 3);
  const auto apply = [&](const Quad& quad) {
    return transform->apply_quad(picture.view, quad, 4, 4,
                                 std::as_writable_bytes(std::span(tensor)));
  };
  EXPECT_TRUE(apply({{{-50, -50}, {-40, -50}, {-40, -40}, {-50, -40}}}).has_value());
  for (std::size_t c = 0; c < 3; ++c) EXPECT_EQ(tensor[16 * c], colour_at(picture.view, 0, 0)[c]);
  EXPECT_TRUE(apply({{{-1e5, -1e5}, {1e5, -1e5}, {1e5, 1e5}, {-1e5, 1e5}}}).has_value());
  EXPECT_FALSE(apply({{{0, 0}, {8, 8}, {8, 0}, {0, 8}}}).has_value());  // A bow tie.
  EXPECT_FALSE(apply({{{0, 0}, {8, 0}, {2, 2}, {0, 8}}}).has_value());  // A dent.
  EXPECT_FALSE(apply({{{3, 3}, {3, 3}, {3, 3}, {3, 3}}}).has_value());
  EXPECT_FALSE(apply({{{0, 0}, {NAN, 0}, {8, 8}, {0, 8}}}).has_value());
  EXPECT_FALSE(apply({{{0, 0}, {INFINITY, 0}, {8, 8}, {0, 8}}}).has_value());
}

TEST(Transform, RandomQuadsOfRandomPicturesStayInside) {
  std::mt19937 random(7);
  std::uniform_real_distribution<double> anywhere(-20, 60);
  int accepted = 0;
  for (int round = 0; round < 2'000; ++round) {
    const auto format = one_of(random, PixelFormat::kRgb24, PixelFormat::kGray8,
                               PixelFormat::kRgba32, PixelFormat::kI420, PixelFormat::kNv12);
    const int w = up_to(random, 40), h = up_to(random, 40);
    const auto picture = is_yuv(format) ? TestPicture::random_yuv(format, w, h, random)
                                        : TestPicture::random(format, w, h, random);
    Quad quad;
    for (auto& corner : quad) corner = {anywhere(random), anywhere(random)};
    auto transform = Transform::create(
        {.filter = one_of(random, Filter::kNearest, Filter::kBilinear, Filter::kAntialias)});
    std::vector<float> tensor(8 * 5 * 3, -1);
    if (!transform->apply_quad(picture.view, quad, 8, 5, std::as_writable_bytes(std::span(tensor))))
      continue;
    ++accepted;
    for (const float value : tensor) ASSERT_TRUE(value >= -0.01f && value <= 255.01f);
  }
  EXPECT_GT(accepted, 200);
}

TEST(Transform, RepeatedGeometryAllocatesNothing) {
  std::mt19937 random(8);
  for (const auto format : {PixelFormat::kRgb24, PixelFormat::kGray8, PixelFormat::kNv12})
    for (const auto filter : {Filter::kBilinear, Filter::kAntialias}) {
      const auto picture = is_yuv(format) ? TestPicture::random_yuv(format, 64, 48, random)
                                          : TestPicture::random(format, 64, 48, random);
      auto transform = Transform::create({.filter = filter, .fit = Fit::kLetterbox});
      std::vector<float> tensor(20 * 20 * 3);
      const auto bytes = std::as_writable_bytes(std::span(tensor));
      const auto apply = [&] {
        ASSERT_TRUE(transform->apply(picture.view, {3, 5, 40, 30}, 20, 20, bytes).has_value());
        ASSERT_TRUE(
            transform
                ->apply_quad(picture.view, {{{3, 5}, {43, 7}, {42, 35}, {4, 33}}}, 20, 20, bytes)
                .has_value());
      };
      apply();
      const auto before = allocations.load();
      apply();
      EXPECT_EQ(allocations.load(), before) << to_string(format);
    }
}

TEST(Transform, WrongUseIsRefusedWithTheNumbers) {
  const Picture picture(10, 10);
  auto transform = Transform::create({});
  std::vector<float> tensor(4 * 4 * 3);
  const auto bytes = std::as_writable_bytes(std::span(tensor));
  const auto apply = [&](const Rect& region, int width, int height, std::span<std::byte> to) {
    const auto map = transform->apply(picture.view(), region, width, height, to);
    return map ? std::string() : map.error().message;
  };
  EXPECT_EQ(apply({0, 0, 10, 10}, 4, 4, bytes), "");
  EXPECT_THAT(apply({1, 0, 10, 10}, 4, 4, bytes), HasSubstr("leaves the picture of 10 x 10"));
  EXPECT_THAT(apply({0, 0, 0, 10}, 4, 4, bytes), HasSubstr("empty"));
  EXPECT_THAT(apply({-1, 0, 2, 2}, 4, 4, bytes), HasSubstr("leaves"));
  EXPECT_THAT(apply({2'147'483'647, 0, 2, 2}, 4, 4, bytes), HasSubstr("leaves"));
  EXPECT_THAT(apply({0, 0, 10, 10}, 4, 5, bytes), HasSubstr("has 240 bytes, not 192"));
  EXPECT_THAT(apply({0, 0, 10, 10}, 0, 4, bytes), HasSubstr("no elements"));
  EXPECT_THAT(apply({0, 0, 10, 10}, 65'536, 1, bytes), HasSubstr("limit of 65535"));
  EXPECT_THAT(apply({0, 0, 10, 10}, 4, 4, bytes.subspan(1)), HasSubstr("192 bytes"));
  std::vector<std::byte> odd(193);
  EXPECT_THAT(apply({0, 0, 10, 10}, 4, 4, std::span(odd).subspan(1)), HasSubstr("aligned"));
  EXPECT_FALSE(Transform::create({.value_scale = NAN}).has_value());
  EXPECT_FALSE(Transform::create({.deviation = {1, 0, 1}}).has_value());
  EXPECT_FALSE(Transform::create({.mean = {INFINITY, 0, 0}}).has_value());
  EXPECT_FALSE(Transform::create({.cover_fraction = 0}).has_value());
}

}  // namespace
}  // namespace selvage::media
