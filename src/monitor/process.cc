#include "monitor/process.h"

#include <charconv>
#include <filesystem>
#include <string>
#include <vector>

#include <unistd.h>

#include "base/file.h"

namespace selvage::monitor {
namespace {

std::uint64_t number_at(std::string_view text) {
  const auto from = text.find_first_of("0123456789");
  std::uint64_t value = 0;
  if (from != std::string_view::npos)
    std::from_chars(text.data() + from, text.data() + text.size(), value);
  return value;
}

// The number in the line that begins with `key`.
std::uint64_t value_of(std::string_view text, std::string_view key) {
  for (std::size_t at = 0; at < text.size();) {
    const auto end = std::min(text.find('\n', at), text.size());
    const auto line = text.substr(at, end - at);
    if (line.starts_with(key)) return number_at(line.substr(key.size()));
    at = end + 1;
  }
  return 0;
}

std::vector<std::string_view> words_of(std::string_view text) {
  std::vector<std::string_view> words;
  for (std::size_t at = 0; at < text.size();) {
    const auto end = std::min(text.find_first_of(" \n", at), text.size());
    if (end > at) words.push_back(text.substr(at, end - at));
    at = end + 1;
  }
  return words;
}

}  // namespace

// Fields of /proc/[pid]/stat by their numbers in proc(5); the name in brackets may hold spaces.
Result<ProcessUse> process_use() {
  SELVAGE_TRY(const std::string stat, read_text("/proc/self/stat"));
  SELVAGE_TRY(const std::string system, read_text("/proc/stat"));
  const auto bracket = stat.rfind(')');
  if (bracket == std::string::npos) return fail(ErrorCode::kIo, "/proc/self/stat has another form");
  const auto words = words_of(std::string_view(stat).substr(bracket + 1));
  if (words.size() < 22) return fail(ErrorCode::kIo, "/proc/self/stat is cut off");
  const auto field = [&](std::size_t number) { return number_at(words[number - 3]); };
  const auto ticks = static_cast<double>(::sysconf(_SC_CLK_TCK));
  ProcessUse use;
  use.cpu_seconds = static_cast<double>(field(14) + field(15)) / ticks;
  use.threads = field(20);
  use.start_time_s =
      static_cast<double>(value_of(system, "btime")) + static_cast<double>(field(22)) / ticks;
  use.virtual_bytes = field(23);
  use.resident_bytes = field(24) * static_cast<std::uint64_t>(::sysconf(_SC_PAGESIZE));
  std::error_code error;
  for (std::filesystem::directory_iterator at("/proc/self/fd", error), end; !error && at != end;
       at.increment(error))
    ++use.open_descriptors;
  return use;
}

Result<MachineUse> machine_use() {
  SELVAGE_TRY(const std::string text, read_text("/proc/meminfo"));
  MachineUse use;
  use.memory_bytes = value_of(text, "MemTotal:") * 1024;
  const std::uint64_t available = value_of(text, "MemAvailable:") * 1024;
  use.memory_used_bytes = use.memory_bytes > available ? use.memory_bytes - available : 0;
  return use;
}

void write_process(Exposition& page) {
  if (const auto use = process_use()) {
    const auto gauge = [&](std::string_view name, std::string_view help, auto value) {
      page.family(name, Kind::kGauge, help);
      page.sample({}, value);
    };
    page.family("process_cpu_seconds_total", Kind::kCounter, "User and system CPU time in seconds");
    page.sample({}, use->cpu_seconds);
    gauge("process_resident_memory_bytes", "Resident memory in bytes", use->resident_bytes);
    gauge("process_virtual_memory_bytes", "Virtual memory in bytes", use->virtual_bytes);
    gauge("process_open_fds", "Open file descriptors", use->open_descriptors);
    gauge("process_threads", "Threads", use->threads);
    gauge("process_start_time_seconds", "Start time in seconds since the epoch", use->start_time_s);
  }
  if (const auto use = machine_use()) {
    page.family("nv_cpu_memory_total_bytes", Kind::kGauge, "The machine's memory in bytes");
    page.sample({}, use->memory_bytes);
    page.family("nv_cpu_memory_used_bytes", Kind::kGauge, "The machine's memory in use, in bytes");
    page.sample({}, use->memory_used_bytes);
  }
}

}  // namespace selvage::monitor
