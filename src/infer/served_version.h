// One version of a model, ready to serve: loaded, checked against its configuration, warmed up.
// Internal to the serving core.
#pragma once

#include <filesystem>
#include <map>
#include <memory>
#include <string>
#include <utility>

#include "infer/config_ensemble.h"
#include "infer/ensemble.h"
#include "infer/onnx_runner.h"
#include "infer/repository.h"
#include "infer/scheduler.h"

namespace selvage::infer {

/// Immutable but for its scheduler and statistics, which are synchronised.
struct ServedVersion {
  std::string name, version;
  ModelConfig config;                                                        ///< In force.
  std::map<std::string, std::shared_ptr<const Labels>, std::less<>> labels;  ///< By output.

  // A model:
  std::shared_ptr<Scheduler> scheduler;
  const OnnxRunner* runner = nullptr;  ///< The scheduler's.
  // or a chain of models behind a scheduler, which has no tensors of its own:
  std::shared_ptr<const Ensemble> chain;
  // or an ensemble:
  std::shared_ptr<const EnsemblePlan> ensemble;

  [[nodiscard]] const Signature& signature() const {
    static const Signature none;
    return ensemble ? ensemble->signature : runner != nullptr ? runner->signature() : none;
  }
  [[nodiscard]] StatisticsRecorder& statistics() const {
    return ensemble ? *ensemble->statistics : scheduler->statistics();
  }
};

/// What loading a version needs to know.
struct LoadRequest {
  std::string name, version;
  std::filesystem::path folder;  ///< Of the model: labels, warmup/, initial_state/.
  std::filesystem::path file;    ///< The model's, or a chain's kChainFile.
  ModelConfig config;
};

/// Errors name the file or the field. Nothing of what exists is touched.
[[nodiscard]] Result<std::shared_ptr<const ServedVersion>> load_version(
    Runtime& runtime, WorkerPool& pool, const RepositoryOptions& options, LoadRequest request);

/// The known `parameters`, as Triton's ONNX Runtime backend understands them. kInvalidArgument and
/// kUnimplemented name the parameter.
[[nodiscard]] Result<SessionSettings> session_settings(const ModelConfig& config);

/// Reads an output's label files; `tensors` and `folder` as the configuration and its place.
[[nodiscard]] Result<std::map<std::string, std::shared_ptr<const Labels>, std::less<>>>
read_label_files(const ModelConfig& config, const std::filesystem::path& folder);

}  // namespace selvage::infer
