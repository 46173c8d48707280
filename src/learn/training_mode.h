// The forward graph as training wants it. Internal to src/learn.
#pragma once

#include <string>
#include <unordered_set>
#include <vector>

#include "base/result.h"
#include "learn/expression.h"
#include "learn/prepare.h"
#include "learn/training_graph.h"

namespace selvage::learn {

/// A running statistic and what its BatchNormalization found in the batch.
struct RunningStatistic {
  std::string name;       ///< Of the initialiser.
  std::string of_batch;   ///< A value of the graph.
  double momentum = 0.9;  ///< Of the old value.
  double correction = 1;  ///< What the batch's value is multiplied by.
};

struct TrainingMode {
  std::vector<RunningStatistic> statistics;
  std::vector<DropoutMask> masks;  ///< The inputs are not declared yet.
};

/// BatchNormalizations whose scale is in `trained` normalise by the batch and give its statistics;
/// Dropout multiplies by a mask that comes from outside; MaxPool goes before Relu, which gives the
/// same at a quarter of the work. Edits `prepared`.
[[nodiscard]] Result<TrainingMode> enter_training_mode(
    PreparedModel& prepared, const std::unordered_set<std::string>& trained);

}  // namespace selvage::learn
