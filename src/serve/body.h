// The bytes of a message as they arrive. Memory grows with what has come, not with what was
// promised, and counts against a budget that all messages share.
#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <mutex>
#include <span>
#include <string_view>
#include <utility>
#include <vector>

#include "base/result.h"

namespace selvage::serve {

/// How many bytes all messages in flight may take together. Synchronised; outlives the bodies.
///
/// Some memory of bodies that have ended is kept for the next ones: the first touch of fresh pages
/// costs more than copying into them.
class BodyBudget {
 public:
  static constexpr std::size_t kKeptBytesMin = 64u << 10;  ///< Of a block.
  static constexpr std::size_t kKeptBytesMax = 16u << 20;  ///< Of all kept blocks.
  static constexpr std::size_t kKeptExcessMax = 8;         ///< Times what a body needs.

  explicit BodyBudget(std::uint64_t bytes_max) : bytes_max_(bytes_max) {}
  ~BodyBudget();
  BodyBudget(const BodyBudget&) = delete;
  BodyBudget& operator=(const BodyBudget&) = delete;

  [[nodiscard]] bool take(std::uint64_t bytes) {
    if (used_.fetch_add(bytes) + bytes <= bytes_max_) return true;
    used_.fetch_sub(bytes);
    return false;
  }
  void give(std::uint64_t bytes) { used_.fetch_sub(bytes); }
  [[nodiscard]] std::uint64_t used() const { return used_.load(); }

  /// Memory of malloc().
  struct Block {
    std::byte* memory = nullptr;
    std::size_t capacity = 0;
  };
  /// A kept block of at least `bytes`, taken from the budget; an empty one when there is none.
  [[nodiscard]] Block take_kept(std::uint64_t bytes);
  /// Gives a taken block back: it is kept or freed.
  void give(Block block);

 private:
  const std::uint64_t bytes_max_;
  std::atomic<std::uint64_t> used_{0};
  std::mutex mutex_;  // Guards the two below.
  std::vector<Block> kept_;
  std::size_t kept_bytes_ = 0;
};

/// A part of the budget for other memory that messages cost: tensors made of JSON, decoded
/// pictures, answers that wait to be read. Given back when destroyed. Movable, confined.
class BudgetShare {
 public:
  explicit BudgetShare(BodyBudget& budget) : budget_(&budget) {}
  BudgetShare(BudgetShare&& other) noexcept
      : budget_(other.budget_), bytes_(std::exchange(other.bytes_, 0)) {}
  BudgetShare& operator=(BudgetShare&& other) noexcept {
    std::swap(budget_, other.budget_);
    std::swap(bytes_, other.bytes_);
    return *this;
  }
  ~BudgetShare() { budget_->give(bytes_); }

  /// kResourceExhausted when the budget is used up.
  [[nodiscard]] Result<void> add(std::uint64_t bytes);
  void give(std::uint64_t bytes) {
    budget_->give(bytes);
    bytes_ -= bytes;
  }

 private:
  BodyBudget* budget_;
  std::uint64_t bytes_ = 0;
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
  /// Memory for `size` bytes more at once: for what has arrived, elsewhere.
  [[nodiscard]] Result<void> reserve(std::uint64_t size);

  [[nodiscard]] std::span<const std::byte> bytes() const {
    return memory_ ? std::span<const std::byte>(memory_ + skip_, size_)
                   : std::span<const std::byte>();
  }
  [[nodiscard]] std::string_view text() const {
    return {reinterpret_cast<const char*>(bytes().data()), size_};
  }
  [[nodiscard]] std::size_t size() const { return size_; }
  [[nodiscard]] BodyBudget& budget() const { return *budget_; }

 private:
  static constexpr std::size_t kFirstBytes = 64u
                                             << 10;  // Of which the kernel commits what is touched.
  [[nodiscard]] bool take_kept(std::uint64_t capacity);
  [[nodiscard]] Result<void> grow(std::size_t capacity);

  BodyBudget* budget_;
  std::byte* memory_ = nullptr;
  std::size_t capacity_ = 0;  // Of memory_, which is what the budget counts.
  std::size_t skip_;
  std::size_t size_ = 0;
};

}  // namespace selvage::serve
