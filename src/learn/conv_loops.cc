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

/// The blocks of one instruction set, with as many sums as its registers hold: 32 of them, or 16.
/// The last six numbers are the vectors of a tile of 1, 4, 6 and 8 rows, and the columns of 4 rows
/// and of one row.
#define SELVAGE_CONV_LOOPS(NAME, FLOATS, TARGET, V1, V4, V6, V8, COLUMNS, COLUMNS1) \
  struct NAME {                                                                     \
    TARGET static void conv1(const ConvBlock& b) {                                  \
      conv_block<FLOATS, 1, V1>(b);                                                 \
    }                                                                               \
    TARGET static void conv4(const ConvBlock& b) {                                  \
      conv_block<FLOATS, 4, V4>(b);                                                 \
    }                                                                               \
    TARGET static void conv6(const ConvBlock& b) {                                  \
      conv_block<FLOATS, 6, V6>(b);                                                 \
    }                                                                               \
    TARGET static void conv8(const ConvBlock& b) {                                  \
      conv_block<FLOATS, 8, V8>(b);                                                 \
    }                                                                               \
    TARGET static void dot(const DotBlock& b) {                                     \
      dot_block<FLOATS, 4, COLUMNS>(b);                                             \
    }                                                                               \
    TARGET static void dot1(const DotBlock& b) {                                    \
      dot_block<FLOATS, 1, COLUMNS1>(b);                                            \
    }                                                                               \
    static constexpr ConvLoops kLoops{.vector = FLOATS,                             \
                                      .dot_columns = COLUMNS,                       \
                                      .dot1_columns = COLUMNS1,                     \
                                      .conv1 = conv1,                               \
                                      .conv4 = conv4,                               \
                                      .conv6 = conv6,                               \
                                      .conv8 = conv8,                               \
                                      .dot = dot,                                   \
                                      .dot1 = dot1};                                \
  }

#if defined(__x86_64__)
SELVAGE_CONV_LOOPS(Avx512, 16, [[gnu::target("avx512f,fma")]], 8, 6, 4, 3, 6, 9);
SELVAGE_CONV_LOOPS(Avx2, 8, [[gnu::target("avx2,fma")]], 8, 3, 2, 1, 3, 9);
SELVAGE_CONV_LOOPS(Base, 4, , 8, 3, 2, 1, 3, 9);
#else
SELVAGE_CONV_LOOPS(Base, 4, , 8, 6, 4, 3, 6, 9);
#endif

}  // namespace

const ConvLoops& conv_loops() {
  return SELVAGE_LOOPS_OF(instructions());
}

}  // namespace selvage::learn
