// Ctrl-C: long work looks at interrupted() between its steps, so that it ends cleanly.
#pragma once

namespace selvage::cli {

inline constexpr unsigned kGraceSeconds = 2;

/// From now on SIGINT and SIGTERM are remembered instead of ending the process. A second one ends
/// it at once, and so does kGraceSeconds without an end: reading a pipe or one long run looks at
/// nothing. Call it once, before other threads start.
void watch_interrupts();
/// The command saw the signal and takes the time that it needs: a server drains. Ending is then
/// what it was asked for, so that the program's exit code is 0.
void take_time_to_end();
/// Safe from any thread.
[[nodiscard]] bool interrupted();

}  // namespace selvage::cli
