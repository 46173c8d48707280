// First layers that are faster in float than in 8 bits.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "compress/quantize_static.h"
#include "graph/model.h"

namespace selvage::compress {

/// A convolution of few input channels that sums up to so many products for each of its outputs
/// takes less time in float, since most of the time in 8 bits is that of rounding the outputs.
/// Measured up to 3 channels of 7 x 7 (docs/quantization.md); more is left as it is.
inline constexpr std::int64_t kStemProductsMax = 147;

/// Where such a convolution of a model's input is followed by Relu and MaxPool, and nothing else
/// reads what lies between, the three are to stay in float, so that integers begin behind the pool,
/// where fewer values are to be rounded. Relu and MaxPool change places for it, which computes the
/// same: the runtime moves a QuantizeLinear that follows a pool directly to before the pool. The
/// three are named in `options.selection.excluded_nodes`, and returned. Nothing happens where the
/// options ask for other than 8 bits, for nodes by name, or for something of a value between.
[[nodiscard]] std::vector<std::string> keep_stem_in_float(graph::Model& model,
                                                          StaticOptions& options);

}  // namespace selvage::compress
