// The inner loops of Transform, chosen once for the processor. Private to this folder.
#pragma once

#include <cstddef>
#include <cstdint>

namespace selvage::media {

/// A row of samples by channel, as floats from 0 to 255, in the order of the picture's memory.
/// One-channel pictures have the first only.
struct SampleRow {
  float* channel[3] = {nullptr, nullptr, nullptr};
};

/// What a row of samples is interpolated from. Sample i lies between the pixels at
/// top + offset[i] and the next one, and the two below them, at bottom + offset[i].
struct BilinearRow {
  const std::uint8_t* top = nullptr;
  const std::uint8_t* bottom = nullptr;
  const std::ptrdiff_t* offset = nullptr;
  const float* weight_x = nullptr;    ///< Of the right pixels, 0 to 1.
  const float* weight_y = nullptr;    ///< Of the lower pixels.
  std::uint32_t* gathered = nullptr;  ///< Room for 4 x count words.
  std::size_t count = 0;
};

struct WeightedColumns {
  const float* pixels = nullptr;
  const int* first = nullptr;
  const int* taps = nullptr;
  const float* weights = nullptr;
  std::size_t taps_max = 0;
  std::size_t count = 0;
};

struct Kernels {
  void (*bilinear_1)(const BilinearRow& in, const SampleRow& out);  ///< 1 byte a pixel.
  void (*bilinear_3)(const BilinearRow& in, const SampleRow& out);  ///< 3 bytes a pixel.
  void (*bilinear_4)(const BilinearRow& in, const SampleRow& out);  ///< 4, the last one ignored.

  /// sums[i] = the sum over k of weights[k] * rows[k][i].
  void (*weigh_rows)(const std::uint8_t* const* rows, const float* weights, std::size_t row_count,
                     std::size_t bytes, float* sums);

  /// Sample i is the sum over k of weights[i * taps_max + k] * pixel[first[i] + k], where the
  /// pixels are interleaved sums of weigh_rows. Up to three floats behind the last pixel are read.
  void (*weigh_columns_1)(const WeightedColumns& in, const SampleRow& out);
  void (*weigh_columns_3)(const WeightedColumns& in, const SampleRow& out);
  void (*weigh_columns_4)(const WeightedColumns& in, const SampleRow& out);

  /// 0.299 red + 0.587 green + 0.114 blue (BT.601), which may replace one of them.
  void (*luma)(const float* red, const float* green, const float* blue, float* luma,
               std::size_t count);

  /// to[i] = from[i] * scale + offset. `stride` elements lie between results.
  void (*finish_float32)(const float* from, std::size_t count, float scale, float offset, float* to,
                         std::size_t stride);
  void (*finish_float16)(const float* from, std::size_t count, float scale, float offset,
                         std::uint16_t* to, std::size_t stride);
  void (*finish_uint8)(const float* from, std::size_t count, float scale, float offset,
                       std::uint8_t* to, std::size_t stride);
};

/// The fastest that this processor can run.
[[nodiscard]] const Kernels& kernels();
/// Those that every processor of the build's target can run.
[[nodiscard]] const Kernels& portable_kernels();

}  // namespace selvage::media
