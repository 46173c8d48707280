#include "media/transform_kernels.h"

#include <cmath>
#include <limits>

#include <gtest/gtest.h>

#include "media/media_testing.h"

namespace selvage::media {
namespace {

/// Both sets on a machine whose processor has a faster one; the same set twice elsewhere.
const Kernels* const kBoth[] = {&portable_kernels(), &kernels()};

std::vector<std::uint16_t> halves_of(const Kernels& run, const std::vector<float>& values) {
  std::vector<std::uint16_t> halves(values.size());
  run.finish_float16(values.data(), values.size(), 1, 0, halves.data(), 1);
  return halves;
}

float value_of(std::uint32_t half) {
  const int exponent = static_cast<int>(half >> 10);
  const auto mantissa = static_cast<float>(half & 1023);
  return exponent == 0 ? std::ldexp(mantissa, -24) : std::ldexp(1024 + mantissa, exponent - 25);
}

TEST(Kernels, HalvesAreRoundedToTheNearestTiesToEven) {
  std::vector<float> exact, ties, above;
  constexpr std::uint32_t kFinite = 0x7BFF;  // The largest finite half.
  for (std::uint32_t half = 0; half < kFinite; ++half) {
    exact.push_back(value_of(half));
    ties.push_back((value_of(half) + value_of(half + 1)) / 2);
    above.push_back(std::nextafter(ties.back(), 1e9f));
  }
  for (const auto* run : kBoth) {
    const auto got_exact = halves_of(*run, exact);
    const auto got_ties = halves_of(*run, ties);
    const auto got_above = halves_of(*run, above);
    for (std::uint32_t half = 0; half < kFinite; ++half) {
      ASSERT_EQ(got_exact[half], half);
      ASSERT_EQ(got_ties[half], half + (half & 1)) << half;
      ASSERT_EQ(got_above[half], half + 1) << half;
    }
    const float infinity = std::numeric_limits<float>::infinity();
    const auto special = halves_of(*run, {65'504, 65'519, 65'520, 1e30f, infinity, -infinity, -1});
    EXPECT_EQ(special,
              (std::vector<std::uint16_t>{0x7BFF, 0x7BFF, 0x7C00, 0x7C00, 0x7C00, 0xFC00, 0xBC00}));
    EXPECT_GT(halves_of(*run, {std::nanf("")})[0] & 0x7FFF, 0x7C00);
  }
}

TEST(Kernels, BytesAreRoundedAndSaturated) {
  const std::vector<float> values{-1e9f,   -0.6f,   0,      0.49f, 0.51f,
                                  254.49f, 254.51f, 255.4f, 300,   1e9f};
  for (const auto* run : kBoth) {
    std::vector<std::uint8_t> bytes(values.size());
    run->finish_uint8(values.data(), values.size(), 1, 0, bytes.data(), 1);
    EXPECT_EQ(bytes, (std::vector<std::uint8_t>{0, 0, 0, 0, 1, 254, 255, 255, 255, 255}));
  }
}

TEST(Kernels, FasterOnesGiveWhatPortableOnesGive) {
  std::mt19937 random(1);
  for (const std::size_t count : {1u, 7u, 8u, 31u, 64u, 301u}) {
    const auto pixels = random_bytes(count * 8 + 64, random);
    std::vector<std::ptrdiff_t> offsets(count);
    std::vector<float> weight_x(count), weight_y(count);
    for (std::size_t i = 0; i < count; ++i) {
      offsets[i] = static_cast<std::ptrdiff_t>(random() % (count * 4));
      weight_x[i] = static_cast<float>(random() % 1'000) / 1'000;
      weight_y[i] = static_cast<float>(random() % 1'000) / 1'000;
    }
    std::vector<std::uint32_t> gathered(4 * count);
    const BilinearRow in{.top = pixels.data(),
                         .bottom = pixels.data() + 11,
                         .offset = offsets.data(),
                         .weight_x = weight_x.data(),
                         .weight_y = weight_y.data(),
                         .gathered = gathered.data(),
                         .count = count};
    for (const auto kernel : {&Kernels::bilinear_1, &Kernels::bilinear_3, &Kernels::bilinear_4}) {
      std::vector<float> results[2];
      for (std::size_t set = 0; set < 2; ++set) {
        results[set].resize(3 * count);
        float* out = results[set].data();
        (kBoth[set]->*kernel)(in, {{out, out + count, out + 2 * count}});
      }
      for (std::size_t i = 0; i < 3 * count; ++i)
        ASSERT_NEAR(results[0][i], results[1][i], 1e-3) << count;
    }
    const std::uint8_t* rows[] = {pixels.data(), pixels.data() + 3, pixels.data() + 9,
                                  pixels.data() + 2, pixels.data() + 1};
    const float weights[] = {0.1f, 0.3f, 0.25f, 0.25f, 0.1f};
    std::vector<float> sums[2];
    for (std::size_t set = 0; set < 2; ++set) {
      sums[set].resize(count);
      kBoth[set]->weigh_rows(rows, weights, 5, count, sums[set].data());
    }
    for (std::size_t i = 0; i < count; ++i) ASSERT_NEAR(sums[0][i], sums[1][i], 1e-3);
  }
}

}  // namespace
}  // namespace selvage::media
