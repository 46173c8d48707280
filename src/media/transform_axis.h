// Where along one side the elements of a tensor find their samples. Private to this folder.
#pragma once

#include <vector>

#include "media/transform.h"

namespace selvage::media {

/// Tensor elements begin .. begin + count - 1 show the picture; the others are padding. The centre
/// of element begin + i lies at origin + (i + 0.5) * step in the region.
struct Placement {
  int begin = 0;
  int count = 0;
  double origin = 0;
  double step = 1;
};

struct Placements {
  Placement x;
  Placement y;
};

/// A region of width x height pixels in a tensor.
[[nodiscard]] Placements place(const TransformOptions& options, double region_width,
                               double region_height, int width, int height);

/// For every element, the lower of the two pixels between which it lies, and the weight of the
/// upper one. The lower pixel is never the last, so that the upper one exists wherever size > 1.
struct BilinearAxis {
  std::vector<int> lower;
  std::vector<float> weight;
};

/// `nearest` rounds the weights to 0 and 1. Centres outside 0 .. size are clamped.
void fill_bilinear(const Placement& placement, int size, bool nearest, BilinearAxis& axis);

/// For every element, the pixels that it averages: taps[i] of them from first[i] on, with
/// weights[i * taps_max ...], which sum to 1.
struct AntialiasAxis {
  std::vector<int> first;
  std::vector<int> taps;
  std::vector<float> weights;
  int taps_max = 0;
};

[[nodiscard]] int antialias_taps_max(const Placement& placement);

/// A triangle of half-width max(step, 1), cut off at the region's border and normalised: Pillow's
/// BILINEAR (libImaging/Resample.c, precompute_coeffs).
void fill_antialias(const Placement& placement, int size, AntialiasAxis& axis);

}  // namespace selvage::media
