// A Backend without models, for tests and fuzzers: "identity" gives its one input back as "OUT".
#pragma once

#include <atomic>
#include <memory>
#include <mutex>
#include <new>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "serve/backend.h"

namespace selvage::serve {

/// Synchronised. Answers inside submit(), unless told to hold.
class FakeBackend final : public Backend {
 public:
  /// From here on requests wait; release() answers them.
  void hold() { held_ = true; }
  void release() {
    held_ = false;
    std::vector<Waiting> waiting;
    std::vector<infer::PredictionCallback> predictions;
    {
      const std::lock_guard lock(mutex_);
      waiting.swap(waiting_);
      predictions.swap(predictions_);
    }
    for (auto& [request, callback] : waiting) answer(std::move(request), std::move(callback));
    for (auto& callback : predictions)
      callback(fail(ErrorCode::kUnavailable, "the prediction was held too long"));
  }
  /// The same for the request that came last, before the others.
  void release_last() {
    std::unique_lock lock(mutex_);
    auto [request, callback] = std::move(waiting_.back());
    waiting_.pop_back();
    lock.unlock();
    answer(std::move(request), std::move(callback));
  }
  [[nodiscard]] int cancelled() const { return cancelled_; }
  [[nodiscard]] int submitted() const { return submitted_; }
  void set_ready(bool ready) { ready_ = ready; }
  /// What a request's fields were, for tests of parameters.
  [[nodiscard]] std::string last_id() const {
    const std::lock_guard lock(mutex_);
    return last_id_;
  }
  std::atomic<bool> without_memory = false;  ///< Every submit() throws.
  std::optional<Error> refusal;              ///< Set it before use: every submit() fails with it.

  Cancel submit(infer::InferenceRequest request, infer::ResponseCallback callback) override {
    ++submitted_;
    if (without_memory) throw std::bad_alloc();
    {
      const std::lock_guard lock(mutex_);
      last_id_ = request.id;
    }
    if (refusal) {
      callback(std::unexpected(*refusal));
      return nullptr;
    }
    if (!held_) {
      answer(std::move(request), std::move(callback));
      return nullptr;
    }
    const std::lock_guard lock(mutex_);
    waiting_.emplace_back(std::move(request), std::move(callback));
    return [this] {
      ++cancelled_;
      std::vector<Waiting> waiting;
      {
        const std::lock_guard inner(mutex_);
        waiting.swap(waiting_);
      }
      for (auto& one : waiting)
        one.second(fail(ErrorCode::kCancelled, "the request was cancelled"));
    };
  }

  Cancel predict(infer::PredictionRequest request, infer::PredictionCallback callback) override {
    if (auto known = check(request.model, request.version); !known) {
      callback(std::unexpected(std::move(known).error()));
      return nullptr;
    }
    if (held_) {
      ++submitted_;
      const std::lock_guard lock(mutex_);
      predictions_.push_back(std::move(callback));
      return [this] {
        ++cancelled_;
        std::vector<infer::PredictionCallback> predictions;
        {
          const std::lock_guard inner(mutex_);
          predictions.swap(predictions_);
        }
        for (auto& one : predictions) one(fail(ErrorCode::kCancelled, "the request was cancelled"));
      };
    }
    const auto& picture = std::get<media::PictureView>(request.input);
    infer::PredictionResponse response{.model = request.model, .version = "1"};
    infer::Box box{.left = 0,
                   .top = 0,
                   .right = static_cast<float>(picture.width),
                   .bottom = static_cast<float>(picture.height)};
    box.best = {0, 0.5f, "all"};
    response.prediction = infer::Boxes{{box}};
    callback(std::move(response));
    return nullptr;
  }

  Result<std::shared_ptr<const infer::ModelCard>> card(std::string_view model,
                                                       std::string_view version) override {
    SELVAGE_RETURN_IF_ERROR(check(model, version));
    auto card = std::make_shared<infer::ModelCard>();
    card->input.kind = infer::ImageInput();
    return card;
  }

  Result<infer::ModelMetadata> metadata(std::string_view model, std::string_view version) override {
    SELVAGE_RETURN_IF_ERROR(check(model, version));
    return infer::ModelMetadata{.name = std::string(model),
                                .versions = {"1"},
                                .platform = std::string(infer::kPlatform),
                                .inputs = {{"IN", DataType::kFloat32, {-1, 2}}},
                                .outputs = {{"OUT", DataType::kFloat32, {-1, 2}}}};
  }

  Result<infer::ModelConfig> config(std::string_view model, std::string_view version) override {
    SELVAGE_RETURN_IF_ERROR(check(model, version));
    infer::ModelConfig config;
    config.name = model;
    config.platform = infer::kPlatform;
    config.max_batch_size = 8;
    config.inputs = {{.name = "IN", .type = DataType::kFloat32, .dims = {2}}};
    config.outputs = {{.name = "OUT", .type = DataType::kFloat32, .dims = {2}}};
    return config;
  }

  Result<std::shared_ptr<const infer::Labels>> labels(std::string_view, std::string_view,
                                                      std::string_view) override {
    return std::make_shared<const infer::Labels>(infer::Labels{"cat", "dog"});
  }

  bool ready(std::string_view model, std::string_view version) override {
    return ready_ && check(model, version).has_value();
  }
  bool ready() override { return ready_; }

  std::vector<infer::IndexEntry> index(bool) override {
    return {{"identity", "1", infer::ModelState::kReady, ""}};
  }

  Result<std::vector<infer::ModelStatistics>> statistics(std::string_view model,
                                                         std::string_view version) override {
    if (!model.empty()) SELVAGE_RETURN_IF_ERROR(check(model, version));
    infer::ModelStatistics of;
    of.model = "identity";
    of.version = "1";
    of.inference_count = static_cast<std::uint64_t>(submitted_.load());
    return std::vector{of};
  }

  Result<void> load(std::string_view model, const infer::LoadOverrides&) override {
    return check(model, "");
  }
  Result<void> unload(std::string_view model, infer::Dependents) override {
    return check(model, "");
  }

 private:
  using Waiting = std::pair<infer::InferenceRequest, infer::ResponseCallback>;

  static Result<void> check(std::string_view model, std::string_view version) {
    if (model != "identity")
      return fail(ErrorCode::kNotFound, "no model '" + std::string(model) + "'");
    if (!version.empty() && version != "1")
      return fail(ErrorCode::kNotFound, "no version '" + std::string(version) + "'");
    return {};
  }

  static void answer(infer::InferenceRequest request, infer::ResponseCallback callback) {
    if (auto known = check(request.model, request.version); !known)
      return callback(std::unexpected(std::move(known).error()));
    if (request.inputs.size() != 1)
      return callback(fail(ErrorCode::kInvalidArgument, "model 'identity' takes one input"));
    for (const auto& output : request.outputs)
      if (output.name != "OUT")
        return callback(fail(ErrorCode::kInvalidArgument, "no output '" + output.name + "'"));
    infer::InferenceResponse response;
    response.model = request.model;
    response.version = "1";
    response.id = request.id;
    response.outputs.push_back({"OUT", request.inputs[0].tensor});
    response.memory = std::move(request.keepalive);
    callback(std::move(response));
  }

  std::atomic<bool> held_{false};
  std::atomic<bool> ready_{true};
  std::atomic<int> cancelled_{0};
  std::atomic<int> submitted_{0};
  mutable std::mutex mutex_;
  std::vector<Waiting> waiting_;
  std::vector<infer::PredictionCallback> predictions_;
  std::string last_id_;
};

}  // namespace selvage::serve
