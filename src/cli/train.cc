// `selvage train`: a better model out of a model and data.
#include <CLI/CLI.hpp>

#include "cli/command.h"
#include "cli/training_run.h"

namespace selvage::cli {
namespace {

Result<void> train(const TrainFlags& flags, Output& output) {
  SELVAGE_TRY(const auto options, flags.to_options());
  SELVAGE_TRY(const auto runtime, training_runtime(flags));
  SELVAGE_TRY(const auto inputs, TrainingInputs::open(*runtime, flags));
  const auto title = "training " + flags.model;
  SELVAGE_TRY(auto result, run_training(*runtime, flags, inputs, options, {}, title, output));
  SELVAGE_RETURN_IF_ERROR(save_training(flags, inputs.path, result, title, output));
  if (!output.json()) {
    output.print("\n" + flags.out + " is " + summary_text(result) + "\n");
    return {};
  }
  JsonWriter json;
  json.begin_object().field("model", flags.model).field("out", flags.out);
  write_json(result, json);
  output.print(json.end_object().text() + "\n");
  return {};
}

Action add(CLI::App& app) {
  auto flags = std::make_shared<TrainFlags>();
  app.add_option("MODEL", flags->model, "A model.onnx, or the folder that holds it")->required();
  add_train_options(app, *flags);
  return [flags](Output& output) { return train(*flags, output); };
}

constexpr Command kCommand{
    .name = "train",
    .summary = "Train a model, or fine-tune it, on data",
    .description =
        "Takes any ONNX model whose operators have gradients and gives back the same model with "
        "better parameters: those of the epoch that did best on data it was not trained on. "
        "A checkpoint beside OUT survives crashes and Ctrl-C: the same command goes on from there "
        "and ends with the very bytes that an undisturbed run gives. `selvage new` makes a model "
        "to begin with.",
    .examples =
        "selvage new lenet5 start.onnx --input 1x28x28 --classes 10\n"
        "selvage train start.onnx model.onnx --data fashion-mnist/ --epochs 10\n"
        "selvage train model.onnx tuned.onnx --data photos/ --freeze 'layer1*' --lr 1e-4\n"
        "selvage train start.onnx model.onnx --data photos/ --augment flip,shift=2 "
        "--curve curve",
    .add = add};

}  // namespace

const Command& train_command() {
  return kCommand;
}

}  // namespace selvage::cli
