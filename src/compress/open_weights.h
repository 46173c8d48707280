// Quantised weights as parameters: what quantisation-aware training trains.
//
// quantize_static() stores weights as integers. open_weights() puts the float weights back, each
// with a QuantizeLinear of the same scales before its DequantizeLinear, so that the model still
// computes with rounded weights while a trainer moves those behind the rounding. close_weights()
// rounds for good. Scales and zero points stay what they are.
#pragma once

#include <cstddef>

#include "base/result.h"
#include "graph/model.h"

namespace selvage::compress {

/// `quantized` is what quantize_static() made of `floats`. Returns how many weights are open now.
/// kFailedPrecondition if none is; then, and on any error, the model is unchanged.
[[nodiscard]] Result<std::size_t> open_weights(graph::Model& quantized, const graph::Model& floats);

/// Stores every float weight behind a QuantizeLinear as the integers that this gives. Returns how
/// many. kInvalidArgument names a weight that is not finite; the model is then unchanged.
[[nodiscard]] Result<std::size_t> close_weights(graph::Model& model);

}  // namespace selvage::compress
