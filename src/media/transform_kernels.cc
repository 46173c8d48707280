// Each loop is written once, in plain C++ that compilers vectorise, and is inlined into a function
// for every instruction set: AVX2 where an x86 processor has it, else what the build targets.
#include "media/transform_kernels.h"

#include <bit>
#include <cstring>

#if defined(__x86_64__)
#define SELVAGE_AVX2 [[gnu::target("avx2,fma,bmi2")]]
#endif
#define SELVAGE_INLINE [[gnu::always_inline]] inline
// No two buffers of a kernel overlap; proving that at run time is more than compilers will do.
#if defined(__clang__)
#define SELVAGE_VECTORISE _Pragma("clang loop vectorize(assume_safety)")
#else
#define SELVAGE_VECTORISE _Pragma("GCC ivdep")
#endif

namespace selvage::media {
namespace {

SELVAGE_INLINE std::uint32_t load32(const std::uint8_t* from) {
  std::uint32_t word;
  std::memcpy(&word, from, sizeof word);
  return word;
}

SELVAGE_INLINE std::uint32_t load16(const std::uint8_t* from) {
  std::uint16_t word;
  std::memcpy(&word, from, sizeof word);
  return word;
}

// The bytes of a pixel and of its right neighbour lie in two words, `first` and `second`. No byte
// beyond the neighbour is read: it may be the last of the picture.
template <int kBytes>
SELVAGE_INLINE void load_pair(const std::uint8_t* from, std::uint32_t& first,
                              std::uint32_t& second) {
  if constexpr (kBytes == 1) {
    first = load16(from);
  } else {
    first = load32(from);
    second = load32(from + (kBytes == 3 ? 2 : 4));
  }
}

template <int kShift>
SELVAGE_INLINE float byte_at(std::uint32_t word) {
  return static_cast<float>(static_cast<std::int32_t>(word >> kShift & 255));
}

template <int kBytes, int kChannel>
SELVAGE_INLINE float left(std::uint32_t first) {
  return byte_at<8 * kChannel>(first);
}

template <int kBytes, int kChannel>
SELVAGE_INLINE float right(std::uint32_t first, std::uint32_t second) {
  if constexpr (kBytes == 1) return byte_at<8>(first);
  if constexpr (kBytes == 3 && kChannel == 0) return byte_at<24>(first);
  // The second word of a 3-byte pair begins with the left pixel's last byte.
  return byte_at<8 * kChannel + (kBytes == 3 ? 8 : 0)>(second);
}

SELVAGE_INLINE float mix(float a, float b, float weight) {
  return a + (b - a) * weight;
}

template <int kBytes>
SELVAGE_INLINE void bilinear(const BilinearRow& in, const SampleRow& out) {
  const std::size_t count = in.count;
  std::uint32_t* const top_1 = in.gathered;
  std::uint32_t* const top_2 = top_1 + count;
  std::uint32_t* const bottom_1 = top_2 + count;
  std::uint32_t* const bottom_2 = bottom_1 + count;
  const std::uint8_t* const top = in.top;
  const std::uint8_t* const bottom = in.bottom;
  const std::ptrdiff_t* const offset = in.offset;
  // Two loops: the first cannot be vectorised, the second can.
  for (std::size_t i = 0; i < count; ++i) {
    load_pair<kBytes>(top + offset[i], top_1[i], top_2[i]);
    load_pair<kBytes>(bottom + offset[i], bottom_1[i], bottom_2[i]);
  }
  const float* const weight_x = in.weight_x;
  const float* const weight_y = in.weight_y;
  float* const out_0 = out.channel[0];
  float* const out_1 = out.channel[1];
  float* const out_2 = out.channel[2];
#define SELVAGE_SAMPLE(channel)                                                                 \
  mix(mix(left<kBytes, channel>(top_1[i]), right<kBytes, channel>(top_1[i], top_2[i]),          \
          weight_x[i]),                                                                         \
      mix(left<kBytes, channel>(bottom_1[i]), right<kBytes, channel>(bottom_1[i], bottom_2[i]), \
          weight_x[i]),                                                                         \
      weight_y[i])
  SELVAGE_VECTORISE
  for (std::size_t i = 0; i < count; ++i) {
    out_0[i] = SELVAGE_SAMPLE(0);
    if constexpr (kBytes > 1) {
      out_1[i] = SELVAGE_SAMPLE(1);
      out_2[i] = SELVAGE_SAMPLE(2);
    }
  }
#undef SELVAGE_SAMPLE
}

SELVAGE_INLINE void weigh_rows(const std::uint8_t* const* rows, const float* weights,
                               std::size_t row_count, std::size_t bytes, float* sums) {
  SELVAGE_VECTORISE
  for (std::size_t i = 0; i < bytes; ++i) sums[i] = 0;
  std::size_t k = 0;
  for (; k + 4 <= row_count; k += 4) {
    const std::uint8_t* a = rows[k];
    const std::uint8_t* b = rows[k + 1];
    const std::uint8_t* c = rows[k + 2];
    const std::uint8_t* d = rows[k + 3];
    const float wa = weights[k], wb = weights[k + 1], wc = weights[k + 2], wd = weights[k + 3];
    SELVAGE_VECTORISE
    for (std::size_t i = 0; i < bytes; ++i)
      sums[i] += wa * a[i] + wb * b[i] + wc * c[i] + wd * d[i];
  }
  for (; k < row_count; ++k) {
    const std::uint8_t* a = rows[k];
    const float wa = weights[k];
    SELVAGE_VECTORISE
    for (std::size_t i = 0; i < bytes; ++i) sums[i] += wa * a[i];
  }
}

using Float4 = float __attribute__((vector_size(16)));

template <int kChannels>
SELVAGE_INLINE void weigh_columns(const WeightedColumns& in, const SampleRow& out) {
  for (std::size_t i = 0; i < in.count; ++i) {
    const float* pixel = in.pixels + std::ptrdiff_t{in.first[i]} * kChannels;
    const float* weight = in.weights + i * in.taps_max;
    const float* const end = weight + in.taps[i];
    if constexpr (kChannels == 1) {
      float sum = 0;
      for (; weight != end; ++weight, ++pixel) sum += *weight * *pixel;
      out.channel[0][i] = sum;
    } else {
      // All channels of a pixel at once; the fourth lane is not used.
      Float4 sum{};
      for (; weight != end; ++weight, pixel += kChannels) {
        Float4 channels;
        std::memcpy(&channels, pixel, sizeof channels);
        sum += *weight * channels;
      }
      for (int c = 0; c < 3; ++c) out.channel[c][i] = sum[c];
    }
  }
}

SELVAGE_INLINE void weigh_colours(const float* red, const float* green, const float* blue,
                                  float* luma, std::size_t count) {
  SELVAGE_VECTORISE
  for (std::size_t i = 0; i < count; ++i)
    luma[i] = 0.299f * red[i] + 0.587f * green[i] + 0.114f * blue[i];
}

/// Rounded to the nearest, ties to even; too large becomes infinite. After F. Giesen,
/// "float->half variants" (public domain).
SELVAGE_INLINE std::uint16_t to_half(float value) {
  constexpr std::uint32_t kInfinity = 0x7C00, kNan = 0x7E00;
  constexpr std::uint32_t kHalfTooLarge = (127u + 16) << 23, kHalfSubnormal = 113u << 23;
  constexpr std::uint32_t kMagic = (127u - 15 + 23 - 10 + 1) << 23;
  const auto bits = std::bit_cast<std::uint32_t>(value);
  const std::uint32_t sign = bits & 0x8000'0000u;
  const std::uint32_t magnitude = bits ^ sign;
  const std::uint32_t special = magnitude > 0x7F80'0000u ? kNan : kInfinity;
  const std::uint32_t subnormal =
      std::bit_cast<std::uint32_t>(std::bit_cast<float>(magnitude) + std::bit_cast<float>(kMagic)) -
      kMagic;
  const std::uint32_t odd = magnitude >> 13 & 1;
  const std::uint32_t normal = (magnitude - ((127u - 15) << 23) + 0xFFF + odd) >> 13;
  const std::uint32_t half = magnitude >= kHalfTooLarge   ? special
                             : magnitude < kHalfSubnormal ? subnormal
                                                          : normal;
  return static_cast<std::uint16_t>(half | sign >> 16);
}

SELVAGE_INLINE std::uint8_t to_byte(float value) {
  const float low = value > 0 ? value : 0;
  const float bounded = low < 255 ? low : 255;
  // `bounded` is never negative, and lround would keep the loop from being vectorised.
  // NOLINTNEXTLINE(bugprone-incorrect-roundings)
  return static_cast<std::uint8_t>(static_cast<std::int32_t>(bounded + 0.5f));
}

template <auto kConvert, typename To>
SELVAGE_INLINE void finish(const float* from, std::size_t count, float scale, float offset, To* to,
                           std::size_t stride) {
  if (stride == 1) {
    SELVAGE_VECTORISE
    for (std::size_t i = 0; i < count; ++i) to[i] = kConvert(from[i] * scale + offset);
  } else {
    for (std::size_t i = 0; i < count; ++i) to[i * stride] = kConvert(from[i] * scale + offset);
  }
}

SELVAGE_INLINE float to_float(float value) {
  return value;
}

// One set of functions for each instruction set.
#define SELVAGE_KERNELS(name, target)                                                           \
  struct name {                                                                                 \
    target static void bilinear_1(const BilinearRow& in, const SampleRow& out) {                \
      bilinear<1>(in, out);                                                                     \
    }                                                                                           \
    target static void bilinear_3(const BilinearRow& in, const SampleRow& out) {                \
      bilinear<3>(in, out);                                                                     \
    }                                                                                           \
    target static void bilinear_4(const BilinearRow& in, const SampleRow& out) {                \
      bilinear<4>(in, out);                                                                     \
    }                                                                                           \
    target static void weigh(const std::uint8_t* const* rows, const float* weights,             \
                             std::size_t row_count, std::size_t bytes, float* sums) {           \
      weigh_rows(rows, weights, row_count, bytes, sums);                                        \
    }                                                                                           \
    target static void columns_1(const WeightedColumns& in, const SampleRow& out) {             \
      weigh_columns<1>(in, out);                                                                \
    }                                                                                           \
    target static void columns_3(const WeightedColumns& in, const SampleRow& out) {             \
      weigh_columns<3>(in, out);                                                                \
    }                                                                                           \
    target static void columns_4(const WeightedColumns& in, const SampleRow& out) {             \
      weigh_columns<4>(in, out);                                                                \
    }                                                                                           \
    target static void luma(const float* red, const float* green, const float* blue, float* to, \
                            std::size_t count) {                                                \
      weigh_colours(red, green, blue, to, count);                                               \
    }                                                                                           \
    target static void float32(const float* from, std::size_t count, float scale, float offset, \
                               float* to, std::size_t stride) {                                 \
      finish<to_float>(from, count, scale, offset, to, stride);                                 \
    }                                                                                           \
    target static void float16(const float* from, std::size_t count, float scale, float offset, \
                               std::uint16_t* to, std::size_t stride) {                         \
      finish<to_half>(from, count, scale, offset, to, stride);                                  \
    }                                                                                           \
    target static void uint8(const float* from, std::size_t count, float scale, float offset,   \
                             std::uint8_t* to, std::size_t stride) {                            \
      finish<to_byte>(from, count, scale, offset, to, stride);                                  \
    }                                                                                           \
    static constexpr Kernels kTable{bilinear_1, bilinear_3, bilinear_4, weigh,                  \
                                    columns_1,  columns_3,  columns_4,  luma,                   \
                                    float32,    float16,    uint8};                             \
  };

SELVAGE_KERNELS(Portable, )
#if defined(__x86_64__)
SELVAGE_KERNELS(Avx2, SELVAGE_AVX2)
#endif

}  // namespace

const Kernels& kernels() {
#if defined(__x86_64__)
  static const bool has_avx2 = __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") &&
                               __builtin_cpu_supports("bmi2");
  if (has_avx2) return Avx2::kTable;
#endif
  return portable_kernels();
}

const Kernels& portable_kernels() {
  return Portable::kTable;
}

}  // namespace selvage::media
