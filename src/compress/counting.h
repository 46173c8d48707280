// The loops that see every value of every sample, chosen once for the processor. Internal to
// src/compress.
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <span>

#include "compress/quantization.h"

namespace selvage::compress {

/// Bins of equal width between `first` and `last`, as numpy.histogram has them: edge i is first +
/// i * step in float32, the last edge is `last` itself and belongs to the last bin.
struct UniformBins {
  float first = 0;
  float last = 0;
  float step = 0;
  std::int32_t count = 0;
  bool absolute = false;  ///< Of the values' magnitudes.

  /// numpy.linspace's edges; a range of no width is widened by a half on both sides.
  [[nodiscard]] static UniformBins between(float first, float last, std::int32_t count);
  [[nodiscard]] float edge(std::int32_t index) const {
    return index == count ? last : static_cast<float>(index) * step + first;
  }
};

/// What compilers vectorise: std::nearbyint for |value| below 2^22, in the default rounding mode.
[[gnu::always_inline]] inline float round_half_to_even(float value) {
  constexpr float kShift = 12'582'912.0f;  // 1.5 * 2^23: no fraction is left beside it.
  return (value + kShift) - kShift;
}

/// quantize() of one value, still as a float.
[[gnu::always_inline]] inline float quantized(float value, float scale, float zero_point, float low,
                                              float high) {
  // Beyond every quantised type, and within what round_half_to_even() takes.
  constexpr float kQuotientMax = 1 << 20;
  float steps = value / scale;
  steps = steps >= -kQuotientMax ? steps : -kQuotientMax;  // NaN too.
  steps = steps <= kQuotientMax ? steps : kQuotientMax;
  const float shifted = round_half_to_even(steps) + zero_point;
  return shifted <= low ? low : shifted >= high ? high : shifted;
}

/// quantize() of all, within `range`; `to` may lie at any byte.
template <typename Stored>
[[gnu::always_inline]] inline void quantize_as(std::span<const float> values,
                                               QuantizationParameters parameters,
                                               QuantizedRange range, std::byte* to) {
  const auto zero_point = static_cast<float>(parameters.zero_point);
  const auto low = static_cast<float>(range.min), high = static_cast<float>(range.max);
  for (std::size_t i = 0; i < values.size(); ++i) {
    const auto stored = static_cast<Stored>(
        static_cast<std::int32_t>(quantized(values[i], parameters.scale, zero_point, low, high)));
    std::memcpy(to + i * sizeof stored, &stored, sizeof stored);
  }
}

struct Counting {
  /// Smallest and largest; NaN is passed over. min > max where nothing is left.
  RealRange (*extremes)(std::span<const float> values);
  /// The same of magnitudes.
  RealRange (*magnitudes)(std::span<const float> values);
  /// The bin of each value; bins.count for what lies outside, NaN included.
  void (*find_bins)(const UniformBins& bins, const float* values, std::size_t count,
                    std::int32_t* found);
  /// quantize() into one byte each, within `range`.
  void (*quantize_bytes)(std::span<const float> values, QuantizationParameters parameters,
                         QuantizedRange range, std::byte* to);
  /// KL divergence of two positive histograms, both normalised, as the reference computes it in
  /// float32. Changes both.
  float (*divergence)(std::span<float> p, std::span<float> q);
};

[[nodiscard]] const Counting& counting();
/// The same without vector instructions beyond the build's: what other processors run.
[[nodiscard]] const Counting& portable_counting();

}  // namespace selvage::compress
