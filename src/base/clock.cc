#include "base/clock.h"

namespace selvage {
namespace {

class MachineClock final : public Clock {
 public:
  [[nodiscard]] SteadyTime steady_now() const override { return std::chrono::steady_clock::now(); }
  [[nodiscard]] SystemTime system_now() const override { return std::chrono::system_clock::now(); }
};

}  // namespace

const Clock& machine_clock() {
  static const MachineClock clock;
  return clock;
}

}  // namespace selvage
