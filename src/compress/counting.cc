// As in media/transform_kernels.cc: each loop is written once, in plain C++ that compilers
// vectorise, and is inlined into a function for every instruction set.
#include "compress/counting.h"

#include <algorithm>
#include <array>
#include <bit>
#include <cmath>
#include <cstring>
#include <limits>

#if defined(__x86_64__)
#define SELVAGE_AVX2 [[gnu::target("avx2,fma")]]
#endif
#define SELVAGE_INLINE [[gnu::always_inline]] inline
#if defined(__clang__)
#define SELVAGE_VECTORISE _Pragma("clang loop vectorize(assume_safety)")
#else
#define SELVAGE_VECTORISE _Pragma("GCC ivdep")
#endif

namespace selvage::compress {
namespace {

// The reductions are written in vectors: what compilers make of arrays of lanes is one number at a
// time. An instruction set with narrower registers takes several for each.
constexpr std::size_t kLanes = 8;
using Lanes [[gnu::vector_size(kLanes * sizeof(float))]] = float;
using LaneBits [[gnu::vector_size(kLanes * sizeof(float))]] = std::int32_t;

template <bool kAbsolute>
SELVAGE_INLINE float sized(float value) {
  return kAbsolute ? std::abs(value) : value;
}

template <bool kAbsolute>
SELVAGE_INLINE RealRange find_extremes(std::span<const float> values) {
  constexpr float kInfinity = std::numeric_limits<float>::infinity();
  Lanes lows = kInfinity - Lanes{}, highs = -kInfinity - Lanes{};
  const float* at = values.data();
  std::size_t left = values.size();
  for (; left >= kLanes; left -= kLanes, at += kLanes) {
    Lanes value;
    std::memcpy(&value, at, sizeof value);
    if (kAbsolute)
      value = __builtin_bit_cast(Lanes, __builtin_bit_cast(LaneBits, value) & 0x7fff'ffff);
    lows = value < lows ? value : lows;
    highs = value > highs ? value : highs;
  }
  using Array = std::array<float, kLanes>;
  auto low = __builtin_bit_cast(Array, lows);
  auto high = __builtin_bit_cast(Array, highs);
  for (std::size_t k = 0; k < left; ++k) {
    const float value = sized<kAbsolute>(at[k]);
    low[0] = value < low[0] ? value : low[0];
    high[0] = value > high[0] ? value : high[0];
  }
  return {*std::ranges::min_element(low), *std::ranges::max_element(high)};
}

template <bool kAbsolute>
SELVAGE_INLINE void find_bins_of(const UniformBins& bins, const float* values, std::size_t count,
                                 std::int32_t* found) {
  const float first = bins.first, last = bins.last, step = bins.step;
  const float per_width = static_cast<float>(bins.count) / (last - first);
  const std::int32_t outside = bins.count, top = bins.count - 1;
  SELVAGE_VECTORISE
  for (std::size_t i = 0; i < count; ++i) {
    const float value = sized<kAbsolute>(values[i]);
    const bool inside = value >= first && value <= last;
    // The estimate is right to within one bin; the edges decide.
    const float estimate = inside ? (value - first) * per_width : 0.0f;
    auto bin = static_cast<std::int32_t>(estimate);
    bin = bin < top ? bin : top;
    bin -= value < static_cast<float>(bin) * step + first ? 1 : 0;
    bin = bin > 0 ? bin : 0;
    bin += bin < top && value >= static_cast<float>(bin + 1) * step + first ? 1 : 0;
    found[i] = inside ? bin : outside;
  }
}

SELVAGE_INLINE void find_bins_in(const UniformBins& bins, const float* values, std::size_t count,
                                 std::int32_t* found) {
  if (bins.absolute)
    find_bins_of<true>(bins, values, count, found);
  else
    find_bins_of<false>(bins, values, count, found);
}

/// numpy's log of float32 on x86 (loops_exponent_log.dispatch.c.src): a rational function on
/// [1/sqrt(2), sqrt(2)], which differs from libm's in the last place. For positive normal numbers.
SELVAGE_INLINE float numpy_log(float value) {
  const auto bits = std::bit_cast<std::uint32_t>(value);
  auto exponent = static_cast<std::int32_t>(bits >> 23) - 127;
  float x = std::bit_cast<float>((bits & 0x007f'ffffu) | 0x3f80'0000u);
  const bool upper = x > 1.41421356237309504880f;
  exponent += upper ? 1 : 0;
  x = (upper ? x * 0.5f : x) - 1.0f;
  float p = 2.589979117907922693523e-02f;
  p = __builtin_fmaf(p, x, 3.808837741388407920751e-01f);
  p = __builtin_fmaf(p, x, 1.480000633576506585156e+00f);
  p = __builtin_fmaf(p, x, 2.112677543073053063722e+00f);
  p = __builtin_fmaf(p, x, 9.999999999999998702752e-01f);
  p = __builtin_fmaf(p, x, 0.0f);
  float q = 5.875095403124574342950e-03f;
  q = __builtin_fmaf(q, x, 1.546476374983906719538e-01f);
  q = __builtin_fmaf(q, x, 9.864942958519418960339e-01f);
  q = __builtin_fmaf(q, x, 2.453006071784736363091e+00f);
  q = __builtin_fmaf(q, x, 2.612677543073109236779e+00f);
  q = __builtin_fmaf(q, x, 1.0f);
  return __builtin_fmaf(static_cast<float>(exponent), 0.693147180559945309417f, p / q);
}

/// At most 128 numbers: eight running sums, as numpy adds.
SELVAGE_INLINE float sum_block(const float* at, std::size_t count) {
  if (count < 8) {
    float sum = 0;
    for (std::size_t i = 0; i < count; ++i) sum += at[i];
    return sum;
  }
  std::array<float, 8> sums;
  std::copy_n(at, 8, sums.begin());
  std::size_t i = 8;
  for (; i + 8 <= count; i += 8) {
    SELVAGE_VECTORISE
    for (std::size_t k = 0; k < 8; ++k) sums[k] += at[i + k];
  }
  float sum =
      ((sums[0] + sums[1]) + (sums[2] + sums[3])) + ((sums[4] + sums[5]) + (sums[6] + sums[7]));
  for (; i < count; ++i) sum += at[i];
  return sum;
}

/// numpy.sum of contiguous float32: pairwise summation (umath/loops_utils.h.src).
float pairwise_sum(const float* at, std::size_t count) {
  constexpr std::size_t kBlock = 128;
  if (count <= kBlock) return sum_block(at, count);
  const auto half = count / 2 - count / 2 % 8;
  return pairwise_sum(at, half) + pairwise_sum(at + half, count - half);
}

SELVAGE_INLINE float kl_divergence(std::span<float> p, std::span<float> q) {
  const float p_sum = pairwise_sum(p.data(), p.size());
  const float q_sum = pairwise_sum(q.data(), q.size());
  float* const terms = p.data();
  const float* const others = q.data();
  SELVAGE_VECTORISE
  for (std::size_t i = 0; i < p.size(); ++i) {
    const float share = terms[i] / p_sum;
    terms[i] = share * numpy_log(share / (others[i] / q_sum));
  }
  return pairwise_sum(terms, p.size());
}

// One set of functions for each instruction set.
#define SELVAGE_COUNTING(name, target)                                                             \
  struct name {                                                                                    \
    target static RealRange extremes(std::span<const float> values) {                              \
      return find_extremes<false>(values);                                                         \
    }                                                                                              \
    target static RealRange magnitudes(std::span<const float> values) {                            \
      return find_extremes<true>(values);                                                          \
    }                                                                                              \
    target static void find_bins(const UniformBins& bins, const float* values, std::size_t count,  \
                                 std::int32_t* found) {                                            \
      find_bins_in(bins, values, count, found);                                                    \
    }                                                                                              \
    target static void quantize_bytes(std::span<const float> values,                               \
                                      QuantizationParameters parameters, QuantizedRange range,     \
                                      std::byte* to) {                                             \
      quantize_as<std::uint8_t>(values, parameters, range, to);                                    \
    }                                                                                              \
    target static float divergence(std::span<float> p, std::span<float> q) {                       \
      return kl_divergence(p, q);                                                                  \
    }                                                                                              \
    static constexpr Counting kTable{extremes, magnitudes, find_bins, quantize_bytes, divergence}; \
  };

SELVAGE_COUNTING(Portable, )
#if defined(__x86_64__)
SELVAGE_COUNTING(Avx2, SELVAGE_AVX2)
#endif

}  // namespace

UniformBins UniformBins::between(float first, float last, std::int32_t count) {
  if (first == last) {
    first -= 0.5f;
    last += 0.5f;
  }
  return {.first = first,
          .last = last,
          .step = (last - first) / static_cast<float>(count),
          .count = count};
}

const Counting& counting() {
#if defined(__x86_64__)
  static const bool has_avx2 = __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma");
  if (has_avx2) return Avx2::kTable;
#endif
  return portable_counting();
}

const Counting& portable_counting() {
  return Portable::kTable;
}

}  // namespace selvage::compress
