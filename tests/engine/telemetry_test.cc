// ONNX Runtime's official builds send telemetry unless told otherwise. A child process in which the
// kernel kills whoever opens a socket loads a model, runs it, waits and ends: it must live.
#include <chrono>
#include <csignal>
#include <cstddef>
#include <cstdlib>
#include <thread>

#include <gtest/gtest.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "graph/testing.h"
#include "infer/session.h"

namespace selvage::infer {
namespace {

/// From now on, any thread of this process that asks the kernel for a socket is killed with it.
bool forbid_sockets() {
  sock_filter filter[] = {
      BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(seccomp_data, nr)),
      BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, __NR_socket, 0, 1),
      BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_KILL_PROCESS),
      BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
  };
  const sock_fprog program{.len = std::size(filter), .filter = filter};
  return ::prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0 &&
         ::prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program) == 0;
}

/// Runs `body` in a child without sockets; its exit status, or the signal that ended it, negated.
template <typename Body>
int in_child_without_sockets(Body&& body) {
  const pid_t child = ::fork();
  if (child == 0) ::_exit(forbid_sockets() ? body() : 99);
  int status = 0;
  ::waitpid(child, &status, 0);
  return WIFEXITED(status) ? WEXITSTATUS(status) : -WTERMSIG(status);
}

TEST(Telemetry, TheTrapWorks) {
  EXPECT_EQ(in_child_without_sockets([] { return ::socket(AF_INET, SOCK_STREAM, 0) >= 0 ? 0 : 1; }),
            -SIGSYS);
}

TEST(Telemetry, NoSocketIsOpened) {
  const auto model = graph::testing::conv_model().bytes();
  EXPECT_EQ(in_child_without_sockets([&] {
              // As if a user had asked for it.
              ::unsetenv("ORT_DISABLE_TELEMETRY");
              auto runtime = Runtime::create();
              if (!runtime) return 1;
              auto session = Session::load(**runtime, model);
              if (!session) return 2;
              const auto binding = Binding::create(**session);
              if (!binding) return 3;
              for (int i = 0; i < 100; ++i)
                if (!(*binding)->run()) return 4;
              // Senders collect for a while before they send.
              std::this_thread::sleep_for(std::chrono::seconds(3));
              session->reset();
              runtime->reset();
              return 0;
            }),
            0);
}

}  // namespace
}  // namespace selvage::infer
