#include "serve/body.h"

#include <algorithm>
#include <cstdlib>
#include <cstring>
#include <utility>

namespace selvage::serve {
namespace {

std::unexpected<Error> used_up() {
  return fail(ErrorCode::kResourceExhausted, "too many bytes are in flight: try again later");
}

}  // namespace

BodyBudget::~BodyBudget() {
  for (const auto& block : kept_) std::free(block.memory);
}

BodyBudget::Block BodyBudget::take_kept(std::uint64_t bytes) {
  const std::lock_guard lock(mutex_);
  auto best = kept_.end();
  for (auto it = kept_.begin(); it != kept_.end(); ++it)
    if (it->capacity >= bytes && it->capacity / kKeptExcessMax <= bytes &&
        (best == kept_.end() || it->capacity < best->capacity))
      best = it;
  if (best == kept_.end() || !take(best->capacity)) return {};
  const Block block = *best;
  kept_bytes_ -= block.capacity;
  kept_.erase(best);
  return block;
}

void BodyBudget::give(Block block) {
  give(block.capacity);
  {
    const std::lock_guard lock(mutex_);
    if (block.capacity >= kKeptBytesMin && kept_bytes_ + block.capacity <= kKeptBytesMax) {
      kept_.push_back(block);
      kept_bytes_ += block.capacity;
      return;
    }
  }
  std::free(block.memory);
}

Result<void> BudgetShare::add(std::uint64_t bytes) {
  if (!budget_->take(bytes)) return used_up();
  bytes_ += bytes;
  return {};
}

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
  budget_->give({memory_, capacity_});
}

bool Body::take_kept(std::uint64_t capacity) {
  if (memory_ || capacity < BodyBudget::kKeptBytesMin) return false;
  const auto kept = budget_->take_kept(capacity);
  memory_ = kept.memory;
  capacity_ = kept.capacity;
  return memory_ != nullptr;
}

Result<void> Body::grow(std::size_t capacity) {
  const std::size_t more = capacity - capacity_;
  if (!budget_->take(more)) return used_up();
  auto* const memory = static_cast<std::byte*>(std::realloc(memory_, capacity));
  if (!memory) {
    budget_->give(more);
    return fail(ErrorCode::kResourceExhausted, "out of memory: try again later");
  }
  memory_ = memory;
  capacity_ = capacity;
  return {};
}

Result<std::span<std::byte>> Body::prepare(std::uint64_t size_max) {
  const std::size_t used = skip_ + size_;
  if (used >= capacity_) {  // The first time, skipped bytes have no memory yet.
    // In proportion to what has come: a promise alone never takes much that is not there anyway.
    const std::uint64_t wanted = used + size_max;
    if (!take_kept(wanted))
      SELVAGE_RETURN_IF_ERROR(grow(static_cast<std::size_t>(
          std::min<std::uint64_t>(wanted, std::max<std::uint64_t>(kFirstBytes, 4 * used)))));
  }
  const auto room = std::min<std::uint64_t>(capacity_ - used, size_max);
  return std::span(memory_ + used, static_cast<std::size_t>(room));
}

Result<void> Body::reserve(std::uint64_t size) {
  const std::uint64_t wanted = skip_ + size_ + size;
  if (wanted <= capacity_ || take_kept(wanted)) return {};
  return grow(static_cast<std::size_t>(wanted));
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
