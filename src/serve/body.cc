#include "serve/body.h"

#include <algorithm>
#include <cstring>
#include <utility>

namespace selvage::serve {

Body::Body(Body&& other) noexcept
    : budget_(other.budget_),
      memory_(std::exchange(other.memory_, nullptr)),
      capacity_(std::exchange(other.capacity_, 0)),
      skip_(other.skip_),
      size_(std::exchange(other.size_, 0)) {}

Body& Body::operator=(Body&& other) noexcept {
  std::swap(budget_, other.budget_);
  std::swap(memory_, other.memory_);
  std::swap(capacity_, other.capacity_);
  std::swap(skip_, other.skip_);
  std::swap(size_, other.size_);
  return *this;
}

Body::~Body() {
  std::free(memory_);
  budget_->give(capacity_);
}

Result<std::span<std::byte>> Body::prepare(std::uint64_t size_max) {
  const std::size_t used = skip_ + size_;
  if (used >= capacity_) {  // The first time, skipped bytes have no memory yet.
    // In proportion to what has come: a promise alone never takes much.
    const std::uint64_t wanted = used + size_max;
    const auto grown = static_cast<std::size_t>(
        std::min<std::uint64_t>(wanted, std::max<std::uint64_t>(kFirstBytes, 4 * used)));
    const std::size_t more = grown - capacity_;
    if (!budget_->take(more))
      return fail(ErrorCode::kResourceExhausted, "too many bytes are in flight: try again later");
    auto* const memory = static_cast<std::byte*>(std::realloc(memory_, grown));
    if (!memory) {
      budget_->give(more);
      return fail(ErrorCode::kResourceExhausted, "out of memory: try again later");
    }
    memory_ = memory;
    capacity_ = grown;
  }
  const auto room = std::min<std::uint64_t>(capacity_ - used, size_max);
  return std::span(memory_ + used, static_cast<std::size_t>(room));
}

Result<void> Body::append(std::span<const std::byte> bytes) {
  while (!bytes.empty()) {
    SELVAGE_TRY(const std::span<std::byte> room, prepare(bytes.size()));
    std::memcpy(room.data(), bytes.data(), room.size());
    commit(room.size());
    bytes = bytes.subspan(room.size());
  }
  return {};
}

}  // namespace selvage::serve
