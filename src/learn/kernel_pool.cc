#include "learn/kernel_pool.h"

#include <algorithm>

namespace selvage::learn {
namespace {

using infer::OperatorCall;

struct Plane {
  std::int64_t height = 0, width = 0, out_height = 0, out_width = 0;
};

/// Windows of two by two that tile the picture, which is nearly all of them:
/// without branches.
void spread_tiles(const Plane& p, const float* x, const float* y, const float* dy, float* dx) {
  for (std::int64_t h = 0; h < p.out_height; ++h) {
    const float* above = x + 2 * h * p.width;
    const float* below = above + p.width;
    float* to_above = dx + 2 * h * p.width;
    float* to_below = to_above + p.width;
    for (std::int64_t w = 0; w < p.out_width; ++w) {
      const float largest = y[h * p.out_width + w], gradient = dy[h * p.out_width + w];
      const bool a = above[2 * w] == largest;
      const bool b = !a & (above[2 * w + 1] == largest);
      const bool c = !(a | b) & (below[2 * w] == largest);
      to_above[2 * w] = a ? gradient : 0;
      to_above[2 * w + 1] = b ? gradient : 0;
      to_below[2 * w] = c ? gradient : 0;
      to_below[2 * w + 1] = (a | b | c) ? 0 : gradient;
    }
  }
}

class MaxPoolGradient final : public infer::OperatorKernel {
 public:
  static Result<std::unique_ptr<infer::OperatorKernel>> create(
      const infer::OperatorAttributes& attributes) {
    auto kernel = std::make_unique<MaxPoolGradient>();
    kernel->kernel_ = attributes.integers("kernel_shape");
    kernel->strides_ = attributes.integers("strides");
    kernel->pads_ = attributes.integers("pads");
    if (kernel->kernel_.size() != 2 || kernel->strides_.size() != 2 || kernel->pads_.size() != 4)
      return fail(ErrorCode::kInvalidArgument, "selvage's MaxPoolGradient has two dimensions");
    return kernel;
  }

  Result<void> compute(OperatorCall& call) const override {
    SELVAGE_TRY(const auto x, call.input(0));
    SELVAGE_TRY(const auto y, call.input(1));
    SELVAGE_TRY(const auto dy, call.input(2));
    if (x.shape.size() != 4 || y.shape.size() != 4 || y.shape != dy.shape ||
        x.shape[0] != y.shape[0] || x.shape[1] != y.shape[1])
      return fail(ErrorCode::kInvalidArgument,
                  "selvage's MaxPoolGradient: the shapes do not fit each other");
    SELVAGE_TRY(const auto dx, call.output(0, x.shape));
    const Plane plane{x.shape[2], x.shape[3], y.shape[2], y.shape[3]};
    const bool tiles = kernel_ == std::vector<std::int64_t>{2, 2} && strides_ == kernel_ &&
                       std::ranges::all_of(pads_, [](auto pad) { return pad == 0; }) &&
                       plane.height == 2 * plane.out_height && plane.width == 2 * plane.out_width;
    const auto planes = static_cast<std::size_t>(x.shape[0] * x.shape[1]);
    const auto in = static_cast<std::size_t>(plane.height * plane.width);
    const auto out = static_cast<std::size_t>(plane.out_height * plane.out_width);
    return call.parallel(planes, [&](std::size_t i) {
      const auto* from = x.values.data() + i * in;
      const auto* largest = y.values.data() + i * out;
      const auto* gradient = dy.values.data() + i * out;
      auto* to = dx.data() + i * in;
      tiles ? spread_tiles(plane, from, largest, gradient, to)
            : spread(plane, from, largest, gradient, to);
    });
  }

 private:
  void spread(const Plane& p, const float* x, const float* y, const float* dy, float* dx) const {
    std::fill_n(dx, p.height * p.width, 0.0f);
    for (std::int64_t h = 0; h < p.out_height; ++h)
      for (std::int64_t w = 0; w < p.out_width; ++w, ++y, ++dy)
        if (const auto place = first_of(p, x, h, w, *y); place >= 0) dx[place] += *dy;
  }
  /// Where the window's first element equal to `largest` is; -1 if there is
  /// none (NaN).
  std::int64_t first_of(const Plane& p, const float* x, std::int64_t h, std::int64_t w,
                        float largest) const {
    const auto top = h * strides_[0] - pads_[0], left = w * strides_[1] - pads_[1];
    for (auto i = std::max<std::int64_t>(top, 0); i < std::min(top + kernel_[0], p.height); ++i)
      for (auto j = std::max<std::int64_t>(left, 0); j < std::min(left + kernel_[1], p.width); ++j)
        if (x[i * p.width + j] == largest) return i * p.width + j;
    return -1;
  }

  std::vector<std::int64_t> kernel_, strides_, pads_;
};

}  // namespace

const infer::CustomOperator kMaxPoolGradientOperator{"MaxPoolGradient", 3, 1,
                                                     MaxPoolGradient::create};

}  // namespace selvage::learn
