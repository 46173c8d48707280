#include "learn/norm_loops.h"

#include "learn/vector_lanes.h"

namespace selvage::learn {
namespace {

// Vector<k> is k floats, or one where a run ends.
template <std::size_t kFloats>
using Vector = typename Lanes<kFloats>::Type;

// Conditions are bits of all ones by the sign of a difference. A comparison would get its type
// where it is written, which is before the instructions are known, and be taken apart element by
// element.

/// NaN stays.
template <std::size_t kFloats>
SELVAGE_INLINE void limit(Vector<kFloats>& value, const Limits& limits) {
  if constexpr (kFloats == 1) {
    value = value < limits.floor ? limits.floor : value;
    value = value > limits.ceiling ? limits.ceiling : value;
  } else {
    using Bits = typename Lanes<kFloats>::Bits;
    const Vector<kFloats> floor = Vector<kFloats>{} + limits.floor;
    const Vector<kFloats> ceiling = Vector<kFloats>{} + limits.ceiling;
    const Vector<kFloats> poison = value * 0.0f;
    const Bits low = reinterpret_cast<Bits>(value - floor) >> 31;
    value = reinterpret_cast<Vector<kFloats>>((reinterpret_cast<Bits>(value) & ~low) |
                                              (reinterpret_cast<Bits>(floor) & low));
    const Bits high = reinterpret_cast<Bits>(ceiling - value) >> 31;
    value = reinterpret_cast<Vector<kFloats>>((reinterpret_cast<Bits>(value) & ~high) |
                                              (reinterpret_cast<Bits>(ceiling) & high));
    value += poison;
  }
}

/// Leaves of the gradient what passes at `value`.
template <std::size_t kFloats>
SELVAGE_INLINE void pass(const Vector<kFloats>& value, const Limits& limits,
                         Vector<kFloats>& gradient) {
  if constexpr (kFloats == 1) {
    if (value < limits.pass_from || value > limits.ceiling) gradient = 0;
  } else {
    using Bits = typename Lanes<kFloats>::Bits;
    const Bits low = reinterpret_cast<Bits>(value - limits.pass_from) >> 31;
    const Bits high = reinterpret_cast<Bits>(limits.ceiling - value) >> 31;
    gradient = reinterpret_cast<Vector<kFloats>>(reinterpret_cast<Bits>(gradient) & ~(low | high));
  }
}

/// So many chains of additions run at once that none waits for the addition before.
constexpr std::size_t kStreams = 4;

/// Calls step<k>(i, stream) for each vector of a run and for each float behind the last one.
template <std::size_t kFloats, typename Step>
SELVAGE_INLINE void over_run(std::size_t count, const Step& step) {
  std::size_t i = 0;
  for (; i + kStreams * kFloats <= count; i += kStreams * kFloats) {
    SELVAGE_UNROLL
    for (std::size_t stream = 0; stream < kStreams; ++stream)
      step.template operator()<kFloats>(i + stream * kFloats, stream);
  }
  for (; i + kFloats <= count; i += kFloats) step.template operator()<kFloats>(i, 0);
  for (; i < count; ++i) step.template operator()<1>(i, 0);
}

/// The same for every run of a channel, with i counted from the begin of the first.
template <std::size_t kFloats, typename Step>
SELVAGE_INLINE void over_channel(const Channel& c, const Step& step) {
  for (std::size_t plane = 0; plane < c.planes; ++plane) {
    const auto begin = plane * c.step;
    over_run<kFloats>(c.count, [&]<std::size_t k>(std::size_t i, std::size_t stream)
                                   __attribute__((always_inline)) {
                                     step.template operator()<k>(begin + i, stream);
                                   });
  }
}

/// A sum over many floats: lanes for vectors, and one more for what is left.
template <std::size_t kFloats>
struct Sum {
  Vector<kFloats> lanes[kStreams] = {};
  float rest = 0;

