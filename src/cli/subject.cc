#include "cli/subject.h"

#include "base/system_error.h"

namespace selvage::cli {
namespace {

bool is_yaml(const std::filesystem::path& path) {
  return path.extension() == ".yaml" || path.extension() == ".yml";
}

bool names_ensemble(const std::filesystem::path& path) {
  std::error_code ignored;
  return is_yaml(path) || std::filesystem::exists(path / "ensemble.yaml", ignored);
}

}  // namespace

Result<void> check_model_path(const std::filesystem::path& path) {
  std::error_code error;
  const bool exists = std::filesystem::exists(path, error);
  if (error) return system_error("open", path, error.value());
  if (!exists)
    return fail(ErrorCode::kNotFound, "no model '" + path.string() +
                                          "': give a model.onnx, an ensemble.yaml, or a folder "
                                          "that holds one of them");
  if (const auto model = std::filesystem::path(path).replace_extension(".onnx");
      is_yaml(path) && std::filesystem::exists(model, error))
    return fail(
        ErrorCode::kInvalidArgument,
        "'" + path.string() + "' is the card of a model: name the model, '" + model.string() + "'");
  return {};
}

Result<Subject> Subject::load(infer::Runtime& runtime, const std::filesystem::path& path,
                              const infer::ModelOptions& options) {
  SELVAGE_RETURN_IF_ERROR(check_model_path(path));
  Subject subject;
  if (names_ensemble(path)) {
    SELVAGE_TRY(subject.ensemble_, infer::Ensemble::load(runtime, path, options));
  } else {
    SELVAGE_TRY(subject.model_, infer::Model::load(runtime, path, options));
  }
  return subject;
}

const std::string& Subject::name() const {
  return ensemble_ ? ensemble_->name() : model_->name();
}

const infer::Model& Subject::first_model() const {
  return ensemble_ ? *ensemble_->steps().front().model : *model_;
}

std::vector<Subject::Step> Subject::steps() const {
  if (!ensemble_) return {{"", model_.get()}};
  std::vector<Step> steps;
  for (const auto& step : ensemble_->steps()) steps.push_back({step.name, step.model.get()});
  return steps;
}

Result<SubjectPredictor> SubjectPredictor::create(const Subject& subject) {
  SubjectPredictor predictor;
  if (subject.is_ensemble()) {
    SELVAGE_TRY(predictor.ensemble_, infer::EnsemblePredictor::create(*subject.ensemble()));
  } else {
    SELVAGE_TRY(predictor.predictor_, infer::Predictor::create(subject.first_model()));
  }
  return predictor;
}

Result<infer::Prediction> SubjectPredictor::predict(const infer::Input& input) {
  if (predictor_) return predictor_->predict(input);
  const auto* picture = std::get_if<media::PictureView>(&input);
  if (!picture) return fail(ErrorCode::kInvalidArgument, "an ensemble takes pictures or video");
  return ensemble_->predict(*picture);
}

void SubjectPredictor::reset() {
  if (predictor_) predictor_->reset();
}

StageSums StageSums::of(const Subject& subject) {
  StageSums sums;
  for (const auto& step : subject.steps())
    for (std::size_t s = 0; s < infer::kStageCount; ++s)
      sums.time[s] += std::chrono::nanoseconds(
          step.model->times(static_cast<infer::Stage>(s)).snapshot().sum_ns);
  sums.runs = subject.first_model().times(infer::Stage::kRun).snapshot().count;
  return sums;
}

StageSums StageSums::since(const StageSums& before) const {
  StageSums delta = *this;
  for (std::size_t s = 0; s < infer::kStageCount; ++s) delta.time[s] -= before.time[s];
  delta.runs -= before.runs;
  return delta;
}

}  // namespace selvage::cli
