#include "learn/kernel_depthwise.h"

#include <algorithm>

#include "learn/conv_geometry.h"
#include "learn/conv_loops.h"

namespace selvage::learn {
namespace {

using infer::OperatorCall;

/// A plane of each channel is a picture of its own: a geometry of N * C images of one channel.
Result<Geometry> planes_of(const Shape& x, const Shape& w, const Shape& y, const Placement& at) {
  if (x.size() != 4 || w.size() != 4 || y.size() != 4) return misfit("two dimensions are needed");
  if (x[1] != y[1] || x[1] != w[0] || w[1] != 1 || x[0] < 1 || x[1] < 1)
    return misfit("a depthwise one gives a channel for each channel");
  return Geometry::of({x[0] * x[1], 1, x[2], x[3]}, {1, 1, w[2], w[3]},
                      {y[0] * y[1], 1, y[2], y[3]}, at);
}

class DepthwiseKernel : public infer::OperatorKernel {
 public:
  explicit DepthwiseKernel(Placement at) : at_(std::move(at)) {}

 protected:
  Placement at_;
};

class Forward final : public DepthwiseKernel {
 public:
  using DepthwiseKernel::DepthwiseKernel;
  static Result<std::unique_ptr<infer::OperatorKernel>> create(
      const infer::OperatorAttributes& attributes) {
    return make_placed<Forward>(attributes);
  }
  Result<void> compute(OperatorCall& call) const override {
    SELVAGE_TRY(const auto x, call.input(0));
    SELVAGE_TRY(const auto w, call.input(1));
    SELVAGE_TRY(const auto bias, call.input(2));
    if (x.shape.size() != 4 || w.shape.size() != 4) return misfit("two dimensions are needed");
    const Shape y{x.shape[0], x.shape[1], at_.output_size(x.shape[2], w.shape[2], 0),
                  at_.output_size(x.shape[3], w.shape[3], 1)};
    SELVAGE_TRY(const auto g, planes_of(x.shape, w.shape, y, at_));
    const auto channels = static_cast<std::size_t>(x.shape[1]);
    if (bias.values.size() != channels) return misfit("there is one bias for each output channel");
    SELVAGE_TRY(const auto output, call.output(0, y));
    const PictureLayout layout(g);
    const auto offsets = layout.offsets(g);
    const auto count = layout.span(g);
    const auto& loops = conv_loops();
    return call.parallel(g.batch / channels, [&](std::size_t n) {
      static thread_local std::vector<float> kept_picture, kept_sums;
      float* laid = scratch(kept_picture, layout.plane() + kPlaneSlack);
      float* sums = scratch(kept_sums, count + loops.vector);
      std::fill_n(laid + layout.plane(), kPlaneSlack, 0.0f);
      for (std::size_t c = 0; c < channels; ++c) {
        const auto image = n * channels + c;
        layout.fill(x.values.data() + image * g.height * g.width, 1, g, laid);
        loops.conv1({.input = laid,
                     .plane = 0,
                     .channels = 1,
                     .offsets = offsets.data(),
                     .taps = offsets.size(),
                     .weights = w.values.data() + c * g.taps(),
                     .start = bias.values.data() + c,
                     .out = sums,
                     .out_stride = 0,
                     .count = count});
        copy_rows(sums, layout.row, g.out_width, g.out_height,
                  output.data() + image * g.out_height * g.out_width, g.out_width);
      }
    });
  }
};

class InputGradient final : public DepthwiseKernel {
 public:
  InputGradient(Placement at, std::vector<std::int64_t> input_size)
      : DepthwiseKernel(std::move(at)), input_size_(std::move(input_size)) {}
  static Result<std::unique_ptr<infer::OperatorKernel>> create(
      const infer::OperatorAttributes& attributes) {
    return make_sized<InputGradient>(attributes, "input_size");
  }
  Result<void> compute(OperatorCall& call) const override {
    SELVAGE_TRY(const auto dy, call.input(0));
    SELVAGE_TRY(const auto w, call.input(1));
    if (dy.shape.size() != 4) return misfit("two dimensions are needed");
    const Shape dx{dy.shape[0], dy.shape[1], input_size_[0], input_size_[1]};
    SELVAGE_TRY(const auto g, planes_of(dx, w.shape, dy.shape, at_));
    SELVAGE_TRY(const auto output, call.output(0, dx));
    const InputPlan plan(g);
    const auto channels = static_cast<std::size_t>(dy.shape[1]);
    return call.parallel(g.batch / channels, [&](std::size_t n) {
      for (std::size_t c = 0; c < channels; ++c) {
        const auto image = n * channels + c;
        add_plane(g, plan, dy.values.data() + image * g.out_height * g.out_width,
                  w.values.data() + c * g.taps(), output.data() + image * g.height * g.width);
      }
    });
  }

