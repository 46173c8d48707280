// The training loop: from a model and a data set to a better model, through checkpoints that
// survive kill -9.
//
//   auto trained = train(*runtime, *loaded, model, {*data, nullptr}, {.epochs = 10});
//   SELVAGE_RETURN_IF_ERROR(trained->model.save("out.onnx"));
//
// Equal model, data, options, thread count and runtime give equal bytes, whether or not the run was
// interrupted and went on from its checkpoint.
#pragma once

#include <cstdint>
#include <filesystem>
#include <functional>
#include <string>
#include <vector>

#include "base/result.h"
#include "graph/model.h"
#include "infer/dataset.h"
#include "infer/model.h"
#include "infer/runtime.h"
#include "learn/augment.h"
#include "learn/batch_loader.h"
#include "learn/checkpoint.h"
#include "learn/optimizer.h"
#include "learn/schedule.h"
#include "learn/training_graph.h"

namespace selvage::learn {

struct TrainOptions {
  std::uint64_t epochs = 10;
  std::size_t batch = 64;  ///< Fewer where the data set has fewer.
  double learning_rate = 1e-3;
  OptimizerOptions optimizer{.kind = OptimizerKind::kAdamW};
  ScheduleOptions schedule;
  AugmentOptions augment;
  std::string loss = "auto";  ///< As choose_objective() takes it.
  float label_smoothing = 0;
  std::vector<std::string> train, freeze;  ///< Patterns of parameter names.
  bool freeze_statistics = false;
  LoraOptions lora;
  std::int64_t accumulate = 1;
  /// The part of the training data that validates where there is no data set for it; 0 = none, and
  /// then the last epoch is the best.
  double validation_fraction = 0.1;
  std::uint64_t patience = 0;  ///< Epochs without improvement after which it stops; 0 = never.
  std::uint64_t seed = 0;
  int threads = 1;
  /// What a run may take beside program, model and data; 0 = whatever it needs.
  std::uint64_t memory_bytes_max = 0;
  std::filesystem::path checkpoint;  ///< Empty = none.
  double checkpoint_seconds = 30;    ///< Between checkpoints within an epoch; 0 = each step.
};

/// A value inside the student that is to tell samples apart as one inside a teacher does
/// (LossKind::kSimilarity).
struct FeatureMatch {
  std::string student;  ///< A value of the model.
  const TeacherOutputs* teacher = nullptr;
  float weight = 3000;
};

/// A teacher's part of the loss: weight * KL * T^2, and 1 - weight of the objective's, which is
/// cross-entropy unless the weight is 0; features are added to that.
struct Distillation {
  const TeacherOutputs* teacher = nullptr;
  float temperature = 3;
  float weight = 0.7f;
  std::vector<FeatureMatch> features = {};
};

struct TrainData {
  const infer::Dataset& train;
  const infer::Dataset* validation = nullptr;
  Distillation distillation = {};
};

/// Where a run is, for somebody who watches.
struct TrainProgress {
  std::uint64_t epoch = 0, epochs = 0;  ///< From 1.
  std::uint64_t step = 0, steps = 0;    ///< Of all epochs, those before an interruption included.
  double loss = 0;                      ///< The mean of this epoch's steps so far.
  std::optional<double> accuracy;
  double samples_per_second = 0;
};

/// Called on the thread that trains; any may be empty.
struct TrainEvents {
  std::function<void(const TrainProgress&)> step;
  std::function<void(const EpochRecord&)> epoch;
  /// Something that the run goes on without: a checkpoint that could not be written.
  std::function<void(const std::string&)> warning;
  /// True: the run ends with kCancelled once its checkpoint is written.
  std::function<bool()> stop;
};

struct TrainResult {
  graph::Model model;  ///< With the best epoch's parameters.
  std::vector<EpochRecord> history;
  std::uint64_t best_epoch = 0;
  bool stopped_early = false;
  std::uint64_t resumed_step = 0;  ///< Steps that were done before this run went on; 0 = none.
  std::size_t train_samples = 0, validation_samples = 0;
  std::vector<std::string> trained;  ///< Names of the parameters that changed.
};

/// `loaded` is `model` in the runtime: what its inputs and outputs are. With a checkpoint of the
/// same settings the run goes on where that stands. The checkpoint stays after the end: who has
/// saved the model removes it.
///
/// kResourceExhausted: a step does not fit TrainOptions::memory_bytes_max; the message says what
/// would. kInvalidArgument: data, model and options do not fit each other. kFailedPrecondition: the
/// data changed meanwhile, the checkpoint is of another run, or the loss stopped being a number;
/// then the message names the first value that is none and the node that makes it, and the
/// checkpoint holds the last good state. kCancelled: TrainEvents::stop.
[[nodiscard]] Result<TrainResult> train(infer::Runtime& runtime, const infer::Model& loaded,
                                        const graph::Model& model, const TrainData& data,
                                        const TrainOptions& options,
                                        const TrainEvents& events = {});

}  // namespace selvage::learn
