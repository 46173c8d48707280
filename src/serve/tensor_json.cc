#include "serve/tensor_json.h"

#include <utility>

#include "base/utf8.h"
#include "serve/json_text.h"
#include "serve/wire_type.h"

namespace selvage::serve {
namespace {

std::unexpected<Error> no_json_form(DataType type) {
  return fail(
      ErrorCode::kInvalidArgument,
      std::string(wire_name(type)) + " has no JSON form: send and ask for it as binary data");
}

template <typename T>
Result<void> read_element(JsonReader& reader, T& to) {
  if constexpr (std::is_same_v<T, std::string>) {
    SELVAGE_TRY(to, reader.string());
  } else if constexpr (std::is_same_v<T, bool>) {
    SELVAGE_TRY(to, reader.boolean());
  } else {
    SELVAGE_TRY(const std::string_view text, reader.number_text());
    if (!to_number(text, to))
      return fail(ErrorCode::kInvalidArgument, std::string(text) + " is not a value of type " +
                                                   std::string(wire_name(data_type_of<T>())));
  }
  return {};
}

// Fills elements in row-major order, whatever the nesting.
template <typename T>
class ElementReader {
 public:
  ElementReader(JsonReader& reader, const Shape& shape, std::span<T> elements)
      : reader_(reader), shape_(shape), elements_(elements) {}

  Result<void> read() {
    SELVAGE_RETURN_IF_ERROR(reader_.begin_array());
    SELVAGE_TRY(const bool any, reader_.next_element());
    if (any) {
      SELVAGE_TRY(const JsonKind kind, reader_.kind());
      if (kind == JsonKind::kArray) {
        SELVAGE_RETURN_IF_ERROR(rows(0, true));
      } else {
        SELVAGE_RETURN_IF_ERROR(flat(elements_.size(), true));
      }
    }
    if (filled_ != elements_.size()) return wrong_count(std::to_string(filled_));
    return {};
  }

 private:
  std::unexpected<Error> wrong_count(const std::string& found) const {
    return fail(ErrorCode::kInvalidArgument, "'data' has " + found + " elements; its shape " +
                                                 to_string(shape_) + " needs " +
                                                 std::to_string(elements_.size()));
  }

  // One array of `count` elements, its bracket (and with `inside` its first comma) already read.
  Result<void> flat(std::size_t count, bool inside) {
    const std::size_t end = filled_ + count;
    while (true) {
      if (!inside) {
        SELVAGE_TRY(const bool more, reader_.next_element());
        if (!more) break;
      }
      inside = false;
      if (filled_ == end) return wrong_count("more");
      SELVAGE_RETURN_IF_ERROR(read_element(reader_, elements_[filled_]));
      ++filled_;
    }
    if (filled_ != end)
      return fail(ErrorCode::kInvalidArgument,
                  "'data' has a row with too few elements for shape " + to_string(shape_));
    return {};
  }

  // The arrays along dimension `axis`; the shape's rank bounds the recursion.
  Result<void> rows(std::size_t axis, bool inside) {
    if (axis + 1 >= shape_.size())
      return fail(ErrorCode::kInvalidArgument,
                  "'data' is nested deeper than its shape " + to_string(shape_));
    std::int64_t row = 0;
    while (true) {
      if (!inside) {
        SELVAGE_TRY(const bool more, reader_.next_element());
        if (!more) break;
      }
      inside = false;
      if (row++ == shape_[axis])
        return fail(ErrorCode::kInvalidArgument,
                    "'data' has more rows than its shape " + to_string(shape_));
      SELVAGE_RETURN_IF_ERROR(reader_.begin_array());
      if (axis + 2 == shape_.size()) {
        SELVAGE_RETURN_IF_ERROR(flat(static_cast<std::size_t>(shape_.back()), false));
      } else {
        SELVAGE_RETURN_IF_ERROR(rows(axis + 1, false));
      }
    }
    return {};
  }

