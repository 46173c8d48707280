// A request that is handled on another thread than its connection's. Internal to src/serve.
#pragma once

#include <memory>
#include <mutex>
#include <utility>

#include "serve/http.h"

namespace selvage::serve {

/// Stands between a connection's exchange, whose on_leave() belongs to the connection's thread, and
/// a handler elsewhere. Synchronised.
class LateExchange final : public HttpExchange, public std::enable_shared_from_this<LateExchange> {
 public:
  /// On the connection's thread.
  [[nodiscard]] static std::shared_ptr<LateExchange> over(std::shared_ptr<HttpExchange> exchange) {
    const auto late = std::make_shared<LateExchange>(std::move(exchange));
    late->exchange_->on_leave([weak = std::weak_ptr(late)] {
      if (const auto left = weak.lock()) left->leave();
    });
    return late;
  }
  explicit LateExchange(std::shared_ptr<HttpExchange> exchange) : exchange_(std::move(exchange)) {}

  void reply(std::move_only_function<HttpReply()> make) override {
    exchange_->reply(std::move(make));
  }
  void on_leave(Cancel cancel) override {
    {
      const std::lock_guard lock(mutex_);
      if (!left_) cancel_ = std::exchange(cancel, nullptr);
    }
    if (cancel) cancel();
  }
  [[nodiscard]] bool left() {
    const std::lock_guard lock(mutex_);
    return left_;
  }

 private:
  void leave() {
    Cancel cancel;
    {
      const std::lock_guard lock(mutex_);
      left_ = true;
      cancel = std::exchange(cancel_, nullptr);
    }
    if (cancel) cancel();
  }

  const std::shared_ptr<HttpExchange> exchange_;
  std::mutex mutex_;  // Guards the two below.
  bool left_ = false;
  Cancel cancel_;
};

}  // namespace selvage::serve
