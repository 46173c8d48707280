#include "learn/kernel_norm.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <string>

#include "learn/norm_loops.h"

namespace selvage::learn {
namespace {

using infer::OperatorCall;
using Floats = std::span<const float>;

/// Floats that one task of an element-wise operator takes.
constexpr std::size_t kPieceFloats = 32u << 10;

std::unexpected<Error> misfit() {
  return fail(ErrorCode::kInvalidArgument,
              "selvage's batch normalisation: the shapes do not fit each other");
}

Limits limits_of(const infer::OperatorAttributes& attributes) {
  Limits limits;
  limits.floor = attributes.number("floor", limits.floor);
  limits.ceiling = attributes.number("ceiling", limits.ceiling);
  // Relu's gradient is zero at zero, Clip's is one at its bounds. Smaller numbers than this one are
  // zero on the runtime's threads.
  limits.pass_from = attributes.integers("open").empty()
                         ? limits.floor
                         : limits.floor + std::numeric_limits<float>::min();
  return limits;
}

/// A tensor [N,C,...] by channels.
struct Layout {
  std::size_t batch = 0, channels = 0, area = 0;

  [[nodiscard]] Channel channel() const { return {batch, channels * area, area}; }
  [[nodiscard]] std::size_t begin(std::size_t c) const { return c * area; }
  [[nodiscard]] float count() const { return static_cast<float>(batch * area); }
};

/// `x` and whatever has a value for each of its channels.
Result<Layout> layout_of(const OperatorCall::Input& x, std::initializer_list<Floats> by_channel) {
  if (x.shape.size() < 2 || x.shape[0] < 1 || x.shape[1] < 1 || x.values.empty()) return misfit();
  Layout layout{static_cast<std::size_t>(x.shape[0]), static_cast<std::size_t>(x.shape[1]), 0};
  layout.area = x.values.size() / (layout.batch * layout.channels);
  for (const auto values : by_channel)
    if (values.size() != layout.channels) return misfit();
  return layout;
}

/// What a normalisation had and found: the inputs from `first` on, and how x lies.
struct Normalised {
  Layout layout;
  Floats scale, bias, mean, variance;

  static Result<Normalised> of(OperatorCall& call, const OperatorCall::Input& x,
                               std::size_t first) {
    Normalised norm;
    for (auto* values : {&norm.scale, &norm.bias, &norm.mean, &norm.variance}) {
      SELVAGE_TRY(const auto input, call.input(first++));
      *values = input.values;
    }
    SELVAGE_TRY(norm.layout, layout_of(x, {norm.scale, norm.bias, norm.mean, norm.variance}));
    return norm;
  }
};

class NormKernel : public infer::OperatorKernel {
 public:
  NormKernel(float epsilon, const Limits& limits) : epsilon_(epsilon), limits_(limits) {}
  template <typename Kernel>
  static Result<std::unique_ptr<infer::OperatorKernel>> create(
      const infer::OperatorAttributes& attributes) {
    return std::make_unique<Kernel>(attributes.number("epsilon", 1e-5f), limits_of(attributes));
  }

 protected:
  [[nodiscard]] float inverse(float variance) const { return 1 / std::sqrt(variance + epsilon_); }
  /// The whole normalisation as one map.
  [[nodiscard]] AffineMap map(float scale, float bias, float mean, float variance) const {
    const float slope = scale * inverse(variance);
    return {slope, bias - mean * slope};
  }
  [[nodiscard]] const Limits& limits() const { return limits_; }

 private:
  float epsilon_;
  Limits limits_;
};

class Forward final : public NormKernel {
 public:
  using NormKernel::NormKernel;

  Result<void> compute(OperatorCall& call) const override {
    SELVAGE_TRY(const auto x, call.input(0));
    SELVAGE_TRY(const auto scale, call.input(1));
    SELVAGE_TRY(const auto bias, call.input(2));
    SELVAGE_TRY(const auto layout, layout_of(x, {scale.values, bias.values}));
    Floats added;
    if (call.input_count() > 3) {
      SELVAGE_TRY(const auto other, call.input(3));
      if (other.shape != x.shape) return misfit();
      added = other.values;
    }
    const Shape by_channel{x.shape[1]};
    SELVAGE_TRY(const auto y, call.output(0, x.shape));
    SELVAGE_TRY(const auto mean, call.output(1, by_channel));
    SELVAGE_TRY(const auto variance, call.output(2, by_channel));
    const auto& loops = norm_loops();
    return call.parallel(layout.channels, [&](std::size_t c) {
      const auto channel = layout.channel();
      const float* from = x.values.data() + layout.begin(c);
      mean[c] = loops.sum(channel, from) / layout.count();
      variance[c] = loops.squares(channel, from, mean[c]) / layout.count();
      loops.apply(channel, from, added.empty() ? nullptr : added.data() + layout.begin(c),
                  map(scale.values[c], bias.values[c], mean[c], variance[c]), limits(),
                  y.data() + layout.begin(c));
    });
  }
};

/// What Forward gave, from the statistics that it found.
class Replay final : public NormKernel {
 public:
  using NormKernel::NormKernel;

