// The innermost loops of batch normalisation and of what limits values to a range. Internal to
// src/learn.
#pragma once

#include <cstddef>
#include <limits>

namespace selvage::learn {

/// One channel of a tensor [N,C,...]: `planes` runs of `count` floats, `step` floats apart.
struct Channel {
  std::size_t planes, step, count;
};

/// What follows a normalisation: values below `floor` or above `ceiling` become those. A gradient
/// passes where `pass_from` <= value <= `ceiling`.
struct Limits {
  float floor = -std::numeric_limits<float>::infinity();
  float ceiling = std::numeric_limits<float>::infinity();
  float pass_from = -std::numeric_limits<float>::infinity();
};

/// y = scale * x + shift
struct AffineMap {
  float scale, shift;
};

struct GradientSums {
  float gradient, product;
};

/// One instruction set. Sums take their elements in one order, whatever the number of threads.
struct NormLoops {
  float (*sum)(const Channel&, const float* x);
  /// Of (x - mean)^2.
  float (*squares)(const Channel&, const float* x, float mean);
  /// y = limited(map(x) + added); `added` may be null.
  void (*apply)(const Channel&, const float* x, const float* added, AffineMap, const Limits&,
                float* y);
  /// With g = dy where map(x) lies within the limits and 0 elsewhere: the sums of g and of
  /// g * (x - mean).
  GradientSums (*gradient_sums)(const Channel&, const float* x, const float* dy, float mean,
                                AffineMap, const Limits&);
  /// dx = of_g * g + of_x(x)
  void (*gradient)(const Channel&, const float* x, const float* dy, AffineMap, const Limits&,
                   float of_g, AffineMap of_x, float* dx);
  /// dx = dy where x lies within the limits and 0 elsewhere.
  void (*pass)(std::size_t count, const float* x, const float* dy, const Limits&, float* dx);
};
[[nodiscard]] const NormLoops& norm_loops();

}  // namespace selvage::learn
