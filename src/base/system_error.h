// What the operating system says in errno, as an Error.
#pragma once

#include <cerrno>
#include <expected>
#include <filesystem>
#include <string_view>

#include "base/result.h"

namespace selvage {

/// What a caller can do about an errno: kNotFound, kPermissionDenied, kResourceExhausted (also for
/// a full disk), else kIo.
[[nodiscard]] ErrorCode code_of_errno(int error);

/// "open '/etc/shadow': Permission denied".
[[nodiscard]] std::unexpected<Error> system_error(std::string_view action,
                                                  const std::filesystem::path& path,
                                                  int error = errno);

}  // namespace selvage
