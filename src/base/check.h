// Broken invariants of our own stop the process, in release builds too. No input, file or peer may
// trip a check: for those there is Result.
#pragma once

#include <source_location>
#include <string_view>

namespace selvage {

/// Prints the message and where it happened to standard error, and aborts.
[[noreturn]] void check_failed(std::string_view condition, std::source_location where);

}  // namespace selvage

#define SELVAGE_CHECK(condition)                                            \
  do {                                                                      \
    if (!(condition)) [[unlikely]]                                          \
      ::selvage::check_failed(#condition, std::source_location::current()); \
  } while (false)
