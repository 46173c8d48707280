// `selvage distill`: a small model learns from larger ones.
#include <CLI/CLI.hpp>

#include "cli/command.h"
#include "cli/model_change.h"
#include "cli/options.h"
#include "cli/teaching.h"
#include "cli/training_run.h"

namespace selvage::cli {
namespace {

struct DistillFlags {
  TrainFlags train;
  std::vector<std::string> teachers;
  double temperature = 3;
  double alpha = 0.7;
  std::vector<std::string> features;
  double feature_weight = 3000;
  bool control = false;
};

/// "STUDENT=TEACHER", two values: the last '=' of a name that has some divides them.
Result<std::pair<std::string, std::string>> parse_feature(const std::string& word) {
  const auto equals = word.rfind('=');
  if (equals == std::string::npos || equals == 0 || equals + 1 == word.size())
    return fail(ErrorCode::kInvalidArgument,
                "--feature " + word + ": write STUDENT=TEACHER, a value of each");
  return std::pair(word.substr(0, equals), word.substr(equals + 1));
}

/// What the first teacher's values are that the student's are to follow.
Result<std::vector<std::pair<std::string, learn::TeacherOutputs>>> ask_for_features(
    infer::Runtime& runtime, const DistillFlags& flags, const Lesson& lesson, Output& output) {
  std::vector<std::pair<std::string, learn::TeacherOutputs>> features;
  for (const auto& word : flags.features) {
    SELVAGE_TRY(const auto names, parse_feature(word));
    SELVAGE_TRY(auto values,
                ask_for_value(runtime, flags.teachers.front(), names.second, lesson, output));
    features.emplace_back(names.first, std::move(values));
  }
  return features;
}

/// The same training without a teacher: its model is thrown away.
Result<learn::TrainResult> train_control(infer::Runtime& runtime, const DistillFlags& flags,
                                         const TrainingInputs& inputs, learn::TrainOptions options,
                                         Output& output) {
  options.checkpoint += ".control";
  if (!output.json()) output.print("\nthe student alone\n");
  SELVAGE_TRY(auto result, run_training(runtime, flags.train, inputs, options, {},
                                        "training " + flags.train.model + " alone", output));
  std::error_code ignored;
  std::filesystem::remove(options.checkpoint, ignored);
  return result;
}

Result<void> distill(const DistillFlags& flags, Output& output) {
  SELVAGE_TRY(const auto options, flags.train.to_options());
  SELVAGE_TRY(const auto runtime, training_runtime(flags.train));
  SELVAGE_TRY(const auto inputs, TrainingInputs::open(*runtime, flags.train));
  for (const auto& teacher : flags.teachers) {
    SELVAGE_TRY(const auto path, model_path(teacher));
    SELVAGE_RETURN_IF_ERROR(check_output_path(inputs.path, flags.train.out, {path}));
  }
  const Lesson lesson{flags.train.data, *inputs.data, options.threads};
  SELVAGE_TRY(const auto teacher, ask_teachers(*runtime, flags.teachers, lesson, output));
  SELVAGE_TRY(const auto features, ask_for_features(*runtime, flags, lesson, output));
  learn::Distillation distillation{.teacher = &teacher,
                                   .temperature = static_cast<float>(flags.temperature),
                                   .weight = static_cast<float>(flags.alpha)};
  for (const auto& [student, values] : features)
    distillation.features.push_back({student, &values, static_cast<float>(flags.feature_weight)});
  const auto title = "distilling into " + flags.train.model;
  SELVAGE_TRY(auto result,
              run_training(*runtime, flags.train, inputs, options, distillation, title, output));
  std::optional<learn::TrainResult> control;
  if (flags.control) {
    SELVAGE_TRY(control, train_control(*runtime, flags, inputs, options, output));
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
  json.field("alpha", flags.alpha).list("features", flags.features);
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
  app.add_option("--feature", flags->features,
                 "A value of the student that is to tell samples apart as a value of the first "
                 "teacher does, whatever their shapes (similarity-preserving: Tung and Mori 2019); "
                 "may be repeated")
      ->type_name("STUDENT=TEACHER")
      ->allow_extra_args(false)
      ->group(kGroup);
  app.add_option("--feature-weight", flags->feature_weight, "Of each such pair in the loss (3000)")
      ->needs("--feature")
      ->type_name("W")
      ->check(in_range(0, 1e9))
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
        "--temperature 4 --alpha 0.9 --control\n"
        "selvage distill student.onnx out.onnx --teacher t.onnx --data photos/ "
        "--feature /fc2/Gemm_output_0=/avgpool/GlobalAveragePool_output_0",
    .add = add};

}  // namespace

const Command& distill_command() {
  return kCommand;
}

}  // namespace selvage::cli
