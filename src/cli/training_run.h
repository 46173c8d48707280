// A training run as a command carries it out: with a bar, a table of epochs, a curve, and a
// checkpoint that the same command goes on from.
#pragma once

#include <memory>
#include <string>

#include "base/json_writer.h"
#include "base/result.h"
#include "cli/output.h"
#include "cli/train_options.h"
#include "graph/model.h"
#include "infer/dataset.h"
#include "infer/model.h"
#include "infer/runtime.h"
#include "learn/trainer.h"

namespace selvage::cli {

/// What a run needs, opened and checked.
struct TrainingInputs {
  std::string path;  ///< Of the model.
  std::unique_ptr<infer::Model> loaded;
  graph::Model model;
  std::unique_ptr<infer::Dataset> data, validation;

  [[nodiscard]] static Result<TrainingInputs> open(infer::Runtime& runtime,
                                                   const TrainFlags& flags);
};

/// The runtime for a run of these options, made before any thread is.
[[nodiscard]] Result<std::unique_ptr<infer::Runtime>> training_runtime(const TrainFlags& flags);

/// Trains; prints a line an epoch unless --json. `title` stands above the curve.
[[nodiscard]] Result<learn::TrainResult> run_training(infer::Runtime& runtime,
                                                      const TrainFlags& flags,
                                                      const TrainingInputs& inputs,
                                                      const learn::TrainOptions& options,
                                                      const learn::Distillation& distillation,
                                                      const std::string& title, Output& output);
/// Writes the model, its card and the curve, and forgets the checkpoint.
[[nodiscard]] Result<void> save_training(const TrainFlags& flags, const std::string& model_path,
                                         learn::TrainResult& result, const std::string& title,
                                         Output& output);

/// One sentence on how it went.
[[nodiscard]] std::string summary_text(const learn::TrainResult& result);
/// The fields of a result into an open object.
void write_json(const learn::TrainResult& result, JsonWriter& json);

}  // namespace selvage::cli
