// Tensors as raw bytes, as the protocol's binary extension and gRPC carry them: little-endian,
// row-major, no padding. An element of BYTES is a 4-byte little-endian length and its bytes.
#pragma once

#include <cstddef>
#include <span>
#include <vector>

#include "base/tensor.h"

namespace selvage::serve {

/// A tensor over foreign bytes: a view of them where the machine can read them in place, or a copy.
struct BinaryTensor {
  TensorView view;  ///< Of `bytes` and `shape` as given, or of `copy`.
  Tensor copy;      ///< Strings, and elements that lie across their alignment.
};

/// kInvalidArgument when the size is not the shape's, a string runs past the end or bytes are left
/// over, and for a BOOL that is neither 0 nor 1. `bytes` and `shape` must outlive the result, which
/// must not be moved apart: moving it whole is fine.
[[nodiscard]] Result<BinaryTensor> read_binary(DataType type, std::span<const std::int64_t> shape,
                                               std::span<const std::byte> bytes);

/// How many bytes the tensor takes on the wire.
[[nodiscard]] std::uint64_t binary_size(const TensorView& tensor);

/// The elements of BYTES with their lengths.
[[nodiscard]] std::vector<std::byte> encode_strings(std::span<const std::string> strings);

}  // namespace selvage::serve