  JsonReader& reader_;
  const Shape& shape_;
  std::span<T> elements_;
  std::size_t filled_ = 0;
};

template <typename T>
std::span<T> elements_of(Tensor& tensor) {
  if constexpr (std::is_same_v<T, std::string>)
    return tensor.strings();
  else
    return tensor.as<T>();
}

template <typename T>
Result<void> fill(JsonReader& reader, Tensor& tensor) {
  return ElementReader<T>(reader, tensor.shape(), elements_of<T>(tensor)).read();
}

template <typename T>
void append_numbers(std::string& to, std::span<const T> values) {
  to.reserve(to.size() + values.size() * 4);
  for (std::size_t i = 0; i < values.size(); ++i) {
    if (i > 0) to += ',';
    append_json_number(to, values[i]);
  }
}

void append_booleans(std::string& to, std::span<const std::byte> values) {
  for (std::size_t i = 0; i < values.size(); ++i) {
    if (i > 0) to += ',';
    to += values[i] != std::byte{0} ? "true" : "false";
  }
}

Result<void> append_strings(std::string& to, std::span<const std::string> values) {
  for (std::size_t i = 0; i < values.size(); ++i) {
    if (i > 0) to += ',';
    if (!is_utf8(values[i]))
      return fail(ErrorCode::kInvalidArgument,
                  "element " + std::to_string(i) + " is not UTF-8: ask for it as binary data");
    append_json_string(to, values[i]);
  }
  return {};
}

}  // namespace

Result<Tensor> read_tensor(JsonReader& reader, DataType type, const Shape& shape,
                           std::size_t text_bytes) {
  if (type == DataType::kFloat16 || type == DataType::kBfloat16) return no_json_form(type);
  const auto count = element_count(shape);
  if (!count)
    return fail(ErrorCode::kInvalidArgument, "its shape " + to_string(shape) + " is not a size");
  // Each element takes a character and a comma or bracket.
  if (static_cast<std::uint64_t>(*count) > text_bytes / 2)
    return fail(ErrorCode::kInvalidArgument,
                "'data' has too few elements for its shape " + to_string(shape));
  SELVAGE_TRY(Tensor tensor, Tensor::create(type, shape));
  Result<void> filled = fail(ErrorCode::kInvalidArgument, "an element type without a JSON form");
  switch (type) {
    case DataType::kFloat32: filled = fill<float>(reader, tensor); break;
    case DataType::kFloat64: filled = fill<double>(reader, tensor); break;
    case DataType::kBool: filled = fill<bool>(reader, tensor); break;
    case DataType::kInt8: filled = fill<std::int8_t>(reader, tensor); break;
    case DataType::kInt16: filled = fill<std::int16_t>(reader, tensor); break;
    case DataType::kInt32: filled = fill<std::int32_t>(reader, tensor); break;
    case DataType::kInt64: filled = fill<std::int64_t>(reader, tensor); break;
    case DataType::kUint8: filled = fill<std::uint8_t>(reader, tensor); break;
    case DataType::kUint16: filled = fill<std::uint16_t>(reader, tensor); break;
    case DataType::kUint32: filled = fill<std::uint32_t>(reader, tensor); break;
    case DataType::kUint64: filled = fill<std::uint64_t>(reader, tensor); break;
    case DataType::kString: filled = fill<std::string>(reader, tensor); break;
    default: break;
  }
  SELVAGE_RETURN_IF_ERROR(std::move(filled));
  return tensor;
}

Result<void> append_tensor(std::string& to, const TensorView& tensor) {
  Result<void> appended;
  to += '[';
  switch (tensor.type) {
    case DataType::kFloat32: append_numbers(to, tensor.as<float>()); break;
    case DataType::kFloat64: append_numbers(to, tensor.as<double>()); break;
    case DataType::kBool: append_booleans(to, tensor.bytes); break;
    case DataType::kInt8: append_numbers(to, tensor.as<std::int8_t>()); break;
    case DataType::kInt16: append_numbers(to, tensor.as<std::int16_t>()); break;
    case DataType::kInt32: append_numbers(to, tensor.as<std::int32_t>()); break;
    case DataType::kInt64: append_numbers(to, tensor.as<std::int64_t>()); break;
    case DataType::kUint8: append_numbers(to, tensor.as<std::uint8_t>()); break;
    case DataType::kUint16: append_numbers(to, tensor.as<std::uint16_t>()); break;
    case DataType::kUint32: append_numbers(to, tensor.as<std::uint32_t>()); break;
    case DataType::kUint64: append_numbers(to, tensor.as<std::uint64_t>()); break;
    case DataType::kString: appended = append_strings(to, tensor.strings); break;
    default: return no_json_form(tensor.type);
  }
  to += ']';
  return appended;
}

}  // namespace selvage::serve
