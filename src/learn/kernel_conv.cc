#include "learn/kernel_conv.h"

#include <algorithm>
#include <cstring>
#include <string>

#include "learn/conv_loops.h"

namespace selvage::learn {
namespace {

using infer::OperatorCall;

/// The batch is summed in this many parts, whatever the number of threads, so
/// that the order of the additions and with it every bit is always the same.
constexpr std::size_t kParts = 4;
/// Pictures that are laid out together: about half of a second-level cache.
constexpr std::size_t kGroupFloats = 256 * 1024;

/// A convolution as the forward pass sees it.
struct Geometry {
  std::size_t batch = 0, in = 0, out = 0;  ///< Images, channels.
  std::size_t height = 0, width = 0;       ///< Of the input.
  std::size_t out_height = 0, out_width = 0;
  std::size_t rows = 0, columns = 0;  ///< Of the window.
  std::size_t top = 0, left = 0, bottom = 0, right = 0;
  std::size_t row_stride = 1, column_stride = 1;

  [[nodiscard]] std::size_t taps() const { return rows * columns; }
};

std::unexpected<Error> misfit(const char* what) {
  return fail(ErrorCode::kInvalidArgument, std::string("selvage's Conv: ") + what);
}

/// Where the window lies: pads are top, left, bottom, right.
struct Placement {
  std::vector<std::int64_t> pads, strides;
};

std::int64_t output_size(const Placement& at, std::int64_t input, std::int64_t window,
                         std::size_t axis) {
  const auto room = input + at.pads[axis] + at.pads[axis + 2] - window;
  return room < 0 ? 0 : room / at.strides[axis] + 1;
}

/// x or dX and y or dY must agree with the window.
Result<Geometry> geometry_of(const Shape& x, const Shape& w, const Shape& y, const Placement& at) {
  if (x.size() != 4 || w.size() != 4 || y.size() != 4) return misfit("two dimensions are needed");
  for (std::size_t i = 0; i < 4; ++i)
    if (x[i] < 1 || w[i] < 1 || y[i] < 1) return misfit("a size is not positive");
  const bool fits = x[0] == y[0] && w[0] == y[1] && w[1] == x[1] &&
                    y[2] == output_size(at, x[2], w[2], 0) &&
                    y[3] == output_size(at, x[3], w[3], 1);
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

/// Copies a row. Most are shorter than what a call of memcpy takes; pieces of fixed size may
/// overlap.
void copy_row(const float* from, std::size_t count, float* to) {
  const auto ends = [&]<std::size_t kFloats>() {
    std::memcpy(to, from, kFloats * sizeof(float));
    std::memcpy(to + count - kFloats, from + count - kFloats, kFloats * sizeof(float));
  };
  if (count > 64) {
    std::memcpy(to, from, count * sizeof(float));
  } else if (count >= 16) {
    for (std::size_t i = 16; i + 16 < count; i += 16)
      std::memcpy(to + i, from + i, 16 * sizeof(float));
    ends.operator()<16>();
  } else if (count >= 8) {
    ends.operator()<8>();
  } else if (count >= 4) {
    ends.operator()<4>();
  } else {
    for (std::size_t i = 0; i < count; ++i) to[i] = from[i];
  }
}

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
  void fill(const float* from, std::size_t planes, const Geometry& g, float* to) const {
    std::fill_n(to, planes * plane(), 0.0f);
    for (std::size_t p = 0; p < planes; ++p, to += plane())
      for (std::size_t y = 0; y < g.height; ++y, from += g.width) {
        if ((top + y) % row_stride >= row_phases) continue;
        if (column_stride == 1) {
          copy_row(from, g.width, to + offset(top + y, left));
          continue;
        }
        for (std::size_t begin = 0; begin < std::min(column_stride, g.width); ++begin) {
          if ((left + begin) % column_stride >= column_phases) continue;
          float* next = to + offset(top + y, left + begin);
          for (std::size_t x = begin; x < g.width; x += column_stride) *next++ = from[x];
        }
      }
  }
};

/// Memory that a thread keeps between calls.
float* scratch(std::vector<float>& kept, std::size_t floats) {
  if (kept.size() < floats) kept.resize(floats);
  return kept.data();
}

/// How the output's channels are taken: 4, 6 or 8 at a time, whichever leaves
/// least over.
std::size_t rows_at_once(std::size_t channels) {
  std::size_t best = 8, waste = (channels + 7) / 8 * 8;
  for (const std::size_t rows : {std::size_t{6}, std::size_t{4}})
    if (const auto padded = (channels + rows - 1) / rows * rows; padded < waste)
      best = rows, waste = padded;
  return best;
}

/// [block][input channel][tap][row], missing rows zero; and the rows' starting values.
struct PackedWeights {
  std::vector<float> weights, start;
  std::size_t rows = 0, blocks = 0, per_block = 0;
};
template <typename At>
PackedWeights pack(std::size_t in, std::size_t out, std::size_t taps, std::span<const float> bias,
                   const At& at) {
  PackedWeights packed;
  packed.rows = rows_at_once(out);
  packed.blocks = (out + packed.rows - 1) / packed.rows;
  packed.per_block = packed.rows * in * taps;
  packed.weights.assign(packed.blocks * packed.per_block, 0);
  packed.start.assign(packed.blocks * packed.rows, 0);
  std::ranges::copy(bias, packed.start.begin());
  for (std::size_t m = 0; m < out; ++m) {
    float* to = packed.weights.data() + m / packed.rows * packed.per_block + m % packed.rows;
    for (std::size_t c = 0; c < in; ++c)
      for (std::size_t t = 0; t < taps; ++t, to += packed.rows) *to = at(m, c, t);
  }
  return packed;
}

/// A sum of shifted planes: what is the same for all images.
struct Shifts {
  std::size_t plane = 0, in = 0, out = 0, count = 0;
  std::vector<std::size_t> offsets;
  PackedWeights packed;
};

/// Calls store(output channel, its `count` floats) for each channel.
template <typename Store>
void add_shifted(const Shifts& shifts, const float* input, const Store& store) {
  static thread_local std::vector<float> kept;
  const auto& loops = conv_loops();
  const auto& packed = shifts.packed;
  const auto stride = (shifts.count + loops.vector - 1) / loops.vector * loops.vector;
  float* output = scratch(kept, packed.rows * stride);
  const auto run = packed.rows == 4 ? loops.conv4 : packed.rows == 6 ? loops.conv6 : loops.conv8;
  for (std::size_t block = 0; block < packed.blocks; ++block) {
    run({.input = input,
         .plane = shifts.plane,
         .channels = shifts.in,
         .offsets = shifts.offsets.data(),
         .taps = shifts.offsets.size(),
         .weights = packed.weights.data() + block * packed.per_block,
         .start = packed.start.data() + block * packed.rows,
         .out = output,
         .out_stride = stride,
         .count = shifts.count});
    const auto first = block * packed.rows;
    for (std::size_t r = 0; r < std::min(packed.rows, shifts.out - first); ++r)
      store(first + r, output + r * stride);
  }
}

class ConvKernel : public infer::OperatorKernel {
 public:
  explicit ConvKernel(Placement at) : at_(std::move(at)) {}

