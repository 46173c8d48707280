// Loss and accuracy of parameters in the making. Internal to src/learn.
#pragma once

#include <cstddef>
#include <memory>
#include <optional>
#include <span>
#include <vector>

#include "base/result.h"
#include "infer/dataset.h"
#include "infer/runtime.h"
#include "learn/objective.h"
#include "learn/training_graph.h"

namespace selvage::learn {

struct ValidationResult {
  double loss = 0;
  std::optional<double> accuracy;  ///< Where the labels are classes.
};

/// Every sample counts once, whatever the batch. Confined to one thread; what create() was given
/// must outlive it.
class Validator {
 public:
  [[nodiscard]] static Result<std::unique_ptr<Validator>> create(
      infer::Runtime& runtime, const graph::Model& model, const TrainingGraphOptions& options,
      const Objective& objective, const infer::Dataset& data, std::vector<std::size_t> samples,
      int threads);
  ~Validator();
  /// kCancelled when `stop` says so.
  [[nodiscard]] Result<ValidationResult> run(std::span<const NamedTensor> parameters,
                                             const std::function<bool()>& stop);

 private:
  struct State;
  explicit Validator(std::unique_ptr<State> state);
  std::unique_ptr<State> state_;
};

}  // namespace selvage::learn
