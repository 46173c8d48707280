#include "cli/retrain.h"

#include <span>
#include <system_error>

#include <CLI/CLI.hpp>

#include "cli/interrupt.h"
#include "cli/options.h"
#include "cli/scratch_folder.h"
#include "cli/teaching.h"
#include "cli/text.h"
#include "cli/train_options.h"
#include "cli/training_run.h"
#include "compress/open_weights.h"
#include "learn/importance.h"

namespace selvage::cli {
namespace {

namespace fs = std::filesystem;

TrainFlags train_flags(const RetrainTask& task, const RetrainFlags& flags) {
  TrainFlags train;
  train.model = task.original.string();
  train.out = task.out;
  train.data = task.data;
  train.epochs = flags.epochs;
  train.batch = flags.batch;
  train.optimizer = "sgd";
  train.rate = flags.rate;
  train.augment = flags.augment;
  train.threads = task.threads;
  train.restart = flags.restart;
  return train;
}

/// The changed model as the runtime and the trainer see it, with the card of the original.
Result<TrainingInputs> open_changed(infer::Runtime& runtime, const graph::Model& changed,
                                    const RetrainTask& task, std::span<const std::string> outs) {
  TrainingInputs inputs;
  inputs.path = task.original.string();
  inputs.model = changed.copy();
  SELVAGE_TRY(const auto scratch, ScratchFolder::create());
  const auto file = scratch.path() / "model.onnx";
  SELVAGE_RETURN_IF_ERROR(inputs.model.save(file));
  SELVAGE_TRY(
      inputs.loaded,
      infer::Model::load(runtime, file, {.session = {.threads = 1}, .card_beside = task.original}));
  SELVAGE_TRY(inputs.data, task.data.open(*inputs.loaded, infer::Part::kTrain, outs));
  return inputs;
}

}  // namespace

void add_retrain_options(CLI::App& app, RetrainFlags& flags, const char* switch_name,
                         const char* help) {
  constexpr auto kGroup = "Training";
  auto* on = app.add_flag(switch_name, flags.wanted, help)->needs("--data")->group(kGroup);
  const auto add = [&](const char* name, auto& value, const std::string& text, const char* type) {
    return app.add_option(name, value, text)->type_name(type)->needs(on)->group(kGroup);
  };
  add("--epochs", flags.epochs, "Times that every sample is seen (5)", "N")
      ->check(in_range(1, 1e6));
  add("--batch", flags.batch, "Samples a step (64)", "N")->check(in_range(1, 65'536));
  const auto rate_help =
      "Learning rate of SGD with momentum, falling as a cosine (" + significant(flags.rate) + ")";
  add("--lr", flags.rate, rate_help, "RATE")->check(in_range(1e-12, 1e3));
  add("--augment", flags.augment, "Random changes to the samples, as `selvage train` takes them",
      "LIST");
  add("--alpha", flags.alpha,
      "How much is learnt from what the original model answers, and not from the labels (0.5)",
      "PART")
      ->check(in_range(0, 1));
  add("--temperature", flags.temperature, "How soft its answers are made (3)", "T")
      ->check(in_range(0.01, 1000));
  app.add_flag("--restart", flags.restart, "Forget the checkpoint of an unfinished run")
      ->needs(on)
      ->group(kGroup);
}

Result<learn::TrainResult> retrain(infer::Runtime& runtime, const graph::Model& changed,
                                   const RetrainTask& task, const RetrainFlags& flags,
                                   Output& output) {
  const auto train = train_flags(task, flags);
  SELVAGE_TRY(const auto options, train.to_options());
  SELVAGE_TRY(const auto inputs, open_changed(runtime, changed, task, train.outs()));
  learn::Distillation distillation;
  learn::TeacherOutputs teacher;
  const bool has_classes = inputs.data->target_kind() == infer::TargetKind::kClass;
  if (flags.alpha > 0 && has_classes) {
    const std::string teachers[] = {task.original.string()};
    SELVAGE_TRY(teacher, ask_teachers(runtime, teachers, {task.data, *inputs.data, options.threads},
                                      output));
    // One output for two classes has no softmax to follow.
    if (teacher.width > 1)
      distillation = {.teacher = &teacher,
                      .temperature = static_cast<float>(flags.temperature),
                      .weight = static_cast<float>(flags.alpha)};
  }
  return run_training(runtime, train, inputs, options, distillation, "training " + task.out,
                      output);
}

Result<learn::TrainResult> retrain_quantized(infer::Runtime& runtime, graph::Model& quantized,
                                             const graph::Model& floats, const RetrainTask& task,
                                             const RetrainFlags& flags, Output& output) {
  auto open = quantized.copy();
  SELVAGE_RETURN_IF_ERROR(compress::open_weights(open, floats));
  SELVAGE_TRY(auto result, retrain(runtime, open, task, flags, output));
  SELVAGE_RETURN_IF_ERROR(compress::close_weights(result.model));
  quantized = std::move(result.model);
  return result;
}

Result<decltype(compress::ChannelOptions::scores)> taylor_scores(infer::Runtime& runtime,
                                                                 const fs::path& path,
                                                                 const infer::ModelOptions& options,
                                                                 const graph::Model& model,
                                                                 const DataFlags& data) {
  if (data.path.empty())
    return fail(ErrorCode::kInvalidArgument,
                "--importance taylor ranks by gradients on samples: name them with --data");
  SELVAGE_TRY(const auto loaded, infer::Model::load(runtime, path, options));
  SELVAGE_TRY(const auto samples, data.open(*loaded, infer::Part::kTrain));
  SELVAGE_TRY(auto scores,
              learn::taylor_importance(
                  runtime, *loaded, model, *samples,
                  {.threads = options.overrides.threads.value_or(1), .stop = &interrupted}));
  return [scores = std::make_shared<decltype(scores)>(std::move(scores))](
             std::string_view name) -> std::optional<std::vector<float>> {
    const auto found = scores->find(std::string(name));
    if (found == scores->end()) return std::nullopt;
    return found->second;
  };
}

void remove_checkpoint(const std::string& out) {
  std::error_code ignored;
  fs::remove(TrainFlags{.out = out}.checkpoint_path(), ignored);
}

}  // namespace selvage::cli
