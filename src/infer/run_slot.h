// A binding with memory for batches of any size. Internal to the serving core.
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <memory>
#include <mutex>
#include <string>
#include <utility>
#include <vector>

#include "infer/model.h"
#include "infer/session.h"

namespace selvage::infer {

/// Memory that only grows. Aligned as tensors like it. Confined.
class GrowingBuffer {
 public:
  /// At least `bytes` of it; what it held is lost when it grows.
  [[nodiscard]] Result<std::span<std::byte>> reserve(std::size_t bytes) {
    if (bytes > capacity_ || !memory_) {
      capacity_ = (std::max(bytes, kAlignment) + kAlignment - 1) / kAlignment * kAlignment;
      memory_.reset(static_cast<std::byte*>(std::aligned_alloc(kAlignment, capacity_)));
      if (!memory_) {
        capacity_ = 0;
        return fail(ErrorCode::kResourceExhausted,
                    "out of memory for " + std::to_string(bytes) + " bytes of tensors");
      }
    }
    return std::span(memory_.get(), bytes);
  }

 private:
  static constexpr std::size_t kAlignment = 64;
  struct Free {
    void operator()(std::byte* p) const { std::free(p); }
  };
  std::unique_ptr<std::byte, Free> memory_;
  std::size_t capacity_ = 0;
};

/// Confined to one worker, then to the responses that share it.
class RunSlot {
 public:
  [[nodiscard]] static Result<std::unique_ptr<RunSlot>> create(const Session& session) {
    auto slot = std::make_unique<RunSlot>();
    SELVAGE_TRY(slot->binding, Binding::create(session));
    slot->inputs.resize(session.inputs().size());
    slot->strings.resize(session.inputs().size());
    slot->outputs.resize(session.outputs().size());
    slot->bound.resize(session.outputs().size());
    return slot;
  }

  std::unique_ptr<Binding> binding;
  // By the session's indexes: what gathers inputs, and what outputs are written to.
  std::vector<GrowingBuffer> inputs, outputs;
  std::vector<std::vector<std::string>> strings;
  std::vector<std::span<std::byte>>
      bound;            ///< Where the binding writes each output; empty: its own.
  Shape shape;          ///< Scratch.
  bool spoilt = false;  ///< Not to be used again.
};

/// The slots of a model that nobody uses. Synchronised. Shared, since responses that still hold
/// slots may outlive the model version: the pool keeps the model alive for them.
class SlotPool : public std::enable_shared_from_this<SlotPool> {
 public:
  SlotPool(std::shared_ptr<const Model> model, std::size_t idle_max)
      : model_(std::move(model)), idle_max_(idle_max) {
    idle_.reserve(idle_max);
  }

  /// Comes back when the last owner lets go.
  [[nodiscard]] Result<std::shared_ptr<RunSlot>> lease() {
    std::unique_ptr<RunSlot> slot;
    {
      const std::scoped_lock lock(mutex_);
      if (!idle_.empty()) {
        slot = std::move(idle_.back());
        idle_.pop_back();
      }
    }
    if (!slot) {
      SELVAGE_TRY(slot, RunSlot::create(model_->session()));
    }
    return std::shared_ptr<RunSlot>(slot.release(), [pool = shared_from_this()](RunSlot* returned) {
      pool->give_back(std::unique_ptr<RunSlot>(returned));
    });
  }

 private:
  void give_back(std::unique_ptr<RunSlot> slot) {
    if (slot->spoilt) return;
    const std::scoped_lock lock(mutex_);
    if (idle_.size() < idle_max_) idle_.push_back(std::move(slot));
  }

  const std::shared_ptr<const Model> model_;  // Outlives the slots below.
  const std::size_t idle_max_;
  std::mutex mutex_;
  std::vector<std::unique_ptr<RunSlot>> idle_;
};

}  // namespace selvage::infer
