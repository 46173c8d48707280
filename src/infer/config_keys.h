// ONNX Runtime's own settings of a session, by name. The runtime takes any name and ignores those
// it does not know, so that a misspelt one would do nothing and say nothing. Internal to src/infer.
#pragma once

#include <string_view>

#include "base/result.h"

namespace selvage::infer {

/// The runtime whose settings are known here.
inline constexpr std::string_view kConfigKeysVersion = "1.30";

/// kInvalidArgument for a setting that a runtime of `runtime_version` does not have, or that is not
/// for cards and people to choose; the message names the nearest one. Settings of execution
/// providers ("ep.*") are theirs to check. Of a runtime newer than kConfigKeysVersion an unknown
/// setting is only warned of.
[[nodiscard]] Result<void> check_config_key(std::string_view key, std::string_view runtime_version);

}  // namespace selvage::infer
