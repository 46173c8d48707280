#include "compress/quantization.h"

#include <cmath>
#include <cstring>
#include <limits>

#include <gtest/gtest.h>

namespace selvage::compress {
namespace {

struct ScaleCase {
  std::string_view name;
  RealRange real;
  QuantizedRange quantized;
  Symmetry symmetry;
  double scale;
  std::int32_t zero_point;
};

// From compute_scale_zp() of onnxruntime.quantization.
constexpr ScaleCase kScaleCases[] = {
    {"uint8", {-1, 3}, {0, 255}, Symmetry::kAsymmetric, 0.01568627450980392, 64},
    {"int8", {-1, 3}, {-128, 127}, Symmetry::kAsymmetric, 0.01568627450980392, -64},
    {"symmetric int8", {-1, 3}, {-127, 127}, Symmetry::kSymmetric, 0.023622047244094488, 0},
    {"above zero", {0.5, 6}, {0, 255}, Symmetry::kAsymmetric, 0.023529411764705882, 0},
    {"below zero", {-6, -0.5}, {0, 255}, Symmetry::kAsymmetric, 0.023529411764705882, 255},
    {"reduced", {-1, 3}, {-64, 64}, Symmetry::kSymmetric, 0.046875, 0},
    {"middle 127", {-1, 3}, {0, 254}, Symmetry::kSymmetric, 0.023622047244094488, 127},
    {"uint16", {-1, 3}, {0, 65535}, Symmetry::kAsymmetric, 6.103608758678569e-05, 16384},
    {"nothing but zeros", {0, 0}, {-128, 127}, Symmetry::kAsymmetric, 1, 0},
    {"too narrow", {0, 1e-39f}, {0, 255}, Symmetry::kAsymmetric, 1, 0},
};

TEST(ComputeScaleZeroPoint, EqualsTheReference) {
  for (const auto& [name, real, quantized, symmetry, scale, zero_point] : kScaleCases) {
    const auto found = compute_scale_zero_point(real, quantized, symmetry);
    EXPECT_EQ(found.scale, static_cast<float>(scale)) << name;
    EXPECT_EQ(found.zero_point, zero_point) << name;
  }
}

TEST(ComputeScaleZeroPoint, WidensANarrowRange) {
  const auto found = compute_scale_zero_point({0, 0.001f}, {0, 255}, Symmetry::kAsymmetric, 0.255f);
  EXPECT_FLOAT_EQ(found.scale, 0.001f);
}

TEST(QuantizedRangeTest, IsThatOfTheReferencesTables) {
  EXPECT_EQ(quantized_range(DataType::kInt8), (QuantizedRange{-128, 127}));
  EXPECT_EQ(quantized_range(DataType::kInt8, Symmetry::kSymmetric), (QuantizedRange{-127, 127}));
  EXPECT_EQ(quantized_range(DataType::kInt8, Symmetry::kSymmetric, Width::kReduced),
            (QuantizedRange{-64, 64}));
  EXPECT_EQ(quantized_range(DataType::kUint8, Symmetry::kAsymmetric, Width::kReduced),
            (QuantizedRange{0, 127}));
  EXPECT_EQ(quantized_range(DataType::kInt4, Symmetry::kSymmetric), (QuantizedRange{-8, 7}));
}

TEST(Quantize, RoundsHalfToEvenAndClips) {
  const QuantizationParameters parameters{0.5f, 0};
  const auto at = [&](float value) { return quantize(value, parameters, DataType::kInt8); };
  EXPECT_EQ(at(0.25f), 0);
  EXPECT_EQ(at(0.75f), 2);
  EXPECT_EQ(at(1.25f), 2);
  EXPECT_EQ(at(-0.25f), 0);
  EXPECT_EQ(at(-0.75f), -2);
  EXPECT_EQ(at(1000), 127);
  EXPECT_EQ(at(-std::numeric_limits<float>::infinity()), -128);
  EXPECT_EQ(at(std::numeric_limits<float>::quiet_NaN()), -128);
  EXPECT_EQ(quantize(3.4e38f, {1e-38f, 200}, DataType::kUint16), 65535);
}

TEST(Pack4Bits, PutsTheFirstElementIntoTheLowHalf) {
  std::vector<std::byte> elements;
  for (const int value : {1, 2, 3, -4, 5}) elements.push_back(static_cast<std::byte>(value));
  const std::vector<std::byte> expected{std::byte{0x21}, std::byte{0xC3}, std::byte{0x05}};
  EXPECT_EQ(pack_4_bits(elements), expected);
}

TEST(QuantizeWeight, TurnsBackWithinHalfAStep) {
  std::vector<float> values;
  for (int i = 0; i < 3 * 4 * 5; ++i)
    values.push_back(std::sin(static_cast<float>(i)) * static_cast<float>(1 + i / 20));
  const Shape shape{3, 4, 5};
  for (const auto type : {DataType::kInt4, DataType::kUint4, DataType::kInt8, DataType::kUint8,
                          DataType::kInt16, DataType::kUint16}) {
    for (const auto axis : {std::optional<std::size_t>(), std::optional<std::size_t>(0),
                            std::optional<std::size_t>(1), std::optional<std::size_t>(2)}) {
      const auto parameters = weight_parameters(
          values, shape, {.type = type, .symmetry = Symmetry::kAsymmetric, .axis = axis});
      ASSERT_TRUE(parameters) << parameters.error().message;
      ASSERT_EQ(parameters->size(), axis ? static_cast<std::size_t>(shape[*axis]) : 1);
      const auto stored = quantize_weight(values, shape, type, *parameters, axis);
      EXPECT_EQ(stored.bytes.size(), *byte_size(type, shape));
      const auto back = stored.to_real();
      const std::size_t inner[] = {20, 5, 1};
      for (std::size_t i = 0; i < values.size(); ++i) {
        const auto channel =
            axis ? i / inner[*axis] % static_cast<std::size_t>(shape[*axis]) : std::size_t{0};
        ASSERT_NEAR(back[i], values[i], (*parameters)[channel].scale * 0.5001)
            << to_string(type) << " element " << i;
      }
    }
  }
}

TEST(WeightParameters, RefuseWhatIsNotFinite) {
  const std::vector<float> values{1, std::numeric_limits<float>::quiet_NaN()};
  const auto found = weight_parameters(values, {2}, {});
  ASSERT_FALSE(found);
  EXPECT_EQ(found.error().code, ErrorCode::kInvalidArgument);
}

TEST(WeightParameters, TakeChannelsOfNothing) {
  const auto empty = weight_parameters({}, {0}, {});
  ASSERT_TRUE(empty);
  EXPECT_EQ(empty->front(), QuantizationParameters{});
  const std::vector<float> zeros(4);
  const auto found = weight_parameters(zeros, {2, 2}, {.axis = 0});
  ASSERT_TRUE(found);
  EXPECT_EQ(found->at(1), QuantizationParameters{});
}

TEST(QuantizeBias, ClipsToInt32) {
  const std::vector<float> values{1, -1, 1e20f};
  const std::vector<float> scales{0.5f};
  EXPECT_EQ(quantize_bias(values, scales),
            (std::vector<std::int32_t>{2, -2, std::numeric_limits<std::int32_t>::max()}));
}

TEST(RangeOf, PassesOverNaN) {
  const float nan = std::numeric_limits<float>::quiet_NaN();
  std::vector<float> values(100, nan);
  EXPECT_FALSE(range_of(values));
  EXPECT_FALSE(range_of({}));
  values[3] = 2;
  values[77] = -5;
  const auto found = range_of(values);
  ASSERT_TRUE(found);
  EXPECT_EQ(found->min, -5);
  EXPECT_EQ(found->max, 2);
}

}  // namespace
}  // namespace selvage::compress
