// Our server in a process of its own, as its clients know it: what it takes is its own, and no
// thread of a client does its work (within a process, gRPC's clients and servers share their
// pollers).
#pragma once

#include <chrono>
#include <cstdint>
#include <filesystem>
#include <fstream>
#include <string>
#include <thread>

#include <sys/wait.h>
#include <unistd.h>

#include "bench/load.h"
#include "infer/runtime.h"
#include "serve/server.h"

namespace selvage::bench {

struct Ports {
  std::uint16_t http = 0, grpc = 0;
};

inline void serve_until_closed(const std::filesystem::path& folder, int ports_to, int close_from) {
  const auto runtime = must(infer::Runtime::create());
  serve::ServerOptions options;
  options.repository.folders = {folder};
  options.http_port = options.grpc_port = 0;
  options.shared_memory = serve::SharedMemoryAccess::kAllowed;
  const auto server = must(serve::Server::start(*runtime, std::move(options)));
  while (!server->repository().ready()) std::this_thread::sleep_for(std::chrono::milliseconds(1));
  const Ports ports{server->http_port(), server->grpc_port()};
  if (::write(ports_to, &ports, sizeof(ports)) != sizeof(ports)) die("the parent has ended");
  char byte = 0;
  while (::read(close_from, &byte, 1) > 0) {
  }
  server->stop(std::chrono::seconds(10));
}

/// The server in a child process. Make it before any thread.
class ServerProcess {
 public:
  explicit ServerProcess(const std::filesystem::path& folder) {
    int ports[2], close[2];
    if (::pipe(ports) != 0 || ::pipe(close) != 0) die("no pipe");
    child_ = ::fork();
    if (child_ < 0) die("no process");
    if (child_ == 0) {
      ::close(close[1]);
      serve_until_closed(folder, ports[1], close[0]);
      ::_exit(0);
    }
    ::close(ports[1]);
    ::close(close[0]);
    close_ = close[1];
    if (::read(ports[0], &ports_, sizeof(ports_)) != sizeof(ports_))
      die("the server did not start");
    ::close(ports[0]);
  }
  ~ServerProcess() {
    ::close(close_);
    int status = 0;
    ::waitpid(child_, &status, 0);
    if (status != 0) die("the server ended with status " + std::to_string(status));
  }
  ServerProcess(const ServerProcess&) = delete;
  ServerProcess& operator=(const ServerProcess&) = delete;

  [[nodiscard]] const Ports& ports() const { return ports_; }
  [[nodiscard]] std::uint64_t resident_bytes() const {
    std::ifstream statm("/proc/" + std::to_string(child_) + "/statm");
    std::uint64_t size = 0, resident = 0;
    statm >> size >> resident;
    return resident * static_cast<std::uint64_t>(::sysconf(_SC_PAGESIZE));
  }

 private:
  pid_t child_ = -1;
  int close_ = -1;
  Ports ports_;
};

}  // namespace selvage::bench
