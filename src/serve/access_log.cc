#include "serve/access_log.h"

#include <cerrno>
#include <cstring>
#include <ctime>
#include <string>

#include <fcntl.h>
#include <unistd.h>

namespace selvage::serve {
namespace {

// What a client sent must not look like another line or field.
void append_quoted(std::string& to, std::string_view text) {
  constexpr std::string_view kHex = "0123456789abcdef";
  for (const char c : text) {
    const auto byte = static_cast<std::uint8_t>(c);
    if (byte >= 0x20 && byte < 0x7F && c != '"' && c != '\\') {
      to += c;
      continue;
    }
    to += "\\x";
    to += kHex[byte >> 4];
    to += kHex[byte & 15];
  }
}

std::string now_text() {
  const std::time_t now = std::time(nullptr);
  std::tm parts = {};
  ::gmtime_r(&now, &parts);
  char text[40];
  return {text, std::strftime(text, sizeof(text), "%d/%b/%Y:%H:%M:%S +0000", &parts)};
}

}  // namespace

Result<std::unique_ptr<AccessLog>> AccessLog::open(const std::filesystem::path& path) {
  const int fd = path == "-"
                     ? ::dup(STDERR_FILENO)
                     : ::open(path.c_str(), O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC, 0640);
  if (fd < 0)
    return fail(errno == EACCES ? ErrorCode::kPermissionDenied : ErrorCode::kIo,
                "access log '" + path.string() + "': " +
                    std::strerror(errno));  // NOLINT(concurrency-mt-unsafe): glibc's is safe
  return std::unique_ptr<AccessLog>(new AccessLog(fd));
}

AccessLog::~AccessLog() {
  ::close(fd_);
}

void AccessLog::write(const AccessEntry& entry) {
  std::string line(entry.peer);
  line += " - - [" + now_text() + "] \"";
  append_quoted(line, entry.method);
  line += ' ';
  append_quoted(line, entry.target);
  line += "\" " + std::to_string(entry.status) + ' ' + std::to_string(entry.reply_bytes) + ' ' +
          std::to_string(
              std::chrono::duration_cast<std::chrono::microseconds>(entry.duration).count()) +
          "us\n";
  // A full disk must not stop the server, and there is nobody to tell.
  [[maybe_unused]] const auto written = ::write(fd_, line.data(), line.size());
}

}  // namespace selvage::serve
