#include "media/array.h"

#include <cstring>
#include <numeric>

#include <gmock/gmock.h>

#include "media/media_testing.h"

namespace selvage::media {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;

Array read(const std::string& name) {
  auto array = read_npy(corpus("npy_fuzz", name));
  EXPECT_TRUE(array.has_value()) << name << ": " << (array ? "" : array.error().message);
  return array ? *std::move(array) : Array();
}

Error failed(std::span<const std::byte> file) {
  auto array = read_npy(file);
  EXPECT_FALSE(array.has_value());
  return array ? Error() : std::move(array).error();
}

template <typename Number>
std::vector<Number> values(const Array& array) {
  std::vector<Number> numbers(array.bytes.size() / sizeof(Number));
  if (!numbers.empty()) std::memcpy(numbers.data(), array.bytes.data(), array.bytes.size());
  return numbers;
}

/// Version 1 with this header and data.
std::vector<std::byte> npy(const std::string& header, std::size_t data_bytes) {
  std::string file("\x93NUMPY\x01\x00", 8);
  file.push_back(static_cast<char>(header.size() & 255));
  file.push_back(static_cast<char>(header.size() >> 8));
  file += header;
  file.append(data_bytes, '\1');
  const auto bytes = std::as_bytes(std::span(file));
  return {bytes.begin(), bytes.end()};
}

TEST(ReadNpy, WhatNumPyWrites) {
  const Array floats = read("float32.npy");
  EXPECT_EQ(floats.element, ArrayElement::kFloat32);
  EXPECT_THAT(floats.shape, ElementsAre(2, 3));
  EXPECT_THAT(values<float>(floats), ElementsAre(0, 1, 2, 3, 4, 5));
  const Array scalar = read("scalar.npy");
  EXPECT_TRUE(scalar.shape.empty());
  EXPECT_THAT(values<std::int64_t>(scalar), ElementsAre(7));
  const Array empty = read("empty.npy");
  EXPECT_THAT(empty.shape, ElementsAre(0, 3));
  EXPECT_TRUE(empty.bytes.empty());
  EXPECT_THAT(values<std::uint16_t>(read("version3.npy")), ElementsAre(0, 1, 2));
}

TEST(ReadNpy, OrderOfBytesAndOfIndicesIsMended) {
  EXPECT_THAT(values<double>(read("big_endian.npy")), ElementsAre(0, 1, 2, 3));
  EXPECT_THAT(values<float>(read("complex_big.npy")), ElementsAre(1, 2, 3, -4));
  const Array fortran = read("fortran.npy");
  EXPECT_THAT(fortran.shape, ElementsAre(2, 3, 4));
  std::vector<std::int16_t> wanted(24);
  std::iota(wanted.begin(), wanted.end(), std::int16_t{0});
  EXPECT_EQ(values<std::int16_t>(fortran), wanted);
}

TEST(ReadNpy, OtherElementsAreRefusedByName) {
  for (const std::string name : {"text.npy", "object.npy"})
    EXPECT_EQ(failed(corpus("npy_fuzz", name)).code, ErrorCode::kUnimplemented) << name;
  EXPECT_THAT(failed(corpus("npy_fuzz", "object.npy")).message, HasSubstr("'|O'"));
  EXPECT_EQ(failed(npy("{'descr': [('a', '<f4')], 'fortran_order': False, 'shape': (1,)}", 4)).code,
            ErrorCode::kUnimplemented);
}

TEST(ReadNpy, SizesAreCheckedBeforeAnythingIsAllocated) {
  const auto overflow = failed(corpus("npy_fuzz", "overflow.npy"));
  EXPECT_EQ(overflow.code, ErrorCode::kOutOfRange);
  EXPECT_THAT(overflow.message, HasSubstr("limit of 1073741824"));
  const auto limited = read_npy(corpus("npy_fuzz", "float32.npy"), {.bytes_max = 23});
  ASSERT_FALSE(limited.has_value());
  EXPECT_THAT(limited.error().message, HasSubstr("24 bytes are above the limit of 23"));
  EXPECT_THAT(failed(npy("{'descr': '<f4', 'fortran_order': False, 'shape': (5,)}", 19)).message,
              HasSubstr("1 bytes too short"));
  std::string ranks;
  for (int i = 0; i < 65; ++i) ranks += "1,";
  EXPECT_EQ(
      failed(npy("{'descr': '<f4', 'fortran_order': False, 'shape': (" + ranks + ")}", 4)).code,
      ErrorCode::kOutOfRange);
}

TEST(ReadNpy, OnlyTheExpectedDictIsUnderstood) {
  const auto accepts = [](const std::string& header) {
    return read_npy(npy(header, 4)).has_value();
  };
  EXPECT_TRUE(accepts("{'descr': '<f4', 'fortran_order': False, 'shape': (1,), }\n"));
  EXPECT_TRUE(accepts("{\"shape\":(1),\"fortran_order\":True,\"descr\":\"=f4\"}"));
  for (const char* header :
       {"", "{", "{}", "{'descr': '<f4', 'fortran_order': False}",
        "{'descr': '<f4', 'fortran_order': False, 'shape': (1,), 'more': 1}",
        "{'descr': '<f4', 'descr': '<f4', 'fortran_order': False, 'shape': (1,)}",
        "{'descr': '<f4', 'fortran_order': 0, 'shape': (1,)}",
        "{'descr': '<f4', 'fortran_order': False, 'shape': (-1,)}",
        "{'descr': '<f4', 'fortran_order': False, 'shape': (1 1)}",
        "{'descr': '<f4', 'fortran_order': False, 'shape': (99999999999999999999,)}",
        "{'descr': '<f4', 'fortran_order': False, 'shape': (1,)} x",
        "{'descr': '', 'fortran_order': False, 'shape': (1,)}",
        "{'descr': '<f4, 'fortran_order': False, 'shape': (1,)}"})
    EXPECT_FALSE(accepts(header)) << header;
}

TEST(ReadNpy, BooleansAreZeroOrOne) {
  EXPECT_TRUE(
      read_npy(npy("{'descr': '|b1', 'fortran_order': False, 'shape': (4,)}", 4)).has_value());
  auto file = npy("{'descr': '|b1', 'fortran_order': False, 'shape': (4,)}", 4);
  file.back() = std::byte{2};
  EXPECT_THAT(failed(file).message, HasSubstr("boolean"));
}

TEST(ReadNpy, CutShortIsAnErrorAtEveryByte) {
  for (const std::string name : {"float32.npy", "fortran.npy", "scalar.npy", "version3.npy"})
    for_each_cut(corpus("npy_fuzz", name), [&](auto cut, std::size_t size) {
      EXPECT_FALSE(read_npy(cut).has_value()) << name << " cut at " << size;
    });
}

TEST(WriteNpy, IsReadAgainAndLooksLikeNumPys) {
  for (const std::string name : {"float32.npy", "scalar.npy", "empty.npy"}) {
    const auto file = write_npy(read(name));
    ASSERT_TRUE(file.has_value());
    EXPECT_EQ(read_npy(*file).value(), read(name)) << name;
    const std::string_view text(reinterpret_cast<const char*>(file->data()), file->size());
    const auto numpys = corpus("npy_fuzz", name);
    const std::string_view wanted(reinterpret_cast<const char*>(numpys.data()), numpys.size());
    EXPECT_EQ(text.substr(10, text.find('}') - 10), wanted.substr(10, wanted.find('}') - 10))
        << name;
    EXPECT_EQ((file->size() - read(name).bytes.size()) % 64, 0u);
  }
  EXPECT_FALSE(
      write_npy({.element = ArrayElement::kFloat32, .shape = {2}, .bytes = {}}).has_value());
  EXPECT_FALSE(
      write_npy({.element = ArrayElement::kFloat32, .shape = {-1}, .bytes = {}}).has_value());
}

TEST(ReadNpz, StoredAndDeflated) {
  for (const std::string name : {"stored.npz", "deflated.npz"}) {
    const auto arrays = read_npz(corpus("npy_fuzz", name));
    ASSERT_TRUE(arrays.has_value()) << name << ": " << arrays.error().message;
    ASSERT_EQ(arrays->size(), 2u);
    EXPECT_EQ((*arrays)[0].name, "first");
    EXPECT_THAT(values<float>((*arrays)[0].array), ElementsAre(0, 1, 2, 3, 4, 5));
    EXPECT_EQ((*arrays)[1].name, "second");
    EXPECT_EQ((*arrays)[1].array.element, ArrayElement::kBool);
  }
}

TEST(ReadNpz, DamageIsFound) {
  for (const std::string name : {"stored.npz", "deflated.npz"}) {
    const auto file = corpus("npy_fuzz", name);
    const auto whole = read_npz(file);
    ASSERT_TRUE(whole.has_value());
    for_each_cut(file, [&](auto cut, std::size_t size) {
      EXPECT_FALSE(read_npz(cut).has_value()) << name << " cut at " << size;
    });
    // A changed byte is an error, or lies where it does not matter.
    for (std::size_t i = 0; i < file.size(); ++i) {
      auto changed = file;
      changed[i] ^= std::byte{0x20};
      const auto arrays = read_npz(changed);
      if (!arrays) continue;
      for (std::size_t k = 0; k < std::min(arrays->size(), whole->size()); ++k)
        EXPECT_EQ((*arrays)[k].array, (*whole)[k].array) << name << " byte " << i;
    }
  }
}

TEST(ReadNpz, LimitsCoverAllArrays) {
  const auto file = corpus("npy_fuzz", "deflated.npz");
  const auto few = read_npz(file, {.arrays_max = 1});
  ASSERT_FALSE(few.has_value());
  EXPECT_EQ(few.error().code, ErrorCode::kOutOfRange);
  const auto small = read_npz(file, {.bytes_max = 23});
  ASSERT_FALSE(small.has_value());
  EXPECT_EQ(small.error().code, ErrorCode::kOutOfRange);
}

}  // namespace
}  // namespace selvage::media
