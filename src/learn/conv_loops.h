// The innermost loops of a convolution, for the widest vectors that the machine
// has. Internal to src/learn.
//
// Pictures lie in planes whose rows include the padding, so that a window
// position is one offset: output position q of a plane reads q + offset[tap],
// whole rows at a time. The columns between one row's end and the next one's
// begin are computed too and thrown away (or multiplied by zero).
#pragma once

#include <cstddef>

namespace selvage::learn {

/// Floats behind the end of every plane that loops may read.
inline constexpr std::size_t kPlaneSlack = 64;

/// out[row][q] = start[row] + sum over channels and taps of
/// weights[channel][tap][row] * input[channel * plane + offsets[tap] + q], for
/// 0 <= q < count rounded up to a whole vector.
struct ConvBlock {
  const float* input;
  std::size_t plane, channels;
  const std::size_t* offsets;
  std::size_t taps;
  const float* weights;
  const float* start;
  float* out;
  std::size_t out_stride, count;
};

/// sums[row * stride + column] += sum over images and q of
/// rows[image * row_step + row * row_plane + q] * columns[column][image *
/// column_step + q]. Of the rows, those beyond `count` (up to a whole vector)
/// must be zero.
struct DotBlock {
  const float* rows;
  std::size_t row_plane, row_step;
  const float* const* columns;
  std::size_t column_step, images, count;
  float* sums;
  std::size_t stride;
};

/// One instruction set.
struct ConvLoops {
  std::size_t vector;        ///< Floats in one.
  std::size_t dot_rows = 4;  ///< Of a DotBlock.
  std::size_t dot_columns;
  std::size_t dot1_columns;         ///< Of a DotBlock of one row.
  void (*conv1)(const ConvBlock&);  ///< Of 1, 4, 6 and 8 rows.
  void (*conv4)(const ConvBlock&);
  void (*conv6)(const ConvBlock&);
  void (*conv8)(const ConvBlock&);
  void (*dot)(const DotBlock&);
  void (*dot1)(const DotBlock&);  ///< Of one row.
};
[[nodiscard]] const ConvLoops& conv_loops();

}  // namespace selvage::learn
