#include "infer/preprocess.h"

#include <cmath>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace selvage::infer {
namespace {

using testing::Each;
using testing::ElementsAre;
using testing::HasSubstr;

ValueInfo declared(Shape shape, DataType type = DataType::kFloat32) {
  return {.name = "x",
          .kind = ValueKind::kTensor,
          .type = type,
          .shape = shape,
          .symbols = std::vector<std::string>(shape.size())};
}

/// 2 x 1 pixels: (10, 20, 30) and (40, 50, 60).
constexpr std::uint8_t kPixels[] = {10, 20, 30, 40, 50, 60};
media::PictureView picture() {
  return *media::view_pixels(media::PixelFormat::kRgb24, 2, 1, kPixels);
}

template <typename T>
std::vector<T> fill(const ImageInput& card, const ValueInfo& info, TensorSize size = {2, 1}) {
  auto image = ImagePreprocessor::create(card, info);
  if (!image) ADD_FAILURE() << image.error().message;
  if (!image) return {};
  std::vector<T> tensor(static_cast<std::size_t>(*element_count(image->shape_for(size))));
  const auto frame = image->fill(picture(), size, std::as_writable_bytes(std::span(tensor)));
  if (!frame) ADD_FAILURE() << frame.error().message;
  return tensor;
}

std::string error_of(const ImageInput& card, const ValueInfo& info) {
  const auto image = ImagePreprocessor::create(card, info);
  return image ? "" : image.error().message;
}

TEST(ImagePreprocessor, TakesSizeAndLayoutFromTheModel) {
  const auto nchw = ImagePreprocessor::create({}, declared({1, 3, 32, 64}));
  ASSERT_TRUE(nchw);
  EXPECT_EQ(nchw->size_for(1000, 1000), (TensorSize{64, 32}));
  EXPECT_THAT(nchw->shape_for({64, 32}), ElementsAre(1, 3, 32, 64));
  const auto nhwc = ImagePreprocessor::create({}, declared({-1, 32, 64, 3}));
  ASSERT_TRUE(nhwc);
  EXPECT_EQ(nhwc->size_for(1000, 1000), (TensorSize{64, 32}));
  EXPECT_THAT(nhwc->shape_for({64, 32}), ElementsAre(1, 32, 64, 3));
  const auto gray = ImagePreprocessor::create({}, declared({1, 28, 28}));
  ASSERT_TRUE(gray);
  EXPECT_THAT(gray->shape_for({28, 28}), ElementsAre(1, 28, 28));
}

TEST(ImagePreprocessor, OpenSidesFollowThePicture) {
  ImageInput card;
  card.multiple_of = 32;
  const auto both = ImagePreprocessor::create(card, declared({-1, 3, -1, -1}));
  ASSERT_TRUE(both);
  EXPECT_EQ(both->size_for(640, 480), (TensorSize{640, 480}));
  EXPECT_EQ(both->size_for(1920, 1080), (TensorSize{960, 544}));
  EXPECT_EQ(both->size_for(10, 10), (TensorSize{32, 32}));
  EXPECT_EQ(both->size_for(65'535, 1), (TensorSize{960, 32}));
  card.height = 48, card.min_width = 320, card.max_width = 640;
  const auto line = ImagePreprocessor::create(card, declared({-1, 3, 48, -1}));
  ASSERT_TRUE(line);
  EXPECT_EQ(line->size_for(100, 50), (TensorSize{320, 48}));
  EXPECT_EQ(line->size_for(481, 48), (TensorSize{512, 48}));
  EXPECT_EQ(line->size_for(10'000, 48), (TensorSize{640, 48}));
  EXPECT_EQ(line->size_for(0, 0), (TensorSize{320, 48})) << "a degenerate crop";
}

TEST(ImagePreprocessor, CardAndModelMustAgree) {
  ImageInput card;
  card.width = 10;
  EXPECT_THAT(error_of(card, declared({1, 3, 8, 8})),
              HasSubstr("the card's width is 10, the model's 8"));
  EXPECT_THAT(error_of({}, declared({1, 5, 8, 8})),
              HasSubstr("does not take the card's 3 channels"));
  EXPECT_THAT(error_of({}, declared({1, 3, 8, 1 << 20})), HasSubstr("not within 1 to 8192"));
  EXPECT_THAT(error_of({}, declared({4, 3, 8, 8})), HasSubstr("batches of exactly 4"));
  EXPECT_THAT(error_of({}, declared({8, 8})), HasSubstr("does not look like an image"));
  EXPECT_THAT(error_of({}, declared({1, 3, 8, 8}, DataType::kInt64)), HasSubstr("takes int64"));
  card = {};
  card.layout = media::Layout::kNhwc;
  EXPECT_THAT(error_of(card, declared({1, 3, 8, 8})), HasSubstr("channels"));
}

TEST(ImagePreprocessor, NormalisesIntoTheTensor) {
  ImageInput card;
  card.transform.value_scale = 0.1f;
  card.transform.mean = {1, 2, 3};
  EXPECT_THAT(fill<float>(card, declared({1, 3, 1, 2})),
              testing::Pointwise(testing::FloatNear(1e-5f), std::vector<float>{0, 3, 0, 3, 0, 3}));
}

TEST(ImagePreprocessor, WidensToInt32) {
  EXPECT_THAT(fill<std::int32_t>({}, declared({1, 1, 2, 3}, DataType::kInt32)),
              ElementsAre(10, 20, 30, 40, 50, 60));
  EXPECT_THAT(fill<std::uint8_t>({}, declared({1, 3, 1, 2}, DataType::kUint8)),
              ElementsAre(10, 40, 20, 50, 30, 60));
}

TEST(ImagePreprocessor, AddsAFourthChannel) {
  ImageInput card;
  card.fourth_channel = 1;
  EXPECT_THAT(fill<float>(card, declared({1, 1, 2, 4})), ElementsAre(10, 20, 30, 1, 40, 50, 60, 1));
  EXPECT_THAT(fill<float>(card, declared({1, 4, 1, 2})), ElementsAre(10, 40, 20, 50, 30, 60, 1, 1));
  const auto large = fill<float>(card, declared({1, 37, 41, 4}), {41, 37});
  for (std::size_t i = 3; i < large.size(); i += 4) ASSERT_EQ(large[i], 1);
  ImageInput plain;
  const auto colours = fill<float>(plain, declared({1, 37, 41, 3}), {41, 37});
  for (std::size_t i = 0; i < colours.size(); ++i) ASSERT_EQ(large[i / 3 * 4 + i % 3], colours[i]);
}

TEST(ShapeHolding, FillsTheLastOpenDimension) {
  EXPECT_THAT(*shape_holding(declared({-1, -1}), 576), ElementsAre(1, 576));
  EXPECT_THAT(*shape_holding(declared({-1, 4}), 8), ElementsAre(2, 4));
  EXPECT_THAT(*shape_holding(declared({}), 1), ElementsAre());
  EXPECT_FALSE(shape_holding(declared({-1, 3}), 8));
  EXPECT_FALSE(shape_holding(declared({2, 3}), 8));
  EXPECT_FALSE(shape_holding(declared({0, -1}), 8));
}

TEST(TableEncoder, ScalesAndEncodes) {
  const TableInput card{.tensor = {},
                        .columns = {{.name = "a", .mean = 10, .deviation = 2, .categories = {}},
                                    {.name = "b", .categories = {"x", "y", "z"}, .one_hot = true},
                                    {.name = "c", .categories = {"no", "yes"}}}};
  auto table = TableEncoder::create(card, declared({-1, -1}));
  ASSERT_TRUE(table) << table.error().message;
  EXPECT_THAT(table->shape(), ElementsAre(1, 5));
  std::vector<float> tensor(5);
  const auto bytes = std::as_writable_bytes(std::span(tensor));
  ASSERT_TRUE(table->fill(std::vector<double>{14, 2, 1}, bytes));
  EXPECT_THAT(tensor, ElementsAre(2, 0, 0, 1, 1));
  ASSERT_TRUE(table->fill(std::vector<double>{NAN, 0, 0}, bytes));
  EXPECT_TRUE(std::isnan(tensor[0]));
  EXPECT_THAT(tensor[1], 1);
  for (const double bad : {3.0, -1.0, 0.5, static_cast<double>(NAN), static_cast<double>(INFINITY)})
    EXPECT_THAT(table->fill(std::vector<double>{0, bad, 0}, bytes).error().message,
                HasSubstr("column 'b'"));
  EXPECT_THAT(table->fill(std::vector<double>{0}, bytes).error().message, HasSubstr("takes 3"));
  EXPECT_FALSE(TableEncoder::create(card, declared({1, 4})));
}

TEST(TableEncoder, WithoutColumnsTakesValuesAsTheyAre) {
  const TableInput card;
  auto table = TableEncoder::create(card, declared({1, 3}, DataType::kInt64));
  ASSERT_TRUE(table);
  std::vector<std::int64_t> tensor(3);
  ASSERT_TRUE(
      table->fill(std::vector<double>{1, 2.4, -3}, std::as_writable_bytes(std::span(tensor))));
  EXPECT_THAT(tensor, ElementsAre(1, 2, -3));
}

TEST(ParseCell, ReadsNumbersAndCategories) {
  const Column number{.name = "n", .categories = {}};
  EXPECT_EQ(*parse_cell(number, " 2.5 "), 2.5);
  EXPECT_TRUE(std::isnan(*parse_cell(number, "")));
  EXPECT_THAT(parse_cell(number, "2,5").error().message,
              HasSubstr("column 'n': '2,5' is not a number"));
  const Column word{.name = "w", .categories = {"a", "b"}};
  EXPECT_EQ(*parse_cell(word, "b"), 1);
  EXPECT_THAT(parse_cell(word, "c").error().message, HasSubstr("'c' is none of: a, b"));
}

}  // namespace
}  // namespace selvage::infer