 protected:
  static Result<Placement> placement_of(const infer::OperatorAttributes& attributes) {
    Placement at{attributes.integers("pads"), attributes.integers("strides")};
    if (at.pads.size() != 4 || at.strides.size() != 2)
      return misfit("it takes four pads and two strides");
    if (std::ranges::any_of(at.pads, [](auto pad) { return pad < 0; }) ||
        std::ranges::any_of(at.strides, [](auto stride) { return stride < 1; }))
      return misfit("pads are not negative and strides are positive");
    return at;
  }
  Placement at_;
};

class Forward final : public ConvKernel {
 public:
  using ConvKernel::ConvKernel;
  static Result<std::unique_ptr<infer::OperatorKernel>> create(
      const infer::OperatorAttributes& attributes) {
    SELVAGE_TRY(auto at, placement_of(attributes));
    return std::make_unique<Forward>(std::move(at));
  }
  Result<void> compute(OperatorCall& call) const override {
    SELVAGE_TRY(const auto x, call.input(0));
    SELVAGE_TRY(const auto w, call.input(1));
    SELVAGE_TRY(const auto bias, call.input(2));
    if (x.shape.size() != 4 || w.shape.size() != 4) return misfit("two dimensions are needed");
    const Shape y{x.shape[0], w.shape[0], output_size(at_, x.shape[2], w.shape[2], 0),
                  output_size(at_, x.shape[3], w.shape[3], 1)};
    SELVAGE_TRY(const auto g, geometry_of(x.shape, w.shape, y, at_));
    if (bias.values.size() != g.out) return misfit("there is one bias for each output channel");
    SELVAGE_TRY(const auto output, call.output(0, y));
    const PictureLayout layout(g);
    Shifts shifts{layout.plane(), g.in, g.out, layout.span(g), layout.offsets(g), {}};
    shifts.packed =
        pack(g.in, g.out, g.taps(), bias.values, [&](std::size_t m, std::size_t c, std::size_t t) {
          return w.values[(m * g.in + c) * g.taps() + t];
        });
    return call.parallel(g.batch, [&](std::size_t n) {
      static thread_local std::vector<float> kept;
      float* laid = scratch(kept, g.in * layout.plane() + kPlaneSlack);
      layout.fill(x.values.data() + n * g.in * g.height * g.width, g.in, g, laid);
      std::fill_n(laid + g.in * layout.plane(), kPlaneSlack, 0.0f);
      float* image = output.data() + n * g.out * g.out_height * g.out_width;
      add_shifted(shifts, laid, [&](std::size_t m, const float* sums) {
        float* to = image + m * g.out_height * g.out_width;
        for (std::size_t h = 0; h < g.out_height; ++h)
          copy_row(sums + h * layout.row, g.out_width, to + h * g.out_width);
      });
    });
  }
};

/// Along one axis, the positions of dX that a stride of s makes alike: padded position s * i +
/// phase for first <= i <= last is the sum over j < taps of dY[i - j] * W[phase + s * j].
struct PhaseAxis {
  std::size_t phase = 0, taps = 0, first = 0, last = 0;
  bool is_empty = false;  ///< No position of the picture is of this phase.

