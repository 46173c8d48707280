#include "learn/vector_lanes.h"

#include <atomic>

namespace selvage::learn {
namespace {

std::atomic<Instructions>& chosen() {
  static std::atomic<Instructions> current = known_instructions().back();
  return current;
}

}  // namespace

const std::vector<Instructions>& known_instructions() {
  static const auto known = [] {
    std::vector<Instructions> all{Instructions::kBase};
#if defined(__x86_64__)
    if (__builtin_cpu_supports("avx2") != 0 && __builtin_cpu_supports("fma") != 0) {
      all.push_back(Instructions::kAvx2);
      if (__builtin_cpu_supports("avx512f") != 0) all.push_back(Instructions::kAvx512);
    }
#endif
    return all;
  }();
  return known;
}

Instructions instructions() {
  return chosen().load(std::memory_order_relaxed);
}

WithInstructions::WithInstructions(Instructions wanted) {
  chosen() = wanted;
}
WithInstructions::~WithInstructions() {
  chosen() = known_instructions().back();
}

}  // namespace selvage::learn