 private:
  static void add_plane(const Geometry& g, const InputPlan& plan, const float* dy, const float* w,
                        float* dx) {
    static thread_local std::vector<float> kept_picture, kept_sums, weights;
    const auto& loops = conv_loops();
    float* laid = scratch(kept_picture, plan.plane() + kPlaneSlack);
    std::fill_n(laid + plan.plane(), kPlaneSlack, 0.0f);
    plan.fill(dy, 1, g, laid);
    constexpr float kZero = 0;
    for (const auto& phase : plan.phases) {
      float* sums = scratch(kept_sums, phase.count + loops.vector);
      weights.resize(phase.taps.size());
      std::ranges::transform(phase.taps, weights.begin(), [&](auto tap) { return w[tap]; });
      loops.conv1({.input = laid,
                   .plane = 0,
                   .channels = 1,
                   .offsets = phase.offsets.data(),
                   .taps = phase.offsets.size(),
                   .weights = weights.data(),
                   .start = &kZero,
                   .out = sums,
                   .out_stride = 0,
                   .count = phase.count});
      plan.store(g, phase, sums, dx);
    }
  }

  std::vector<std::int64_t> input_size_;
};

/// A channel's is summed by one thread over the whole batch, image after image.
class WeightGradient final : public DepthwiseKernel {
 public:
  WeightGradient(Placement at, std::vector<std::int64_t> kernel)
      : DepthwiseKernel(std::move(at)), kernel_(std::move(kernel)) {}
  static Result<std::unique_ptr<infer::OperatorKernel>> create(
      const infer::OperatorAttributes& attributes) {
    return make_sized<WeightGradient>(attributes, "kernel_shape");
  }
  Result<void> compute(OperatorCall& call) const override {
    SELVAGE_TRY(const auto x, call.input(0));
    SELVAGE_TRY(const auto dy, call.input(1));
    if (x.shape.size() != 4) return misfit("two dimensions are needed");
    const Shape dw{x.shape[1], 1, kernel_[0], kernel_[1]};
    SELVAGE_TRY(const auto g, planes_of(x.shape, dw, dy.shape, at_));
    SELVAGE_TRY(const auto output, call.output(0, dw));
    const auto channels = static_cast<std::size_t>(x.shape[1]);
    return call.parallel(channels, [&](std::size_t c) {
      sum_channel(g, x.values.data() + c * g.height * g.width,
                  dy.values.data() + c * g.out_height * g.out_width, channels,
                  output.subspan(c * g.taps(), g.taps()));
    });
  }

 private:
  /// Of the channel whose first plane x and dy point to.
  static void sum_channel(const Geometry& g, const float* x, const float* dy, std::size_t channels,
                          std::span<float> dw) {
    static thread_local std::vector<float> kept_x, kept_dy;
    const auto& loops = conv_loops();
    const PictureLayout layout(g);
    const auto count = layout.span(g);
    const auto dy_plane = (count + loops.vector - 1) / loops.vector * loops.vector;
    const auto images = g.batch / channels;
    const auto group =
        std::clamp<std::size_t>(kGroupFloats / (layout.plane() + dy_plane), 1, images);
    float* laid_x = scratch(kept_x, group * layout.plane() + kPlaneSlack);
    float* laid_dy = scratch(kept_dy, group * dy_plane);
    std::vector<const float*> columns;
    for (const auto offset : layout.offsets(g)) columns.push_back(laid_x + offset);
    const auto unit = loops.dot1_columns;
    columns.resize((columns.size() + unit - 1) / unit * unit, laid_x);
    std::vector<float> sums(columns.size(), 0);
    for (std::size_t from = 0; from < images; from += group) {
      const auto now = std::min(group, images - from);
      std::fill_n(laid_x + now * layout.plane(), kPlaneSlack, 0.0f);
      std::fill_n(laid_dy, now * dy_plane, 0.0f);
      for (std::size_t i = 0; i < now; ++i) {
        const auto image = (from + i) * channels;
        layout.fill(x + image * g.height * g.width, 1, g, laid_x + i * layout.plane());
        copy_rows(dy + image * g.out_height * g.out_width, g.out_width, g.out_width, g.out_height,
                  laid_dy + i * dy_plane, layout.row);
      }
      for (std::size_t column = 0; column < columns.size(); column += unit)
        loops.dot1({.rows = laid_dy,
                    .row_plane = 0,
                    .row_step = dy_plane,
                    .columns = columns.data() + column,
                    .column_step = layout.plane(),
                    .images = now,
                    .count = count,
                    .sums = sums.data() + column,
                    .stride = 0});
    }
    std::copy_n(sums.begin(), dw.size(), dw.begin());
  }

  std::vector<std::int64_t> kernel_;
};

}  // namespace

const infer::CustomOperator kDepthwiseConvOperator{"DepthwiseConv", 3, 1, Forward::create};
const infer::CustomOperator kDepthwiseConvInputGradientOperator{"DepthwiseConvInputGradient", 2, 1,
                                                                InputGradient::create};
const infer::CustomOperator kDepthwiseConvWeightGradientOperator{"DepthwiseConvWeightGradient", 2,
                                                                 1, WeightGradient::create};

}  // namespace selvage::learn
