// Which execution providers work here, asked without their chatter.
#pragma once

#include <string>
#include <vector>

#include "infer/runtime.h"

namespace selvage::cli {

/// Runtime::usable_providers(), with standard error closed meanwhile: graphics drivers that find no
/// device complain there, and that is no news. Other threads' messages are lost too.
[[nodiscard]] std::vector<std::string> quiet_usable_providers(const infer::Runtime& runtime);

}  // namespace selvage::cli