  PhaseAxis(std::size_t number, std::size_t stride, std::size_t window, std::size_t before,
            std::size_t size)
      : phase(number), taps(window > number ? (window - number + stride - 1) / stride : 0) {
    is_empty = size + before <= number;
    if (is_empty) return;
    first = before > number ? (before - number + stride - 1) / stride : 0;
    last = (size + before - 1 - number) / stride;
    is_empty = first > last;
  }
};

std::vector<PhaseAxis> phases_of(std::size_t stride, std::size_t window, std::size_t before,
                                 std::size_t size) {
  std::vector<PhaseAxis> phases;
  for (std::size_t number = 0; number < stride; ++number) {
    const PhaseAxis axis(number, stride, window, before, size);
    if (!axis.is_empty) phases.push_back(axis);
  }
  return phases;
}

/// How much of zeros dY needs before and how long it is with what comes behind.
struct PaddedAxis {
  std::size_t before = 0, size = 0;

  PaddedAxis(std::span<const PhaseAxis> phases, std::size_t out) {
    std::size_t last = 0;
    for (const auto& axis : phases) {
      if (axis.taps > axis.first + 1) before = std::max(before, axis.taps - 1 - axis.first);
      last = std::max(last, axis.last);
    }
    size = before + std::max(out, last + 1);
  }
};

/// Sums of dY shifted, as many of them as the stride has phases; each gives every s-th row and
/// column.
class InputGradient final : public ConvKernel {
 public:
  InputGradient(Placement at, std::vector<std::int64_t> input_size)
      : ConvKernel(std::move(at)), input_size_(std::move(input_size)) {}
  static Result<std::unique_ptr<infer::OperatorKernel>> create(
      const infer::OperatorAttributes& attributes) {
    SELVAGE_TRY(auto at, placement_of(attributes));
    auto size = attributes.integers("input_size");
    if (size.size() != 2) return misfit("its gradient takes the input's height and width");
    return std::make_unique<InputGradient>(std::move(at), std::move(size));
  }
  Result<void> compute(OperatorCall& call) const override {
    SELVAGE_TRY(const auto dy, call.input(0));
    SELVAGE_TRY(const auto w, call.input(1));
    if (dy.shape.size() != 4 || w.shape.size() != 4) return misfit("two dimensions are needed");
    const Shape dx{dy.shape[0], w.shape[1], input_size_[0], input_size_[1]};
    SELVAGE_TRY(const auto g, geometry_of(dx, w.shape, dy.shape, at_));
    SELVAGE_TRY(const auto output, call.output(0, dx));
    const auto row_phases = phases_of(g.row_stride, g.rows, g.top, g.height);
    const auto column_phases = phases_of(g.column_stride, g.columns, g.left, g.width);
    const PaddedAxis rows(row_phases, g.out_height), columns(column_phases, g.out_width);
    std::vector<Phase> phases;
    for (const auto& r : row_phases)
      for (const auto& c : column_phases)
        phases.push_back({r, c, shifts_of(g, r, c, rows, columns, w.values)});
    return call.parallel(g.batch, [&](std::size_t n) {
      static thread_local std::vector<float> kept;
      const auto plane = rows.size * columns.size;
      float* laid = scratch(kept, g.out * plane + kPlaneSlack);
      std::fill_n(laid, g.out * plane + kPlaneSlack, 0.0f);
      const float* from = dy.values.data() + n * g.out * g.out_height * g.out_width;
      for (std::size_t m = 0; m < g.out; ++m)
        for (std::size_t h = 0; h < g.out_height; ++h, from += g.out_width)
          copy_row(from, g.out_width,
                   laid + m * plane + (rows.before + h) * columns.size + columns.before);
      float* image = output.data() + n * g.in * g.height * g.width;
      for (const auto& phase : phases)
        add_shifted(phase.shifts, laid, [&](std::size_t c, const float* sums) {
          store(g, phase, columns.size, sums, image + c * g.height * g.width);
        });
    });
  }

