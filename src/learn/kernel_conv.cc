#include "learn/kernel_conv.h"

#include <algorithm>
#include <numeric>
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

  [[nodiscard]] std::size_t row() const { return width + left + right; }
  [[nodiscard]] std::size_t plane() const { return (height + top + bottom) * row(); }
  [[nodiscard]] std::size_t taps() const { return rows * columns; }
  /// Positions from the first to the last of the output, those between rows
  /// included.
  [[nodiscard]] std::size_t span() const { return (out_height - 1) * row() + out_width; }
  [[nodiscard]] std::vector<std::size_t> offsets() const {
    std::vector<std::size_t> all;
    for (std::size_t a = 0; a < rows; ++a)
      for (std::size_t b = 0; b < columns; ++b) all.push_back(a * row() + b);
    return all;
  }
};

std::unexpected<Error> misfit(const char* what) {
  return fail(ErrorCode::kInvalidArgument, std::string("selvage's Conv: ") + what);
}

/// x or dX and y or dY must agree with the window; `pads` is top, left, bottom,
/// right.
Result<Geometry> geometry_of(const Shape& x, const Shape& w, const Shape& y,
                             std::span<const std::int64_t> pads) {
  if (x.size() != 4 || w.size() != 4 || y.size() != 4 || pads.size() != 4)
    return misfit("two dimensions are needed");
  for (std::size_t i = 0; i < 4; ++i)
    if (x[i] < 1 || w[i] < 1 || y[i] < 1 || pads[i] < 0) return misfit("a size is not positive");
  const bool fits = x[0] == y[0] && w[0] == y[1] && w[1] == x[1] &&
                    y[2] == x[2] + pads[0] + pads[2] - w[2] + 1 &&
                    y[3] == x[3] + pads[1] + pads[3] - w[3] + 1;
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
                  .top = size(pads[0]),
                  .left = size(pads[1]),
                  .bottom = size(pads[2]),
                  .right = size(pads[3])};
}

/// Memory that a thread keeps between calls.
float* scratch(std::vector<float>& kept, std::size_t floats) {
  if (kept.size() < floats) kept.resize(floats);
  return kept.data();
}

