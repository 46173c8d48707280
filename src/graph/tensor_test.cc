#include "graph/tensor.h"

#include <cstring>

#include <gtest/gtest.h>
#include <selvage/onnx.pb.h>

namespace selvage::graph {
namespace {

using onnx::TensorProto;

TensorProto tensor_of(DataType type, const Shape& shape) {
  TensorProto tensor;
  tensor.set_name("t");
  tensor.set_data_type(static_cast<int>(type));
  tensor.mutable_dims()->Add(shape.begin(), shape.end());
  return tensor;
}

std::vector<std::uint8_t> bytes_of(const TensorProto& tensor) {
  const auto data = TensorData::open(tensor, "");
  EXPECT_TRUE(data) << data.error().message;
  std::vector<std::uint8_t> bytes;
  if (data)
    for (const auto byte : data->view().bytes) bytes.push_back(std::to_integer<std::uint8_t>(byte));
  return bytes;
}

template <typename T>
std::vector<std::uint8_t> raw(std::initializer_list<T> values) {
  std::vector<std::uint8_t> bytes(values.size() * sizeof(T));
  std::memcpy(bytes.data(), std::data(values), bytes.size());
  return bytes;
}

TEST(TensorData, DecodesEveryTypedField) {
  auto tensor = tensor_of(DataType::kFloat32, {2});
  tensor.add_float_data(1.5f);
  tensor.add_float_data(-2.f);
  EXPECT_EQ(bytes_of(tensor), raw<float>({1.5f, -2.f}));

  tensor = tensor_of(DataType::kComplex64, {1});
  tensor.add_float_data(1.f);
  tensor.add_float_data(2.f);
  EXPECT_EQ(bytes_of(tensor), raw<float>({1.f, 2.f}));

  tensor = tensor_of(DataType::kFloat64, {1});
  tensor.add_double_data(3.25);
  EXPECT_EQ(bytes_of(tensor), raw<double>({3.25}));

  tensor = tensor_of(DataType::kInt64, {2});
  tensor.add_int64_data(-1);
  tensor.add_int64_data(1LL << 40);
  EXPECT_EQ(bytes_of(tensor), raw<std::int64_t>({-1, 1LL << 40}));

  tensor = tensor_of(DataType::kUint32, {1});
  tensor.add_uint64_data(0xfedcba98);
  EXPECT_EQ(bytes_of(tensor), raw<std::uint32_t>({0xfedcba98}));

  tensor = tensor_of(DataType::kUint64, {1});
  tensor.add_uint64_data(1ULL << 63);
  EXPECT_EQ(bytes_of(tensor), raw<std::uint64_t>({1ULL << 63}));
}

TEST(TensorData, DecodesEveryTypeInInt32Data) {
  const struct {
    DataType type;
    std::int64_t elements;
    std::vector<std::uint8_t> bytes;
  } cases[] = {
      {DataType::kInt32, 2, raw<std::int32_t>({-5, 7})},
      {DataType::kInt16, 2, raw<std::int16_t>({-5, 7})},
      {DataType::kUint16, 2, raw<std::uint16_t>({0xfffb, 7})},
      {DataType::kFloat16, 2, raw<std::uint16_t>({0xfffb, 7})},
      {DataType::kBfloat16, 2, raw<std::uint16_t>({0xfffb, 7})},
      {DataType::kInt8, 2, {0xfb, 7}},
      {DataType::kUint8, 2, {0xfb, 7}},
      {DataType::kBool, 2, {0xfb, 7}},
      {DataType::kFloat8E4M3Fn, 2, {0xfb, 7}},
      {DataType::kFloat8E4M3Fnuz, 2, {0xfb, 7}},
      {DataType::kFloat8E5M2, 2, {0xfb, 7}},
      {DataType::kFloat8E5M2Fnuz, 2, {0xfb, 7}},
      // Two elements an entry, so an odd count leaves half of the last one unused.
      {DataType::kInt4, 3, {0xfb, 7}},
      {DataType::kUint4, 4, {0xfb, 7}},
      {DataType::kFloat4E2M1, 4, {0xfb, 7}},
  };
  for (const auto& expected : cases) {
    auto tensor = tensor_of(expected.type, {expected.elements});
    tensor.add_int32_data(-5);
    tensor.add_int32_data(7);
    EXPECT_EQ(bytes_of(tensor), expected.bytes) << to_string(expected.type);
    EXPECT_TRUE(check_tensor(tensor, "", 8)) << to_string(expected.type);
    tensor.add_int32_data(0);
    EXPECT_EQ(check_tensor(tensor, "", 8).error().code, ErrorCode::kDataLoss)
        << to_string(expected.type);
  }
}

TEST(TensorData, PointsIntoRawDataWithoutCopy) {
  auto tensor = tensor_of(DataType::kInt16, {2});
  tensor.set_raw_data("abcd");
  const auto data = TensorData::open(tensor, "");
  ASSERT_TRUE(data);
  EXPECT_EQ(static_cast<const void*>(data->view().bytes.data()),
            static_cast<const void*>(tensor.raw_data().data()));
  EXPECT_EQ(data->view().bytes.size(), 4u);
}

TEST(TensorData, StaysValidWhenMoved) {
  auto tensor = tensor_of(DataType::kUint8, {1});
  tensor.add_int32_data(9);
  auto data = TensorData::open(tensor, "");
  ASSERT_TRUE(data);
  const TensorData moved = *std::move(data);
  EXPECT_EQ(std::to_integer<int>(moved.view().bytes[0]), 9);
  auto strings = tensor_of(DataType::kString, {1});
  strings.add_string_data("hi");
  auto text = TensorData::open(strings, "");
  ASSERT_TRUE(text);
  const TensorData moved_text = *std::move(text);
  EXPECT_EQ(moved_text.view().strings[0], "hi");
}

TEST(TensorData, ScalarsAndEmptyTensorsHaveTheirSizes) {
  auto scalar = tensor_of(DataType::kFloat32, {});
  EXPECT_EQ(check_tensor(scalar, "", 8).error().code, ErrorCode::kDataLoss);
  scalar.add_float_data(1.f);
  EXPECT_TRUE(check_tensor(scalar, "", 8));
  EXPECT_TRUE(check_tensor(tensor_of(DataType::kFloat32, {3, 0}), "", 8));
  EXPECT_EQ(bytes_of(tensor_of(DataType::kFloat32, {3, 0})).size(), 0u);
}

}  // namespace
}  // namespace selvage::graph
