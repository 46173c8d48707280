// The workbench of a search on this machine: builds candidates, runs them on data, times them in
// turns with the original.
#pragma once

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "base/result.h"
#include "compress/compare_layers.h"
#include "compress/optimize.h"
#include "infer/dataset.h"
#include "infer/model.h"
#include "infer/runtime.h"

namespace selvage::compress {

/// Which samples calibrate and which judge.
struct SampleParts {
  std::size_t calibration_count = 0;    ///< As calibration_samples() spreads them.
  std::vector<std::size_t> evaluation;  ///< Indices, ascending.
};
/// Where the data come in two parts (their fingerprints differ), each serves one purpose.
/// Otherwise calibration takes at most half of the samples, spread evenly, and those left judge; of
/// a single sample, it does both. Above `evaluation_max`, those that judge are chosen at random.
[[nodiscard]] SampleParts divide_samples(const infer::Dataset& calibration,
                                         const infer::Dataset& evaluation,
                                         std::size_t calibration_max, std::size_t evaluation_max,
                                         std::uint64_t seed);

struct MachineOptions {
  infer::ModelOptions model;  ///< Of the original; candidates get as many threads as it.
  std::size_t calibration_max = 300;
  std::size_t evaluation_max = 2000;
  std::uint64_t seed = 0;
  double latency_seconds = 1.5;           ///< For each side of a comparison.
  std::function<bool()> keep_going = {};  ///< False: kCancelled soon. Null: never.
};

/// Where the time of a search went.
struct WorkTimes {
  std::chrono::nanoseconds runs{};     ///< Calibrating, evaluating, timing, ranking.
  std::chrono::nanoseconds loading{};  ///< By the runtime.
  std::chrono::nanoseconds graphs{};   ///< Quantising, pruning and writing models.
};

/// Confined to one thread. The data sets and the runtime must outlive it.
class Machine final : public Workbench {
 public:
  /// `path` is the model's file. Errors as infer::Model::load(), calibration_samples() and
  /// evaluate(); labels whose task has no quality of its own are passed over.
  [[nodiscard]] static Result<std::unique_ptr<Machine>> create(infer::Runtime& runtime,
                                                               const std::filesystem::path& path,
                                                               const infer::Dataset& calibration,
                                                               const infer::Dataset& evaluation,
                                                               const MachineOptions& options);
  ~Machine() override;

  [[nodiscard]] const graph::Model& folded() const;
  [[nodiscard]] const SampleParts& samples() const;
  /// Whether quality is that of labels; else it is the agreement with the original.
  [[nodiscard]] bool is_labelled() const;
  /// "accuracy", "AUROC", "mean absolute error, negated" or "agreement with the original".
  [[nodiscard]] const std::string& quality_name() const;
  /// Whether quality is a part of a whole, as accuracy is, and not an error in the labels' unit.
  [[nodiscard]] bool is_part() const;
  [[nodiscard]] const WorkTimes& times() const;
  /// Where a candidate differs from the folded model, value by value, on some calibration samples.
  [[nodiscard]] Result<std::vector<LayerDifference>> compare_layers(const Recipe& recipe);

  [[nodiscard]] crypto::Digest settings() const override;
  [[nodiscard]] Result<void> build(const Recipe& recipe,
                                   const std::filesystem::path& file) override;
  [[nodiscard]] Result<double> quality(const std::filesystem::path& file) override;
  [[nodiscard]] Result<Figures> measure(const std::filesystem::path& file) override;
  [[nodiscard]] Result<double> output_error(const Recipe& recipe) override;
  [[nodiscard]] Result<std::vector<std::vector<std::string>>> groups(const Recipe& recipe) override;

 private:
  struct State;
  explicit Machine(std::unique_ptr<State> state);
  std::unique_ptr<State> state_;
};

}  // namespace selvage::compress
