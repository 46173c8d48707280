#include "cli/cold_start.h"

#include <algorithm>
#include <array>

#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <spawn.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include "cli/interrupt.h"
#include "cli/scratch_folder.h"

namespace selvage::cli {
namespace {

using std::chrono::nanoseconds;
using std::chrono::steady_clock;

constexpr auto kPatience = std::chrono::minutes(1);
constexpr int kLaterStarts = 5;

/// A child whose standard output we read. Killed, if it still runs, and waited for at the end.
class Child {
 public:
  ~Child() {
    if (pid_ > 0) {
      ::kill(pid_, SIGKILL);
      ::waitpid(pid_, nullptr, 0);
    }
    if (pipe_ >= 0) ::close(pipe_);
  }
  Child() = default;
  Child(const Child&) = delete;
  Child& operator=(const Child&) = delete;

  Result<void> start(const std::vector<std::string>& arguments,
                     const std::vector<std::string>& environment) {
    std::array<int, 2> ends{};
    if (::pipe2(ends.data(), O_CLOEXEC) != 0) return fail(ErrorCode::kIo, "cannot make a pipe");
    pipe_ = ends[0];
    posix_spawn_file_actions_t actions;
    posix_spawn_file_actions_init(&actions);
    posix_spawn_file_actions_adddup2(&actions, ends[1], STDOUT_FILENO);
    const int failed =
        ::posix_spawn(&pid_, "/proc/self/exe", &actions, nullptr, pointers_to(arguments).data(),
                      pointers_to(environment).data());
    posix_spawn_file_actions_destroy(&actions);
    ::close(ends[1]);
    if (failed == 0) return {};
    pid_ = -1;
    return fail(ErrorCode::kInternal, "cannot start another process of this program");
  }

  /// Until the child has written something.
  Result<void> wait_for_output() {
    const auto end = steady_clock::now() + kPatience;
    while (steady_clock::now() < end) {
      if (interrupted()) return fail(ErrorCode::kCancelled, "interrupted");
      pollfd wanted{.fd = pipe_, .events = POLLIN, .revents = 0};
      if (::poll(&wanted, 1, 100) != 1) continue;
      char byte = 0;
      if (::read(pipe_, &byte, 1) == 1) return {};
      return fail(ErrorCode::kInternal, "a process started to measure the cold start has failed");
    }
    return fail(ErrorCode::kDeadlineExceeded, "the first answer took more than a minute");
  }

  /// Waits for the end; the most memory that was resident.
  std::uint64_t wait() {
    rusage usage{};
    int status = 0;
    ::wait4(pid_, &status, 0, &usage);
    pid_ = -1;
    return static_cast<std::uint64_t>(usage.ru_maxrss) * 1024;
  }

 private:
  static std::vector<char*> pointers_to(const std::vector<std::string>& texts) {
    std::vector<char*> pointers;
    for (const auto& text : texts)
      pointers.push_back(const_cast<char*>(text.c_str()));  // NOLINT: exec's signature
    pointers.push_back(nullptr);
    return pointers;
  }

  pid_t pid_ = -1;
  int pipe_ = -1;
};

struct Start {
  nanoseconds time;
  std::uint64_t resident_bytes;
};

Result<Start> start_once(const std::vector<std::string>& arguments,
                         const std::vector<std::string>& environment) {
  Child child;
  const auto begin = steady_clock::now();
  SELVAGE_RETURN_IF_ERROR(child.start(arguments, environment));
  SELVAGE_RETURN_IF_ERROR(child.wait_for_output());
  const nanoseconds time = steady_clock::now() - begin;
  return Start{time, child.wait()};
}

std::vector<std::string> environment_with_cache(const std::filesystem::path& cache) {
  std::vector<std::string> environment{"SELVAGE_CACHE=" + cache.string(), "SELVAGE_LOG=error"};
  for (char** entry = environ; *entry; ++entry)
    if (const std::string text(*entry);
        !text.starts_with("SELVAGE_CACHE=") && !text.starts_with("SELVAGE_LOG="))
      environment.push_back(text);
  return environment;
}

}  // namespace

Result<ColdStart> measure_cold_start(const std::vector<std::string>& arguments) {
  SELVAGE_TRY(const auto cache, ScratchFolder::create());
  const auto environment = environment_with_cache(cache.path());
  std::vector<std::string> command{"selvage"};
  command.insert(command.end(), arguments.begin(), arguments.end());
  SELVAGE_TRY(const auto first, start_once(command, environment));
  std::vector<Start> later;
  for (int i = 0; i < kLaterStarts; ++i) {
    SELVAGE_TRY(const auto start, start_once(command, environment));
    later.push_back(start);
  }
  std::ranges::sort(later, {}, &Start::time);
  const auto& median = later[later.size() / 2];
  return ColdStart{first.time, median.time, median.resident_bytes};
}

}  // namespace selvage::cli
