// `selvage distill`: a small model learns from larger ones.
#include <CLI/CLI.hpp>

#include "cli/command.h"
#include "cli/interrupt.h"
#include "cli/model_change.h"
#include "cli/options.h"
#include "cli/progress.h"
#include "cli/training_run.h"
#include "compress/evaluate.h"
#include "infer/cache.h"

namespace selvage::cli {
namespace {

struct DistillFlags {
  TrainFlags train;
  std::vector<std::string> teachers;
  double temperature = 3;
  double alpha = 0.7;
  bool control = false;
};

/// One teacher's logits for the training data, seen through its own card.
Result<learn::TeacherOutputs> ask_teacher(const DistillFlags& flags, infer::Runtime& runtime,
                                          const std::string& path, std::size_t samples,
                                          Output& output) {
  SELVAGE_TRY(const auto options, flags.train.to_options());
  SELVAGE_TRY(const auto teacher,
              infer::Model::load(runtime, path, {.session = {.threads = options.threads}}));
  SELVAGE_TRY(const auto data, flags.train.data.open(*teacher, infer::Part::kTrain));
  if (data->size() != samples)
    return fail(ErrorCode::kInvalidArgument,
                "teacher '" + path + "' finds " + std::to_string(data->size()) +
                    " samples in the data, the student " + std::to_string(samples));
  Progress progress(output, "asking " + path, samples);
  auto found = compress::collect_outputs(
      *teacher, *data, {.batch = 64, .samples = {}, .progress = [&](std::size_t done) {
                          progress.set(done);
                          return !interrupted();
                        }});
  if (!found) return std::unexpected(std::move(found).error().with_context(path));
  learn::TeacherOutputs outputs{.width = found->width, .values = std::move(found->values)};
  learn::to_logits(outputs);
  return outputs;
}

/// The teachers' mean, from the cache where they have been asked before.
Result<learn::TeacherOutputs> teach(const DistillFlags& flags, const TrainingInputs& inputs,
                                    Output& output) {
  crypto::Sha256 sha;
  sha.update(inputs.data->fingerprint().bytes());
  for (const auto& teacher : flags.teachers) {
    SELVAGE_TRY(const auto path, model_path(teacher));
    SELVAGE_TRY(const auto digest, crypto::sha256_file(path));
    sha.update(digest.bytes());
  }
  const auto key = sha.finish();
  const auto folder = infer::default_cache_folder();
  const auto cached = folder / ("teacher-" + key.hex().substr(0, 32));
  if (!folder.empty())
    if (auto known = learn::load_teacher(key, cached)) return *std::move(known);

  std::vector<learn::TeacherOutputs> all;
  for (const auto& teacher : flags.teachers) {
    SELVAGE_TRY(auto outputs,
                ask_teacher(flags, *inputs.runtime, teacher, inputs.data->size(), output));
    all.push_back(std::move(outputs));
  }
  SELVAGE_TRY(auto mean, learn::mean_of(all));
  if (folder.empty()) return mean;
  std::error_code ignored;
  std::filesystem::create_directories(folder, ignored);
  if (const auto saved = learn::save_teacher(mean, key, cached); !saved)
    output.note("the teachers' answers were not kept: " + saved.error().message);
  return mean;
}

/// The same training without a teacher: its model is thrown away.
Result<learn::TrainResult> train_control(const DistillFlags& flags, TrainingInputs& inputs,
                                         learn::TrainOptions options, Output& output) {
  options.checkpoint += ".control";
  if (!output.json()) output.print("\nthe student alone\n");
  SELVAGE_TRY(auto result, run_training(flags.train, inputs, options, {},
                                        "training " + flags.train.model + " alone", output));
  std::error_code ignored;
  std::filesystem::remove(options.checkpoint, ignored);
  return result;
}

Result<void> distill(const DistillFlags& flags, Output& output) {
  SELVAGE_TRY(const auto options, flags.train.to_options());
  SELVAGE_TRY(auto inputs, TrainingInputs::open(flags.train));
  SELVAGE_TRY(const auto teacher, teach(flags, inputs, output));
  const learn::Distillation distillation{.teacher = &teacher,
                                         .temperature = static_cast<float>(flags.temperature),
                                         .weight = static_cast<float>(flags.alpha)};
  const auto title = "distilling into " + flags.train.model;
  SELVAGE_TRY(auto result, run_training(flags.train, inputs, options, distillation, title, output));
  std::optional<learn::TrainResult> control;
  if (flags.control) {
    SELVAGE_TRY(control, train_control(flags, inputs, options, output));
  }
  SELVAGE_RETURN_IF_ERROR(save_training(flags.train, inputs.path, result, title, output));
  if (!output.json()) {
    output.print("\n" + flags.train.out + " is " + summary_text(result) + "\n");
    if (control) output.print("the student alone comes to " + summary_text(*control) + "\n");
    return {};
  }
  JsonWriter json;
  json.begin_object().field("model", flags.train.model).field("out", flags.train.out);
  json.list("teachers", flags.teachers).field("temperature", flags.temperature);
  json.field("alpha", flags.alpha);
  write_json(result, json);
  if (control) {
    json.key("control").begin_object();
    write_json(*control, json);
    json.end_object();
  }
  output.print(json.end_object().text() + "\n");
  return {};
}

Action add(CLI::App& app) {
  auto flags = std::make_shared<DistillFlags>();
  app.add_option("STUDENT", flags->train.model, "The model that learns")->required();
  add_train_options(app, flags->train);
  constexpr auto kGroup = "Teacher";
  app.add_option("--teacher", flags->teachers,
                 "A model that knows, quantised or not, with a card of its own; repeated, the mean "
                 "of all is taught")
      ->required()
      ->type_name("MODEL")
      ->allow_extra_args(false)
      ->group(kGroup);
  app.add_option("--temperature", flags->temperature,
                 "How soft the teacher's answers are made (3): 1 to 10 is usual")
      ->type_name("T")
      ->check(in_range(0.01, 1000))
      ->group(kGroup);
  app.add_option("--alpha", flags->alpha,
                 "The teacher's part of the loss (0.7), the labels' is the rest")
      ->type_name("PART")
      ->check(in_range(0, 1))
      ->group(kGroup);
  app.add_flag("--control", flags->control, "Train the student alone too, and show both")
      ->group(kGroup);
  return [flags](Output& output) { return distill(*flags, output); };
}

constexpr Command kCommand{
    .name = "distill",
    .summary = "Train a small model to answer as larger ones do",
    .description =
        "The loss is alpha * KL(softmax(teacher / T) || softmax(student / T)) * T^2 + (1 - alpha) "
        "* "
        "cross-entropy, the batch's mean. The teachers are asked once about every sample, as the "
        "data hold it; their answers are kept in the cache and serve under augmentation too.",
    .examples =
        "selvage distill lenet5.onnx small.onnx --teacher resnet20.onnx --data fashion-mnist/\n"
        "selvage distill student.onnx out.onnx --teacher a.onnx --teacher b.onnx --data photos/ "
        "--temperature 4 --alpha 0.9 --control",
    .add = add};

}  // namespace

const Command& distill_command() {
  return kCommand;
}

}  // namespace selvage::cli
