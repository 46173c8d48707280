// Names of parameters picked by patterns: "conv1.*", "*.bias".
#pragma once

#include <span>
#include <string>
#include <string_view>

namespace selvage::learn {

/// Whether `pattern` describes all of `name`: '*' stands for any text, '?' for one byte. Time is at
/// most the product of the lengths.
[[nodiscard]] bool matches(std::string_view name, std::string_view pattern);
[[nodiscard]] bool matches_any(std::string_view name, std::span<const std::string> patterns);

}  // namespace selvage::learn
