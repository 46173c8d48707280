// Tensors as every folder passes them on: an element type, a shape and bytes. Row-major, no
// padding, in the machine's byte order (little-endian on every machine we support).
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"

namespace selvage {

/// Element types; the numbers are those of ONNX's TensorProto.DataType.
enum class DataType : std::uint8_t {
  kUndefined = 0,
  kFloat32 = 1,
  kUint8 = 2,
  kInt8 = 3,
  kUint16 = 4,
  kInt16 = 5,
  kInt32 = 6,
  kInt64 = 7,
  kString = 8,
  kBool = 9,
  kFloat16 = 10,
  kFloat64 = 11,
  kUint32 = 12,
  kUint64 = 13,
  kComplex64 = 14,
  kComplex128 = 15,
  kBfloat16 = 16,
  kFloat8E4M3Fn = 17,
  kFloat8E4M3Fnuz = 18,
  kFloat8E5M2 = 19,
  kFloat8E5M2Fnuz = 20,
  kUint4 = 21,
  kInt4 = 22,
  kFloat4E2M1 = 23,
};

/// Bits of one element; 0 for kString and kUndefined. 4-bit types pack two elements a byte, the
/// first in the low half.
[[nodiscard]] std::size_t bits_of(DataType type);
/// "float32", "int64", ... as numpy writes them, where it has the type.
[[nodiscard]] std::string_view to_string(DataType type);

/// The DataType of a C++ element type: data_type_of<float>() is kFloat32.
template <typename T>
[[nodiscard]] constexpr DataType data_type_of();

using Shape = std::vector<std::int64_t>;  ///< In a model's declaration -1 means "any size".

/// The product of the dimensions. Empty where one is negative or the product overflows int64.
[[nodiscard]] std::optional<std::int64_t> element_count(std::span<const std::int64_t> shape);
/// Bytes of a tensor of a fixed-width type. Empty as for element_count, and for kString.
[[nodiscard]] std::optional<std::uint64_t> byte_size(DataType type,
                                                     std::span<const std::int64_t> shape);
/// "[1,3,?,?]": unknown dimensions as question marks.
[[nodiscard]] std::string to_string(std::span<const std::int64_t> shape);

/// A tensor that somebody else owns and keeps alive. For kString `strings` holds the elements,
/// otherwise `bytes` does.
struct TensorView {
  DataType type = DataType::kUndefined;
  std::span<const std::int64_t> shape;
  std::span<const std::byte> bytes;
  std::span<const std::string> strings;

  /// The elements, unchecked: T must be the element's type.
  template <typename T>
  [[nodiscard]] std::span<const T> as() const {
    return {reinterpret_cast<const T*>(bytes.data()), bytes.size() / sizeof(T)};
  }
};

/// A tensor that owns its elements, aligned for any element type.
class Tensor {
 public:
  Tensor() = default;
  /// All zeros, or empty strings. kInvalidArgument for a shape with a negative dimension or an
  /// overflowing product, kOutOfRange above `bytes_max`.
  [[nodiscard]] static Result<Tensor> create(DataType type, Shape shape,
                                             std::uint64_t bytes_max = kBytesMax);
  /// From values; `shape` must hold exactly that many.
  template <typename T>
  [[nodiscard]] static Result<Tensor> from(Shape shape, std::span<const T> values);
  [[nodiscard]] static Result<Tensor> from_strings(Shape shape, std::vector<std::string> values);

  [[nodiscard]] DataType type() const { return type_; }
  [[nodiscard]] const Shape& shape() const { return shape_; }
  [[nodiscard]] std::span<std::byte> bytes() { return bytes_; }
  [[nodiscard]] std::span<const std::byte> bytes() const { return bytes_; }
  [[nodiscard]] std::span<std::string> strings() { return strings_; }
  [[nodiscard]] std::span<const std::string> strings() const { return strings_; }
  [[nodiscard]] TensorView view() const { return {type_, shape_, bytes_, strings_}; }

  template <typename T>
  [[nodiscard]] std::span<T> as() {
    return {reinterpret_cast<T*>(bytes_.data()), bytes_.size() / sizeof(T)};
  }
  template <typename T>
  [[nodiscard]] std::span<const T> as() const {
    return view().as<T>();
  }

  static constexpr std::uint64_t kBytesMax = std::uint64_t{8} << 30;

 private:
  DataType type_ = DataType::kUndefined;
  Shape shape_;
  std::vector<std::byte> bytes_;
  std::vector<std::string> strings_;
};

template <typename T>
constexpr DataType data_type_of() {
  if constexpr (std::is_same_v<T, float>) return DataType::kFloat32;
  if constexpr (std::is_same_v<T, double>) return DataType::kFloat64;
  if constexpr (std::is_same_v<T, bool>) return DataType::kBool;
  if constexpr (std::is_same_v<T, std::int8_t>) return DataType::kInt8;
  if constexpr (std::is_same_v<T, std::int16_t>) return DataType::kInt16;
  if constexpr (std::is_same_v<T, std::int32_t>) return DataType::kInt32;
  if constexpr (std::is_same_v<T, std::int64_t>) return DataType::kInt64;
  if constexpr (std::is_same_v<T, std::uint8_t>) return DataType::kUint8;
  if constexpr (std::is_same_v<T, std::uint16_t>) return DataType::kUint16;
  if constexpr (std::is_same_v<T, std::uint32_t>) return DataType::kUint32;
  if constexpr (std::is_same_v<T, std::uint64_t>) return DataType::kUint64;
  if constexpr (std::is_same_v<T, std::string>) return DataType::kString;
}

template <typename T>
Result<Tensor> Tensor::from(Shape shape, std::span<const T> values) {
  static_assert(data_type_of<T>() != DataType::kUndefined);
  SELVAGE_TRY(Tensor tensor, create(data_type_of<T>(), std::move(shape)));
  const auto bytes = std::as_bytes(values);
  if (bytes.size() != tensor.bytes_.size())
    return fail(ErrorCode::kInvalidArgument, "a tensor of shape " + to_string(tensor.shape_) +
                                                 " does not hold " + std::to_string(values.size()) +
                                                 " values");
  std::copy(bytes.begin(), bytes.end(), tensor.bytes_.begin());
  return tensor;
}

}  // namespace selvage
