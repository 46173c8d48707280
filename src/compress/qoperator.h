// From QDQ to the runtime's integer operators. Internal to src/compress.
#pragma once

#include <cstddef>

#include "graph/model.h"

namespace selvage::compress {

/// Replaces DequantizeLinear -> operator -> QuantizeLinear by the operator on integers wherever one
/// exists: QLinearConv, QLinearMatMul, QGemm, QLinearAdd, ...; operators that move elements read
/// the integers themselves. What has none keeps its float form between the two. Returns how many
/// nodes it replaced. For models that quantize_static() wrote.
std::size_t fuse_into_operators(graph::Model& model);

}  // namespace selvage::compress
