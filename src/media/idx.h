// IDX, the array files of MNIST and the data sets after it. Format: Y. LeCun, "The MNIST database",
// "File formats": two zero bytes, the element's type, the rank, big-endian sizes and elements.
#pragma once

#include <cstddef>
#include <span>

#include "base/result.h"
#include "media/array.h"

namespace selvage::media {

/// Takes gzip as well, known by its content. The elements come out little-endian.
/// kInvalidArgument: not IDX, or not exactly as long as its sizes say; kOutOfRange: limits, before
/// memory is taken; kDataLoss: a wrong gzip checksum.
[[nodiscard]] Result<Array> read_idx(std::span<const std::byte> file,
                                     const ArrayLimits& limits = {});

}  // namespace selvage::media
