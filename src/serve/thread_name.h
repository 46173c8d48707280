// Threads that tools such as top and gdb show by name.
#pragma once

#include <string>
#include <thread>

#include <pthread.h>

namespace selvage::serve {

/// A thread named `name` (15 characters are shown) that runs `body`.
template <typename Body>
[[nodiscard]] std::jthread start_thread(const std::string& name, Body body) {
  std::jthread thread(std::move(body));
  ::pthread_setname_np(thread.native_handle(), name.substr(0, 15).c_str());
  return thread;
}

}  // namespace selvage::serve
