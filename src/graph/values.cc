#include "graph/values.h"

#include <cmath>
#include <cstring>
#include <functional>
#include <limits>

#include <selvage/onnx.pb.h>

#include "base/half.h"
#include "graph/names.h"
#include "graph/tensor.h"

namespace selvage::graph {
namespace {

template <typename T>
T load(const std::byte* bytes) {
  T value;
  std::memcpy(&value, bytes, sizeof value);
  return value;
}

template <typename Stored, typename Number, typename Convert>
std::vector<Number> convert(std::span<const std::byte> bytes, Convert to_number) {
  std::vector<Number> numbers(bytes.size() / sizeof(Stored));
  for (std::size_t i = 0; i < numbers.size(); ++i)
    numbers[i] = to_number(load<Stored>(bytes.data() + i * sizeof(Stored)));
  return numbers;
}

std::unexpected<Error> wrong_type(const onnx::TensorProto& tensor, std::string_view wanted) {
  return fail(ErrorCode::kInvalidArgument, describe(tensor) + " holds " +
                                               std::string(to_string(type_of(tensor))) + " where " +
                                               std::string(wanted) + " are needed");
}

void clear_data(onnx::TensorProto& tensor) {
  tensor.clear_float_data();
  tensor.clear_double_data();
  tensor.clear_int32_data();
  tensor.clear_int64_data();
  tensor.clear_uint64_data();
  tensor.clear_string_data();
  tensor.clear_raw_data();
  tensor.clear_external_data();
  tensor.clear_data_location();
}

void declare(onnx::TensorProto& tensor, DataType type, std::span<const std::int64_t> shape) {
  tensor.set_data_type(static_cast<int>(type));
  tensor.clear_dims();
  tensor.mutable_dims()->Add(shape.begin(), shape.end());
}

/// Two elements a byte, the first in the low half.
std::vector<std::int64_t> unpack_4_bits(std::span<const std::byte> bytes, std::size_t count,
                                        bool is_signed) {
  std::vector<std::int64_t> values(count);
  for (std::size_t i = 0; i < count; ++i) {
    const auto pair = std::to_integer<std::int64_t>(bytes[i / 2]);
    const auto element = i % 2 == 0 ? pair & 15 : pair >> 4;
    values[i] = is_signed && element > 7 ? element - 16 : element;
  }
  return values;
}

}  // namespace

Shape shape_of(const onnx::TensorProto& tensor) {
  return {tensor.dims().begin(), tensor.dims().end()};
}

DataType type_of(const onnx::TensorProto& tensor) {
  const auto number = tensor.data_type();
  const bool is_known = number > 0 && number <= static_cast<int>(DataType::kFloat4E2M1);
  return is_known ? static_cast<DataType>(number) : DataType::kUndefined;
}

std::size_t bits_of_stored(const onnx::TensorProto& tensor) {
  return bits_of(type_of(tensor));
}

bool is_float(DataType type) {
  return type == DataType::kFloat32 || type == DataType::kFloat64 || type == DataType::kFloat16 ||
         type == DataType::kBfloat16;
}

Result<std::vector<float>> read_floats(const onnx::TensorProto& tensor,
                                       const std::filesystem::path& folder) {
  if (!is_float(type_of(tensor))) return wrong_type(tensor, "floating-point numbers");
  SELVAGE_TRY(const auto data, TensorData::open(tensor, folder));
  const auto bytes = data.view().bytes;
  switch (data.view().type) {
    case DataType::kFloat64:
      return convert<double, float>(bytes, [](double x) { return static_cast<float>(x); });
    case DataType::kFloat16: return convert<std::uint16_t, float>(bytes, from_half);
    case DataType::kBfloat16: return convert<std::uint16_t, float>(bytes, from_bfloat);
    default: {
      std::vector<float> numbers(bytes.size() / sizeof(float));
      if (!numbers.empty()) std::memcpy(numbers.data(), bytes.data(), bytes.size());
      return numbers;
    }
  }
}

Result<Floats> Floats::view(const onnx::TensorProto& tensor, const std::filesystem::path& folder) {
  if (type_of(tensor) != DataType::kFloat32) {
    SELVAGE_TRY(auto values, read_floats(tensor, folder));
    return Floats(std::move(values));
  }
  Floats floats;
  SELVAGE_TRY(floats.data_, TensorData::open(tensor, folder));
  const auto& view = floats.data_.view();
  // External data may begin anywhere in their file.
  if (reinterpret_cast<std::uintptr_t>(view.bytes.data()) % alignof(float) != 0)
    return Floats(convert<float, float>(view.bytes, std::identity()));
  floats.span_ = view.as<float>();
  return floats;
}

bool all_finite(std::span<const float> values) {
  // 0 * x is 0, or else NaN. In vectors, without a branch: weights are read at memory's speed.
  constexpr std::size_t kLanes = 16;
  using Lanes [[gnu::vector_size(kLanes * sizeof(float))]] = float;
  Lanes sums{};
  for (; values.size() >= kLanes; values = values.subspan(kLanes)) {
    Lanes lanes;
    std::memcpy(&lanes, values.data(), sizeof lanes);
    sums += 0 * lanes;
  }
  float sum = 0;
  for (std::size_t k = 0; k < kLanes; ++k) sum += sums[k];
  for (const float value : values) sum += 0 * value;
  return sum == 0;
}

Result<std::vector<std::int64_t>> read_integers(const onnx::TensorProto& tensor,
                                                const std::filesystem::path& folder,
                                                std::size_t elements_max) {
  SELVAGE_TRY(const auto data, TensorData::open(tensor, folder));
  const auto count = element_count(data.view().shape).value_or(0);
  if (static_cast<std::uint64_t>(count) > elements_max)
    return fail(ErrorCode::kOutOfRange, describe(tensor) + " has " + std::to_string(count) +
                                            " elements, more than the limit of " +
                                            std::to_string(elements_max));
  const auto bytes = data.view().bytes;
  const auto widen = [](auto x) { return static_cast<std::int64_t>(x); };
  switch (data.view().type) {
    case DataType::kInt64: return convert<std::int64_t, std::int64_t>(bytes, widen);
    case DataType::kInt32: return convert<std::int32_t, std::int64_t>(bytes, widen);
    case DataType::kInt16: return convert<std::int16_t, std::int64_t>(bytes, widen);
    case DataType::kInt8: return convert<std::int8_t, std::int64_t>(bytes, widen);
    case DataType::kUint32: return convert<std::uint32_t, std::int64_t>(bytes, widen);
    case DataType::kUint16: return convert<std::uint16_t, std::int64_t>(bytes, widen);
    case DataType::kUint8:
    case DataType::kBool: return convert<std::uint8_t, std::int64_t>(bytes, widen);
    case DataType::kInt4:
    case DataType::kUint4:
      return unpack_4_bits(bytes, static_cast<std::size_t>(count),
                           data.view().type == DataType::kInt4);
    default: return wrong_type(tensor, "integers");
  }
}

Result<std::span<std::byte>> edit_bytes(onnx::TensorProto& tensor,
                                        const std::filesystem::path& folder) {
  if (type_of(tensor) == DataType::kString) return wrong_type(tensor, "numbers");
  {
    SELVAGE_TRY(const auto data, TensorData::open(tensor, folder));
    const auto bytes = data.view().bytes;
    const bool is_raw = std::as_bytes(std::span(tensor.raw_data())).data() == bytes.data();
    if (!is_raw) {
      std::string raw(reinterpret_cast<const char*>(bytes.data()), bytes.size());
      clear_data(tensor);
      tensor.set_raw_data(std::move(raw));
    }
  }
  auto& raw = *tensor.mutable_raw_data();
  return std::as_writable_bytes(std::span(raw.data(), raw.size()));
}

void store(onnx::TensorProto& tensor, const TensorView& value) {
  declare(tensor, value.type, value.shape);
  clear_data(tensor);
  if (value.type == DataType::kString) {
    for (const auto& text : value.strings) tensor.add_string_data(text);
    return;
  }
  tensor.set_raw_data(value.bytes.data(), value.bytes.size());
}

void store_floats(onnx::TensorProto& tensor, DataType type, const Shape& shape,
                  std::span<const float> values) {
  declare(tensor, type, shape);
  clear_data(tensor);
  std::string raw;
  const auto fill = [&](auto convert_one) {
    using Stored = decltype(convert_one(0.0f));
    raw.resize(values.size() * sizeof(Stored));
    for (std::size_t i = 0; i < values.size(); ++i) {
      const Stored stored = convert_one(values[i]);
      std::memcpy(raw.data() + i * sizeof stored, &stored, sizeof stored);
    }
  };
  switch (type) {
    case DataType::kFloat64: fill([](float x) { return static_cast<double>(x); }); break;
    case DataType::kFloat16: fill(to_half); break;
    case DataType::kBfloat16: fill(to_bfloat); break;
    default: fill([](float x) { return x; }); break;
  }
  tensor.set_raw_data(std::move(raw));
}

onnx::TensorProto& add_initialiser(onnx::GraphProto& graph, std::string_view name,
                                   const Shape& shape, std::span<const float> values) {
  auto& tensor = *graph.add_initializer();
  tensor.set_name(std::string(name));
  store(tensor, {DataType::kFloat32, shape, std::as_bytes(values), {}});
  return tensor;
}

onnx::TensorProto& add_initialiser(onnx::GraphProto& graph, std::string_view name,
                                   const Shape& shape, std::span<const std::int64_t> values) {
  auto& tensor = *graph.add_initializer();
  tensor.set_name(std::string(name));
  store(tensor, {DataType::kInt64, shape, std::as_bytes(values), {}});
  return tensor;
}

}  // namespace selvage::graph
