// How good a model is on a data set: accuracy, F1, confusion, AUROC, errors, and how far two models
// agree where there are no labels.
//
//   SELVAGE_TRY(auto data, infer::Dataset::open("photos/", *model, {.part = infer::Part::kTest}));
//   SELVAGE_TRY(auto found, evaluate(*model, *data));
//   if (found.quality() < baseline - 0.01) ...
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/histogram.h"
#include "base/result.h"
#include "infer/dataset.h"
#include "infer/model.h"

namespace selvage::compress {

/// AUROC keeps every score; with more than this many it is left out.
inline constexpr std::uint64_t kScoresMax = 1u << 26;
/// The confusion matrix is left out for more classes than this.
inline constexpr std::size_t kConfusionClassesMax = 1'000;

/// What a model's answer to a sample is, as its card, its output's shape and the labels tell.
enum class Task : std::uint8_t {
  kClassification,  ///< [N, C] scores: the largest is the class.
  kDetection,       ///< [N] or [N, 1]: one score, high for class 1 of the labels 0 and 1.
  kRegression,      ///< Numbers, compared with the labels' numbers.
  kReconstruction,  ///< The input again; the mean squared error is an anomaly's score.
  kPrediction,      ///< Boxes, texts, ...: whatever the card decodes; for compare() alone.
  kTensor,          ///< Elements without a meaning; for compare() alone.
};
[[nodiscard]] std::string_view to_string(Task task);

struct EvaluateOptions {
  std::size_t batch = 64;            ///< Samples a run, where data and model take batches.
  std::vector<std::size_t> samples;  ///< Only these; empty: all.
  /// Called after each run with the number of samples done. False stops: kCancelled.
  std::function<bool(std::size_t done)> progress;
};

struct ClassMetrics {
  std::uint64_t samples = 0;    ///< That have this label.
  std::uint64_t predicted = 0;  ///< That the model calls so.
  std::uint64_t correct = 0;
  double precision = 0, recall = 0, f1 = 0;  ///< 0 where undefined, as scikit-learn has it.
};

struct Evaluation {
  Task task = Task::kTensor;
  std::size_t samples = 0;
  std::optional<double> accuracy;
  std::optional<double> macro_f1;  ///< Mean over the classes that occur or are predicted.
  std::optional<double> auroc;     ///< With several classes: mean of one against the rest.
  std::optional<double> mean_absolute_error;
  std::optional<double> root_mean_square_error;
  std::vector<std::string> classes;
  std::vector<ClassMetrics> per_class;   ///< Of classes, in their order.
  std::vector<std::uint64_t> confusion;  ///< Row by row: [label][predicted].
  std::size_t batch = 1;
  HistogramSnapshot latency;  ///< Of a run of `batch` samples, without reading them.

  /// The one number that is to stay high: accuracy, else AUROC, else the error negated.
  [[nodiscard]] double quality() const;
};

/// kInvalidArgument: the data have no labels, or labels that the output does not fit (the sample is
/// named), or an output that is not finite. kUnimplemented: a card whose task has no labels here.
[[nodiscard]] Result<Evaluation> evaluate(const infer::Model& model, const infer::Dataset& data,
                                          const EvaluateOptions& options = {});

/// How far `model` says the same as `reference`.
struct Agreement {
  Task task = Task::kTensor;
  std::size_t samples = 0;
  /// The mean over samples of: same class (1 or 0); same side of the threshold; the mean IoU of the
  /// boxes that match, times the part of boxes that do; 1 - edit distance / length of texts; the
  /// part of frames with the same decision. Of plain tensors: 1 - |difference| / |reference|
  /// (Euclidean), not below 0.
  double agreement = 0;
  /// Over all elements of the first output, where its shape is fixed: 10 log10(sum of squares of
  /// the reference / sum of squares of the difference). Infinite when equal.
  std::optional<double> sqnr_db;
  std::optional<double> largest_difference;
};
/// Both must take the data set's tensors. Labels are not needed. kInvalidArgument names a sample to
/// which a model answers with NaN or infinities; kFailedPrecondition when neither finds anything in
/// any sample.
[[nodiscard]] Result<Agreement> compare(const infer::Model& model, const infer::Model& reference,
                                        const infer::Dataset& data,
                                        const EvaluateOptions& options = {});

/// What a model answers to every sample: the output that its card means, `width` numbers a sample.
struct ModelOutputs {
  std::size_t width = 0;
  std::vector<float> values;
};
/// All samples of `data`, in order. Errors as evaluate(); kOutOfRange above kScoresMax numbers.
[[nodiscard]] Result<ModelOutputs> collect_outputs(const infer::Model& model,
                                                   const infer::Dataset& data,
                                                   const EvaluateOptions& options = {});

// --- The metrics by themselves
// --------------------------------------------------------------------

/// The area under the ROC curve: how likely a random positive scores above a random negative, ties
/// counted half (the Mann-Whitney statistic). Empty when one of the two is missing.
[[nodiscard]] std::optional<double> area_under_roc(std::span<const float> scores,
                                                   std::span<const std::uint8_t> positive);
/// From a confusion matrix of `classes` x `classes`, as Evaluation::confusion.
[[nodiscard]] std::vector<ClassMetrics> class_metrics(std::span<const std::uint64_t> confusion,
                                                      std::size_t classes);

}  // namespace selvage::compress
