#include "base/tensor.h"

#include <limits>

#include "base/exception.h"

namespace selvage {

std::size_t bits_of(DataType type) {
  switch (type) {
    case DataType::kUint4:
    case DataType::kInt4:
    case DataType::kFloat4E2M1: return 4;
    case DataType::kUint8:
    case DataType::kInt8:
    case DataType::kBool:
    case DataType::kFloat8E4M3Fn:
    case DataType::kFloat8E4M3Fnuz:
    case DataType::kFloat8E5M2:
    case DataType::kFloat8E5M2Fnuz: return 8;
    case DataType::kUint16:
    case DataType::kInt16:
    case DataType::kFloat16:
    case DataType::kBfloat16: return 16;
    case DataType::kFloat32:
    case DataType::kInt32:
    case DataType::kUint32: return 32;
    case DataType::kFloat64:
    case DataType::kInt64:
    case DataType::kUint64:
    case DataType::kComplex64: return 64;
    case DataType::kComplex128: return 128;
    case DataType::kString:
    case DataType::kUndefined: return 0;
  }
  return 0;
}

std::string_view to_string(DataType type) {
  switch (type) {
    case DataType::kUndefined: return "undefined";
    case DataType::kFloat32: return "float32";
    case DataType::kUint8: return "uint8";
    case DataType::kInt8: return "int8";
    case DataType::kUint16: return "uint16";
    case DataType::kInt16: return "int16";
    case DataType::kInt32: return "int32";
    case DataType::kInt64: return "int64";
    case DataType::kString: return "string";
    case DataType::kBool: return "bool";
    case DataType::kFloat16: return "float16";
    case DataType::kFloat64: return "float64";
    case DataType::kUint32: return "uint32";
    case DataType::kUint64: return "uint64";
    case DataType::kComplex64: return "complex64";
    case DataType::kComplex128: return "complex128";
    case DataType::kBfloat16: return "bfloat16";
    case DataType::kFloat8E4M3Fn: return "float8e4m3fn";
    case DataType::kFloat8E4M3Fnuz: return "float8e4m3fnuz";
    case DataType::kFloat8E5M2: return "float8e5m2";
    case DataType::kFloat8E5M2Fnuz: return "float8e5m2fnuz";
    case DataType::kUint4: return "uint4";
    case DataType::kInt4: return "int4";
    case DataType::kFloat4E2M1: return "float4e2m1";
  }
  return "undefined";
}

std::optional<std::int64_t> element_count(std::span<const std::int64_t> shape) {
  std::int64_t product = 1;
  bool empty = false;
  for (const auto dimension : shape) {
    if (dimension < 0) return std::nullopt;
    // An empty dimension makes the whole empty, but must not hide an overflow of the others.
    if (dimension == 0) {
      empty = true;
    } else if (__builtin_mul_overflow(product, dimension, &product)) {
      return std::nullopt;
    }
  }
  return empty ? 0 : product;
}

std::optional<std::uint64_t> byte_size(DataType type, std::span<const std::int64_t> shape) {
  const auto count = element_count(shape);
  const auto bits = bits_of(type);
  if (!count || bits == 0) return std::nullopt;
  std::uint64_t total_bits = 0;
  if (__builtin_mul_overflow(static_cast<std::uint64_t>(*count), std::uint64_t{bits},
                             &total_bits) ||
      total_bits > std::numeric_limits<std::int64_t>::max())
    return std::nullopt;
  return (total_bits + 7) / 8;
}

std::string to_string(std::span<const std::int64_t> shape) {
  std::string text = "[";
  for (std::size_t i = 0; i < shape.size(); ++i) {
    if (i > 0) text += ',';
    text += shape[i] < 0 ? "?" : std::to_string(shape[i]);
  }
  return text + "]";
}

namespace {

template <typename Elements>
Result<void> resize(Elements& elements, std::size_t size, const Shape& shape) {
  auto done = catch_to_result(ErrorCode::kInternal, [&] { elements.resize(size); });
  if (!done)
    return std::unexpected(
        std::move(done).error().with_context("a tensor of shape " + selvage::to_string(shape)));
  return done;
}

}  // namespace

Result<Tensor> Tensor::create(DataType type, Shape shape, std::uint64_t bytes_max) {
  const auto count = element_count(shape);
  if (!count)
    return fail(ErrorCode::kInvalidArgument,
                "shape " + selvage::to_string(shape) + " has a negative dimension or is too large");
  Tensor tensor;
  tensor.type_ = type;
  if (type == DataType::kString) {
    if (static_cast<std::uint64_t>(*count) > bytes_max / sizeof(std::string))
      return fail(ErrorCode::kOutOfRange, "a string tensor of shape " + selvage::to_string(shape) +
                                              " is above the limit of " +
                                              std::to_string(bytes_max) + " bytes");
    SELVAGE_RETURN_IF_ERROR(resize(tensor.strings_, static_cast<std::size_t>(*count), shape));
  } else {
    const auto bytes = byte_size(type, shape);
    if (!bytes || *bytes > bytes_max)
      return fail(ErrorCode::kOutOfRange, "a " + std::string(selvage::to_string(type)) +
                                              " tensor of shape " + selvage::to_string(shape) +
                                              " is above the limit of " +
                                              std::to_string(bytes_max) + " bytes");
    SELVAGE_RETURN_IF_ERROR(resize(tensor.bytes_, static_cast<std::size_t>(*bytes), shape));
  }
  tensor.shape_ = std::move(shape);
  return tensor;
}

Result<Tensor> Tensor::from_strings(Shape shape, std::vector<std::string> values) {
  const auto count = element_count(shape);
  if (!count || static_cast<std::size_t>(*count) != values.size())
    return fail(ErrorCode::kInvalidArgument, "a string tensor of shape " +
                                                 selvage::to_string(shape) + " does not hold " +
                                                 std::to_string(values.size()) + " values");
  Tensor tensor;
  tensor.type_ = DataType::kString;
  tensor.shape_ = std::move(shape);
  tensor.strings_ = std::move(values);
  return tensor;
}

}  // namespace selvage
