// The search of `selvage optimize`: tries candidates of a model, measures each on this machine,
// and takes the smallest and fastest that keeps the quality.
//
//   SELVAGE_TRY(const auto machine, Machine::create(*runtime, "model.onnx", {}, data, {}));
//   SELVAGE_TRY(auto found, optimize(*machine, recipes_for(machine->folded()), options));
//   const auto& recipe = found.candidates[found.chosen].recipe;
//   SELVAGE_RETURN_IF_ERROR(save_candidate(*machine, recipe, options.work, "small.onnx"));
//
// Every candidate's quality is measured on samples that neither calibrated it nor ranked its
// layers. A static candidate that would be taken but for its quality is tried again with its worst
// layers in float (optimize_revert.h).
#pragma once

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <functional>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "base/clock.h"
#include "base/result.h"
#include "compress/candidate.h"
#include "compress/pareto.h"
#include "crypto/digest.h"

namespace selvage::compress {

/// What the search asks of the model and the machine. Machine (optimize_machine.h) is the real one;
/// tests give their own. Errors concern one candidate alone, but for kCancelled, kIo and
/// kResourceExhausted (a full disk), which end the search.
class Workbench {
 public:
  virtual ~Workbench() = default;
  /// Of all that the results depend on: model, data, settings, machine.
  [[nodiscard]] virtual crypto::Digest settings() const = 0;
  /// Writes the candidate to `file`; for the original a copy. Errors say why it cannot be made.
  [[nodiscard]] virtual Result<void> build(const Recipe& recipe,
                                           const std::filesystem::path& file) = 0;
  [[nodiscard]] virtual Result<double> quality(const std::filesystem::path& file) = 0;
  /// Latency and memory; of a candidate's figures all but the quality.
  [[nodiscard]] virtual Result<Figures> measure(const std::filesystem::path& file) = 0;
  /// How far the candidate's outputs are from the original's on calibration samples: the sum of
  /// squared differences over the sum of squares, the mean over the outputs.
  [[nodiscard]] virtual Result<double> output_error(const Recipe& recipe) = 0;
  /// See CandidateBuilder::groups().
  [[nodiscard]] virtual Result<std::vector<std::vector<std::string>>> groups(
      const Recipe& recipe) = 0;
};

struct OptimizeProgress {
  std::size_t done = 0, total = 0;  ///< Candidates; `total` grows where layers go back to float.
  std::string what;                 ///< Is being done.
  /// From the mean of the candidates done, within the budget; empty before the first.
  std::optional<std::chrono::nanoseconds> left;
};

struct OptimizeOptions {
  Targets targets;
  /// No candidate is begun after it; the original and the first are measured in any case.
  std::optional<std::chrono::nanoseconds> budget;
  std::filesystem::path work;  ///< A folder for what was found out so far; see optimize_journal.h.
  std::function<void(const OptimizeProgress&)> progress;  ///< May be null.
  const Clock* clock = &machine_clock();
};

struct Candidate {
  Recipe recipe;
  std::optional<Figures> figures;  ///< Empty if it failed.
  std::string objection;  ///< Why it was not taken: see compress::objection(); or how it failed.
  bool is_on_front = false;
  bool is_resumed = false;  ///< Measured by an earlier search with the same work folder.
};

/// How much a group of nodes hurts: what is left of the output's error when it alone is in float.
struct LayerError {
  std::vector<std::string> nodes;
  double error_without = 0;
};
struct Sensitivities {
  std::size_t candidate = 0;  ///< Among OptimizeResult::candidates: with everything quantised.
  double error = 0;           ///< Of the candidate.
  std::vector<LayerError> layers;
};

struct OptimizeResult {
  std::vector<Candidate> candidates;         ///< The original first, then in the order of trying.
  std::size_t chosen = 0;                    ///< 0, the original, where nothing is better.
  std::vector<Sensitivities> sensitivities;  ///< Of the candidates whose layers were reverted.
  std::size_t skipped = 0;                   ///< Recipes that the time budget did not reach.
  std::chrono::nanoseconds time{};           ///< The whole search.
};

/// Fails where the original cannot be measured, when `work` cannot be written, and with what ends a
/// search (see Workbench); what was found out until then stays in `work`. Deterministic for what
/// `bench` answers.
[[nodiscard]] Result<OptimizeResult> optimize(Workbench& bench, std::span<const Recipe> recipes,
                                              const OptimizeOptions& options);

/// Puts the chosen candidate's model at `out`, atomically; makes it again where the work folder
/// does not have it any more.
[[nodiscard]] Result<void> save_candidate(Workbench& bench, const Recipe& recipe,
                                          const std::filesystem::path& work,
                                          const std::filesystem::path& out);

/// Deletes what a search of `bench` has left in its work folder.
void forget_search(const Workbench& bench, const std::filesystem::path& work);

}  // namespace selvage::compress
