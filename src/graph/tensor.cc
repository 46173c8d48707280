#include "graph/tensor.h"

#include <charconv>
#include <cstring>

#include <selvage/onnx.pb.h>

#include "graph/names.h"

namespace selvage::graph {
namespace {

namespace fs = std::filesystem;

/// What type and dimensions of a tensor ask for.
struct Extent {
  DataType type;
  std::uint64_t elements;
  std::uint64_t bytes;  ///< 0 for strings.
};

std::unexpected<Error> bad_tensor(ErrorCode code, const onnx::TensorProto& tensor,
                                  std::string_view what) {
  return fail(code, describe(tensor) + " " + std::string(what));
}

Result<Extent> extent_of(const onnx::TensorProto& tensor) {
  const auto number = tensor.data_type();
  const auto type = number > 0 && number <= static_cast<int>(DataType::kFloat4E2M1)
                        ? static_cast<DataType>(number)
                        : DataType::kUndefined;
  if (type == DataType::kUndefined)
    return bad_tensor(ErrorCode::kInvalidArgument, tensor,
                      "has the unknown data type " + std::to_string(number) +
                          ": the file is damaged, or its type is newer than this program");
  const auto shape = std::span(tensor.dims().data(), static_cast<std::size_t>(tensor.dims_size()));
  const auto elements = element_count(shape);
  if (!elements)
    return bad_tensor(ErrorCode::kInvalidArgument, tensor,
                      "has impossible dimensions " + to_string(shape) + ": export the model again");
  if (type == DataType::kString) return Extent{type, static_cast<std::uint64_t>(*elements), 0};
  const auto bytes = byte_size(type, shape);
  if (!bytes)
    return bad_tensor(ErrorCode::kInvalidArgument, tensor,
                      "is larger than any memory: " + to_string(shape));
  return Extent{type, static_cast<std::uint64_t>(*elements), *bytes};
}

/// A typed field of TensorProto. `elements` is how many it holds, `bytes` its memory as it is.
struct TypedField {
  std::string_view name;
  std::uint64_t entries = 0;
  std::span<const std::byte> bytes;
};

template <typename T>
TypedField typed_field(std::string_view name, const google::protobuf::RepeatedField<T>& field) {
  const auto values = std::span(field.data(), static_cast<std::size_t>(field.size()));
  return {name, values.size(), std::as_bytes(values)};
}

/// The field that onnx.proto assigns to a type.
TypedField field_of(const onnx::TensorProto& tensor, DataType type) {
  switch (type) {
    case DataType::kFloat32:
    case DataType::kComplex64: return typed_field("float_data", tensor.float_data());
    case DataType::kFloat64:
    case DataType::kComplex128: return typed_field("double_data", tensor.double_data());
    case DataType::kInt64: return typed_field("int64_data", tensor.int64_data());
    case DataType::kUint32:
    case DataType::kUint64: return typed_field("uint64_data", tensor.uint64_data());
    case DataType::kString:
      return {"string_data", static_cast<std::uint64_t>(tensor.string_data_size()), {}};
    default: return typed_field("int32_data", tensor.int32_data());
  }
}

/// How many entries of its typed field a tensor needs. Complex numbers take two, and two 4-bit
/// numbers share one.
std::uint64_t entries_of(const Extent& extent) {
  switch (extent.type) {
    case DataType::kComplex64:
    case DataType::kComplex128: return 2 * extent.elements;
    case DataType::kUint4:
    case DataType::kInt4:
    case DataType::kFloat4E2M1: return extent.bytes;
    default: return extent.elements;
  }
}

int filled_fields(const onnx::TensorProto& tensor) {
  return (tensor.float_data_size() > 0) + (tensor.double_data_size() > 0) +
         (tensor.int32_data_size() > 0) + (tensor.int64_data_size() > 0) +
         (tensor.uint64_data_size() > 0) + (tensor.string_data_size() > 0) +
         (tensor.raw_data().size() > 0);
}

bool is_external(const onnx::TensorProto& tensor) {
  return tensor.data_location() == onnx::TensorProto::EXTERNAL;
}

Result<void> check_stored(const onnx::TensorProto& tensor, const Extent& extent) {
  if (tensor.has_segment())
    return bad_tensor(
        ErrorCode::kInvalidArgument, tensor,
        "is a segment of a larger one, which no runtime reads: export the model again");
  if (filled_fields(tensor) > 1)
    return bad_tensor(ErrorCode::kInvalidArgument, tensor,
                      "keeps its data in more than one field: export the model again");
  if (!tensor.raw_data().empty()) {
    if (extent.type == DataType::kString)
      return bad_tensor(ErrorCode::kInvalidArgument, tensor, "keeps strings as raw data");
    if (tensor.raw_data().size() != extent.bytes)
      return bad_tensor(ErrorCode::kDataLoss, tensor,
                        "needs " + std::to_string(extent.bytes) + " bytes, the file has " +
                            std::to_string(tensor.raw_data().size()) + ": export the model again");
    return {};
  }
  const auto field = field_of(tensor, extent.type);
  if (field.entries == 0 && filled_fields(tensor) > 0)
    return bad_tensor(ErrorCode::kInvalidArgument, tensor,
                      "of type " + std::string(to_string(extent.type)) +
                          " keeps its data in another field than " + std::string(field.name));
  if (field.entries != entries_of(extent))
    return bad_tensor(ErrorCode::kDataLoss, tensor,
                      "needs " + std::to_string(entries_of(extent)) + " entries in " +
                          std::string(field.name) + ", the file has " +
                          std::to_string(field.entries) + ": export the model again");
  return {};
}

template <typename To, typename From>
std::vector<std::byte> narrow(const google::protobuf::RepeatedField<From>& field) {
  std::vector<std::byte> bytes(static_cast<std::size_t>(field.size()) * sizeof(To));
  auto* out = bytes.data();
  for (const auto value : field) {
    const auto narrowed = static_cast<To>(value);
    std::memcpy(out, &narrowed, sizeof narrowed);
    out += sizeof narrowed;
  }
  return bytes;
}

/// The part of `external_data` that a decimal number names; 0 if there is none.
Result<std::uint64_t> parse_number(const onnx::TensorProto& tensor, std::string_view key,
                                   std::string_view text) {
  std::uint64_t value = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (error != std::errc() || end != text.data() + text.size())
    return bad_tensor(ErrorCode::kInvalidArgument, tensor,
                      "has the external " + std::string(key) + " " + quote(text) +
                          ", which is not a number of bytes");
  return value;
}

Result<fs::path> resolve_location(const onnx::TensorProto& tensor, const std::string& location,
                                  const fs::path& folder) {
  const auto refuse = [&](std::string_view why) {
    return bad_tensor(ErrorCode::kInvalidArgument, tensor,
                      "lies in " + quote(location) + ", " + std::string(why));
  };
  static constexpr std::string_view kWayOut =
      ": put the file into the model's folder and name it without a path";
  const fs::path relative(location);
  if (location.empty()) return refuse("which is no file: export the model again");
  if (location.find('\0') != std::string::npos) return refuse("which is no file name");
  if (relative.is_absolute())
    return refuse("which is not in the model's folder" + std::string(kWayOut));
  for (const auto& part : relative) {
    if (part == "..") return refuse("which leaves the model's folder" + std::string(kWayOut));
    // ONNX Runtime takes */_ORT_MEM_ADDR_/* for an address in its own memory.
    if (part == "_ORT_MEM_ADDR_") return refuse("which names memory and not a file");
  }
  std::error_code error;
  const auto root = fs::canonical(folder, error);
  if (error) return refuse("but the model's folder is gone");
  auto path = fs::canonical(root / relative, error);
  if (error)
    return bad_tensor(
        ErrorCode::kNotFound, tensor,
        "lies in " + quote(location) + ", which is missing: keep it beside the model");
  if (std::mismatch(root.begin(), root.end(), path.begin(), path.end()).first != root.end())
    return refuse("a link that leaves the model's folder: copy the file itself there");
  if (!fs::is_regular_file(path, error)) return refuse("which is not a regular file");
  return path;
}

}  // namespace

Result<ExternalRange> resolve_external(const onnx::TensorProto& tensor, const fs::path& folder) {
  SELVAGE_TRY(const auto extent, extent_of(tensor));
  if (extent.type == DataType::kString)
    return bad_tensor(ErrorCode::kInvalidArgument, tensor, "keeps strings in an external file");
  if (filled_fields(tensor) > 0)
    return bad_tensor(ErrorCode::kInvalidArgument, tensor,
                      "has data both in the model and in an external file");
  if (folder.empty())
    return bad_tensor(
        ErrorCode::kFailedPrecondition, tensor,
        "lies in an external file, but the model has no folder: load it from its file");
  std::string location;
  ExternalRange range{.path = {}, .offset = 0, .length = extent.bytes};
  for (const auto& entry : tensor.external_data()) {
    if (entry.key() == "location") location = entry.value();
    if (entry.key() == "offset") {
      SELVAGE_TRY(range.offset, parse_number(tensor, "offset", entry.value()));
    }
    if (entry.key() == "length") {
      SELVAGE_TRY(range.length, parse_number(tensor, "length", entry.value()));
    }
  }
  SELVAGE_TRY(range.path, resolve_location(tensor, location, folder));
  if (range.length != extent.bytes)
    return bad_tensor(ErrorCode::kDataLoss, tensor,
                      "needs " + std::to_string(extent.bytes) + " bytes, its external length is " +
                          std::to_string(range.length) + ": export the model again");
  std::error_code error;
  const std::uint64_t size = fs::file_size(range.path, error);
  if (error || range.offset > size || range.length > size - range.offset)
    return bad_tensor(ErrorCode::kDataLoss, tensor,
                      "ends beyond the end of " + quote(location) +
                          ": the file is cut short or belongs to another model");
  return range;
}

Result<void> check_tensor(const onnx::TensorProto& tensor, const fs::path& folder,
                          std::size_t rank_max) {
  if (static_cast<std::size_t>(tensor.dims_size()) > rank_max)
    return bad_tensor(ErrorCode::kOutOfRange, tensor,
                      "has " + std::to_string(tensor.dims_size()) +
                          " dimensions, more than the limit of " + std::to_string(rank_max));
  if (is_external(tensor)) {
    SELVAGE_RETURN_IF_ERROR(resolve_external(tensor, folder));
    return {};
  }
  SELVAGE_TRY(const auto extent, extent_of(tensor));
  return check_stored(tensor, extent);
}

Result<TensorData> TensorData::open(const onnx::TensorProto& tensor, const fs::path& folder) {
  SELVAGE_TRY(const auto extent, extent_of(tensor));
  TensorData data;
  data.view_.type = extent.type;
  data.view_.shape = std::span(tensor.dims().data(), static_cast<std::size_t>(tensor.dims_size()));
  if (is_external(tensor)) {
    SELVAGE_TRY(const auto range, resolve_external(tensor, folder));
    SELVAGE_TRY(data.file_, MappedFile::open(range.path));
    const auto bytes = data.file_->bytes();
    // The file may have shrunk since it was measured.
    if (range.offset > bytes.size() || range.length > bytes.size() - range.offset)
      return bad_tensor(ErrorCode::kDataLoss, tensor, "ends beyond the end of its external file");
    data.view_.bytes = bytes.subspan(range.offset, range.length);
    return data;
  }
  SELVAGE_RETURN_IF_ERROR(check_stored(tensor, extent));
  if (extent.type == DataType::kString) {
    data.strings_.assign(tensor.string_data().begin(), tensor.string_data().end());
    data.view_.strings = data.strings_;
  } else if (!tensor.raw_data().empty()) {
    data.view_.bytes = std::as_bytes(std::span(tensor.raw_data()));
  } else if (const auto field = field_of(tensor, extent.type); field.bytes.size() == extent.bytes) {
    data.view_.bytes = field.bytes;
  } else {
    if (extent.type == DataType::kUint32) {
      data.decoded_ = narrow<std::uint32_t>(tensor.uint64_data());
    } else if (bits_of(extent.type) == 16) {
      data.decoded_ = narrow<std::uint16_t>(tensor.int32_data());
    } else {  // One byte an entry: 8-bit types, and pairs of 4-bit ones.
      data.decoded_ = narrow<std::uint8_t>(tensor.int32_data());
    }
    data.view_.bytes = data.decoded_;
  }
  return data;
}

}  // namespace selvage::graph
