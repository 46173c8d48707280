// What this process takes of its machine, and what the machine has.
#pragma once

#include <cstdint>

#include "base/result.h"
#include "monitor/exposition.h"

namespace selvage::monitor {

struct ProcessUse {
  std::uint64_t resident_bytes = 0;
  std::uint64_t virtual_bytes = 0;
  double cpu_seconds = 0;  ///< User and system, of all threads that there were.
  std::uint64_t threads = 0;
  std::uint64_t open_descriptors = 0;
  double start_time_s = 0;  ///< Since the epoch.
};

/// Reads /proc/self. kIo where that is not Linux's.
[[nodiscard]] Result<ProcessUse> process_use();

struct MachineUse {
  std::uint64_t memory_bytes = 0;
  std::uint64_t memory_used_bytes = 0;  ///< Without caches that the kernel gives up when asked.
};
[[nodiscard]] Result<MachineUse> machine_use();

/// As Prometheus names them: process_resident_memory_bytes, process_cpu_seconds_total, ...; what
/// cannot be read is left out.
void write_process(Exposition& page);

}  // namespace selvage::monitor
