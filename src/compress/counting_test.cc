#include "compress/counting.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <random>

#include <gtest/gtest.h>

namespace selvage::compress {
namespace {

constexpr float kInfinity = std::numeric_limits<float>::infinity();
constexpr float kNan = std::numeric_limits<float>::quiet_NaN();

/// Every length around a vector's, with what is special at each place in turn.
std::vector<std::vector<float>> cases() {
  std::mt19937 random(1);
  std::normal_distribution<float> normal(0, 3);
  std::vector<std::vector<float>> all;
  for (std::size_t length = 0; length < 40; ++length) {
    std::vector<float> values(length);
    std::ranges::generate(values, [&] { return normal(random); });
    all.push_back(values);
    for (const float special : {kNan, kInfinity, -kInfinity, 0.0f, -0.0f, 1e-42f})
      for (std::size_t at = 0; at < length; ++at) {
        all.push_back(values);
        all.back()[at] = special;
      }
  }
  return all;
}

class CountingTest : public testing::TestWithParam<const Counting*> {};

TEST_P(CountingTest, ExtremesPassOverNan) {
  for (const auto& values : cases()) {
    RealRange plain{kInfinity, -kInfinity}, absolute = plain;
    for (const float value : values) {
      plain = {std::fmin(plain.min, value), std::fmax(plain.max, value)};
      absolute = {std::fmin(absolute.min, std::abs(value)),
                  std::fmax(absolute.max, std::abs(value))};
    }
    const auto found = GetParam()->extremes(values), magnitudes = GetParam()->magnitudes(values);
    EXPECT_EQ(found.min, plain.min);
    EXPECT_EQ(found.max, plain.max);
    EXPECT_EQ(magnitudes.min, absolute.min);
    EXPECT_EQ(magnitudes.max, absolute.max);
  }
}

TEST_P(CountingTest, BytesAreThoseOfSingleValues) {
  for (const auto type : {DataType::kInt8, DataType::kUint8}) {
    const auto range = quantized_range(type);
    const QuantizationParameters parameters{0.037f, type == DataType::kInt8 ? -3 : 130};
    for (const auto& values : cases()) {
      std::vector<std::byte> bytes(values.size());
      GetParam()->quantize_bytes(values, parameters, range, bytes.data());
      for (std::size_t i = 0; i < values.size(); ++i)
        EXPECT_EQ(std::to_integer<std::uint8_t>(bytes[i]),
                  static_cast<std::uint8_t>(quantize(values[i], parameters, type)))
            << values[i];
    }
  }
}

TEST_P(CountingTest, BinsAreThoseWhoseEdgesEnclose) {
  for (const bool absolute : {false, true}) {
    auto bins = UniformBins::between(absolute ? 0.0f : -4.0f, 5.0f, 128);
    bins.absolute = absolute;
    for (const auto& values : cases()) {
      std::vector<std::int32_t> found(values.size());
      GetParam()->find_bins(bins, values.data(), values.size(), found.data());
      for (std::size_t i = 0; i < values.size(); ++i) {
        const float value = absolute ? std::abs(values[i]) : values[i];
        if (!(value >= bins.first && value <= bins.last)) {
          EXPECT_EQ(found[i], bins.count) << value;
          continue;
        }
        EXPECT_GE(value, bins.edge(found[i]));
        EXPECT_TRUE(value < bins.edge(found[i] + 1) || found[i] + 1 == bins.count) << value;
      }
    }
  }
}

INSTANTIATE_TEST_SUITE_P(Processors, CountingTest,
                         testing::Values(&counting(), &portable_counting()));

}  // namespace
}  // namespace selvage::compress
