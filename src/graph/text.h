// A model as text for golden tests and for diff: one line a node, nothing that depends on the
// machine.
#pragma once

#include <string>

#include "graph/model.h"

namespace selvage::graph {

/// Initialisers of at most this many elements are printed; larger ones are named by their digest.
inline constexpr std::size_t kTextElementsMax = 8;

/// For example:
///   ir 8, opset 17, com.microsoft 1
///   producer "pytorch 1.10"
///   graph "main"
///     input x: float32[N,3,224,224]
///     output y: float32[N,1000]
///     init w: float32[64,3,7,7] sha256:86323a79f2ce15af
///     init s: int64[2] = [1, -1]
///     t = Conv(x, w) {group=1, kernel_shape=[7, 7]}  # conv1
///     y = If(c) {then_branch=graph "then" {
///       r = com.microsoft.Gelu(t)
///     }}
/// Attributes are sorted by name. Not a format to read back. Works on any model that loads.
[[nodiscard]] std::string to_text(const Model& model);

}  // namespace selvage::graph
