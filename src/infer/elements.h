// Tensor elements of any numeric type as floats and back, for decoders and encoders that compute in
// one type.
#pragma once

#include <cstddef>
#include <span>
#include <vector>

#include "base/result.h"
#include "base/tensor.h"

namespace selvage::infer {

/// The elements as floats: the tensor's own memory for float32, otherwise converted into `scratch`,
/// which grows at most once to a given size. kUnimplemented for strings, complex, 8-bit float and
/// 4-bit types.
[[nodiscard]] Result<std::span<const float>> as_floats(const TensorView& tensor,
                                                       std::vector<float>& scratch);

/// The same as doubles, which hold every numeric element but large 64-bit integers exactly.
[[nodiscard]] Result<std::vector<double>> as_doubles(const TensorView& tensor);

/// Writes `values` as elements of `type`; integers are rounded to the nearest and saturate, NaN
/// becomes 0 in them. kInvalidArgument when the bytes do not hold exactly that many elements;
/// kUnimplemented as above.
[[nodiscard]] Result<void> write_elements(std::span<const double> values, DataType type,
                                          std::span<std::byte> bytes);

}  // namespace selvage::infer
