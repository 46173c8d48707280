#include "cli/training_run.h"

#include <algorithm>
#include <filesystem>
#include <ostream>

#include "base/file.h"
#include "cli/interrupt.h"
#include "cli/model_change.h"
#include "cli/progress.h"
#include "cli/training_curve.h"
#include "graph/check.h"
#include "infer/model_card.h"
#include "monitor/process.h"

namespace selvage::cli {
namespace {

namespace fs = std::filesystem;

constexpr std::string_view kClearLine = "\r\033[K";  // Of the bar, before a line of ours.

std::string percent(double part) {
  return fixed(100 * part, 2) + " %";
}

/// What the epochs' lines show, in columns of fixed width: they appear one by one.
std::string epoch_line(const learn::EpochRecord& record, std::uint64_t epochs) {
  const auto padded = [](const std::string& text, std::size_t width) {
    return text.size() < width ? std::string(width - text.size(), ' ') + text : text;
  };
  const auto digits = std::to_string(epochs).size();
  std::string line = "  epoch " + padded(std::to_string(record.epoch), digits) + "/" +
                     std::to_string(epochs) + "  loss " + padded(significant(record.train_loss), 8);
  if (record.train_accuracy) line += "  accuracy " + padded(percent(*record.train_accuracy), 8);
  if (record.validation_loss)
    line += "  |  validation loss " + padded(significant(*record.validation_loss), 8);
  if (record.validation_accuracy)
    line += "  accuracy " + padded(percent(*record.validation_accuracy), 8);
  return line + "  " + padded(format_rate(record.samples_per_second), 6) + " samples/s\n";
}

std::string status_of(const learn::TrainProgress& progress) {
  std::string status =
      "epoch " + std::to_string(progress.epoch) + ", loss " + significant(progress.loss);
  if (progress.accuracy) status += ", accuracy " + percent(*progress.accuracy);
  return status + ", " + format_rate(progress.samples_per_second) + " samples/s";
}

/// The card belongs to the file: without it, the trained model would see other numbers than the one
/// that was trained. A card that already lies there stays. A remark where it cannot come along.
Result<std::string> copy_card(const fs::path& model, const fs::path& out) {
  auto from = fs::path(model).replace_extension(".yaml");
  std::error_code error;
  if (!fs::exists(from, error)) from = model.parent_path() / "model.yaml";
  const auto to = fs::path(out).replace_extension(".yaml");
  if (!fs::exists(from, error) || fs::exists(to, error)) return std::string();
  SELVAGE_TRY(const auto text, read_text(from, infer::kCardBytesMax));
  SELVAGE_RETURN_IF_ERROR(write_atomically(to, text));
  // It may name files beside it, which do not lie here.
  const auto loaded = infer::load_model_card(out);
  if (loaded) return std::string();
  fs::remove(to, error);
  return "the model card was not copied to '" + to.string() + "': " + loaded.error().message;
}

/// What of the process's limit is left to a step, now that model and data are open.
Result<learn::TrainOptions> within_memory(learn::TrainOptions options, std::uint64_t limit) {
  if (limit == 0) return options;
  SELVAGE_TRY(const auto use, monitor::process_use());
  // Loading the step's graph and the validation's, and the threads' own memory.
  constexpr std::uint64_t kBeside = 16'000'000;
  const auto taken = use.resident_bytes + kBeside;
  if (taken >= limit)
    return fail(ErrorCode::kResourceExhausted, "--memory " + format_bytes(limit) +
                                                   ": the program, the model and the data take " +
                                                   format_bytes(taken) + " before the first step");
  options.memory_bytes_max = limit - taken;
  return options;
}

/// What is written after hours has a place.
Result<void> check_places(const TrainFlags& flags) {
  const auto checkpoint = flags.checkpoint_path();
  std::error_code ignored;
  if (fs::is_directory(checkpoint, ignored))
    return fail(ErrorCode::kInvalidArgument,
                "'" + checkpoint + "', where the checkpoint goes, is a folder: name another OUT");
  const auto folder = fs::path(flags.curve).parent_path();
  if (!folder.empty() && !fs::is_directory(folder, ignored))
    return fail(ErrorCode::kNotFound,
                "--curve: no folder '" + folder.string() + "' to draw '" + flags.curve + "' into");
  return {};
}

}  // namespace

Result<std::unique_ptr<infer::Runtime>> training_runtime(const TrainFlags& flags) {
  if (flags.low_priority) take_low_priority();
  return infer::Runtime::create();
}

Result<TrainingInputs> TrainingInputs::open(infer::Runtime& runtime, const TrainFlags& flags) {
  TrainingInputs inputs;
  SELVAGE_TRY(const auto path, model_path(flags.model));
  SELVAGE_RETURN_IF_ERROR(check_output_path(path, flags.out));
  SELVAGE_RETURN_IF_ERROR(check_places(flags));
  inputs.path = path.string();
  SELVAGE_TRY(inputs.loaded, infer::Model::load(runtime, path, {.session = {.threads = 1}}));
  SELVAGE_TRY(inputs.model, graph::Model::load(path));
  if (auto checked = graph::check(inputs.model); !checked)
    return std::unexpected(std::move(checked).error().with_context(path.string()));
  const auto outs = flags.outs();
  SELVAGE_TRY(inputs.data, flags.data.open(*inputs.loaded, infer::Part::kTrain, outs));
  if (!flags.validation.empty()) {
    const DataFlags validation{flags.validation, flags.data.label, "--validation"};
    SELVAGE_TRY(inputs.validation, validation.open(*inputs.loaded, infer::Part::kTest, outs));
  }
  return inputs;
}

Result<learn::TrainResult> run_training(infer::Runtime& runtime, const TrainFlags& flags,
                                        const TrainingInputs& inputs,
                                        const learn::TrainOptions& options,
                                        const learn::Distillation& distillation,
                                        const std::string& title, Output& output) {
  std::error_code ignored;
  if (flags.restart) fs::remove(options.checkpoint, ignored);
  // The bar is per mille of the run: its steps are known once the first one is done.
  constexpr std::uint64_t kBarSteps = 1'000;
  std::optional<Progress> bar(std::in_place, output, title, kBarSteps);
  learn::TrainEvents events;
  events.step = [&](const learn::TrainProgress& progress) {
    bar->set(progress.step * kBarSteps / std::max<std::uint64_t>(1, progress.steps));
    if (output.progress()) bar->set_status(status_of(progress));
  };
  events.epoch = [&](const learn::EpochRecord& record) {
    if (output.json()) return;
    if (output.progress()) output.error_stream() << kClearLine << std::flush;
    output.print(epoch_line(record, options.epochs));
  };
  events.warning = [&](const std::string& text) { output.note(text); };
  events.stop = [stopping = false]() mutable {
    if (!stopping && interrupted()) {
      stopping = true;
      take_time_to_end();  // The checkpoint is still to be written.
    }
    return stopping;
  };
  SELVAGE_TRY(const auto limited, within_memory(options, flags.memory));
  auto result =
      learn::train(runtime, *inputs.loaded, inputs.model,
                   {*inputs.data, inputs.validation.get(), distillation}, limited, events);
  bar.reset();
  if (!result && result.error().code == ErrorCode::kCancelled)
    return fail(ErrorCode::kCancelled, result.error().message +
                                           ": run the same command again to go on from '" +
                                           options.checkpoint.string() + "'");
  return result;
}

Result<void> save_training(const TrainFlags& flags, const std::string& model_path,
                           learn::TrainResult& result, const std::string& title, Output& output) {
  SELVAGE_RETURN_IF_ERROR(result.model.save(flags.out));
  SELVAGE_TRY(const auto remark, copy_card(model_path, flags.out));
  if (!remark.empty()) output.note(remark);
  if (!flags.curve.empty()) {
    SELVAGE_RETURN_IF_ERROR(
        write_atomically(flags.curve_path(".svg"), plot_training(title, result.history)));
    SELVAGE_RETURN_IF_ERROR(
        write_atomically(flags.curve_path(".csv"), training_csv(result.history)));
  }
  std::error_code ignored;
  fs::remove(flags.checkpoint_path(), ignored);
  return {};
}

std::string summary_text(const learn::TrainResult& result) {
  const auto best =
      std::ranges::find(result.history, result.best_epoch, &learn::EpochRecord::epoch);
  std::string text =
      "epoch " + std::to_string(result.best_epoch) + " of " + std::to_string(result.history.size());
  if (best != result.history.end()) {
    text += ", loss " + significant(best->validation_loss.value_or(best->train_loss));
    if (const auto accuracy =
            best->validation_accuracy ? best->validation_accuracy : best->train_accuracy)
      text += ", accuracy " + percent(*accuracy);
    if (best->validation_loss) text += " on the validation data";
  }
  return text + (result.stopped_early ? "; stopped early" : "");
}

void write_json(const learn::TrainResult& result, JsonWriter& json) {
  const auto optional = [&](const char* name, std::optional<double> value) {
    if (value) json.field(name, *value);
  };
  json.field("best_epoch", result.best_epoch).field("stopped_early", result.stopped_early);
  json.field("resumed_step", result.resumed_step);
  json.field("train_samples", result.train_samples);
  json.field("validation_samples", result.validation_samples);
  json.list("trained", result.trained);
  json.key("epochs").begin_array();
  for (const auto& record : result.history) {
    json.begin_object().field("epoch", record.epoch).field("learning_rate", record.learning_rate);
    json.field("train_loss", record.train_loss);
    optional("train_accuracy", record.train_accuracy);
    optional("validation_loss", record.validation_loss);
    optional("validation_accuracy", record.validation_accuracy);
    json.field("seconds", record.seconds).field("samples_per_second", record.samples_per_second);
    json.end_object();
  }
  json.end_array();
}

}  // namespace selvage::cli
