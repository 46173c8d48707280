// The program: reads the command line, runs the command, says what went wrong.
#pragma once

#include <iosfwd>
#include <memory>
#include <string_view>
#include <vector>

#include "cli/command.h"

namespace selvage::cli {

inline constexpr int kExitOk = 0;
inline constexpr int kExitFailed = 1;
inline constexpr int kExitUsage = 2;
inline constexpr int kExitInterrupted = 130;  ///< 128 + SIGINT, as shells have it.

/// The whole command line with every command. `actions` receives one for each of commands().
[[nodiscard]] std::unique_ptr<CLI::App> make_app(std::string_view version,
                                                 std::vector<Action>& actions);

/// Returns the process's exit code.
[[nodiscard]] int run_program(int argc, const char* const* argv, std::string_view version,
                              std::ostream& out, std::ostream& error);

}  // namespace selvage::cli
