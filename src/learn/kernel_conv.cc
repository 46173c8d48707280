#include "learn/kernel_conv.h"

#include <algorithm>

#include "learn/conv_geometry.h"
#include "learn/conv_loops.h"

namespace selvage::learn {
namespace {

using infer::OperatorCall;

/// The batch is summed in this many parts, whatever the number of threads, so
/// that the order of the additions and with it every bit is always the same.
constexpr std::size_t kParts = 4;

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
  if (packed.weights.empty()) return packed;  // No tap reaches: every sum is its starting value.
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
  Placement at_;
};

class Forward final : public ConvKernel {
 public:
  using ConvKernel::ConvKernel;
  static Result<std::unique_ptr<infer::OperatorKernel>> create(
      const infer::OperatorAttributes& attributes) {
    return make_placed<Forward>(attributes);
  }
  Result<void> compute(OperatorCall& call) const override {
    SELVAGE_TRY(const auto x, call.input(0));
    SELVAGE_TRY(const auto w, call.input(1));
    SELVAGE_TRY(const auto bias, call.input(2));
    if (x.shape.size() != 4 || w.shape.size() != 4) return misfit("two dimensions are needed");
    const Shape y{x.shape[0], w.shape[0], at_.output_size(x.shape[2], w.shape[2], 0),
                  at_.output_size(x.shape[3], w.shape[3], 1)};
    SELVAGE_TRY(const auto g, Geometry::of(x.shape, w.shape, y, at_));
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
        copy_rows(sums, layout.row, g.out_width, g.out_height,
                  image + m * g.out_height * g.out_width, g.out_width);
      });
    });
  }
};

class InputGradient final : public ConvKernel {
 public:
  InputGradient(Placement at, std::vector<std::int64_t> input_size)
      : ConvKernel(std::move(at)), input_size_(std::move(input_size)) {}
  static Result<std::unique_ptr<infer::OperatorKernel>> create(
      const infer::OperatorAttributes& attributes) {
    return make_sized<InputGradient>(attributes, "input_size");
  }
  Result<void> compute(OperatorCall& call) const override {
    SELVAGE_TRY(const auto dy, call.input(0));
    SELVAGE_TRY(const auto w, call.input(1));
    if (dy.shape.size() != 4 || w.shape.size() != 4) return misfit("two dimensions are needed");
    const Shape dx{dy.shape[0], w.shape[1], input_size_[0], input_size_[1]};
    SELVAGE_TRY(const auto g, Geometry::of(dx, w.shape, dy.shape, at_));
    SELVAGE_TRY(const auto output, call.output(0, dx));
    const InputPlan plan(g);
    std::vector<Shifts> shifts;
    for (const auto& phase : plan.phases) shifts.push_back(shifts_of(g, plan, phase, w.values));
    return call.parallel(g.batch, [&](std::size_t n) {
      static thread_local std::vector<float> kept;
      float* laid = scratch(kept, g.out * plan.plane() + kPlaneSlack);
      plan.fill(dy.values.data() + n * g.out * g.out_height * g.out_width, g.out, g, laid);
      std::fill_n(laid + g.out * plan.plane(), kPlaneSlack, 0.0f);
      float* image = output.data() + n * g.in * g.height * g.width;
      for (std::size_t i = 0; i < shifts.size(); ++i)
        add_shifted(shifts[i], laid, [&](std::size_t c, const float* sums) {
          plan.store(g, plan.phases[i], sums, image + c * g.height * g.width);
        });
    });
  }

 private:
  static Shifts shifts_of(const Geometry& g, const InputPlan& plan, const InputPlan::Phase& phase,
                          std::span<const float> w) {
    return {.plane = plan.plane(),
            .in = g.out,
            .out = g.in,
            .count = phase.count,
            .offsets = phase.offsets,
            .packed = pack(g.out, g.in, phase.taps.size(), {},
                           [&](std::size_t c, std::size_t m, std::size_t t) {
                             return w[(m * g.in + c) * g.taps() + phase.taps[t]];
                           })};
  }

  std::vector<std::int64_t> input_size_;
};

class WeightGradient final : public ConvKernel {
 public:
  WeightGradient(Placement at, std::vector<std::int64_t> kernel)
      : ConvKernel(std::move(at)), kernel_(std::move(kernel)) {}
  static Result<std::unique_ptr<infer::OperatorKernel>> create(
      const infer::OperatorAttributes& attributes) {
    return make_sized<WeightGradient>(attributes, "kernel_shape");
  }
  Result<void> compute(OperatorCall& call) const override {
    SELVAGE_TRY(const auto x, call.input(0));
    SELVAGE_TRY(const auto dy, call.input(1));
    if (x.shape.size() != 4 || dy.shape.size() != 4) return misfit("two dimensions are needed");
    const Shape dw{dy.shape[1], x.shape[1], kernel_[0], kernel_[1]};
    SELVAGE_TRY(const auto g, Geometry::of(x.shape, dw, dy.shape, at_));
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
        for (std::size_t m = 0; m < g.out; ++m, rows_of_dy += g.out_height * g.out_width)
          copy_rows(rows_of_dy, g.out_width, g.out_width, g.out_height,
                    laid_dy + i * dy_image + m * dy_plane, layout.row);
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
