// Whole processes: how long from exec to exit, and how much memory at the peak.
//   start_bench RUNS COMMAND [ARG...]
// prints the median and the largest of both. The command's output is thrown away.
#include <cstdlib>

#include <fcntl.h>
#include <spawn.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include "bench/compare.h"

int main(int argc, char** argv) {
  namespace bench = selvage::bench;
  const int runs = argc > 2 ? std::atoi(argv[1]) : 0;
  if (runs < 1) {
    std::fprintf(stderr, "usage: start_bench RUNS COMMAND [ARG...]\n");
    return 2;
  }
  posix_spawn_file_actions_t actions;
  posix_spawn_file_actions_init(&actions);
  posix_spawn_file_actions_addopen(&actions, STDOUT_FILENO, "/dev/null", O_WRONLY, 0);
  bench::Samples time, memory_kb;
  for (int i = 0; i <= runs; ++i) {
    rusage usage{};
    int status = 0;
    const auto us = bench::time_us([&] {
      pid_t child = 0;
      if (::posix_spawnp(&child, argv[2], &actions, nullptr, argv + 2, environ) != 0) std::exit(1);
      ::wait4(child, &status, 0, &usage);
    });
    if (!WIFEXITED(status) || WEXITSTATUS(status) != 0) {
      std::fprintf(stderr, "start_bench: '%s' failed\n", argv[2]);
      return 1;
    }
    if (i == 0) continue;  // Fills the page cache and the model cache.
    time.us.push_back(us);
    memory_kb.us.push_back(static_cast<double>(usage.ru_maxrss));
  }
  posix_spawn_file_actions_destroy(&actions);
  std::printf(
      "start to exit: median %.1f ms, largest %.1f ms; peak resident: median %.1f MB, "
      "largest %.1f MB\n",
      time.percentile(0.5) / 1e3, time.percentile(1) / 1e3, memory_kb.percentile(0.5) / 1024,
      memory_kb.percentile(1) / 1024);
  return 0;
}
