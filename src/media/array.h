// NumPy's array files. Formats: NEP 1 (npy versions 1 to 3), and PKWARE's APPNOTE for the zip of
// npz.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"

namespace selvage::media {

enum class ArrayElement : std::uint8_t {
  kBool,
  kInt8,
  kInt16,
  kInt32,
  kInt64,
  kUint8,
  kUint16,
  kUint32,
  kUint64,
  kFloat16,
  kFloat32,
  kFloat64,
  kComplex64,
  kComplex128,
};

[[nodiscard]] std::size_t element_bytes(ArrayElement element);
[[nodiscard]] std::string_view to_string(ArrayElement element);  ///< "float32", as NumPy says it.

/// Little-endian, C order, without padding. An empty shape is a scalar.
struct Array {
  ArrayElement element = ArrayElement::kFloat32;
  std::vector<std::int64_t> shape;
  std::vector<std::byte> bytes;

  friend bool operator==(const Array&, const Array&) = default;
};

struct NamedArray {
  std::string name;
  Array array;
};

struct ArrayLimits {
  std::uint64_t bytes_max = 1u << 30;  ///< Of one array; of all of an npz, headers included.
  std::uint32_t arrays_max = 65'536;   ///< In one npz.
};

inline constexpr std::size_t kArrayRankMax = 64;  ///< As in NumPy 2.

/// Big-endian and Fortran-ordered arrays are converted. kInvalidArgument: not an npy file, a
/// damaged header, or data shorter than the shape says; kUnimplemented: an element type that is not
/// in the list (text, records, and Python objects, which would have to be executed); kOutOfRange:
/// limits.
[[nodiscard]] Result<Array> read_npy(std::span<const std::byte> file,
                                     const ArrayLimits& limits = {});

/// The arrays in the order of the archive's directory, stored or deflated, named without ".npy";
/// other files in it are an error. Checksums are verified: kDataLoss. Otherwise as read_npy.
[[nodiscard]] Result<std::vector<NamedArray>> read_npz(std::span<const std::byte> file,
                                                       const ArrayLimits& limits = {});

/// Version 1. kInvalidArgument when shape and bytes do not agree.
[[nodiscard]] Result<std::vector<std::byte>> write_npy(const Array& array);

}  // namespace selvage::media
