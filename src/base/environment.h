// Variables of the process's environment.
#pragma once

#include <cstdlib>
#include <string>

namespace selvage {

/// The value, or "" where the variable is not set. Safe from any thread: nothing of ours writes to
/// the environment once a second thread runs (infer/runtime.h writes before).
[[nodiscard]] inline std::string environment(const char* name) {
  const char* value = std::getenv(name);  // NOLINT(concurrency-mt-unsafe): nobody writes
  return value != nullptr ? value : "";
}

}  // namespace selvage
