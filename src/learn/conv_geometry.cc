#include "learn/conv_geometry.h"

#include <cstring>
#include <string>

namespace selvage::learn {
namespace {

PhaseAxis phase_of(std::size_t number, std::size_t stride, std::size_t window, std::size_t before,
                   std::size_t size) {
  return {.phase = number,
          .taps = window > number ? (window - number + stride - 1) / stride : 0,
          .first = before > number ? (before - number + stride - 1) / stride : 0,
          .last = (size + before - 1 - number) / stride};
}

/// Those that have positions in the picture.
std::vector<PhaseAxis> phases_of(std::size_t stride, std::size_t window, std::size_t before,
                                 std::size_t size) {
  std::vector<PhaseAxis> phases;
  for (std::size_t number = 0; number < std::min(stride, size + before); ++number)
    if (const auto axis = phase_of(number, stride, window, before, size); axis.first <= axis.last)
      phases.push_back(axis);
  return phases;
}

PaddedAxis padded(std::span<const PhaseAxis> phases, std::size_t out) {
  PaddedAxis axis;
  std::size_t last = 0;
  for (const auto& phase : phases) {
    if (phase.taps > phase.first + 1)
      axis.before = std::max(axis.before, phase.taps - 1 - phase.first);
    last = std::max(last, phase.last);
  }
  axis.size = axis.before + std::max(out, last + 1);
  return axis;
}

}  // namespace

std::unexpected<Error> misfit(const char* what) {
  return fail(ErrorCode::kInvalidArgument, std::string("selvage's Conv: ") + what);
}

Result<Placement> Placement::of(const infer::OperatorAttributes& attributes) {
  Placement at{attributes.integers("pads"), attributes.integers("strides")};
  if (at.pads.size() != 4 || at.strides.size() != 2)
    return misfit("it takes four pads and two strides");
  if (std::ranges::any_of(at.pads, [](auto pad) { return pad < 0; }) ||
      std::ranges::any_of(at.strides, [](auto stride) { return stride < 1; }))
    return misfit("pads are not negative and strides are positive");
  return at;
}

std::int64_t Placement::output_size(std::int64_t input, std::int64_t window,
                                    std::size_t axis) const {
  const auto room = input + pads[axis] + pads[axis + 2] - window;
  return room < 0 ? 0 : room / strides[axis] + 1;
}

Result<Geometry> Geometry::of(const Shape& x, const Shape& w, const Shape& y, const Placement& at) {
  if (x.size() != 4 || w.size() != 4 || y.size() != 4) return misfit("two dimensions are needed");
  for (std::size_t i = 0; i < 4; ++i)
    if (x[i] < 1 || w[i] < 1 || y[i] < 1) return misfit("a size is not positive");
  const bool fits = x[0] == y[0] && w[0] == y[1] && w[1] == x[1] &&
                    y[2] == at.output_size(x[2], w[2], 0) && y[3] == at.output_size(x[3], w[3], 1);
  if (!fits) return misfit("the shapes do not fit each other");
  const auto size = [](std::int64_t value) { return static_cast<std::size_t>(value); };
  return Geometry{.batch = size(x[0]),
                  .in = size(x[1]),
                  .out = size(y[1]),
                  .height = size(x[2]),
                  .width = size(x[3]),
                  .out_height = size(y[2]),
                  .out_width = size(y[3]),
                  .rows = size(w[2]),
                  .columns = size(w[3]),
                  .top = size(at.pads[0]),
                  .left = size(at.pads[1]),
                  .bottom = size(at.pads[2]),
                  .right = size(at.pads[3]),
                  .row_stride = size(at.strides[0]),
                  .column_stride = size(at.strides[1])};
}

void copy_rows(const float* from, std::size_t from_stride, std::size_t width, std::size_t count,
               float* to, std::size_t to_stride) {
  // Most rows are shorter than what a call of memcpy takes. The last piece may overlap the one
  // before it.
  const auto in_pieces = [&]<std::size_t kFloats>() {
    for (std::size_t row = 0; row < count; ++row, from += from_stride, to += to_stride) {
      for (std::size_t i = 0; i + kFloats < width; i += kFloats)
        std::memcpy(to + i, from + i, kFloats * sizeof(float));
      const auto last = width - kFloats;
      std::memcpy(to + last, from + last, kFloats * sizeof(float));
    }
  };
  if (width >= 16)
    in_pieces.operator()<16>();
  else if (width >= 8)
    in_pieces.operator()<8>();
  else if (width >= 4)
    in_pieces.operator()<4>();
  else if (width > 0)
    in_pieces.operator()<1>();
}

void PictureLayout::fill(const float* from, std::size_t planes, const Geometry& g,
                         float* to) const {
  std::fill_n(to, planes * plane(), 0.0f);
  if (row_stride == 1 && column_stride == 1) {
    for (std::size_t p = 0; p < planes; ++p, from += g.height * g.width, to += plane())
      copy_rows(from, g.width, g.width, g.height, to + offset(top, left), row);
    return;
  }
  for (std::size_t p = 0; p < planes; ++p, to += plane())
    for (std::size_t y = 0; y < g.height; ++y, from += g.width) {
      if ((top + y) % row_stride >= row_phases) continue;
      for (std::size_t begin = 0; begin < std::min(column_stride, g.width); ++begin) {
        if ((left + begin) % column_stride >= column_phases) continue;
        float* next = to + offset(top + y, left + begin);
        for (std::size_t x = begin; x < g.width; x += column_stride) *next++ = from[x];
      }
    }
}

InputPlan::InputPlan(const Geometry& g) {
  const auto row_phases = phases_of(g.row_stride, g.rows, g.top, g.height);
  const auto column_phases = phases_of(g.column_stride, g.columns, g.left, g.width);
  rows = padded(row_phases, g.out_height);
  columns = padded(column_phases, g.out_width);
  for (const auto& row : row_phases)
    for (const auto& column : column_phases) {
      auto& phase = phases.emplace_back();
      phase.row = row;
      phase.column = column;
      phase.count = (row.last - row.first) * columns.size + column.last - column.first + 1;
      for (std::size_t j = 0; j < row.taps; ++j)
        for (std::size_t k = 0; k < column.taps; ++k) {
          phase.offsets.push_back((rows.before + row.first - j) * columns.size + columns.before +
                                  column.first - k);
          phase.taps.push_back((row.phase + j * g.row_stride) * g.columns + column.phase +
                               k * g.column_stride);
        }
    }
}

void InputPlan::fill(const float* from, std::size_t planes, const Geometry& g, float* to) const {
  std::fill_n(to, planes * plane(), 0.0f);
  to += rows.before * columns.size + columns.before;
  for (std::size_t p = 0; p < planes; ++p, from += g.out_height * g.out_width, to += plane())
    copy_rows(from, g.out_width, g.out_width, g.out_height, to, columns.size);
}

void InputPlan::store(const Geometry& g, const Phase& phase, const float* sums, float* dx) const {
  const auto& row = phase.row;
  const auto& column = phase.column;
  const auto count = column.last - column.first + 1;
  const auto left = column.first * g.column_stride + column.phase - g.left;
  float* to = dx + (row.first * g.row_stride + row.phase - g.top) * g.width + left;
  const auto to_stride = g.row_stride * g.width;
  const auto height = row.last - row.first + 1;
  if (g.column_stride == 1) return copy_rows(sums, columns.size, count, height, to, to_stride);
  for (std::size_t i = 0; i < height; ++i, sums += columns.size, to += to_stride)
    for (std::size_t k = 0; k < count; ++k) to[k * g.column_stride] = sums[k];
}

}  // namespace selvage::learn
