#include "compress/evaluate.h"

#include <memory>

#include "compress/evaluate_runner.h"
#include "compress/evaluate_tally.h"
#include "graph/values.h"

namespace selvage::compress {

std::string_view to_string(Task task) {
  switch (task) {
    case Task::kClassification: return "classification";
    case Task::kDetection: return "detection";
    case Task::kRegression: return "regression";
    case Task::kReconstruction: return "reconstruction";
    case Task::kPrediction: return "prediction";
    case Task::kTensor: return "tensor";
  }
  return "";
}

double Evaluation::quality() const {
  if (accuracy) return *accuracy;
  if (auroc) return *auroc;
  return -mean_absolute_error.value_or(0);
}

Result<Evaluation> evaluate(const infer::Model& model, const infer::Dataset& data,
                            const EvaluateOptions& options) {
  Evaluation result;
  result.batch = batch_for(model, data, options.batch);
  BatchReader reader(data, result.batch);
  SELVAGE_TRY(auto runner, ModelRunner::create(model, data));
  std::unique_ptr<Tally> tally;
  const auto each = [&](std::span<const std::size_t> indices) -> Result<void> {
    SELVAGE_TRY(const auto inputs, reader.read(indices));
    SELVAGE_TRY(const auto output, runner.run(inputs));
    const auto width = output.size() / indices.size();
    const auto input = inputs.front();
    if (!tally) {
      const auto first = input.type == DataType::kFloat32
                             ? input.bytes.size() / sizeof(float) / indices.size()
                             : 0;
      SELVAGE_TRY(result.task, task_of(model, data, width, first));
      SELVAGE_TRY(tally, Tally::create(result.task, model, data, width));
    }
    for (std::size_t k = 0; k < indices.size(); ++k) {
      const auto answer = output.subspan(k * width, width);
      if (!can_judge(result.task, answer))
        return not_finite(data, indices[k], inputs, k, indices.size(), "the model's");
      const auto given = result.task == Task::kReconstruction
                             ? input.as<float>().subspan(k * width, width)
                             : std::span<const float>();
      if (auto added = tally->add(indices[k], answer, given); !added)
        return std::unexpected(std::move(added).error().with_context(data.place(indices[k])));
    }
    result.samples += indices.size();
    return {};
  };
  SELVAGE_RETURN_IF_ERROR(
      for_each_batch(data, options.samples, result.batch, options.progress, each));
  tally->finish(result);
  result.latency = runner.latency().snapshot();
  return result;
}

Result<ModelOutputs> collect_outputs(const infer::Model& model, const infer::Dataset& data,
                                     const EvaluateOptions& options) {
  ModelOutputs outputs;
  const auto batch = batch_for(model, data, options.batch);
  BatchReader reader(data, batch);
  SELVAGE_TRY(auto runner, ModelRunner::create(model, data));
  const auto each = [&](std::span<const std::size_t> indices) -> Result<void> {
    SELVAGE_TRY(const auto inputs, reader.read(indices));
    SELVAGE_TRY(const auto found, runner.run(inputs));
    const auto width = found.size() / indices.size();
    if (outputs.width == 0) outputs.width = width;
    if (width == 0 || width != outputs.width)
      return fail(ErrorCode::kInvalidArgument,
                  data.place(indices.front()) + ": the model's output changes its size");
    if (outputs.values.size() + found.size() > kScoresMax)
      return fail(ErrorCode::kOutOfRange,
                  "the model's outputs are more than " + std::to_string(kScoresMax) + " numbers");
    if (!graph::all_finite(found))
      return fail(ErrorCode::kInvalidArgument,
                  data.place(indices.front()) + ": the model's output is not finite");
    outputs.values.insert(outputs.values.end(), found.begin(), found.end());
    return {};
  };
  SELVAGE_RETURN_IF_ERROR(for_each_batch(data, options.samples, batch, options.progress, each));
  return outputs;
}

}  // namespace selvage::compress