/// Copies `planes` pictures into planes of `plane` floats with rows of `row`,
/// zeros around.
void lay_out(const float* from, std::size_t planes, std::size_t height, std::size_t width,
             std::size_t top, std::size_t left, std::size_t row, std::size_t plane, float* to) {
  std::fill_n(to, planes * plane, 0.0f);
  for (std::size_t p = 0; p < planes; ++p)
    for (std::size_t y = 0; y < height; ++y)
      std::copy_n(from + (p * height + y) * width, width, to + p * plane + (top + y) * row + left);
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

/// [block][input channel][tap][row], missing rows zero; and the rows' starting
/// values.
struct PackedWeights {
  std::vector<float> weights, start;
  std::size_t rows = 0, blocks = 0;
};
template <typename At>
PackedWeights pack(const Geometry& g, std::span<const float> bias, const At& at) {
  PackedWeights packed;
  packed.rows = rows_at_once(g.out);
  packed.blocks = (g.out + packed.rows - 1) / packed.rows;
  packed.weights.assign(packed.blocks * packed.rows * g.in * g.taps(), 0);
  packed.start.assign(packed.blocks * packed.rows, 0);
  std::ranges::copy(bias, packed.start.begin());
  for (std::size_t m = 0; m < g.out; ++m) {
    float* to =
        packed.weights.data() + m / packed.rows * packed.rows * g.in * g.taps() + m % packed.rows;
    for (std::size_t c = 0; c < g.in; ++c)
      for (std::size_t t = 0; t < g.taps(); ++t, to += packed.rows) *to = at(m, c, t);
  }
  return packed;
}

/// y of one image.
void convolve(const Geometry& g, const PackedWeights& packed, std::span<const std::size_t> offsets,
              const float* x, float* y) {
  static thread_local std::vector<float> kept_input, kept_output;
  const auto& loops = conv_loops();
  const auto stride = (g.span() + loops.vector - 1) / loops.vector * loops.vector;
  float* input = scratch(kept_input, g.in * g.plane() + kPlaneSlack);
  float* output = scratch(kept_output, packed.rows * stride);
  lay_out(x, g.in, g.height, g.width, g.top, g.left, g.row(), g.plane(), input);
  std::fill_n(input + g.in * g.plane(), kPlaneSlack, 0.0f);
  const auto run = packed.rows == 4 ? loops.conv4 : packed.rows == 6 ? loops.conv6 : loops.conv8;
  for (std::size_t block = 0; block < packed.blocks; ++block) {
    run({.input = input,
         .plane = g.plane(),
         .channels = g.in,
         .offsets = offsets.data(),
         .taps = g.taps(),
         .weights = packed.weights.data() + block * packed.rows * g.in * g.taps(),
         .start = packed.start.data() + block * packed.rows,
         .out = output,
         .out_stride = stride,
         .count = g.span()});
    const auto first = block * packed.rows, rows = std::min(packed.rows, g.out - first);
    for (std::size_t r = 0; r < rows; ++r)
      for (std::size_t h = 0; h < g.out_height; ++h)
        std::copy_n(output + r * stride + h * g.row(), g.out_width,
                    y + ((first + r) * g.out_height + h) * g.out_width);
  }
}

Result<void> convolve_all(OperatorCall& call, const Geometry& g, const PackedWeights& packed,
                          std::span<const float> x, std::span<float> y) {
  const auto offsets = g.offsets();
  return call.parallel(g.batch, [&](std::size_t n) {
    convolve(g, packed, offsets, x.data() + n * g.in * g.height * g.width,
             y.data() + n * g.out * g.out_height * g.out_width);
  });
}

class ConvKernel : public infer::OperatorKernel {
 public:
  explicit ConvKernel(std::vector<std::int64_t> pads) : pads_(std::move(pads)) {}

 protected:
  template <typename Kernel>
  static Result<std::unique_ptr<infer::OperatorKernel>> make(
      const infer::OperatorAttributes& attributes) {
    auto pads = attributes.integers("pads");
    if (pads.size() != 4) return misfit("it takes four pads");
    return std::make_unique<Kernel>(std::move(pads));
  }
  std::vector<std::int64_t> pads_;
};

class Forward final : public ConvKernel {
 public:
  using ConvKernel::ConvKernel;
  static Result<std::unique_ptr<infer::OperatorKernel>> create(
      const infer::OperatorAttributes& attributes) {
    return make<Forward>(attributes);
  }
  Result<void> compute(OperatorCall& call) const override {
    SELVAGE_TRY(const auto x, call.input(0));
    SELVAGE_TRY(const auto w, call.input(1));
    SELVAGE_TRY(const auto bias, call.input(2));
    if (x.shape.size() != 4 || w.shape.size() != 4) return misfit("two dimensions are needed");
    const Shape y{x.shape[0], w.shape[0], x.shape[2] + pads_[0] + pads_[2] - w.shape[2] + 1,
                  x.shape[3] + pads_[1] + pads_[3] - w.shape[3] + 1};
    SELVAGE_TRY(const auto g, geometry_of(x.shape, w.shape, y, pads_));
    if (bias.values.size() != g.out) return misfit("there is one bias for each output channel");
    SELVAGE_TRY(const auto output, call.output(0, y));
    const auto packed = pack(g, bias.values, [&](std::size_t m, std::size_t c, std::size_t t) {
      return w.values[(m * g.in + c) * g.taps() + t];
    });
    return convolve_all(call, g, packed, x.values, output);
  }
};

/// A convolution of dY with the window turned by 180 degrees and input and
/// output exchanged.
class InputGradient final : public ConvKernel {
 public:
  using ConvKernel::ConvKernel;
  static Result<std::unique_ptr<infer::OperatorKernel>> create(
      const infer::OperatorAttributes& attributes) {
    return make<InputGradient>(attributes);
  }
  Result<void> compute(OperatorCall& call) const override {
    SELVAGE_TRY(const auto dy, call.input(0));
    SELVAGE_TRY(const auto w, call.input(1));
    if (dy.shape.size() != 4 || w.shape.size() != 4) return misfit("two dimensions are needed");
    const auto& k = w.shape;
    const Shape dx{dy.shape[0], k[1], dy.shape[2] + k[2] - 1 - pads_[0] - pads_[2],
                   dy.shape[3] + k[3] - 1 - pads_[1] - pads_[3]};
    const std::int64_t pads[] = {k[2] - 1 - pads_[0], k[3] - 1 - pads_[1], k[2] - 1 - pads_[2],
                                 k[3] - 1 - pads_[3]};
    SELVAGE_TRY(const auto g, geometry_of(dy.shape, {k[1], k[0], k[2], k[3]}, dx, pads));
    SELVAGE_TRY(const auto output, call.output(0, dx));
    const auto packed = pack(g, {}, [&](std::size_t c, std::size_t m, std::size_t t) {
      return w.values[(m * g.out + c) * g.taps() + (g.taps() - 1 - t)];
    });
    return convolve_all(call, g, packed, dy.values, output);
  }
};

class WeightGradient final : public ConvKernel {
 public:
  using ConvKernel::ConvKernel;
  static Result<std::unique_ptr<infer::OperatorKernel>> create(
      const infer::OperatorAttributes& attributes) {
    return make<WeightGradient>(attributes);
  }
  Result<void> compute(OperatorCall& call) const override {
    SELVAGE_TRY(const auto x, call.input(0));
    SELVAGE_TRY(const auto dy, call.input(1));
    if (x.shape.size() != 4 || dy.shape.size() != 4) return misfit("two dimensions are needed");
    const Shape dw{dy.shape[1], x.shape[1], x.shape[2] + pads_[0] + pads_[2] - dy.shape[2] + 1,
                   x.shape[3] + pads_[1] + pads_[3] - dy.shape[3] + 1};
    SELVAGE_TRY(const auto g, geometry_of(x.shape, dw, dy.shape, pads_));
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
    const auto dy_plane = round_up(g.span(), loops.vector);
    const auto x_image = g.in * g.plane(), dy_image = rows * dy_plane;
    const auto group =
        std::clamp<std::size_t>(kGroupFloats / (x_image + dy_image), 1, last - first);
    float* laid_x = scratch(kept_x, group * x_image + kPlaneSlack);
    float* laid_dy = scratch(kept_dy, group * dy_image);
    std::fill_n(laid_x + group * x_image, kPlaneSlack, 0.0f);
    const auto pointers = column_pointers(g, laid_x, loops.dot_columns);
    for (auto from = first; from < last; from += group) {
      const auto images = std::min(group, last - from);
      lay_out(x.data() + from * g.in * g.height * g.width, images * g.in, g.height, g.width, g.top,
              g.left, g.row(), g.plane(), laid_x);
      for (std::size_t i = 0; i < images; ++i) {
        float* to = laid_dy + i * dy_image;
        std::fill(to + g.out * dy_plane, to + dy_image, 0.0f);
        lay_out(dy.data() + (from + i) * g.out * g.out_height * g.out_width, g.out, g.out_height,
                g.out_width, 0, 0, g.row(), dy_plane, to);
      }
      // A few rows of dY stay in the first-level cache while all of X passes by.
      for (std::size_t row = 0; row < rows; row += loops.dot_rows)
        for (std::size_t column = 0; column < pointers.size(); column += loops.dot_columns)
          loops.dot({.rows = laid_dy + row * dy_plane,
                     .row_plane = dy_plane,
                     .row_step = dy_image,
                     .columns = pointers.data() + column,
                     .column_step = x_image,
                     .images = images,
                     .count = g.span(),
                     .sums = sums + row * stride + column,
                     .stride = stride});
    }
  }

  /// Where each input channel's taps begin; the surplus repeats the first.
  static std::vector<const float*> column_pointers(const Geometry& g, const float* x,
                                                   std::size_t unit) {
    std::vector<const float*> pointers;
    for (std::size_t c = 0; c < g.in; ++c)
      for (const auto offset : g.offsets()) pointers.push_back(x + c * g.plane() + offset);
    pointers.resize(round_up(pointers.size(), unit), x);
    return pointers;
  }
};

}  // namespace

const infer::CustomOperator kConvOperator{"Conv", 3, 1, Forward::create};
const infer::CustomOperator kConvInputGradientOperator{"ConvInputGradient", 2, 1,
                                                       InputGradient::create};
const infer::CustomOperator kConvWeightGradientOperator{"ConvWeightGradient", 2, 1,
                                                        WeightGradient::create};

}  // namespace selvage::learn
