// Where the elements of a convolution lie: what our own convolutions (kernel_conv.h,
// kernel_depthwise.h) share. Internal to src/learn.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <vector>

#include "base/result.h"
#include "base/tensor.h"
#include "infer/custom_operator.h"

namespace selvage::learn {

/// Pictures that are laid out together: about half of a second-level cache.
inline constexpr std::size_t kGroupFloats = 256u << 10;

[[nodiscard]] std::unexpected<Error> misfit(const char* what);

/// Where the window lies: pads are top, left, bottom, right.
struct Placement {
  std::vector<std::int64_t> pads, strides;

  /// kInvalidArgument for attributes that are none.
  [[nodiscard]] static Result<Placement> of(const infer::OperatorAttributes& attributes);
  /// Along an axis; 0 where the window does not fit in.
  [[nodiscard]] std::int64_t output_size(std::int64_t input, std::int64_t window,
                                         std::size_t axis) const;
};

/// What all three operators of a convolution keep of their node: Kernel(Placement), or
/// Kernel(Placement, size) with the two sides of what it gives, which the attribute `sizes` holds.
/// kInvalidArgument for attributes that are none.
template <typename Kernel>
[[nodiscard]] Result<std::unique_ptr<infer::OperatorKernel>> make_placed(
    const infer::OperatorAttributes& attributes) {
  SELVAGE_TRY(auto at, Placement::of(attributes));
  return std::make_unique<Kernel>(std::move(at));
}
template <typename Kernel>
[[nodiscard]] Result<std::unique_ptr<infer::OperatorKernel>> make_sized(
    const infer::OperatorAttributes& attributes, const char* sizes) {
  SELVAGE_TRY(auto at, Placement::of(attributes));
  auto size = attributes.integers(sizes);
  if (size.size() != 2) return misfit("a gradient takes the height and width of what it gives");
  return std::make_unique<Kernel>(std::move(at), std::move(size));
}

/// A convolution as the forward pass sees it.
struct Geometry {
  std::size_t batch = 0, in = 0, out = 0;  ///< Images, channels.
  std::size_t height = 0, width = 0;       ///< Of the input.
  std::size_t out_height = 0, out_width = 0;
  std::size_t rows = 0, columns = 0;  ///< Of the window.
  std::size_t top = 0, left = 0, bottom = 0, right = 0;
  std::size_t row_stride = 1, column_stride = 1;

  /// x or dX and y or dY must agree with the window: kInvalidArgument.
  [[nodiscard]] static Result<Geometry> of(const Shape& x, const Shape& w, const Shape& y,
                                           const Placement& at);
  [[nodiscard]] std::size_t taps() const { return rows * columns; }
};

/// `count` rows of `width` floats, which begin every `from_stride` floats, come to lie every
/// `to_stride` floats.
void copy_rows(const float* from, std::size_t from_stride, std::size_t width, std::size_t count,
               float* to, std::size_t to_stride);

/// How a picture is laid out: its padding as part of each row, and with a stride of s each s-th
/// column and row in a picture of its own (a phase), so that a window position is one offset.
struct PictureLayout {
  std::size_t row_phases = 1, column_phases = 1;  ///< That the window sees.
  std::size_t row_stride = 1, column_stride = 1;
  std::size_t top = 0, left = 0;
  std::size_t rows = 0, row = 0;  ///< Of one phase.

  explicit PictureLayout(const Geometry& g)
      : row_phases(std::min(g.row_stride, g.rows)),
        column_phases(std::min(g.column_stride, g.columns)),
        row_stride(g.row_stride),
        column_stride(g.column_stride),
        top(g.top),
        left(g.left),
        rows((g.height + g.top + g.bottom + row_stride - 1) / row_stride),
        row((g.width + g.left + g.right + column_stride - 1) / column_stride) {}

  [[nodiscard]] std::size_t phase() const { return rows * row; }
  [[nodiscard]] std::size_t plane() const { return row_phases * column_phases * phase(); }
  /// Of padded row `y` and column `x`.
  [[nodiscard]] std::size_t offset(std::size_t y, std::size_t x) const {
    return (y % row_stride * column_phases + x % column_stride) * phase() + y / row_stride * row +
           x / column_stride;
  }
  [[nodiscard]] std::vector<std::size_t> offsets(const Geometry& g) const {
    std::vector<std::size_t> all;
    for (std::size_t a = 0; a < g.rows; ++a)
      for (std::size_t b = 0; b < g.columns; ++b) all.push_back(offset(a, b));
    return all;
  }
  /// Positions from the first to the last of the output, those between rows included.
  [[nodiscard]] std::size_t span(const Geometry& g) const {
    return (g.out_height - 1) * row + g.out_width;
  }
  /// Copies `planes` pictures, zeros around.
  void fill(const float* from, std::size_t planes, const Geometry& g, float* to) const;
};

/// Memory that a thread keeps between calls.
inline float* scratch(std::vector<float>& kept, std::size_t floats) {
  if (kept.size() < floats) kept.resize(floats);
  return kept.data();
}

/// Along one axis, the positions of dX that a stride of s makes alike: padded position s * i +
/// phase for first <= i <= last is the sum over j < taps of dY[i - j] * W[phase + s * j].
struct PhaseAxis {
  std::size_t phase = 0, taps = 0, first = 0, last = 0;
};

/// How much of zeros dY needs before and how long it is with what comes behind.
struct PaddedAxis {
  std::size_t before = 0, size = 0;
};

/// dX as sums of shifted dY: as many pictures as the stride has phases, each of which gives every
/// s-th row and column.
struct InputPlan {
  struct Phase {
    PhaseAxis row, column;
    std::size_t count = 0;  ///< Positions from the first to the last, those between rows included.
    std::vector<std::size_t> offsets, taps;  ///< Into dY and into the window, equally many.
  };
  PaddedAxis rows, columns;
  std::vector<Phase> phases;

  explicit InputPlan(const Geometry& g);
  [[nodiscard]] std::size_t plane() const { return rows.size * columns.size; }
  /// Copies `planes` planes of dY, zeros around.
  void fill(const float* from, std::size_t planes, const Geometry& g, float* to) const;
  /// Puts a phase's sums to their places in a plane of dX.
  void store(const Geometry& g, const Phase& phase, const float* sums, float* dx) const;
};

}  // namespace selvage::learn
