// A model file as it is shipped: compressed, so that pruned and clustered weights take less.
#pragma once

#include <cstdint>
#include <filesystem>

#include "base/result.h"

namespace selvage::compress {

/// Writes `file` to `compressed` in the gzip format (RFC 1952) at zlib's best ratio, atomically,
/// and returns its size. Memory: a few hundred KB. Errors as base/file.h.
[[nodiscard]] Result<std::uint64_t> write_gzip(const std::filesystem::path& file,
                                               const std::filesystem::path& compressed);

}  // namespace selvage::compress
