// Any bytes as a binary tensor of any type and shape.
#include <cstdlib>
#include <cstring>

#include "serve/tensor_binary.h"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  using namespace selvage;
  if (size < 2) return 0;
  const auto type = static_cast<DataType>(data[0] % 17);
  if (type == DataType::kUndefined || type == DataType::kComplex64 || type == DataType::kComplex128)
    return 0;
  const std::size_t rank = data[1] % 5;
  if (size < 2 + rank * 8) return 0;
  Shape shape(rank);
  if (rank > 0) std::memcpy(shape.data(), data + 2, rank * 8);
  const auto bytes = std::as_bytes(std::span(data, size)).subspan(2 + rank * 8);
  const auto tensor = serve::read_binary(type, shape, bytes);
  if (!tensor) return 0;
  // What was taken takes as many bytes as were given, and strings come back as they were.
  if (serve::binary_size(tensor->view) != bytes.size()) std::abort();
  if (type == DataType::kString) {
    const auto again = serve::encode_strings(tensor->view.strings);
    if (!std::equal(again.begin(), again.end(), bytes.begin(), bytes.end())) std::abort();
  }
  return 0;
}
