// What a command was pointed at: one model, or an ensemble of several.
#pragma once

#include <array>
#include <chrono>
#include <filesystem>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "infer/ensemble.h"
#include "infer/model.h"

namespace selvage::cli {

/// kNotFound says what may be given as a model; kPermissionDenied where it may not be looked for;
/// kInvalidArgument for a card, which lies beside its model.
[[nodiscard]] Result<void> check_model_path(const std::filesystem::path& model);

/// Immutable but for its models' histograms.
class Subject {
 public:
  /// A model.onnx, an ensemble.yaml, or a folder that holds one of them.
  [[nodiscard]] static Result<Subject> load(infer::Runtime& runtime,
                                            const std::filesystem::path& path,
                                            const infer::ModelOptions& options);

  [[nodiscard]] const std::string& name() const;
  [[nodiscard]] bool is_ensemble() const { return ensemble_ != nullptr; }
  [[nodiscard]] const infer::Ensemble* ensemble() const { return ensemble_.get(); }
  /// The only model, or the ensemble's step that sees the whole input.
  [[nodiscard]] const infer::Model& first_model() const;

  struct Step {
    std::string_view name;  ///< "" for a single model.
    const infer::Model* model;
  };
  [[nodiscard]] std::vector<Step> steps() const;

 private:
  std::unique_ptr<infer::Model> model_;
  std::unique_ptr<infer::Ensemble> ensemble_;
};

/// One caller's buffers. Confined to one thread; the subject must outlive it.
class SubjectPredictor {
 public:
  [[nodiscard]] static Result<SubjectPredictor> create(const Subject& subject);
  [[nodiscard]] Result<infer::Prediction> predict(const infer::Input& input);
  /// Forgets recurrent state and begun sounds: what follows is another stream.
  void reset();
  /// nullptr for ensembles.
  [[nodiscard]] infer::Predictor* single() { return predictor_.get(); }

 private:
  std::unique_ptr<infer::Predictor> predictor_;
  std::unique_ptr<infer::EnsemblePredictor> ensemble_;
};

/// The time that each stage has taken so far, summed over runs and steps.
struct StageSums {
  std::array<std::chrono::nanoseconds, infer::kStageCount> time{};
  std::uint64_t runs = 0;  ///< Of the first model: frames of a sound, else 1 a prediction.

  [[nodiscard]] static StageSums of(const Subject& subject);
  [[nodiscard]] StageSums since(const StageSums& before) const;
  [[nodiscard]] std::chrono::nanoseconds of(infer::Stage stage) const {
    return time[static_cast<std::size_t>(stage)];
  }
};

/// What a person should stay below: one frame of a 100 Hz control loop.
inline constexpr std::chrono::milliseconds kLatencyLine{10};

}  // namespace selvage::cli