 private:
  struct Phase {
    PhaseAxis row, column;
    Shifts shifts;
  };

  static Shifts shifts_of(const Geometry& g, const PhaseAxis& row, const PhaseAxis& column,
                          const PaddedAxis& rows, const PaddedAxis& columns,
                          std::span<const float> w) {
    Shifts shifts{.plane = rows.size * columns.size,
                  .in = g.out,
                  .out = g.in,
                  .count = (row.last - row.first) * columns.size + column.last - column.first + 1,
                  .offsets = {},
                  .packed = {}};
    std::vector<std::size_t> taps;  // Of the window, in the order of the offsets.
    for (std::size_t j = 0; j < row.taps; ++j)
      for (std::size_t k = 0; k < column.taps; ++k) {
        shifts.offsets.push_back((rows.before + row.first - j) * columns.size + columns.before +
                                 column.first - k);
        taps.push_back((row.phase + j * g.row_stride) * g.columns + column.phase +
                       k * g.column_stride);
      }
    shifts.packed =
        pack(g.out, g.in, taps.size(), {}, [&](std::size_t c, std::size_t m, std::size_t t) {
          return w[(m * g.in + c) * g.taps() + taps[t]];
        });
    return shifts;
  }

  static void store(const Geometry& g, const Phase& phase, std::size_t row, const float* sums,
                    float* dx) {
    const auto& [rows, columns, shifts] = phase;
    const auto count = columns.last - columns.first + 1;
    const auto left = columns.first * g.column_stride + columns.phase - g.left;
    for (auto i = rows.first; i <= rows.last; ++i, sums += row) {
      float* to = dx + (i * g.row_stride + rows.phase - g.top) * g.width + left;
      if (g.column_stride == 1) {
        copy_row(sums, count, to);
      } else {
        for (std::size_t k = 0; k < count; ++k) to[k * g.column_stride] = sums[k];
      }
    }
  }

  std::vector<std::int64_t> input_size_;
};

class WeightGradient final : public ConvKernel {
 public:
  WeightGradient(Placement at, std::vector<std::int64_t> kernel)
      : ConvKernel(std::move(at)), kernel_(std::move(kernel)) {}
  static Result<std::unique_ptr<infer::OperatorKernel>> create(
      const infer::OperatorAttributes& attributes) {
    SELVAGE_TRY(auto at, placement_of(attributes));
    auto kernel = attributes.integers("kernel_shape");
    if (kernel.size() != 2) return misfit("its weights' gradient takes their height and width");
    return std::make_unique<WeightGradient>(std::move(at), std::move(kernel));
  }
  Result<void> compute(OperatorCall& call) const override {
    SELVAGE_TRY(const auto x, call.input(0));
    SELVAGE_TRY(const auto dy, call.input(1));
    if (x.shape.size() != 4 || dy.shape.size() != 4) return misfit("two dimensions are needed");
    const Shape dw{dy.shape[1], x.shape[1], kernel_[0], kernel_[1]};
    SELVAGE_TRY(const auto g, geometry_of(x.shape, dw, dy.shape, at_));
    SELVAGE_TRY(const auto output, call.output(0, dw));
    const auto& loops = conv_loops();
    const auto rows = round_up(g.out, loops.dot_rows);
    const auto columns = round_up(g.in * g.taps(), loops.dot_columns);
    const auto parts = std::min(kParts, g.batch);
    std::vector<float> sums(parts * rows * columns, 0);
    SELVAGE_RETURN_IF_ERROR(call.parallel(parts, [&](std::size_t part) {
      add_part(g, x.values, dy.values, part * g.batch / parts, (part + 1) * g.batch / parts,
               sums.data() + part * rows * columns, columns);
    }));
    for (std::size_t m = 0; m < g.out; ++m) {
      float* to = output.data() + m * g.in * g.taps();
      std::copy_n(sums.data() + m * columns, g.in * g.taps(), to);
      for (std::size_t part = 1; part < parts; ++part) {
        const float* from = sums.data() + (part * rows + m) * columns;
        for (std::size_t i = 0; i < g.in * g.taps(); ++i) to[i] += from[i];
      }
    }
    return {};
  }

