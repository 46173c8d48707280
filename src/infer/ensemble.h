// Several models on one picture: a detector finds regions, further models look at each of them
// (detect text, crop, read). Described by a YAML file; docs/model-card.md has the schema.
//
//   name: signs
//   steps:
//     detect: {model: ../ppocr-det}                          # sees the whole picture
//     read: {model: ../ppocr-rec, input: crops of detect}
//
// Crops are never stored: each goes from the picture's own pixels into the next model's tensor.
#pragma once

#include <filesystem>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"
#include "infer/model.h"

namespace selvage::infer {

inline constexpr std::size_t kEnsembleStepsMax = 16;

/// One step as the file describes it.
struct EnsembleStep {
  std::string name;
  std::filesystem::path model;  ///< As written; relative to the file.
  std::string crops_of;         ///< The step whose regions it takes; "" = the whole picture.
};

struct EnsembleCard {
  std::string name, description;
  std::vector<EnsembleStep> steps;  ///< The detector first.
};

/// Errors name the line: unknown fields and steps, cycles, and anything but one step that sees the
/// whole picture with the others on its crops.
[[nodiscard]] Result<EnsembleCard> parse_ensemble_card(std::string_view yaml);

/// Immutable but for the models' histograms: shared by any number of threads.
class Ensemble {
 public:
  struct Step {
    std::string name;
    std::unique_ptr<Model> model;
  };

  /// `path` is ensemble.yaml or the folder that holds it. `options.name` and `.version` are
  /// ignored. kInvalidArgument when the overrides fix dimensions, when the first step's model finds
  /// neither boxes nor text regions, or a later one neither classes nor text.
  [[nodiscard]] static Result<std::unique_ptr<Ensemble>> load(Runtime& runtime,
                                                              const std::filesystem::path& path,
                                                              const ModelOptions& options = {});
  [[nodiscard]] const std::string& name() const { return card_.name; }
  [[nodiscard]] const EnsembleCard& card() const { return card_; }
  /// Each step's stage times are in its model's histograms.
  [[nodiscard]] std::span<const Step> steps() const { return steps_; }

 private:
  Ensemble() = default;
  EnsembleCard card_;
  std::vector<Step> steps_;
};

/// One caller's buffers for every step. Confined to one thread at a time; the ensemble must outlive
/// it.
class EnsemblePredictor {
 public:
  [[nodiscard]] static Result<std::unique_ptr<EnsemblePredictor>> create(const Ensemble& ensemble);

  /// Boxes or TextRegions of the first step, filled in by the later ones: a text goes into
  /// TextRegion::text, other findings into Box::details.
  [[nodiscard]] Result<Prediction> predict(const media::PictureView& picture);

 private:
  explicit EnsemblePredictor(const Ensemble& ensemble) : ensemble_(ensemble) {}
  const Ensemble& ensemble_;
  std::vector<std::unique_ptr<Predictor>> predictors_;
  std::vector<media::Quad> crops_;
};

}  // namespace selvage::infer
