// Ctrl-C: long work looks at interrupted() between its steps, so that it ends cleanly.
#pragma once

namespace selvage::cli {

/// From now on SIGINT and SIGTERM are remembered instead of ending the process; a second one ends
/// it at once. Call it once, before other threads start.
void watch_interrupts();
/// Safe from any thread.
[[nodiscard]] bool interrupted();

}  // namespace selvage::cli