  Result<void> compute(OperatorCall& call) const override {
    SELVAGE_TRY(const auto x, call.input(0));
    SELVAGE_TRY(const auto norm, Normalised::of(call, x, 1));
    SELVAGE_TRY(const auto y, call.output(0, x.shape));
    const auto& loops = norm_loops();
    return call.parallel(norm.layout.channels, [&](std::size_t c) {
      const auto begin = norm.layout.begin(c);
      loops.apply(norm.layout.channel(), x.values.data() + begin, nullptr,
                  map(norm.scale[c], norm.bias[c], norm.mean[c], norm.variance[c]), limits(),
                  y.data() + begin);
    });
  }
};

/// With the gradient g of the normalised, scaled value, its mean G, and P the mean of
/// g * (x - mean): dx = slope * (g - G - (x - mean) * inverse^2 * P).
class Gradient final : public NormKernel {
 public:
  using NormKernel::NormKernel;

  Result<void> compute(OperatorCall& call) const override {
    SELVAGE_TRY(const auto x, call.input(0));
    SELVAGE_TRY(const auto dy, call.input(1));
    SELVAGE_TRY(const auto norm, Normalised::of(call, x, 2));
    if (dy.shape != x.shape) return misfit();
    SELVAGE_TRY(const auto dx, call.output(0, x.shape));
    SELVAGE_TRY(const auto d_scale, call.output(1, {x.shape[1]}));
    SELVAGE_TRY(const auto d_bias, call.output(2, {x.shape[1]}));
    const auto& loops = norm_loops();
    const auto& layout = norm.layout;
    return call.parallel(layout.channels, [&](std::size_t c) {
      const auto channel = layout.channel();
      const float* from = x.values.data() + layout.begin(c);
      const float* gradient = dy.values.data() + layout.begin(c);
      const float m = norm.mean[c], inv = inverse(norm.variance[c]);
      const auto forward = map(norm.scale[c], norm.bias[c], m, norm.variance[c]);
      const auto sums = loops.gradient_sums(channel, from, gradient, m, forward, limits());
      d_scale[c] = sums.product * inv;
      d_bias[c] = sums.gradient;
      const float of_x = -forward.scale * inv * inv * (sums.product / layout.count());
      const float constant = -forward.scale * (sums.gradient / layout.count()) - of_x * m;
      loops.gradient(channel, from, gradient, forward, limits(), forward.scale, {of_x, constant},
                     dx.data() + layout.begin(c));
    });
  }
};

/// Relu's and Clip's own.
class LimitGradient final : public NormKernel {
 public:
  using NormKernel::NormKernel;

  Result<void> compute(OperatorCall& call) const override {
    SELVAGE_TRY(const auto x, call.input(0));
    SELVAGE_TRY(const auto dy, call.input(1));
    if (x.shape != dy.shape) return misfit();
    SELVAGE_TRY(const auto dx, call.output(0, x.shape));
    const auto& loops = norm_loops();
    const auto pieces = (dx.size() + kPieceFloats - 1) / kPieceFloats;
    return call.parallel(pieces, [&](std::size_t piece) {
      const auto begin = piece * kPieceFloats;
      loops.pass(std::min(kPieceFloats, dx.size() - begin), x.values.data() + begin,
                 dy.values.data() + begin, limits(), dx.data() + begin);
    });
  }
};

}  // namespace

const infer::CustomOperator kBatchNormOperator{"BatchNorm", 3, 3, NormKernel::create<Forward>};
const infer::CustomOperator kBatchNormAddOperator{"BatchNormAdd", 4, 3,
                                                  NormKernel::create<Forward>};
const infer::CustomOperator kBatchNormReplayOperator{"BatchNormReplay", 5, 1,
                                                     NormKernel::create<Replay>};
const infer::CustomOperator kBatchNormGradientOperator{"BatchNormGradient", 6, 3,
                                                       NormKernel::create<Gradient>};
const infer::CustomOperator kLimitGradientOperator{"LimitGradient", 2, 1,
                                                   NormKernel::create<LimitGradient>};

}  // namespace selvage::learn
