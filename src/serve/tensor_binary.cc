#include "serve/tensor_binary.h"

#include <cstring>

#include "serve/wire_type.h"

namespace selvage::serve {
namespace {

constexpr std::size_t kLengthBytes = 4;

std::unexpected<Error> wrong_size(DataType type, std::span<const std::int64_t> shape,
                                  std::uint64_t expected, std::uint64_t found) {
  return fail(ErrorCode::kInvalidArgument,
              std::string(wire_name(type)) + " of shape " + to_string(shape) + " takes " +
                  std::to_string(expected) + " bytes, not " + std::to_string(found));
}

Result<Tensor> read_strings(std::span<const std::int64_t> shape, std::span<const std::byte> bytes) {
  const auto count = element_count(shape);
  if (!count)
    return fail(ErrorCode::kInvalidArgument, "the shape " + to_string(shape) + " is not a size");
  if (static_cast<std::uint64_t>(*count) > bytes.size() / kLengthBytes)
    return wrong_size(DataType::kString, shape, static_cast<std::uint64_t>(*count) * kLengthBytes,
                      bytes.size());
  SELVAGE_TRY(Tensor tensor, Tensor::create(DataType::kString, Shape(shape.begin(), shape.end())));
  for (std::string& element : tensor.strings()) {
    std::uint32_t length = 0;
    if (bytes.size() < kLengthBytes)
      return fail(ErrorCode::kInvalidArgument, "BYTES end before the length of an element");
    std::memcpy(&length, bytes.data(), kLengthBytes);
    bytes = bytes.subspan(kLengthBytes);
    if (length > bytes.size())
      return fail(ErrorCode::kInvalidArgument, "an element of BYTES claims " +
                                                   std::to_string(length) + " bytes where " +
                                                   std::to_string(bytes.size()) + " are left");
    element.assign(reinterpret_cast<const char*>(bytes.data()), length);
    bytes = bytes.subspan(length);
  }
  if (!bytes.empty())
    return fail(
        ErrorCode::kInvalidArgument,
        std::to_string(bytes.size()) + " bytes are left over after the last element of BYTES");
  return tensor;
}

// Copies where the elements cannot be read in place.
Result<BinaryTensor> aligned(const TensorView& view) {
  const std::size_t alignment = bits_of(view.type) / 8;
  if (view.bytes.empty() || reinterpret_cast<std::uintptr_t>(view.bytes.data()) % alignment == 0)
    return BinaryTensor{view, {}};
  BinaryTensor tensor;
  SELVAGE_TRY(tensor.copy, Tensor::create(view.type, Shape(view.shape.begin(), view.shape.end())));
  std::memcpy(tensor.copy.bytes().data(), view.bytes.data(), view.bytes.size());
  tensor.view = {view.type, view.shape, tensor.copy.bytes(), {}};
  return tensor;
}

}  // namespace

Result<BinaryTensor> read_binary(DataType type, std::span<const std::int64_t> shape,
                                 std::span<const std::byte> bytes) {
  if (type == DataType::kString) {
    BinaryTensor tensor;
    SELVAGE_TRY(tensor.copy, read_strings(shape, bytes));
    tensor.view = {type, shape, {}, tensor.copy.strings()};
    return tensor;
  }
  const auto expected = byte_size(type, shape);
  if (!expected)
    return fail(ErrorCode::kInvalidArgument, "the shape " + to_string(shape) + " is not a size");
  if (*expected != bytes.size()) return wrong_size(type, shape, *expected, bytes.size());
  if (type == DataType::kBool)
    for (const std::byte b : bytes)
      if (std::to_integer<unsigned>(b) > 1)
        return fail(ErrorCode::kInvalidArgument, "an element of BOOL is neither 0 nor 1");
  return aligned({type, shape, bytes, {}});
}

std::uint64_t binary_size(const TensorView& tensor) {
  if (tensor.type != DataType::kString) return tensor.bytes.size();
  std::uint64_t size = 0;
  for (const std::string& element : tensor.strings) size += kLengthBytes + element.size();
  return size;
}

std::vector<std::byte> encode_strings(std::span<const std::string> strings) {
  std::vector<std::byte> bytes;
  bytes.reserve(binary_size({DataType::kString, {}, {}, strings}));
  for (const std::string& element : strings) {
    const auto length = static_cast<std::uint32_t>(element.size());
    const auto head = std::as_bytes(std::span(&length, 1));
    const auto body = std::as_bytes(std::span(element));
    bytes.insert(bytes.end(), head.begin(), head.end());
    bytes.insert(bytes.end(), body.begin(), body.end());
  }
  return bytes;
}

}  // namespace selvage::serve
