#include "cli/interrupt.h"

#include <atomic>

#include <signal.h>
#include <unistd.h>

#include "cli/app.h"

namespace selvage::cli {
namespace {

// Signal handlers can reach nothing but globals.
std::atomic<bool> seen{false};  // NOLINT(cppcoreguidelines-avoid-non-const-global-variables)
static_assert(std::atomic<bool>::is_always_lock_free);

}  // namespace

void watch_interrupts() {
  struct sigaction action{};
  action.sa_handler = [](int) { ::_exit(kExitInterrupted); };
  sigaction(SIGALRM, &action, nullptr);
  action.sa_handler = [](int) {
    seen.store(true);
    ::alarm(kGraceSeconds);
  };
  action.sa_flags = static_cast<int>(SA_RESETHAND | SA_RESTART);
  sigaction(SIGINT, &action, nullptr);
  sigaction(SIGTERM, &action, nullptr);
}

void take_time_to_end() {
  ::alarm(0);
  seen.store(false);
}

bool interrupted() {
  return seen.load();
}

}  // namespace selvage::cli
