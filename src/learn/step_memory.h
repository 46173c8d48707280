// How much memory a graph's values take when the runtime computes it. Internal to src/learn.
#pragma once

#include <cstdint>

#include "learn/expression.h"

namespace selvage::learn {

/// Bytes of the values between inputs and outputs that are alive at once, at the fullest, in the
/// order in which the runtime takes the nodes: depth first from the last result to the first.
/// Neither what kernels need while they compute nor gaps between values count.
[[nodiscard]] std::uint64_t activation_bytes(const onnx::GraphProto& graph,
                                             const ValueTypes& types);

}  // namespace selvage::learn
