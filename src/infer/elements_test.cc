#include "infer/elements.h"

#include <bit>
#include <cmath>
#include <limits>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace selvage::infer {
namespace {

using testing::ElementsAre;

constexpr double kNan = std::numeric_limits<double>::quiet_NaN();
constexpr double kInfinity = std::numeric_limits<double>::infinity();

template <typename T>
std::vector<T> write(std::vector<double> values, DataType type = data_type_of<T>()) {
  std::vector<T> elements(values.size());
  const auto done = write_elements(values, type, std::as_writable_bytes(std::span(elements)));
  if (!done) ADD_FAILURE() << done.error().message;
  return elements;
}

TEST(Elements, IntegersRoundAndSaturate) {
  EXPECT_THAT(write<std::uint8_t>({-1, 0.4, 0.6, 254.5, 255, 300, kNan, kInfinity}),
              ElementsAre(0, 0, 1, 254, 255, 255, 0, 255));
  EXPECT_THAT(write<std::int64_t>({-1e30, 16000, 1e30}),
              ElementsAre(std::numeric_limits<std::int64_t>::min(), 16000,
                          std::numeric_limits<std::int64_t>::max()));
  EXPECT_THAT(write<std::int8_t>({-128.6, 127.6}), ElementsAre(-128, 127));
}

TEST(Elements, EveryHalfFloatSurvivesTheRoundTrip) {
  for (const auto type : {DataType::kFloat16, DataType::kBfloat16})
    for (std::uint32_t bits = 0; bits < 65'536; ++bits) {
      const auto half = static_cast<std::uint16_t>(bits);
      const Shape shape{1};
      std::vector<float> scratch;
      const auto wide = as_floats({type, shape, std::as_bytes(std::span(&half, 1)), {}}, scratch);
      ASSERT_TRUE(wide);
      const auto back = write<std::uint16_t>({static_cast<double>((*wide)[0])}, type)[0];
      if (std::isnan((*wide)[0]))
        EXPECT_GT(back & 0x7fff, type == DataType::kFloat16 ? 0x7c00 : 0x7f80);
      else
        ASSERT_EQ(back, half);
    }
}

TEST(Elements, HalfFloatsRoundToTheNearest) {
  EXPECT_EQ(write<std::uint16_t>({1.0}, DataType::kFloat16)[0], 0x3c00);
  EXPECT_EQ(write<std::uint16_t>({1.0 + 1.0 / 2048}, DataType::kFloat16)[0], 0x3c00);
  EXPECT_EQ(write<std::uint16_t>({1.0 + 1.1 / 2048}, DataType::kFloat16)[0], 0x3c01);
  EXPECT_EQ(write<std::uint16_t>({65'519}, DataType::kFloat16)[0], 0x7bff);
  EXPECT_EQ(write<std::uint16_t>({65'520}, DataType::kFloat16)[0], 0x7c00);
  EXPECT_EQ(write<std::uint16_t>({-0x1p-24}, DataType::kFloat16)[0], 0x8001);
}

TEST(Elements, CountsAndTypesMustFit) {
  std::array<std::byte, 8> bytes{};
  const std::array<double, 3> values{};
  EXPECT_FALSE(write_elements(values, DataType::kFloat32, bytes));
  EXPECT_FALSE(write_elements(values, DataType::kString, bytes));
  std::vector<float> scratch;
  EXPECT_FALSE(as_floats({DataType::kInt4, {}, bytes, {}}, scratch));
}

TEST(Elements, Float32IsNotCopied) {
  const std::vector<float> values{1, 2};
  const Shape shape{2};
  std::vector<float> scratch;
  const auto floats =
      as_floats({DataType::kFloat32, shape, std::as_bytes(std::span(values)), {}}, scratch);
  EXPECT_EQ(floats->data(), values.data());
}

}  // namespace
}  // namespace selvage::infer
