#include "cli/machine.h"

#include <algorithm>
#include <charconv>
#include <fstream>
#include <sstream>

namespace selvage::cli {
namespace {

std::string trimmed(std::string_view text) {
  constexpr std::string_view kBlank = " \t\r\n";
  const auto from = text.find_first_not_of(kBlank);
  if (from == std::string_view::npos) return "";
  return std::string(text.substr(from, text.find_last_not_of(kBlank) - from + 1));
}

std::optional<std::int64_t> to_number(std::string_view text) {
  std::int64_t number = 0;
  const auto parsed = std::from_chars(text.data(), text.data() + text.size(), number);
  if (parsed.ec != std::errc()) return std::nullopt;
  return number;
}

}  // namespace

std::optional<std::string> Machine::text(std::string_view path) const {
  std::ifstream file(root_ / std::filesystem::path(path).relative_path());
  if (!file) return std::nullopt;
  std::ostringstream content;
  content << file.rdbuf();
  return trimmed(content.str());
}

std::optional<std::int64_t> Machine::number(std::string_view path) const {
  const auto content = text(path);
  return content ? to_number(*content) : std::nullopt;
}

std::optional<std::string> Machine::field(std::string_view path, std::string_view key) const {
  std::istringstream lines(text(path).value_or(""));
  for (std::string line; std::getline(lines, line);) {
    if (!line.starts_with(key)) continue;
    auto rest = trimmed(std::string_view(line).substr(key.size()));
    if (rest.starts_with(':')) return trimmed(std::string_view(rest).substr(1));
    if (line.size() > key.size() && line[key.size()] == ' ') return rest;
  }
  return std::nullopt;
}

std::optional<std::int64_t> Machine::number_field(std::string_view path,
                                                  std::string_view key) const {
  const auto value = field(path, key);
  return value ? to_number(*value) : std::nullopt;
}

std::vector<std::string> Machine::entries(std::string_view folder, std::string_view prefix) const {
  std::vector<std::string> found;
  std::error_code error;
  const auto path = root_ / std::filesystem::path(folder).relative_path();
  for (std::filesystem::directory_iterator it(path, error), end; !error && it != end;
       it.increment(error))
    if (const auto name = it->path().filename().string(); name.starts_with(prefix))
      found.push_back(std::string(folder) + "/" + name);
  std::ranges::sort(found);
  return found;
}

std::string Machine::cpu_model() const {
  for (const auto* key : {"model name", "Model", "Hardware", "CPU implementer"})
    if (const auto model = field("/proc/cpuinfo", key)) return *model;
  return text("/proc/device-tree/model").value_or("unknown");
}

std::set<std::string> Machine::cpu_flags() const {
  std::set<std::string> flags;
  for (const auto* key : {"flags", "Features"}) {
    std::istringstream words(field("/proc/cpuinfo", key).value_or(""));
    for (std::string word; words >> word;) flags.insert(word);
  }
  return flags;
}

int Machine::cpus_online() const {
  if (const auto online = text("/sys/devices/system/cpu/online"))
    return std::max(1, count_cpu_list(*online));
  std::istringstream lines(text("/proc/cpuinfo").value_or(""));
  int count = 0;
  for (std::string line; std::getline(lines, line);) count += line.starts_with("processor");
  return std::max(1, count);
}

int Machine::cpus_allowed() const {
  const auto list = field("/proc/self/status", "Cpus_allowed_list");
  const int online = cpus_online();
  return list ? std::clamp(count_cpu_list(*list), 1, online) : online;
}

int Machine::cores_physical() const {
  std::set<std::string> cores;
  for (const auto& cpu : entries("/sys/devices/system/cpu", "cpu"))
    if (const auto siblings = text(cpu + "/topology/thread_siblings_list")) cores.insert(*siblings);
  return cores.empty() ? cpus_online() : static_cast<int>(cores.size());
}

/// The file of our control group, or of the root group as containers see it.
std::string Machine::cgroup_file(std::string_view name, std::string_view controller_v1) const {
  std::istringstream lines(text("/proc/self/cgroup").value_or(""));
  const std::string base = "/sys/fs/cgroup";
  const std::string controller = controller_v1.empty() ? "" : "/" + std::string(controller_v1);
  for (std::string line; std::getline(lines, line);) {
    const auto first = line.find(':');
    const auto second = line.find(':', first + 1);
    if (second == std::string::npos) continue;
    const auto group = line.substr(second + 1);
    const auto controllers = line.substr(first + 1, second - first - 1);
    if (controller_v1.empty() ? !controllers.empty()
                              : controllers.find(controller_v1) == std::string::npos)
      continue;
    const auto path = base + controller + (group == "/" ? "" : group) + "/" + std::string(name);
    if (text(path)) return path;
  }
  return base + controller + "/" + std::string(name);
}

std::optional<double> Machine::cpu_quota() const {
  if (const auto limit = text(cgroup_file("cpu.max", ""))) {  // "200000 100000" or "max 100000"
    std::istringstream words(*limit);
    double quota = 0, period = 0;
    if (words >> quota >> period && period > 0) return quota / period;
    return std::nullopt;
  }
  const auto quota = number(cgroup_file("cpu.cfs_quota_us", "cpu"));
  const auto period = number(cgroup_file("cpu.cfs_period_us", "cpu"));
  if (!quota || !period || *quota <= 0 || *period <= 0) return std::nullopt;
  return static_cast<double>(*quota) / static_cast<double>(*period);
}

std::optional<std::uint64_t> Machine::memory_limit() const {
  auto limit = number(cgroup_file("memory.max", ""));
  if (!limit) limit = number(cgroup_file("memory.limit_in_bytes", "memory"));
  // Version 1 says "none" with a number close to 2^63.
  if (!limit || *limit <= 0 || *limit > std::int64_t{1} << 60) return std::nullopt;
  return static_cast<std::uint64_t>(*limit);
}

std::optional<std::int64_t> Machine::throttled_count() const {
  if (const auto count = number_field(cgroup_file("cpu.stat", ""), "nr_throttled")) return count;
  return number_field(cgroup_file("cpu.stat", "cpu"), "nr_throttled");
}

Machine::CpuTimes Machine::cpu_times() const {
  CpuTimes times;
  std::istringstream words(field("/proc/stat", "cpu").value_or(""));
  std::uint64_t ticks = 0;
  for (int column = 0; column < 8 && words >> ticks; ++column) {
    times.total += ticks;
    if (column == 3 || column == 4) times.idle += ticks;  // idle, iowait
    if (column == 7) times.steal = ticks;
  }
  return times;
}

std::string chosen_word(std::string_view text) {
  const auto open = text.find('[');
  const auto close = text.find(']');
  if (open == std::string_view::npos || close == std::string_view::npos || close < open)
    return std::string(text);
  return std::string(text.substr(open + 1, close - open - 1));
}

int count_cpu_list(std::string_view list) {
  int count = 0;
  std::istringstream parts{std::string(list)};
  for (std::string part; std::getline(parts, part, ',');) {
    const auto from = to_number(part);
    if (!from) continue;
    const auto dash = part.find('-');
    const auto to =
        dash == std::string::npos ? from : to_number(std::string_view(part).substr(dash + 1));
    if (to && *to >= *from)
      count += static_cast<int>(std::min<std::int64_t>(*to - *from + 1, 65'536));
  }
  return count;
}

}  // namespace selvage::cli
