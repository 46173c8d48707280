// gzip (RFC 1952) and deflate (RFC 1950: zlib's wrapper, as HTTP means it) of whole messages.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "base/result.h"
#include "serve/body.h"
#include "serve/http.h"

namespace selvage::serve {

/// Undoes `coding`. kInvalidArgument for data that is not in it, is cut off or has more behind it;
/// kOutOfRange when more than `bytes_max` would come out. `aligned_at` as for Body.
[[nodiscard]] Result<Body> decompress(std::span<const std::byte> bytes, Coding coding,
                                      std::uint64_t bytes_max, BodyBudget& budget,
                                      std::uint64_t aligned_at = 0);

/// Of the pieces one after the other, at the fastest level.
[[nodiscard]] Result<std::string> compress(std::span<const std::span<const std::byte>> pieces,
                                           Coding coding);

}  // namespace selvage::serve
