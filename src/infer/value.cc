// Our values and ONNX Runtime's, in both directions.
#include <algorithm>
#include <cstring>

#include "infer/session_state.h"

namespace selvage::infer {
namespace {

using ort::api;
using ort::to_result;

[[nodiscard]] ONNXTensorElementDataType ort_type(DataType type) {
  // The runtime's numbers are ONNX's, which DataType uses as well.
  return static_cast<ONNXTensorElementDataType>(type);
}

/// The runtime's own allocator, for values that it keeps (strings, sequences).
[[nodiscard]] OrtAllocator* default_allocator() {
  OrtAllocator* allocator = nullptr;
  // Cannot fail: it hands out a static object.
  if (auto* status = api().GetAllocatorWithDefaultOptions(&allocator)) api().ReleaseStatus(status);
  return allocator;
}

[[nodiscard]] Result<Tensor> strings_from_ort(const OrtValue* value, Shape shape,
                                              std::size_t count) {
  std::size_t bytes = 0;
  SELVAGE_RETURN_IF_ERROR(to_result(api().GetStringTensorDataLength(value, &bytes)));
  std::string content(bytes, '\0');
  std::vector<std::size_t> starts(count);
  SELVAGE_RETURN_IF_ERROR(
      to_result(api().GetStringTensorContent(value, content.data(), bytes, starts.data(), count)));
  std::vector<std::string> values(count);
  for (std::size_t i = 0; i < count; ++i) {
    const auto end = i + 1 < count ? starts[i + 1] : bytes;
    values[i] = content.substr(starts[i], end - starts[i]);
  }
  return Tensor::from_strings(std::move(shape), std::move(values));
}

[[nodiscard]] Result<Tensor> tensor_from_ort(const OrtValue* value) {
  OrtTensorTypeAndShapeInfo* raw = nullptr;
  SELVAGE_RETURN_IF_ERROR(to_result(api().GetTensorTypeAndShape(value, &raw)));
  const ort::Handle<OrtTensorTypeAndShapeInfo> info(raw);
  ONNXTensorElementDataType type = ONNX_TENSOR_ELEMENT_DATA_TYPE_UNDEFINED;
  std::size_t rank = 0, count = 0;
  SELVAGE_RETURN_IF_ERROR(to_result(api().GetTensorElementType(info.get(), &type)));
  SELVAGE_RETURN_IF_ERROR(to_result(api().GetDimensionsCount(info.get(), &rank)));
  SELVAGE_RETURN_IF_ERROR(to_result(api().GetTensorShapeElementCount(info.get(), &count)));
  Shape shape(rank);
  SELVAGE_RETURN_IF_ERROR(to_result(api().GetDimensions(info.get(), shape.data(), rank)));
  if (type == ONNX_TENSOR_ELEMENT_DATA_TYPE_STRING)
    return strings_from_ort(value, std::move(shape), count);
  SELVAGE_TRY(Tensor tensor, Tensor::create(static_cast<DataType>(type), std::move(shape)));
  void* data = nullptr;
  // The runtime offers no read-only access; nothing is written through it.
  SELVAGE_RETURN_IF_ERROR(
      to_result(api().GetTensorMutableData(const_cast<OrtValue*>(value), &data)));
  if (!tensor.bytes().empty()) std::memcpy(tensor.bytes().data(), data, tensor.bytes().size());
  return tensor;
}

[[nodiscard]] Result<ort::Handle<OrtValue>> element_of(const OrtValue* value, int index) {
  OrtValue* element = nullptr;
  SELVAGE_RETURN_IF_ERROR(to_result(api().GetValue(value, index, default_allocator(), &element)));
  return ort::Handle<OrtValue>(element);
}

[[nodiscard]] Result<ort::Handle<OrtValue>> compose(std::span<const ort::Handle<OrtValue>> parts,
                                                    ONNXType kind) {
  std::vector<const OrtValue*> pointers;
  for (const auto& part : parts) pointers.push_back(part.get());
  OrtValue* composed = nullptr;
  SELVAGE_RETURN_IF_ERROR(
      to_result(api().CreateValue(pointers.data(), pointers.size(), kind, &composed)));
  return ort::Handle<OrtValue>(composed);
}

}  // namespace

Result<void> fill_strings(OrtValue* tensor, std::span<const std::string> values) {
  for (std::size_t i = 0; i < values.size(); ++i) {
    // By length and not as C strings: an element may hold zero bytes.
    char* buffer = nullptr;
    SELVAGE_RETURN_IF_ERROR(
        to_result(api().GetResizedStringTensorElementBuffer(tensor, i, values[i].size(), &buffer)));
    std::copy(values[i].begin(), values[i].end(), buffer);
  }
  return {};
}

Result<ort::Handle<OrtValue>> to_ort(const TensorView& tensor, const OrtMemoryInfo* memory) {
  OrtValue* value = nullptr;
  if (tensor.type == DataType::kString) {
    if (element_count(tensor.shape) != static_cast<std::int64_t>(tensor.strings.size()))
      return fail(ErrorCode::kInvalidArgument,
                  "a string tensor of shape " + to_string(tensor.shape) + " does not hold " +
                      std::to_string(tensor.strings.size()) + " strings");
    SELVAGE_RETURN_IF_ERROR(to_result(
        api().CreateTensorAsOrtValue(default_allocator(), tensor.shape.data(), tensor.shape.size(),
                                     ONNX_TENSOR_ELEMENT_DATA_TYPE_STRING, &value)));
    ort::Handle<OrtValue> owned(value);
    SELVAGE_RETURN_IF_ERROR(fill_strings(value, tensor.strings));
    return owned;
  }
  if (byte_size(tensor.type, tensor.shape) != tensor.bytes.size())
    return fail(ErrorCode::kInvalidArgument, "a " + std::string(to_string(tensor.type)) +
                                                 " tensor of shape " + to_string(tensor.shape) +
                                                 " does not hold " +
                                                 std::to_string(tensor.bytes.size()) + " bytes");
  // Inputs are only read; the runtime's interface does not say so.
  SELVAGE_RETURN_IF_ERROR(to_result(api().CreateTensorWithDataAsOrtValue(
      memory, const_cast<std::byte*>(tensor.bytes.data()), tensor.bytes.size(), tensor.shape.data(),
      tensor.shape.size(), ort_type(tensor.type), &value)));
  return ort::Handle<OrtValue>(value);
}

Result<ort::Handle<OrtValue>> to_ort(const Value& value, const OrtMemoryInfo* memory) {
  if (std::holds_alternative<std::monostate>(value)) return ort::Handle<OrtValue>();
  if (const auto* tensor = std::get_if<Tensor>(&value)) return to_ort(tensor->view(), memory);
  if (const auto* map = std::get_if<MapValue>(&value)) {
    ort::Handle<OrtValue> parts[2];
    SELVAGE_TRY(parts[0], to_ort(map->keys.view(), memory));
    SELVAGE_TRY(parts[1], to_ort(map->values.view(), memory));
    return compose(parts, ONNX_TYPE_MAP);
  }
  std::vector<ort::Handle<OrtValue>> parts;
  for (const auto& element : std::get<std::vector<Value>>(value)) {
    SELVAGE_TRY(auto part, to_ort(element, memory));
    parts.push_back(std::move(part));
  }
  return compose(parts, ONNX_TYPE_SEQUENCE);
}

Result<Value> from_ort(const OrtValue* value) {
  int present = 0;
  if (value == nullptr) return Value();
  SELVAGE_RETURN_IF_ERROR(to_result(api().HasValue(value, &present)));
  if (present == 0) return Value();
  ONNXType kind = ONNX_TYPE_UNKNOWN;
  SELVAGE_RETURN_IF_ERROR(to_result(api().GetValueType(value, &kind)));
  if (kind == ONNX_TYPE_TENSOR) {
    SELVAGE_TRY(Tensor tensor, tensor_from_ort(value));
    return Value(std::move(tensor));
  }
  if (kind == ONNX_TYPE_MAP) {
    SELVAGE_TRY(const auto keys, element_of(value, 0));
    SELVAGE_TRY(const auto values, element_of(value, 1));
    MapValue map;
    SELVAGE_TRY(map.keys, tensor_from_ort(keys.get()));
    SELVAGE_TRY(map.values, tensor_from_ort(values.get()));
    return Value(std::move(map));
  }
  if (kind == ONNX_TYPE_SEQUENCE) {
    std::size_t count = 0;
    SELVAGE_RETURN_IF_ERROR(to_result(api().GetValueCount(value, &count)));
    std::vector<Value> elements;
    for (std::size_t i = 0; i < count; ++i) {
      SELVAGE_TRY(const auto part, element_of(value, static_cast<int>(i)));
      SELVAGE_TRY(auto element, from_ort(part.get()));
      elements.push_back(std::move(element));
    }
    return Value(std::move(elements));
  }
  return fail(ErrorCode::kUnimplemented, "the model gives a sparse or opaque value");
}

Result<void> check_fits(const ValueInfo& declared, DataType type,
                        std::span<const std::int64_t> shape) {
  if (!element_count(shape))
    return fail(ErrorCode::kInvalidArgument, "'" + declared.name + "': " + to_string(shape) +
                                                 " has a negative size or too many elements");
  bool fits = type == declared.type && shape.size() == declared.shape.size();
  for (std::size_t i = 0; fits && i < shape.size(); ++i)
    fits = declared.shape[i] < 0 || declared.shape[i] == shape[i];
  if (fits) return {};
  return fail(ErrorCode::kInvalidArgument,
              "'" + declared.name + "' is " + std::string(to_string(declared.type)) + " " +
                  to_string(declared.shape) + " in the model, not " + std::string(to_string(type)) +
                  " " + to_string(shape));
}

}  // namespace selvage::infer
