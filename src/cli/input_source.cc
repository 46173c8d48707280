#include "cli/input_source.h"

#include <algorithm>
#include <array>
#include <cerrno>
#include <fstream>

#include <sys/stat.h>
#include <sys/sysmacros.h>

#include "base/file.h"
#include "base/system_error.h"

namespace selvage::cli {
namespace {

constexpr std::size_t kHeadBytes = 16;
constexpr unsigned kCameraMajor = 81;  // Video4Linux (Linux, admin-guide/devices.txt).

bool is_camera(const struct stat& status) {
  return S_ISCHR(status.st_mode) && major(status.st_rdev) == kCameraMajor;
}

}  // namespace

Result<InputSource> InputSource::open(const std::filesystem::path& path) {
  InputSource source;
  source.path_ = path;
  source.file_ = path == "-" ? "/dev/stdin" : path;
  struct stat status{};
  if (::stat(source.file_.c_str(), &status) != 0) {
    if (errno == ENOENT) return fail(ErrorCode::kNotFound, "no file '" + path.string() + "'");
    return system_error("open", path);
  }
  if (S_ISDIR(status.st_mode))
    return fail(ErrorCode::kInvalidArgument, "'" + path.string() +
                                                 "' is a folder: name the files, for example " +
                                                 (path / "*").string());
  if (is_camera(status)) return source;
  if (S_ISREG(status.st_mode)) {
    SELVAGE_RETURN_IF_ERROR(source.read_head());
  } else {
    SELVAGE_TRY(source.piped_, read_bytes(source.file_, kInputBytesMax, Pipes::kRead));
    const auto& bytes = *source.piped_;
    const auto count = std::min(kHeadBytes, bytes.size());
    source.head_.assign(reinterpret_cast<const char*>(bytes.data()), count);
  }
  if (source.head_.empty())
    return fail(ErrorCode::kInvalidArgument, "'" + path.string() + "' is empty");
  return source;
}

Result<void> InputSource::read_head() {
  std::ifstream file(file_, std::ios::binary);
  if (!file.is_open()) return system_error("open", path_);
  std::array<char, kHeadBytes> head{};
  file.read(head.data(), head.size());
  if (file.bad()) return system_error("read", path_);
  head_.assign(head.data(), static_cast<std::size_t>(file.gcount()));
  return {};
}

Result<std::vector<std::byte>> InputSource::read() {
  if (piped_) return *std::exchange(piped_, std::nullopt);
  return read_bytes(file_, kInputBytesMax);
}

}  // namespace selvage::cli
