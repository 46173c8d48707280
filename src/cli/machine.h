// What the system says about itself: /proc and /sys below a root that tests can replace.
#pragma once

#include <cstdint>
#include <filesystem>
#include <optional>
#include <set>
#include <string>
#include <string_view>
#include <vector>

namespace selvage::cli {

/// Immutable: reads anew at every call. What cannot be read is empty.
class Machine {
 public:
  explicit Machine(std::filesystem::path root = "/") : root_(std::move(root)) {}

  /// The file's text without white space at its ends. `path` is absolute: "/proc/cpuinfo".
  [[nodiscard]] std::optional<std::string> text(std::string_view path) const;
  [[nodiscard]] std::optional<std::int64_t> number(std::string_view path) const;
  /// The value after "key:" or "key" in a file of such lines (/proc/meminfo, cpu.stat).
  [[nodiscard]] std::optional<std::string> field(std::string_view path, std::string_view key) const;
  [[nodiscard]] std::optional<std::int64_t> number_field(std::string_view path,
                                                         std::string_view key) const;
  /// Paths of the folder's entries whose names begin with `prefix`, sorted.
  [[nodiscard]] std::vector<std::string> entries(std::string_view folder,
                                                 std::string_view prefix) const;

  // The processor.
  [[nodiscard]] std::string cpu_model() const;
  [[nodiscard]] std::set<std::string> cpu_flags() const;
  [[nodiscard]] int cpus_online() const;     ///< Logical; at least 1.
  [[nodiscard]] int cpus_allowed() const;    ///< That this process may use.
  [[nodiscard]] int cores_physical() const;  ///< Without hyper-threads; cpus_online if unknown.

  // Limits of the container or service, from control groups version 2, else 1.
  [[nodiscard]] std::optional<double> cpu_quota() const;  ///< In cores.
  [[nodiscard]] std::optional<std::uint64_t> memory_limit() const;
  [[nodiscard]] std::optional<std::int64_t> throttled_count() const;

  struct CpuTimes {
    std::uint64_t total = 0, steal = 0, idle = 0;  ///< In ticks, since the start of the machine.
  };
  [[nodiscard]] CpuTimes cpu_times() const;

 private:
  [[nodiscard]] std::string cgroup_file(std::string_view name,
                                        std::string_view controller_v1) const;
  std::filesystem::path root_;
};

/// The word in brackets, as in "always [madvise] never"; the whole text without brackets.
[[nodiscard]] std::string chosen_word(std::string_view text);

/// How many CPUs a list such as "0-3,8" names.
[[nodiscard]] int count_cpu_list(std::string_view list);

}  // namespace selvage::cli
