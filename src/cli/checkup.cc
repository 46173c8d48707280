#include "cli/checkup.h"

#include <algorithm>
#include <array>
#include <ctime>
#include <fstream>

#include <sys/resource.h>
#include <unistd.h>

#include "cli/machine_speed.h"
#include "cli/providers.h"
#include "cli/text.h"
#include "infer/cache.h"
#include "infer/runtime.h"

namespace selvage::cli {
namespace {

constexpr std::string_view kCpuFolder = "/sys/devices/system/cpu";

Finding ok(std::string id, std::string title, std::string found) {
  return {std::move(id), std::move(title), Severity::kOk, std::move(found), ""};
}

std::string join(const std::vector<std::string>& words) {
  std::string text;
  for (const auto& word : words) text += (text.empty() ? "" : ", ") + word;
  return text;
}

// --- Processor
// ------------------------------------------------------------------------------------

struct Feature {
  std::string_view flag;  ///< As in /proc/cpuinfo.
  std::string_view name;
};
constexpr std::array<Feature, 12> kFeatures{{{"avx2", "AVX2"},
                                             {"fma", "FMA"},
                                             {"f16c", "F16C"},
                                             {"avx_vnni", "AVX-VNNI"},
                                             {"avx512f", "AVX-512"},
                                             {"avx512_vnni", "AVX-512 VNNI"},
                                             {"avx512_bf16", "AVX-512 BF16"},
                                             {"amx_int8", "AMX int8"},
                                             {"asimd", "NEON"},
                                             {"asimddp", "NEON dot product"},
                                             {"i8mm", "NEON i8mm"},
                                             {"sve", "SVE"}}};

/// A file of the system that everybody may read is away: a sandbox without /proc, or a mask over
/// it.
Finding unreadable(std::string id, std::string title, const std::string& path) {
  return {std::move(id), std::move(title), Severity::kAdvice, path + " cannot be read",
          "nothing can be said about this: run it where /proc is mounted and not hidden"};
}

Finding check_features(const Machine& machine) {
  const auto flags = machine.cpu_flags();
  if (flags.empty()) return unreadable("cpu-features", "instructions", "/proc/cpuinfo");
  std::vector<std::string> names;
  for (const auto& feature : kFeatures)
    if (flags.contains(std::string(feature.flag))) names.emplace_back(feature.name);
  Finding finding = ok("cpu-features", "instructions", join(names));
  const bool arm = flags.contains("asimd") || flags.contains("fphp");
  const bool vector = flags.contains("avx2") || flags.contains("asimd") || flags.contains("neon");
  const bool int8 = flags.contains("avx512_vnni") || flags.contains("avx_vnni") ||
                    flags.contains("amx_int8") || flags.contains("asimddp");
  if (!vector) {
    finding.severity = Severity::kAdvice;
    finding.found = names.empty() ? "none that speed up inference" : join(names);
    finding.mend =
        "no AVX2 or NEON: expect several times the latency, and choose small models; in "
        "a virtual machine, pass the host's processor through";
  } else if (!int8) {
    finding.severity = Severity::kAdvice;
    finding.mend = std::string("no ") + (arm ? "dot product" : "VNNI") +
                   " instructions: int8 models save memory here, but hardly time";
  }
  return finding;
}

Finding check_affinity(const Machine& machine) {
  const int allowed = machine.cpus_allowed(), online = machine.cpus_online();
  const auto isolated = machine.text("/sys/devices/system/cpu/isolated").value_or("");
  std::string found = std::to_string(allowed) + " of " + std::to_string(online) + " CPUs usable";
  found += isolated.empty() ? ", none isolated" : ", isolated: " + isolated;
  Finding finding = ok("cpu-affinity", "CPU set", found);
  if (allowed < online) {
    finding.severity = Severity::kAdvice;
    finding.mend =
        "taskset, a container or isolcpus= keeps this process from the other CPUs; if that "
        "is not meant, widen the set (docker --cpuset-cpus, systemd CPUAffinity=)";
  }
  return finding;
}

// --- Frequency
// ------------------------------------------------------------------------------------

Finding check_governor(const Machine& machine) {
  std::set<std::string> governors;
  for (const auto& cpu : machine.entries(kCpuFolder, "cpu"))
    if (const auto governor = machine.text(cpu + "/cpufreq/scaling_governor"))
      governors.insert(*governor);
  if (governors.empty())
    return ok("cpu-governor", "frequency governor", "not visible (a virtual machine, or fixed)");
  Finding finding =
      ok("cpu-governor", "frequency governor", join({governors.begin(), governors.end()}));
  if (governors.size() == 1 && governors.contains("performance")) return finding;
  finding.severity = governors.contains("powersave") ? Severity::kProblem : Severity::kAdvice;
  finding.mend =
      "cores slow down between runs and take milliseconds to speed up: "
      "`cpupower frequency-set -g performance` (package linux-cpupower), or on batteries "
      "use --power low-power and judge latency there";
  return finding;
}

std::optional<Finding> check_turbo(const Machine& machine) {
  const auto no_turbo = machine.number("/sys/devices/system/cpu/intel_pstate/no_turbo");
  const auto boost = machine.number("/sys/devices/system/cpu/cpufreq/boost");
  if (!no_turbo && !boost) return std::nullopt;
  const bool on = no_turbo ? *no_turbo == 0 : *boost != 0;
  return ok("cpu-turbo", "turbo",
            on ? "on: fastest, but steady load may slow down when hot" : "off: steady");
}

std::optional<Finding> check_temperature(const Machine& machine) {
  std::int64_t hottest = 0;
  for (const auto& zone : machine.entries("/sys/class/thermal", "thermal_zone"))
    hottest = std::max(hottest, machine.number(zone + "/temp").value_or(0));
  std::int64_t throttled = 0;
  for (const auto& cpu : machine.entries(kCpuFolder, "cpu"))
    throttled += machine.number(cpu + "/thermal_throttle/core_throttle_count").value_or(0);
  if (hottest <= 0 && throttled == 0) return std::nullopt;
  constexpr std::int64_t kHot = 85'000;  // Millidegrees: where common boards begin to throttle.
  Finding finding =
      ok("temperature", "temperature",
         (hottest > 0 ? std::to_string(hottest / 1000) + " degrees" : "not visible") +
             ", throttled " + format_plural(static_cast<std::uint64_t>(throttled), "time"));
  if (hottest >= kHot)
    finding.severity = Severity::kProblem;
  else if (throttled > 0)
    finding.severity = Severity::kAdvice;
  if (finding.severity != Severity::kOk)
    finding.mend =
        "heat slows the cores down: improve cooling, or lower the load with --threads 1 or "
        "--power low-power";
  return finding;
}

// --- Limits
// ---------------------------------------------------------------------------------------

Finding check_quota(const Machine& machine) {
  const auto quota = machine.cpu_quota();
  const auto throttled = machine.throttled_count().value_or(0);
  if (!quota) return ok("cpu-quota", "CPU quota", "none");
  Finding finding = ok("cpu-quota", "CPU quota", shortest(*quota) + " cores");
  if (throttled > 0)
    finding.found += ", stopped " + format_plural(static_cast<std::uint64_t>(throttled), "time");
  if (throttled > 0 || *quota < machine.cpus_online()) {
    finding.severity = throttled > 0 ? Severity::kProblem : Severity::kAdvice;
    const auto threads = std::max(1, static_cast<int>(*quota));
    finding.mend =
        "when the quota of a period (often 100 ms) is used up, every thread stops until the "
        "next: use at most --threads " +
        std::to_string(threads) +
        " without spinning (--power low-power), or raise the quota (docker --cpus, systemd "
        "CPUQuota=)";
  }
  return finding;
}

Finding check_open_files() {
  rlimit limit{};
  getrlimit(RLIMIT_NOFILE, &limit);
  const bool endless = limit.rlim_cur == RLIM_INFINITY;
  Finding finding = ok("open-files", "open files",
                       endless ? "no limit" : format_count(limit.rlim_cur) + " at most");
  if (!endless && limit.rlim_cur < 1024) {
    finding.severity = Severity::kAdvice;
    finding.mend =
        "too few for a server with many clients: `ulimit -n 4096`, or LimitNOFILE= in the "
        "systemd unit";
  }
  return finding;
}

Finding check_locked_memory() {
  rlimit limit{};
  getrlimit(RLIMIT_MEMLOCK, &limit);
  return ok(
      "locked-memory", "locked memory",
      limit.rlim_cur == RLIM_INFINITY ? "no limit" : format_bytes(limit.rlim_cur) + " at most");
}

// --- Memory
// ---------------------------------------------------------------------------------------

std::uint64_t memory_field(const Machine& machine, std::string_view key) {
  const auto kilobytes = machine.number_field("/proc/meminfo", key).value_or(0);
  return static_cast<std::uint64_t>(std::max<std::int64_t>(0, kilobytes)) * 1024;
}

Finding check_available(const Machine& machine) {
  const auto total = memory_field(machine, "MemTotal");
  const auto available = memory_field(machine, "MemAvailable");
  const auto limit = machine.memory_limit();
  if (total == 0) return unreadable("memory", "memory", "/proc/meminfo");
  Finding finding =
      ok("memory", "memory", format_bytes(available) + " of " + format_bytes(total) + " available");
  if (limit && *limit < total) finding.found += ", limit of this container " + format_bytes(*limit);
  constexpr std::uint64_t kLittle = 128u << 20;
  if (available < kLittle || (limit && *limit < kLittle)) {
    finding.severity = Severity::kProblem;
    finding.mend =
        "too little for the runtime (about 60 MB) and a model: stop other programs, raise the "
        "limit, or use --arena none";
  }
  return finding;
}

Finding check_swap(const Machine& machine) {
  if (!machine.text("/proc/meminfo")) return unreadable("swap", "swap", "/proc/meminfo");
  const auto total = memory_field(machine, "SwapTotal");
  const auto used = total - std::min(total, memory_field(machine, "SwapFree"));
  if (total == 0) return ok("swap", "swap", "none");
  Finding finding = ok("swap", "swap", format_bytes(used) + " of " + format_bytes(total) + " used");
  if (used > 0) {
    finding.severity = Severity::kAdvice;
    finding.mend =
        "weights that were swapped out make single calls slow: `swapoff -a`, or "
        "`sysctl vm.swappiness=1`, or MemorySwapMax=0 in the systemd unit";
  }
  return finding;
}

std::optional<Finding> check_huge_pages(const Machine& machine) {
  constexpr std::string_view kFolder = "/sys/kernel/mm/transparent_hugepage/";
  const auto enabled = machine.text(std::string(kFolder) + "enabled");
  if (!enabled) return std::nullopt;
  const auto mode = chosen_word(*enabled);
  const auto defrag = chosen_word(machine.text(std::string(kFolder) + "defrag").value_or(""));
  Finding finding =
      ok("huge-pages", "huge pages", mode + (defrag.empty() ? "" : ", defrag " + defrag));
  if (mode == "always" && defrag == "always") {
    finding.severity = Severity::kAdvice;
    finding.mend =
        "a page fault may stop a thread to compact memory: "
        "`echo madvise > /sys/kernel/mm/transparent_hugepage/defrag`";
  }
  return finding;
}

// --- Software
// -------------------------------------------------------------------------------------

std::string short_names(const std::vector<std::string>& providers) {
  std::string text;
  for (const auto& name : providers)
    text += (text.empty() ? "" : ", ") + name.substr(0, name.find("ExecutionProvider"));
  return text;
}

Finding check_runtime(const infer::Runtime& runtime) {
  const auto usable = quiet_usable_providers(runtime);
  auto others = infer::Runtime::providers();
  std::erase_if(others, [&](const auto& name) { return std::ranges::count(usable, name) > 0; });
  std::string found =
      infer::Runtime::version() + ", telemetry off; it can compute on " + short_names(usable);
  if (!others.empty()) found += ", and would on " + short_names(others) + " with their libraries";
  return ok("runtime", "ONNX Runtime", found);
}

Finding check_cache() {
  const auto folder = infer::default_cache_folder();
  std::error_code error;
  std::filesystem::create_directories(folder, error);
  Finding finding = ok("cache", "model cache", folder.string());
  if (!error && ::access(folder.c_str(), W_OK) == 0) return finding;
  finding.severity = Severity::kProblem;
  finding.found += " cannot be written";
  finding.mend =
      "every start optimises models anew, and threads are not tuned: set SELVAGE_CACHE to a "
      "folder that " +
      std::string(::geteuid() == 0 ? "is writable" : "this user may write");
  return finding;
}

std::optional<Finding> check_clock_source(const Machine& machine) {
  const auto source =
      machine.text("/sys/devices/system/clocksource/clocksource0/current_clocksource");
  if (!source) return std::nullopt;
  Finding finding = ok("clock-source", "clock source", *source);
  if (*source == "hpet" || *source == "acpi_pm" || *source == "jiffies") {
    finding.severity = Severity::kProblem;
    finding.mend =
        "reading the time is slow and coarse: boot with clocksource=tsc where the processor "
        "has a constant one";
  }
  return finding;
}

Finding check_date() {
  const std::time_t now = std::time(nullptr);
  std::tm parts{};
  gmtime_r(&now, &parts);
  std::array<char, 32> text{};
  std::strftime(text.data(), text.size(), "%Y-%m-%d %H:%M UTC", &parts);
  Finding finding = ok("date", "date", text.data());
  constexpr int kYearMin = 2025;  // Older than this program: the clock lost its battery.
  if (parts.tm_year + 1900 < kYearMin) {
    finding.severity = Severity::kProblem;
    finding.mend =
        "certificates and records need the right time: `timedatectl set-ntp true`, or give the "
        "board a clock battery";
  }
  return finding;
}

Finding check_load(const Machine& machine) {
  const auto text = machine.text("/proc/loadavg");
  if (!text) return unreadable("load", "other work", "/proc/loadavg");
  const double load = std::strtod(text->c_str(), nullptr);
  Finding finding = ok(
      "load", "other work",
      "load average " + fixed(load, 2) + " on " + std::to_string(machine.cpus_online()) + " CPUs");
  if (load > machine.cpus_online()) {
    finding.severity = Severity::kAdvice;
    finding.mend =
        "more threads want to run than there are CPUs: what else runs? (`top`); give inference "
        "a higher priority (`nice -n -5`) or its own CPUs (systemd AllowedCPUs=)";
  }
  return finding;
}

// --- Measured
// -------------------------------------------------------------------------------------

Finding check_wakeups(const HistogramSnapshot& delays) {
  const auto at = [&](double part) {
    return std::chrono::nanoseconds(static_cast<std::int64_t>(delays.percentile_ns(part)));
  };
  Finding finding =
      ok("wake-ups", "wake-ups",
         "1 ms sleeps end " + format_duration(at(0.5)) + " late at p50, " +
             format_duration(at(0.99)) + " at p99, " + format_duration(at(1)) + " at most");
  if (at(0.99) > std::chrono::milliseconds(1)) {
    finding.severity =
        at(0.99) > std::chrono::milliseconds(5) ? Severity::kProblem : Severity::kAdvice;
    finding.mend =
        "threads wait for a CPU: stop other load, raise the priority, or keep cores free "
        "(isolcpus=, systemd AllowedCPUs=)";
  }
  return finding;
}

Finding check_pauses(const Pauses& pauses) {
  Finding finding =
      ok("pauses", "pauses",
         format_plural(pauses.count, "pause") + " above 50 us in 0.3 s of computing, longest " +
             format_duration(pauses.longest) + "; reading the clock takes " +
             format_duration(pauses.clock_cost));
  if (pauses.longest > std::chrono::milliseconds(2)) {
    finding.severity = Severity::kAdvice;
    finding.mend =
        "something takes the CPU away for milliseconds: other programs, or other virtual "
        "machines on the host";
  }
  return finding;
}

Finding check_steal(const Machine::CpuTimes& before, const Machine::CpuTimes& after) {
  if (after.total == 0) return unreadable("steal", "stolen time", "/proc/stat");
  const double total = static_cast<double>(after.total - before.total);
  const double steal =
      total > 0 ? 100 * static_cast<double>(after.steal - before.steal) / total : 0;
  Finding finding = ok("steal", "stolen time", fixed(steal, 1) + " % while measuring");
  if (steal > 1) {
    finding.severity = steal > 5 ? Severity::kProblem : Severity::kAdvice;
    finding.mend = "the host gives this machine's CPUs to others: ask for dedicated ones";
  }
  return finding;
}

}  // namespace

std::string_view to_string(Severity severity) {
  constexpr std::array<std::string_view, 3> kNames{"ok", "advice", "problem"};
  return kNames[static_cast<std::size_t>(severity)];
}

std::vector<Finding> check_processor(const Machine& machine) {
  const int cores = machine.cores_physical(), cpus = machine.cpus_online();
  std::string found =
      machine.cpu_model() + ", " + format_plural(static_cast<std::uint64_t>(cores), "core");
  if (cpus > cores) found += ", " + std::to_string(cpus) + " hardware threads";
  return {ok("cpu", "processor", found), check_features(machine), check_affinity(machine)};
}

std::vector<Finding> check_frequency(const Machine& machine) {
  std::vector<Finding> findings{check_governor(machine)};
  if (auto turbo = check_turbo(machine)) findings.push_back(*std::move(turbo));
  if (auto temperature = check_temperature(machine)) findings.push_back(*std::move(temperature));
  return findings;
}

std::vector<Finding> check_limits(const Machine& machine) {
  return {check_quota(machine), check_open_files(), check_locked_memory()};
}

std::vector<Finding> check_memory(const Machine& machine) {
  std::vector<Finding> findings{check_available(machine), check_swap(machine)};
  if (auto pages = check_huge_pages(machine)) findings.push_back(*std::move(pages));
  return findings;
}

std::vector<Finding> check_software(const Machine& machine, const infer::Runtime& runtime) {
  std::vector<Finding> findings{check_runtime(runtime), check_cache(), check_date(),
                                check_load(machine)};
  if (auto source = check_clock_source(machine)) findings.push_back(*std::move(source));
  return findings;
}

std::vector<Finding> check_by_measuring(const Machine& machine) {
  const auto before = machine.cpu_times();
  const auto delays = measure_wakeup_delay(std::chrono::milliseconds(500));
  const auto pauses = measure_pauses(std::chrono::milliseconds(300));
  const double bandwidth = measure_read_bandwidth(machine.cpus_allowed());
  const auto after = machine.cpu_times();
  return {ok("memory-bandwidth", "memory speed",
             significant(bandwidth / 1e9) + " GB/s: all CPUs together read 10 MB of weights in " +
                 format_duration(std::chrono::nanoseconds(
                     static_cast<std::int64_t>(1e16 / std::max(1.0, bandwidth))))),
          check_wakeups(delays), check_pauses(pauses), check_steal(before, after)};
}

}  // namespace selvage::cli
