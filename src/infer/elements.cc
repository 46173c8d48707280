#include "infer/elements.h"

#include <cmath>
#include <cstring>
#include <limits>
#include <string>

#include "base/half.h"

namespace selvage::infer {
namespace {

template <typename T>
T number_as(double value) {
  if constexpr (std::is_same_v<T, bool>) {
    return value != 0 && !std::isnan(value);
  } else if constexpr (std::is_integral_v<T>) {
    using Limits = std::numeric_limits<T>;
    const double rounded = std::nearbyint(value);
    if (std::isnan(rounded)) return 0;
    // The upper limit of 64-bit types is not a double: the next double is beyond it.
    if (rounded >= static_cast<double>(Limits::max())) return Limits::max();
    if (rounded <= static_cast<double>(Limits::min())) return Limits::min();
    return static_cast<T>(rounded);
  } else {
    return static_cast<T>(value);
  }
}

// Calls `function` with a value of the element's C++ type; half floats come as their bits.
template <typename Function>
Result<void> with_type(DataType type, Function&& function) {
  switch (type) {
    case DataType::kFloat32: return function(float{});
    case DataType::kFloat64: return function(double{});
    case DataType::kUint8: return function(std::uint8_t{});
    case DataType::kInt8: return function(std::int8_t{});
    case DataType::kUint16: return function(std::uint16_t{});
    case DataType::kInt16: return function(std::int16_t{});
    case DataType::kInt32: return function(std::int32_t{});
    case DataType::kInt64: return function(std::int64_t{});
    case DataType::kUint32: return function(std::uint32_t{});
    case DataType::kUint64: return function(std::uint64_t{});
    case DataType::kBool: return function(bool{});
    case DataType::kFloat16:
    case DataType::kBfloat16: return function(std::uint16_t{});
    default:
      return fail(ErrorCode::kUnimplemented,
                  "a model card cannot describe " + std::string(to_string(type)) + " tensors");
  }
}

template <typename To>
Result<void> convert(const TensorView& tensor, std::vector<To>& to) {
  return with_type(tensor.type, [&]<typename T>(T) -> Result<void> {
    const auto values = tensor.as<T>();
    to.resize(values.size());
    for (std::size_t i = 0; i < values.size(); ++i) {
      if constexpr (std::is_same_v<T, std::uint16_t>) {
        to[i] =
            static_cast<To>(tensor.type == DataType::kFloat16    ? from_half(values[i])
                            : tensor.type == DataType::kBfloat16 ? from_bfloat(values[i])
                                                                 : static_cast<float>(values[i]));
      } else {
        to[i] = static_cast<To>(values[i]);
      }
    }
    return {};
  });
}

}  // namespace

Result<std::span<const float>> as_floats(const TensorView& tensor, std::vector<float>& scratch) {
  if (tensor.type == DataType::kFloat32) return tensor.as<float>();
  SELVAGE_RETURN_IF_ERROR(convert(tensor, scratch));
  return std::span<const float>(scratch);
}

Result<std::vector<double>> as_doubles(const TensorView& tensor) {
  std::vector<double> values;
  SELVAGE_RETURN_IF_ERROR(convert(tensor, values));
  return values;
}

Result<void> write_elements(std::span<const double> values, DataType type,
                            std::span<std::byte> bytes) {
  return with_type(type, [&]<typename T>(T) -> Result<void> {
    if (bytes.size() != values.size() * sizeof(T))
      return fail(ErrorCode::kInvalidArgument,
                  std::to_string(values.size()) + " values for a tensor of " +
                      std::to_string(bytes.size() / sizeof(T)) + " elements");
    for (std::size_t i = 0; i < values.size(); ++i) {
      T element = number_as<T>(values[i]);
      if constexpr (std::is_same_v<T, std::uint16_t>) {
        if (type == DataType::kFloat16) element = to_half(static_cast<float>(values[i]));
        if (type == DataType::kBfloat16) element = to_bfloat(static_cast<float>(values[i]));
      }
      std::memcpy(bytes.data() + i * sizeof(T), &element, sizeof(T));
    }
    return {};
  });
}

}  // namespace selvage::infer
