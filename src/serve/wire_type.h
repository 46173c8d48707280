// The names that the Open Inference Protocol gives to element types: "FP32", "INT64", "BYTES".
#pragma once

#include <optional>
#include <string_view>

#include "base/tensor.h"

namespace selvage::serve {

/// "" for types that the protocol does not have (complex, float8, 4-bit).
[[nodiscard]] std::string_view wire_name(DataType type);

/// Empty for anything that wire_name() does not return.
[[nodiscard]] std::optional<DataType> data_type_of_wire(std::string_view name);

}  // namespace selvage::serve
