// Denormal numbers make floating-point code on CPUs up to a hundred times slower. For the duration
// of a run the calling thread treats them as zero; its own mode is restored afterwards.
#pragma once

#include <cstdint>

#if defined(__SSE2__)
#include <immintrin.h>
#endif

namespace selvage::infer {

/// Sets flush-to-zero and denormals-are-zero on this thread while it lives, when `enabled`.
class DenormalsAsZero {
 public:
  explicit DenormalsAsZero(bool enabled) : enabled_(enabled) {
    if (enabled_) {
      saved_ = mode();
      set_mode(saved_ | kFlush);
    }
  }
  ~DenormalsAsZero() {
    if (enabled_) set_mode(saved_);
  }
  DenormalsAsZero(const DenormalsAsZero&) = delete;
  DenormalsAsZero& operator=(const DenormalsAsZero&) = delete;

 private:
#if defined(__SSE2__)
  using Mode = unsigned int;
  static constexpr Mode kFlush = 0x8040;  // MXCSR: FTZ (bit 15) and DAZ (bit 6).
  static Mode mode() { return _mm_getcsr(); }
  static void set_mode(Mode mode) { _mm_setcsr(mode); }
#elif defined(__aarch64__)
  using Mode = std::uint64_t;
  static constexpr Mode kFlush = std::uint64_t{1} << 24;  // FPCR: FZ.
  static Mode mode() {
    Mode value = 0;
    asm volatile("mrs %0, fpcr" : "=r"(value));
    return value;
  }
  static void set_mode(Mode mode) { asm volatile("msr fpcr, %0" : : "r"(mode)); }
#else
  using Mode = unsigned int;
  static constexpr Mode kFlush = 0;
  static Mode mode() { return 0; }
  static void set_mode(Mode) {}
#endif
  bool enabled_;
  Mode saved_ = 0;
};

}  // namespace selvage::infer
