#include "media/transform_axis.h"

#include <cmath>

namespace selvage::media {
namespace {

Placement stretched(double region, int tensor) {
  return {.begin = 0, .count = tensor, .origin = 0, .step = region / tensor};
}

Placement letterboxed(double region, int tensor, double scale, bool centred) {
  const int count = static_cast<int>(
      std::clamp<double>(std::round(region * scale), 1, static_cast<double>(tensor)));
  return {.begin = centred ? (tensor - count) / 2 : 0,
          .count = count,
          .origin = 0,
          .step = region / count};
}

Placement covered(double region, int tensor, double step) {
  return {.begin = 0, .count = tensor, .origin = (region - step * tensor) / 2, .step = step};
}

}  // namespace

Placements place(const TransformOptions& options, double region_width, double region_height,
                 int width, int height) {
  switch (options.fit) {
    case Fit::kLetterbox:
    case Fit::kLetterboxTopLeft: {
      const bool centred = options.fit == Fit::kLetterbox;
      const double scale = std::min(width / region_width, height / region_height);
      return {letterboxed(region_width, width, scale, centred),
              letterboxed(region_height, height, scale, centred)};
    }
    case Fit::kCover: {
      const double step =
          std::min(region_width / width, region_height / height) * options.cover_fraction;
      return {covered(region_width, width, step), covered(region_height, height, step)};
    }
    case Fit::kStretch: break;
  }
  return {stretched(region_width, width), stretched(region_height, height)};
}

void fill_bilinear(const Placement& placement, int size, bool nearest, BilinearAxis& axis) {
  axis.lower.clear();
  axis.weight.clear();
  for (int i = 0; i < placement.count; ++i) {
    const double centre = placement.origin + (i + 0.5) * placement.step;
    // Nearest: the pixel in which the centre lies.
    const double wanted = nearest ? std::floor(centre) : centre - 0.5;
    const double position = std::clamp<double>(wanted, 0, size - 1);
    const int lower = std::clamp(static_cast<int>(position), 0, std::max(size - 2, 0));
    axis.lower.push_back(lower);
    axis.weight.push_back(static_cast<float>(position - lower));
  }
}

int antialias_taps_max(const Placement& placement) {
  return 2 * static_cast<int>(std::ceil(std::max(placement.step, 1.0))) + 1;
}

void fill_antialias(const Placement& placement, int size, AntialiasAxis& axis) {
  axis.first.clear();
  axis.taps.clear();
  axis.weights.clear();
  const double half_width = std::max(placement.step, 1.0);
  axis.taps_max = antialias_taps_max(placement);
  for (int i = 0; i < placement.count; ++i) {
    const double centre = placement.origin + (i + 0.5) * placement.step;
    const int first =
        std::clamp(static_cast<int>(std::floor(centre - half_width + 0.5)), 0, size - 1);
    const int end =
        std::clamp(static_cast<int>(std::floor(centre + half_width + 0.5)), first + 1, size);
    const auto weight_of = [&](int pixel) {
      return std::max(0.0, 1 - std::abs(pixel + 0.5 - centre) / half_width);
    };
    double sum = 0;
    for (int pixel = first; pixel < end; ++pixel) sum += weight_of(pixel);
    axis.first.push_back(first);
    axis.taps.push_back(end - first);
    for (int k = 0; k < axis.taps_max; ++k)
      axis.weights.push_back(k < end - first ? static_cast<float>(weight_of(first + k) / sum) : 0);
  }
}

}  // namespace selvage::media
