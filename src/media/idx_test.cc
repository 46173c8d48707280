#include "media/idx.h"

#include <cstring>

#include <gmock/gmock.h>

#include "media/media_testing.h"

namespace selvage::media {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;

Array read(const std::string& name) {
  auto array = read_idx(corpus("idx_fuzz", name));
  EXPECT_TRUE(array.has_value()) << name << ": " << (array ? "" : array.error().message);
  return array ? *std::move(array) : Array();
}

std::string failed(std::vector<std::byte> file, const ArrayLimits& limits = {}) {
  const auto array = read_idx(file, limits);
  EXPECT_FALSE(array.has_value());
  return array ? "" : array.error().message;
}

TEST(ReadIdx, Bytes) {
  const auto array = read("images.idx3");
  EXPECT_EQ(array.element, ArrayElement::kUint8);
  EXPECT_THAT(array.shape, ElementsAre(2, 2, 3));
  EXPECT_EQ(array.bytes.size(), 12u);
  EXPECT_EQ(array.bytes[11], std::byte{11});
}

TEST(ReadIdx, GzipIsTheSame) {
  EXPECT_EQ(read("images.idx3.gz"), read("images.idx3"));
}

TEST(ReadIdx, WiderElementsAreTurned) {
  const auto array = read("floats.idx1");
  ASSERT_EQ(array.element, ArrayElement::kFloat32);
  float values[3];
  ASSERT_EQ(array.bytes.size(), sizeof values);
  std::memcpy(values, array.bytes.data(), sizeof values);
  EXPECT_THAT(values, ElementsAre(1.5f, -2.0f, 0.25f));
}

TEST(ReadIdx, EveryCutIsRefused) {
  for (const auto* name : {"images.idx3", "images.idx3.gz"})
    for_each_cut(corpus("idx_fuzz", name), [&](auto cut, std::size_t size) {
      EXPECT_FALSE(read_idx(cut).has_value()) << name << " cut to " << size;
    });
}

TEST(ReadIdx, BadFiles) {
  auto file = corpus("idx_fuzz", "images.idx3");
  file.push_back(std::byte{0});
  EXPECT_THAT(failed(file), HasSubstr("longer than its sizes"));
  EXPECT_THAT(failed(corpus("idx_fuzz", "images.idx3"), {.bytes_max = 11}),
              HasSubstr("above the limit of 11"));
  auto other = corpus("idx_fuzz", "images.idx3");
  other[2] = std::byte{7};
  EXPECT_THAT(failed(other), HasSubstr("not an IDX file"));
  // 2^32 - 1 squared bytes, in a file of a few.
  const unsigned char huge[] = {0, 0, 8, 2, 255, 255, 255, 255, 255, 255, 255, 255};
  const auto bytes = std::as_bytes(std::span(huge));
  EXPECT_FALSE(read_idx(bytes).has_value());
}

TEST(ReadIdx, AWrongChecksumIsDataLoss) {
  auto file = corpus("idx_fuzz", "images.idx3.gz");
  file[file.size() - 8] ^= std::byte{1};
  const auto array = read_idx(file);
  ASSERT_FALSE(array.has_value());
  EXPECT_EQ(array.error().code, ErrorCode::kDataLoss);
}

}  // namespace
}  // namespace selvage::media
