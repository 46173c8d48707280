// One line a request in the Common Log Format, followed by how long the request took.
#pragma once

#include <chrono>
#include <cstdint>
#include <filesystem>
#include <memory>
#include <string_view>

#include "base/result.h"

namespace selvage::serve {

struct AccessEntry {
  std::string_view peer;
  std::string_view method;
  std::string_view target;  ///< Or the gRPC method.
  unsigned status = 0;
  std::uint64_t reply_bytes = 0;
  std::chrono::nanoseconds duration{0};
};

/// Synchronised: a line is one write to a file opened for appending.
class AccessLog {
 public:
  /// "-" is standard error. kIo, kPermissionDenied.
  [[nodiscard]] static Result<std::unique_ptr<AccessLog>> open(const std::filesystem::path& path);
  ~AccessLog();
  AccessLog(const AccessLog&) = delete;
  AccessLog& operator=(const AccessLog&) = delete;

  void write(const AccessEntry& entry);

 private:
  explicit AccessLog(int fd) : fd_(fd) {}
  const int fd_;
};

}  // namespace selvage::serve