 private:
  static std::size_t round_up(std::size_t value, std::size_t unit) {
    return (value + unit - 1) / unit * unit;
  }

  /// Adds what images first to last give.
  static void add_part(const Geometry& g, std::span<const float> x, std::span<const float> dy,
                       std::size_t first, std::size_t last, float* sums, std::size_t stride) {
    static thread_local std::vector<float> kept_x, kept_dy;
    const auto& loops = conv_loops();
    const auto rows = round_up(g.out, loops.dot_rows);
    const PictureLayout layout(g);
    const auto count = layout.span(g), dy_plane = round_up(count, loops.vector);
    const auto x_image = g.in * layout.plane(), dy_image = rows * dy_plane;
    const auto group =
        std::clamp<std::size_t>(kGroupFloats / (x_image + dy_image), 1, last - first);
    float* laid_x = scratch(kept_x, group * x_image + kPlaneSlack);
    float* laid_dy = scratch(kept_dy, group * dy_image);
    std::fill_n(laid_x + group * x_image, kPlaneSlack, 0.0f);
    const auto pointers = column_pointers(g, layout, laid_x, loops.dot_columns);
    for (auto from = first; from < last; from += group) {
      const auto images = std::min(group, last - from);
      layout.fill(x.data() + from * g.in * g.height * g.width, images * g.in, g, laid_x);
      std::fill_n(laid_dy, images * dy_image, 0.0f);
      const float* rows_of_dy = dy.data() + from * g.out * g.out_height * g.out_width;
      for (std::size_t i = 0; i < images; ++i)
        for (std::size_t m = 0; m < g.out; ++m)
          for (std::size_t h = 0; h < g.out_height; ++h, rows_of_dy += g.out_width)
            copy_row(rows_of_dy, g.out_width,
                     laid_dy + i * dy_image + m * dy_plane + h * layout.row);
      // A few rows of dY stay in the first-level cache while all of X passes by.
      for (std::size_t row = 0; row < rows; row += loops.dot_rows)
        for (std::size_t column = 0; column < pointers.size(); column += loops.dot_columns)
          loops.dot({.rows = laid_dy + row * dy_plane,
                     .row_plane = dy_plane,
                     .row_step = dy_image,
                     .columns = pointers.data() + column,
                     .column_step = x_image,
                     .images = images,
                     .count = count,
                     .sums = sums + row * stride + column,
                     .stride = stride});
    }
  }

  /// Where each input channel's taps begin; the surplus repeats the first.
  static std::vector<const float*> column_pointers(const Geometry& g, const PictureLayout& layout,
                                                   const float* x, std::size_t unit) {
    const auto offsets = layout.offsets(g);
    std::vector<const float*> pointers;
    for (std::size_t c = 0; c < g.in; ++c)
      for (const auto offset : offsets) pointers.push_back(x + c * layout.plane() + offset);
    pointers.resize(round_up(pointers.size(), unit), x);
    return pointers;
  }

  std::vector<std::int64_t> kernel_;
};

}  // namespace

const infer::CustomOperator kConvOperator{"Conv", 3, 1, Forward::create};
const infer::CustomOperator kConvInputGradientOperator{"ConvInputGradient", 2, 1,
                                                       InputGradient::create};
const infer::CustomOperator kConvWeightGradientOperator{"ConvWeightGradient", 2, 1,
                                                        WeightGradient::create};

}  // namespace selvage::learn
