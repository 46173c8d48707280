// Ensembles as config.pbtxt describes them: models whose outputs feed other models' inputs. Each
// step goes through its own model's queue. (ensemble.h is about pictures and model cards.)
// Internal to the serving core.
#pragma once

#include <cstddef>
#include <functional>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "infer/gate.h"
#include "infer/repository.h"
#include "infer/signature.h"

namespace selvage::infer {

inline constexpr std::size_t kEnsembleConfigStepsMax = 256;

/// Immutable but for its statistics, which are synchronised.
struct EnsemblePlan {
  struct Link {
    std::string name;    ///< The model's tensor.
    std::size_t tensor;  ///< Index into `tensors`.
  };
  struct Step {
    std::string model, version;
    std::vector<Link> inputs, outputs;
  };
  std::string name, version;
  Signature signature;
  std::vector<std::string> tensors;
  std::vector<std::size_t> inputs, outputs;  ///< Of the ensemble, in the signature's order.
  std::vector<Step> steps;
  std::unique_ptr<StatisticsRecorder> statistics;
};

/// What a step's model takes and gives; kNotFound or kUnavailable when it is not served.
using ModelLookup =
    std::function<Result<ModelMetadata>(const std::string& model, const std::string& version)>;

/// Checks the graph: every tensor is made once and used with the right type and dimensions, every
/// input of every step is fed, nothing goes round in a circle. Errors name the step and tensor.
[[nodiscard]] Result<std::shared_ptr<const EnsemblePlan>> make_ensemble_plan(
    const ModelConfig& config, std::string name, std::string version, const ModelLookup& lookup);

/// How a step's request is submitted.
using SubmitStep = std::function<RequestHandle(InferenceRequest, ResponseCallback)>;

/// Starts a request; every step is submitted as soon as its inputs exist. `pass` is kept until it
/// is answered.
RequestHandle run_ensemble(std::shared_ptr<const EnsemblePlan> plan, InferenceRequest request,
                           ResponseCallback callback, const Clock& clock, SubmitStep submit,
                           GatePass pass);

}  // namespace selvage::infer
