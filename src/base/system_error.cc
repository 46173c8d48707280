#include "base/system_error.h"

#include <cerrno>
#include <cstring>

namespace selvage {

ErrorCode code_of_errno(int error) {
  switch (error) {
    case ENOENT:
    case ENOTDIR: return ErrorCode::kNotFound;
    case EACCES:
    case EPERM:
    case EROFS: return ErrorCode::kPermissionDenied;
    case ENOSPC:
    case EDQUOT:
    case EFBIG:
    case ENOMEM: return ErrorCode::kResourceExhausted;
    default: return ErrorCode::kIo;
  }
}

std::unexpected<Error> system_error(std::string_view action, const std::filesystem::path& path,
                                    int error) {
  char text[128];
  return fail(code_of_errno(error), std::string(action) + " '" + path.string() +
                                        "': " + strerror_r(error, text, sizeof text));
}

}  // namespace selvage
