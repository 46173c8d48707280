#include "learn/conv_loops.h"

#include "learn/vector_lanes.h"

namespace selvage::learn {
namespace {

template <std::size_t kFloats, std::size_t kRows, std::size_t kVectors>
SELVAGE_INLINE void conv_tile(const ConvBlock& b, std::size_t q) {
  using V = typename Lanes<kFloats>::Type;
  V sums[kRows][kVectors];
  SELVAGE_UNROLL
  for (std::size_t r = 0; r < kRows; ++r) {
    SELVAGE_UNROLL
    for (std::size_t v = 0; v < kVectors; ++v) sums[r][v] = V{} + b.start[r];
  }
  const float* weights = b.weights;
  for (std::size_t c = 0; c < b.channels; ++c) {
    const float* plane = b.input + c * b.plane + q;
    for (std::size_t t = 0; t < b.taps; ++t, weights += kRows) {
      const float* from = plane + b.offsets[t];
      V x[kVectors];
      SELVAGE_UNROLL
      for (std::size_t v = 0; v < kVectors; ++v)
        x[v] = *reinterpret_cast<const V*>(from + v * kFloats);
      SELVAGE_UNROLL
      for (std::size_t r = 0; r < kRows; ++r) {
        SELVAGE_UNROLL
        for (std::size_t v = 0; v < kVectors; ++v) sums[r][v] += x[v] * weights[r];
      }
    }
  }
  SELVAGE_UNROLL
  for (std::size_t r = 0; r < kRows; ++r) {
    float* to = b.out + r * b.out_stride + q;
    SELVAGE_UNROLL
    for (std::size_t v = 0; v < kVectors; ++v) *reinterpret_cast<V*>(to + v * kFloats) = sums[r][v];
  }
}

template <std::size_t kFloats, std::size_t kRows, std::size_t kVectors>
SELVAGE_INLINE void conv_block(const ConvBlock& b) {
  constexpr std::size_t kTile = kFloats * kVectors;
  std::size_t q = 0;
  for (; q + kTile <= b.count; q += kTile) conv_tile<kFloats, kRows, kVectors>(b, q);
  for (; q < b.count; q += kFloats) conv_tile<kFloats, kRows, 1>(b, q);
}

template <std::size_t kFloats, std::size_t kRows, std::size_t kColumns>
SELVAGE_INLINE void dot_block(const DotBlock& b) {
  using V = typename Lanes<kFloats>::Type;
  V sums[kRows][kColumns];
  SELVAGE_UNROLL
  for (std::size_t r = 0; r < kRows; ++r) {
    SELVAGE_UNROLL
    for (std::size_t c = 0; c < kColumns; ++c) sums[r][c] = V{};
  }
  for (std::size_t image = 0; image < b.images; ++image) {
    const float* rows = b.rows + image * b.row_step;
    const float* columns[kColumns];
    SELVAGE_UNROLL
    for (std::size_t c = 0; c < kColumns; ++c) columns[c] = b.columns[c] + image * b.column_step;
    for (std::size_t q = 0; q < b.count; q += kFloats) {
      V x[kColumns];
      SELVAGE_UNROLL
      for (std::size_t c = 0; c < kColumns; ++c) x[c] = *reinterpret_cast<const V*>(columns[c] + q);
      SELVAGE_UNROLL
      for (std::size_t r = 0; r < kRows; ++r) {
        const V y = *reinterpret_cast<const V*>(rows + r * b.row_plane + q);
        SELVAGE_UNROLL
        for (std::size_t c = 0; c < kColumns; ++c) sums[r][c] += x[c] * y;
      }
    }
  }
  for (std::size_t r = 0; r < kRows; ++r)
    for (std::size_t c = 0; c < kColumns; ++c) {
      b.sums[r * b.stride + c] += Total<kFloats>::of(sums[r][c]);
    }
}

// As many sums as the registers hold: 32 of them, or 16.
#if defined(__x86_64__)
struct Avx512 {
  [[gnu::target("avx512f,fma")]] static void conv4(const ConvBlock& b) { conv_block<16, 4, 6>(b); }
  [[gnu::target("avx512f,fma")]] static void conv6(const ConvBlock& b) { conv_block<16, 6, 4>(b); }
  [[gnu::target("avx512f,fma")]] static void conv8(const ConvBlock& b) { conv_block<16, 8, 3>(b); }
  [[gnu::target("avx512f,fma")]] static void dot(const DotBlock& b) { dot_block<16, 4, 6>(b); }
  static constexpr ConvLoops kLoops{
      .vector = 16, .dot_columns = 6, .conv4 = conv4, .conv6 = conv6, .conv8 = conv8, .dot = dot};
};
struct Avx2 {
  [[gnu::target("avx2,fma")]] static void conv4(const ConvBlock& b) { conv_block<8, 4, 3>(b); }
  [[gnu::target("avx2,fma")]] static void conv6(const ConvBlock& b) { conv_block<8, 6, 2>(b); }
  [[gnu::target("avx2,fma")]] static void conv8(const ConvBlock& b) { conv_block<8, 8, 1>(b); }
  [[gnu::target("avx2,fma")]] static void dot(const DotBlock& b) { dot_block<8, 4, 3>(b); }
  static constexpr ConvLoops kLoops{
      .vector = 8, .dot_columns = 3, .conv4 = conv4, .conv6 = conv6, .conv8 = conv8, .dot = dot};
};
constexpr std::size_t kBaseVectors = 12;
#else
constexpr std::size_t kBaseVectors = 24;
#endif
struct Base {
  static void conv4(const ConvBlock& b) { conv_block<4, 4, kBaseVectors / 4>(b); }
  static void conv6(const ConvBlock& b) { conv_block<4, 6, kBaseVectors / 6>(b); }
  static void conv8(const ConvBlock& b) { conv_block<4, 8, kBaseVectors / 8>(b); }
  static void dot(const DotBlock& b) { dot_block<4, 4, kBaseVectors / 4>(b); }
  static constexpr ConvLoops kLoops{.vector = 4,
                                    .dot_columns = kBaseVectors / 4,
                                    .conv4 = conv4,
                                    .conv6 = conv6,
                                    .conv8 = conv8,
                                    .dot = dot};
};

}  // namespace

const ConvLoops& conv_loops() {
#if defined(__x86_64__)
  if (instructions() == Instructions::kAvx512) return Avx512::kLoops;
  if (instructions() == Instructions::kAvx2) return Avx2::kLoops;
#endif
  return Base::kLoops;
}

}  // namespace selvage::learn
