#include "infer/chain_runner.h"

#include <utility>

namespace selvage::infer {

void answer_prediction(Scheduler& scheduler, const Batch& batch, PredictJob& job, SteadyTime began,
                       const std::string& name, const std::string& version,
                       Result<Prediction> prediction) {
  const auto now = scheduler.clock().steady_now();
  if (!prediction) return scheduler.fail(job, std::move(prediction).error());
  if (job.cancelled)
    return scheduler.fail(job, {ErrorCode::kCancelled, "the request was cancelled"});
  const auto queued = batch.taken - job.submitted;
  const RequestTimes times{.queue = queued, .compute_infer = now - began};
  const StatisticsRecorder::Request request{.queue = queued, .total = now - job.submitted};
  scheduler.statistics().record_batch(1, {&request, 1}, times, scheduler.clock().system_now());
  PredictionResponse response{name, version, *std::move(prediction), times};
  scheduler.succeed(job,
                    [owner = job.shared_from_this(), response = std::move(response)]() mutable {
                      static_cast<PredictJob&>(*owner).callback(std::move(response));
                    });
}

ChainRunner::ChainRunner(std::shared_ptr<const Ensemble> chain, std::string name,
                         std::string version, std::size_t idle_max)
    : chain_(std::move(chain)),
      name_(std::move(name)),
      version_(std::move(version)),
      predictors_(idle_max) {}

void ChainRunner::run(Scheduler& scheduler, Batch& batch) {
  for (const auto& job : batch.jobs) {
    auto& wanted = static_cast<PredictJob&>(*job);
    const auto began = scheduler.clock().steady_now();
    answer_prediction(scheduler, batch, wanted, began, name_, version_,
                      predict(wanted.request.input));
  }
}

Result<Prediction> ChainRunner::predict(const Input& input) {
  const auto* picture = std::get_if<media::PictureView>(&input);
  if (picture == nullptr)
    return selvage::fail(ErrorCode::kInvalidArgument, "'" + name_ + "' takes a picture");
  auto predictor = predictors_.take();
  if (!predictor) {
    SELVAGE_TRY(predictor, EnsemblePredictor::create(*chain_));
  }
  auto prediction = predictor->predict(*picture);
  if (prediction) predictors_.give_back(std::move(predictor));
  return prediction;
}

}  // namespace selvage::infer
