// Base64 (RFC 4648, section 4).
#pragma once

#include <cstddef>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"

namespace selvage::serve {

[[nodiscard]] std::string encode_base64(std::span<const std::byte> bytes);

/// kInvalidArgument for anything but the standard alphabet with its padding.
[[nodiscard]] Result<std::vector<std::byte>> decode_base64(std::string_view text);

}  // namespace selvage::serve
