// Tensors as the protocol writes them in JSON: `data` is a flat array of the elements, or nested as
// the shape is; row-major.
#pragma once

#include <string>

#include "base/tensor.h"
#include "serve/json_reader.h"

namespace selvage::serve {

/// Reads `data`. kInvalidArgument for an element of the wrong kind or beyond the type's range, for
/// too few or too many, for nesting that is neither flat nor the shape's, and for FP16 and BF16,
/// which have no JSON form. Allocates no more than `text_bytes`, the size of the document,
/// justifies.
[[nodiscard]] Result<Tensor> read_tensor(JsonReader& reader, DataType type, const Shape& shape,
                                         std::size_t text_bytes);

/// Appends the elements as a flat array. kInvalidArgument for FP16 and BF16, and for strings that
/// are not UTF-8: both need the binary form.
[[nodiscard]] Result<void> append_tensor(std::string& to, const TensorView& tensor);

}  // namespace selvage::serve
