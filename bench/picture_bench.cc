// A camera frame to a detector's input: 1920 x 1080 RGB to 300 x 300 floats by channel, resized and
// normalised, against libyuv's and swscale's scaling alone with a filter of the same class. Each
// round measures all in turn, so that noise of the machine meets all alike; minima and medians are
// printed as ratios.
#include <libyuv.h>

extern "C" {
#include <libswscale/swscale.h>
}

#include <algorithm>
#include <chrono>
#include <cstdio>
#include <functional>
#include <string>
#include <vector>

#include "media/transform.h"

namespace selvage::media {
namespace {

constexpr int kFrameWidth = 1920;
constexpr int kFrameHeight = 1080;
constexpr int kSide = 300;
constexpr int kRounds = 400;

struct Contender {
  std::string name;
  std::function<void()> run;
  std::vector<double> ms{};

  [[nodiscard]] double minimum() const { return *std::min_element(ms.begin(), ms.end()); }
  [[nodiscard]] double median() {
    const auto middle = ms.begin() + static_cast<std::ptrdiff_t>(ms.size() / 2);
    std::nth_element(ms.begin(), middle, ms.end());
    return *middle;
  }
};

struct Frames {
  std::vector<std::uint8_t> rgb = noise(std::size_t{kFrameWidth} * kFrameHeight * 3);
  std::vector<std::uint8_t> rgba = noise(std::size_t{kFrameWidth} * kFrameHeight * 4);

  static std::vector<std::uint8_t> noise(std::size_t bytes) {
    std::vector<std::uint8_t> pixels(bytes);
    std::uint32_t state = 1;
    for (auto& pixel : pixels)
      pixel = static_cast<std::uint8_t>((state = state * 1664525u + 1013904223u) >> 24);
    return pixels;
  }
  [[nodiscard]] PictureView rgb_view() const {
    return *view_pixels(PixelFormat::kRgb24, kFrameWidth, kFrameHeight, rgb);
  }
  /// The same bytes as a camera's planes.
  [[nodiscard]] PictureView i420_view() const {
    PictureView view{.format = PixelFormat::kI420, .width = kFrameWidth, .height = kFrameHeight};
    const std::size_t luma = std::size_t{kFrameWidth} * kFrameHeight;
    view.planes = {Plane{rgba.data(), kFrameWidth}, Plane{rgba.data() + luma, kFrameWidth / 2},
                   Plane{rgba.data() + luma + luma / 4, kFrameWidth / 2}};
    return view;
  }
};

std::vector<std::byte> g_tensor(std::size_t{kSide} * kSide * 3 * sizeof(float));

std::function<void()> ours(const PictureView& view, Filter filter, Layout layout) {
  TransformOptions options{.filter = filter, .layout = layout, .value_scale = 1.0f / 255};
  options.mean = {0.485f, 0.456f, 0.406f};
  options.deviation = {0.229f, 0.224f, 0.225f};
  auto transform = std::make_shared<Transform>(*Transform::create(options));
  return [transform, view] {
    if (!transform->apply(view, kSide, kSide, g_tensor)) std::abort();
  };
}

std::function<void()> libyuv_argb(const Frames& frames, libyuv::FilterMode filter) {
  return [&frames, filter,
          scaled = std::vector<std::uint8_t>(std::size_t{kSide} * kSide * 4)]() mutable {
    libyuv::ARGBScale(frames.rgba.data(), kFrameWidth * 4, kFrameWidth, kFrameHeight, scaled.data(),
                      kSide * 4, kSide, kSide, filter);
  };
}

std::function<void()> swscale_rgb(const Frames& frames, int flags) {
  const std::shared_ptr<SwsContext> context(
      sws_getContext(kFrameWidth, kFrameHeight, AV_PIX_FMT_RGB24, kSide, kSide, AV_PIX_FMT_RGB24,
                     flags, nullptr, nullptr, nullptr),
      sws_freeContext);
  return [&frames, context,
          scaled = std::vector<std::uint8_t>(std::size_t{kSide} * kSide * 3)]() mutable {
    const std::uint8_t* from[] = {frames.rgb.data()};
    const int from_stride[] = {kFrameWidth * 3};
    std::uint8_t* to[] = {scaled.data()};
    const int to_stride[] = {kSide * 3};
    sws_scale(context.get(), from, from_stride, 0, kFrameHeight, to, to_stride);
  };
}

void measure(std::vector<Contender>& contenders) {
  for (int round = 0; round < kRounds; ++round)
    for (auto& contender : contenders) {
      const auto start = std::chrono::steady_clock::now();
      contender.run();
      const std::chrono::duration<double, std::milli> took =
          std::chrono::steady_clock::now() - start;
      contender.ms.push_back(took.count());
    }
}

}  // namespace
}  // namespace selvage::media

int main() {
  using namespace selvage::media;
  const Frames frames;
  std::vector<Contender> contenders{
      {"libyuv ARGBScale, bilinear (scaling alone)", libyuv_argb(frames, libyuv::kFilterBilinear)},
      {"rgb24, bilinear, to NCHW floats",
       ours(frames.rgb_view(), Filter::kBilinear, Layout::kNchw)},
      {"rgb24, bilinear, to NHWC floats",
       ours(frames.rgb_view(), Filter::kBilinear, Layout::kNhwc)},
      {"i420, bilinear, to NCHW floats",
       ours(frames.i420_view(), Filter::kBilinear, Layout::kNchw)},
      {"rgb24, antialias, to NCHW floats",
       ours(frames.rgb_view(), Filter::kAntialias, Layout::kNchw)},
      {"swscale, bilinear = antialias (scaling alone)", swscale_rgb(frames, SWS_BILINEAR)}};
  measure(contenders);
  const double least = contenders[0].minimum();
  const double middle = contenders[0].median();
  std::printf("%-48s %9s %9s %9s %9s\n", "1920 x 1080 to 300 x 300", "min ms", "median", "x libyuv",
              "(median)");
  for (auto& contender : contenders)
    std::printf("%-48s %9.3f %9.3f %9.2f %9.2f\n", contender.name.c_str(), contender.minimum(),
                contender.median(), contender.minimum() / least, contender.median() / middle);
}
