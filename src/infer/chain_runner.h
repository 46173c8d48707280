// Serves a chain of models on one picture (ensemble.h): what an ensemble.yaml in a repository
// describes. Internal to the serving core.
#pragma once

#include <memory>
#include <mutex>
#include <string>
#include <vector>

#include "infer/ensemble.h"
#include "infer/scheduler.h"

namespace selvage::infer {

/// Things that are made when they are wanted and none is idle. Synchronised.
template <typename T>
class IdlePool {
 public:
  explicit IdlePool(std::size_t idle_max) : idle_max_(idle_max) {}
  /// Null when none is idle.
  [[nodiscard]] std::unique_ptr<T> take() {
    const std::scoped_lock lock(mutex_);
    if (idle_.empty()) return nullptr;
    auto taken = std::move(idle_.back());
    idle_.pop_back();
    return taken;
  }
  void give_back(std::unique_ptr<T> returned) {
    const std::scoped_lock lock(mutex_);
    if (idle_.size() < idle_max_) idle_.push_back(std::move(returned));
  }

 private:
  const std::size_t idle_max_;
  std::mutex mutex_;
  std::vector<std::unique_ptr<T>> idle_;
};

/// Answers and counts a prediction that began at `began` and has ended now. `name` and `version`
/// are what the response carries.
void answer_prediction(Scheduler& scheduler, const Batch& batch, PredictJob& job, SteadyTime began,
                       const std::string& name, const std::string& version,
                       Result<Prediction> prediction);

/// Immutable but for its pool, which is synchronised. Takes PredictJobs with pictures only.
class ChainRunner final : public Runner {
 public:
  /// At most `idle_max` sets of buffers are kept.
  ChainRunner(std::shared_ptr<const Ensemble> chain, std::string name, std::string version,
              std::size_t idle_max);
  void run(Scheduler& scheduler, Batch& batch) override;

 private:
  [[nodiscard]] Result<Prediction> predict(const Input& input);

  const std::shared_ptr<const Ensemble> chain_;  // Outlives the predictors.
  const std::string name_, version_;
  IdlePool<EnsemblePredictor> predictors_;
};

}  // namespace selvage::infer