  SELVAGE_INLINE void add(const Vector<kFloats>& value, std::size_t stream) {
    lanes[stream] += value;
  }
  SELVAGE_INLINE void add(const float& value, std::size_t /*stream*/) { rest += value; }
  SELVAGE_INLINE float total() const {
    return Total<kFloats>::of((lanes[0] + lanes[1]) + (lanes[2] + lanes[3])) + rest;
  }
};

template <std::size_t kFloats>
SELVAGE_INLINE const Vector<kFloats>& at(const float* from) {
  return *reinterpret_cast<const Vector<kFloats>*>(from);
}
template <std::size_t kFloats>
SELVAGE_INLINE Vector<kFloats>& at(float* from) {
  return *reinterpret_cast<Vector<kFloats>*>(from);
}

#define SELVAGE_EACH \
  [&]<std::size_t k>(std::size_t i, std::size_t stream) __attribute__((always_inline))

template <std::size_t kFloats>
SELVAGE_INLINE float sum(const Channel& c, const float* x) {
  Sum<kFloats> total;
  over_channel<kFloats>(c, SELVAGE_EACH { total.add(at<k>(x + i), stream); });
  return total.total();
}

template <std::size_t kFloats>
SELVAGE_INLINE float squares(const Channel& c, const float* x, float mean) {
  Sum<kFloats> total;
  over_channel<kFloats>(
      c, SELVAGE_EACH {
        const Vector<k> centred = at<k>(x + i) - mean;
        total.add(centred * centred, stream);
      });
  return total.total();
}

template <std::size_t kFloats>
SELVAGE_INLINE void apply(const Channel& c, const float* x, const float* added, AffineMap map,
                          const Limits& limits, float* y) {
  const auto each = [&]<bool kAdds>() __attribute__((always_inline)) {
    over_channel<kFloats>(c, [&]<std::size_t k>(std::size_t i, std::size_t /*stream*/)
                                 __attribute__((always_inline)) {
                                   Vector<k> value = at<k>(x + i) * map.scale + map.shift;
                                   if constexpr (kAdds) value += at<k>(added + i);
                                   limit<k>(value, limits);
                                   at<k>(y + i) = value;
                                 });
  };
  if (added != nullptr) {
    each.template operator()<true>();
  } else {
    each.template operator()<false>();
  }
}

template <std::size_t kFloats>
SELVAGE_INLINE GradientSums gradient_sums(const Channel& c, const float* x, const float* dy,
                                          float mean, AffineMap map, const Limits& limits) {
  Sum<kFloats> gradients, products;
  over_channel<kFloats>(
      c, SELVAGE_EACH {
        const Vector<k> value = at<k>(x + i);
        Vector<k> gradient = at<k>(dy + i);
        pass<k>(value * map.scale + map.shift, limits, gradient);
        gradients.add(gradient, stream);
        products.add(gradient * (value - mean), stream);
      });
  return {gradients.total(), products.total()};
}

template <std::size_t kFloats>
SELVAGE_INLINE void gradient(const Channel& c, const float* x, const float* dy, AffineMap map,
                             const Limits& limits, float of_g, AffineMap of_x, float* dx) {
  over_channel<kFloats>(
      c, [&]<std::size_t k>(std::size_t i, std::size_t /*stream*/) __attribute__((always_inline)) {
        const Vector<k> value = at<k>(x + i);
        Vector<k> gradient = at<k>(dy + i);
        pass<k>(value * map.scale + map.shift, limits, gradient);
        at<k>(dx + i) = gradient * of_g + (value * of_x.scale + of_x.shift);
      });
}

template <std::size_t kFloats>
SELVAGE_INLINE void pass_run(std::size_t count, const float* x, const float* dy,
                             const Limits& limits, float* dx) {
  over_run<kFloats>(count, [&]<std::size_t k>(std::size_t i, std::size_t /*stream*/)
                               __attribute__((always_inline)) {
                                 Vector<k> gradient = at<k>(dy + i);
                                 pass<k>(at<k>(x + i), limits, gradient);
                                 at<k>(dx + i) = gradient;
                               });
}

/// The loops for vectors of so many floats, as functions of one instruction set.
#define SELVAGE_NORM_LOOPS(NAME, FLOATS, TARGET)                                          \
  struct NAME {                                                                           \
    TARGET static float sum_of(const Channel& c, const float* x) {                        \
      return sum<FLOATS>(c, x);                                                           \
    }                                                                                     \
    TARGET static float squares_of(const Channel& c, const float* x, float mean) {        \
      return squares<FLOATS>(c, x, mean);                                                 \
    }                                                                                     \
    TARGET static void apply_to(const Channel& c, const float* x, const float* added,     \
                                AffineMap map, const Limits& limits, float* y) {          \
      apply<FLOATS>(c, x, added, map, limits, y);                                         \
    }                                                                                     \
    TARGET static GradientSums sums_of(const Channel& c, const float* x, const float* dy, \
                                       float mean, AffineMap map, const Limits& limits) { \
      return gradient_sums<FLOATS>(c, x, dy, mean, map, limits);                          \
    }                                                                                     \
    TARGET static void gradient_of(const Channel& c, const float* x, const float* dy,     \
                                   AffineMap map, const Limits& limits, float of_g,       \
                                   AffineMap of_x, float* dx) {                           \
      gradient<FLOATS>(c, x, dy, map, limits, of_g, of_x, dx);                            \
    }                                                                                     \
    TARGET static void pass_of(std::size_t count, const float* x, const float* dy,        \
                               const Limits& limits, float* dx) {                         \
      pass_run<FLOATS>(count, x, dy, limits, dx);                                         \
    }                                                                                     \
    static constexpr NormLoops kLoops{                                                    \
        sum_of, squares_of, apply_to, sums_of, gradient_of, pass_of};                     \
  }

#if defined(__x86_64__)
SELVAGE_NORM_LOOPS(Avx512, 16, [[gnu::target("avx512f,fma")]]);
SELVAGE_NORM_LOOPS(Avx2, 8, [[gnu::target("avx2,fma")]]);
#endif
SELVAGE_NORM_LOOPS(Base, 4, );

}  // namespace

const NormLoops& norm_loops() {
  return SELVAGE_LOOPS_OF(instructions());
}

}  // namespace selvage::learn
