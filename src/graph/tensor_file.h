// A tensor as a file of its own: a serialised TensorProto, as ONNX's test data are stored.
#pragma once

#include <cstddef>
#include <span>
#include <string>

#include "base/result.h"
#include "base/tensor.h"

namespace selvage::graph {

struct NamedTensorFile {
  std::string name;
  Tensor tensor;
};

/// kDataLoss for bytes that are no TensorProto or whose data do not fit their shape;
/// kInvalidArgument for one whose data lie in another file; kOutOfRange for bytes that would decode
/// into far more memory than an honest file.
[[nodiscard]] Result<NamedTensorFile> parse_tensor(std::span<const std::byte> bytes);

}  // namespace selvage::graph
