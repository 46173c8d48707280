// The bytes of a message as they arrive. Memory grows with what has come, not with what was
// promised, and counts against a budget that all connections share.
#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <memory>
#include <span>
#include <string_view>

#include "base/result.h"

namespace selvage::serve {

/// How many bytes all bodies in flight may take together. Synchronised; outlives the bodies.
class BodyBudget {
 public:
  explicit BodyBudget(std::uint64_t bytes_max) : bytes_max_(bytes_max) {}
  [[nodiscard]] bool take(std::uint64_t bytes) {
    if (used_.fetch_add(bytes) + bytes <= bytes_max_) return true;
    used_.fetch_sub(bytes);
    return false;
  }
  void give(std::uint64_t bytes) { used_.fetch_sub(bytes); }
  [[nodiscard]] std::uint64_t used() const { return used_.load(); }

 private:
  const std::uint64_t bytes_max_;
  std::atomic<std::uint64_t> used_{0};
};

/// Movable, confined. Grows in place where the system can (realloc of large blocks moves pages, not
/// bytes). Byte `aligned_at` of the content lies at a multiple of kAlignment, so that tensors
/// behind a JSON header can be read where they are.
class Body {
 public:
  static constexpr std::size_t kAlignment = 16;

  explicit Body(BodyBudget& budget, std::uint64_t aligned_at = 0)
      : budget_(&budget), skip_((kAlignment - aligned_at % kAlignment) % kAlignment) {}
  Body(Body&& other) noexcept;
  Body& operator=(Body&& other) noexcept;
  ~Body();

  /// Room for up to `size_max` bytes more, at least one: a first part of it if that is much. Fill
  /// it, then commit(). kResourceExhausted when the budget or the memory is used up.
  [[nodiscard]] Result<std::span<std::byte>> prepare(std::uint64_t size_max);
  void commit(std::size_t size) { size_ += size; }
  [[nodiscard]] Result<void> append(std::span<const std::byte> bytes);

  [[nodiscard]] std::span<const std::byte> bytes() const {
    return memory_ ? std::span<const std::byte>(memory_ + skip_, size_)
                   : std::span<const std::byte>();
  }
  [[nodiscard]] std::string_view text() const {
    return {reinterpret_cast<const char*>(bytes().data()), size_};
  }
  [[nodiscard]] std::size_t size() const { return size_; }

 private:
  static constexpr std::size_t kFirstBytes = 64u
                                             << 10;  // Of which the kernel commits what is touched.

  BodyBudget* budget_;
  std::byte* memory_ = nullptr;
  std::size_t capacity_ = 0;  // Of memory_, which is what the budget counts.
  std::size_t skip_;
  std::size_t size_ = 0;
};

}  // namespace selvage::serve
