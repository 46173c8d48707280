#include "compress/evaluate_tally.h"

#include <algorithm>
#include <cmath>

namespace selvage::compress {
namespace {

using infer::TargetKind;

std::unexpected<Error> invalid(const std::string& problem) {
  return fail(ErrorCode::kInvalidArgument, problem);
}

/// Sums of errors: all double, so that a million samples add up.
struct ErrorSums {
  double absolute = 0, squared = 0;
  std::uint64_t count = 0;

  void add(double difference) {
    absolute += std::abs(difference);
    squared += difference * difference;
    ++count;
  }
  void finish(Evaluation& result) const {
    const auto elements = static_cast<double>(std::max<std::uint64_t>(1, count));
    result.mean_absolute_error = absolute / elements;
    result.root_mean_square_error = std::sqrt(squared / elements);
  }
};

bool is_distribution(std::span<const float> values) {
  double sum = 0;
  for (const float value : values) {
    if (value < 0 || value > 1) return false;
    sum += static_cast<double>(value);
  }
  return std::abs(sum - 1) < 1e-3;
}

/// Logits become probabilities, so that scores of different samples can be compared.
void append_probabilities(std::span<const float> output, std::vector<float>& to) {
  if (is_distribution(output)) {
    to.insert(to.end(), output.begin(), output.end());
    return;
  }
  const float largest = *std::ranges::max_element(output);
  double sum = 0;
  for (const float value : output) sum += std::exp(static_cast<double>(value - largest));
  for (const float value : output)
    to.push_back(static_cast<float>(std::exp(static_cast<double>(value - largest)) / sum));
}

class ClassTally final : public Tally {
 public:
  ClassTally(const infer::Dataset& data, const infer::Model& model, std::size_t width)
      : data_(data), width_(width), confusion_(width * width) {
    const auto* card = std::get_if<infer::ClassificationOutput>(&model.card().output);
    for (std::size_t c = 0; c < width; ++c)
      classes_.push_back(card && c < card->labels.size() ? card->labels[c]
                         : c < data.classes().size()     ? data.classes()[c]
                                                         : std::to_string(c));
    keeps_scores_ = std::uint64_t{width} * data.size() <= kScoresMax;
  }

  Result<void> add(std::size_t sample, std::span<const float> output,
                   std::span<const float> /*input*/) override {
    const auto label = static_cast<std::size_t>(data_.label(sample));
    if (label >= width_)
      return invalid("the label is " + std::to_string(label) + ", the model knows classes 0 to " +
                     std::to_string(width_ - 1));
    ++confusion_[label * width_ + index_of_largest(output)];
    labels_.push_back(label);
    if (keeps_scores_) append_probabilities(output, scores_);
    return {};
  }

  void finish(Evaluation& result) override {
    result.classes = classes_;
    result.per_class = class_metrics(confusion_, width_);
    std::uint64_t correct = 0;
    double f1 = 0, seen = 0;
    for (const auto& one : result.per_class) {
      correct += one.correct;
      if (one.samples + one.predicted == 0) continue;
      f1 += one.f1;
      ++seen;
    }
    const auto samples = static_cast<double>(std::max<std::size_t>(1, labels_.size()));
    result.accuracy = static_cast<double>(correct) / samples;
    result.macro_f1 = seen > 0 ? f1 / seen : 0;
    if (keeps_scores_) result.auroc = mean_area();
    if (width_ <= kConfusionClassesMax) result.confusion = confusion_;
  }

 private:
  [[nodiscard]] std::optional<double> mean_area() const {
    std::vector<float> scores(labels_.size());
    std::vector<std::uint8_t> positive(labels_.size());
    double sum = 0, classes = 0;
    for (std::size_t c = width_ == 2 ? 1 : 0; c < width_; ++c) {
      for (std::size_t i = 0; i < labels_.size(); ++i) {
        scores[i] = scores_[i * width_ + c];
        positive[i] = labels_[i] == c;
      }
      const auto area = area_under_roc(scores, positive);
      if (!area) continue;
      sum += *area;
      ++classes;
    }
    return classes > 0 ? std::optional(sum / classes) : std::nullopt;
  }

  const infer::Dataset& data_;
  std::size_t width_;
  std::vector<std::string> classes_;
  std::vector<std::uint64_t> confusion_;
  std::vector<std::size_t> labels_;
  std::vector<float> scores_;
  bool keeps_scores_ = false;
};

/// Scores of which some belong to class 1: a detector's, or an autoencoder's errors.
class ScoreTally {
 public:
  explicit ScoreTally(const infer::Dataset& data) : data_(data) {}

  Result<void> add(std::size_t sample, float score) {
    const auto label = data_.label(sample);
    if (label > 1)
      return invalid("the label is " + std::to_string(label) +
                     ": a model with one score needs labels 0 and 1");
    scores_.push_back(score);
    positive_.push_back(label == 1);
    return {};
  }
  [[nodiscard]] std::optional<double> area() const { return area_under_roc(scores_, positive_); }

  void count(float threshold, Evaluation& result) const {
    std::vector<std::uint64_t> confusion(4);
    for (std::size_t i = 0; i < scores_.size(); ++i)
      ++confusion[2 * static_cast<std::size_t>(positive_[i]) + (scores_[i] >= threshold ? 1 : 0)];
    result.confusion = confusion;
    result.per_class = class_metrics(confusion, 2);
    result.classes =
        data_.classes().size() == 2 ? data_.classes() : std::vector<std::string>{"0", "1"};
    result.accuracy = static_cast<double>(confusion[0] + confusion[3]) /
                      static_cast<double>(std::max<std::size_t>(1, scores_.size()));
    result.macro_f1 = (result.per_class[0].f1 + result.per_class[1].f1) / 2;
  }
  /// Probabilities are cut in the middle, logits at 0.
  [[nodiscard]] float usual_threshold() const {
    return std::ranges::all_of(scores_, [](float s) { return s >= 0 && s <= 1; }) ? 0.5f : 0;
  }

 private:
  const infer::Dataset& data_;
  std::vector<float> scores_;
  std::vector<std::uint8_t> positive_;
};

class DetectionTally final : public Tally {
 public:
  DetectionTally(const infer::Dataset& data, std::optional<float> threshold)
      : scores_(data), threshold_(threshold) {}
  Result<void> add(std::size_t sample, std::span<const float> output,
                   std::span<const float> /*input*/) override {
    return scores_.add(sample, *std::ranges::max_element(output));
  }
  void finish(Evaluation& result) override {
    result.auroc = scores_.area();
    scores_.count(threshold_.value_or(scores_.usual_threshold()), result);
  }

 private:
  ScoreTally scores_;
  std::optional<float> threshold_;
};

class RegressionTally final : public Tally {
 public:
  RegressionTally(const infer::Dataset& data, const infer::RegressionOutput* card)
      : data_(data), scale_(card ? card->scale : 1), offset_(card ? card->offset : 0) {}
  Result<void> add(std::size_t sample, std::span<const float> output,
                   std::span<const float> /*input*/) override {
    const auto values = data_.values(sample);
    if (values.size() != output.size())
      return invalid(std::to_string(values.size()) + " labels for " +
                     std::to_string(output.size()) + " outputs");
    for (std::size_t i = 0; i < values.size(); ++i)
      sums_.add(static_cast<double>(output[i]) * scale_ + offset_ - static_cast<double>(values[i]));
    return {};
  }
  void finish(Evaluation& result) override { sums_.finish(result); }

 private:
  const infer::Dataset& data_;
  double scale_, offset_;
  ErrorSums sums_;
};

class ReconstructionTally final : public Tally {
 public:
  explicit ReconstructionTally(const infer::Dataset& data)
      : labelled_(data.target_kind() == TargetKind::kClass), scores_(data) {}
  Result<void> add(std::size_t sample, std::span<const float> output,
                   std::span<const float> input) override {
    ErrorSums own;
    for (std::size_t i = 0; i < output.size(); ++i) {
      const double difference = static_cast<double>(output[i]) - static_cast<double>(input[i]);
      own.add(difference);
      sums_.add(difference);
    }
    const auto error = own.squared / static_cast<double>(output.size());
    return labelled_ ? scores_.add(sample, static_cast<float>(error)) : Result<void>{};
  }
  void finish(Evaluation& result) override {
    sums_.finish(result);
    if (labelled_) result.auroc = scores_.area();
  }

 private:
  bool labelled_;
  ScoreTally scores_;
  ErrorSums sums_;
};

Result<Task> task_without_card(const infer::Dataset& data, std::size_t width,
                               std::size_t input_width) {
  const bool mirrors = width == input_width && width > 1;
  switch (data.target_kind()) {
    case TargetKind::kNone:
      if (mirrors) return Task::kReconstruction;
      return invalid("the data have no labels: compare with a second model instead");
    case TargetKind::kValues: return Task::kRegression;
    case TargetKind::kClass: break;
  }
  if (width == 1) return Task::kDetection;
  return mirrors && data.classes().size() <= 2 ? Task::kReconstruction : Task::kClassification;
}

}  // namespace

std::size_t index_of_largest(std::span<const float> values) {
  return static_cast<std::size_t>(std::ranges::max_element(values) - values.begin());
}

bool can_judge(Task task, std::span<const float> answer) {
  if (task == Task::kTensor)
    return std::ranges::any_of(answer, [](float value) { return std::isfinite(value); });
  if (answer.empty() || std::ranges::any_of(answer, [](float value) { return std::isnan(value); }))
    return false;
  return std::isfinite(*std::ranges::max_element(answer));
}

std::optional<float> threshold_of(const infer::ModelCard& card) {
  if (const auto* anomaly = std::get_if<infer::AnomalyOutput>(&card.output))
    return anomaly->threshold;
  return std::nullopt;
}

Result<Task> task_of(const infer::Model& model, const infer::Dataset& data, std::size_t width,
                     std::size_t input_width) {
  const auto& output = model.card().output;
  Task task = Task::kTensor;
  if (std::holds_alternative<infer::RawOutput>(output)) {
    SELVAGE_TRY(task, task_without_card(data, width, input_width));
  } else if (std::holds_alternative<infer::ClassificationOutput>(output)) {
    task = width == 1 ? Task::kDetection : Task::kClassification;
  } else if (std::holds_alternative<infer::AnomalyOutput>(output)) {
    task = Task::kDetection;
  } else if (std::holds_alternative<infer::RegressionOutput>(output)) {
    task = Task::kRegression;
  } else {
    return fail(ErrorCode::kUnimplemented,
                "no labels are read for what this model's card describes: compare it with a second "
                "model instead");
  }
  const auto wanted = task == Task::kRegression       ? TargetKind::kValues
                      : task == Task::kReconstruction ? data.target_kind()
                                                      : TargetKind::kClass;
  if (data.target_kind() == wanted) return task;
  if (data.target_kind() == TargetKind::kNone)
    return invalid("the data have no labels: compare with a second model instead");
  return invalid(wanted == TargetKind::kClass
                     ? "the labels are not classes: whole numbers from 0, or names"
                     : "the labels are classes, the model gives numbers");
}

Result<std::unique_ptr<Tally>> Tally::create(Task task, const infer::Model& model,
                                             const infer::Dataset& data, std::size_t width) {
  switch (task) {
    case Task::kClassification: {
      constexpr std::size_t kClassesMax = 16'384;  // The matrix is quadratic.
      if (width > kClassesMax)
        return fail(ErrorCode::kOutOfRange, "the model's output has " + std::to_string(width) +
                                                " elements a sample, which are no classes");
      return std::make_unique<ClassTally>(data, model, width);
    }
    case Task::kDetection:
      return std::make_unique<DetectionTally>(data, threshold_of(model.card()));
    case Task::kRegression:
      return std::make_unique<RegressionTally>(
          data, std::get_if<infer::RegressionOutput>(&model.card().output));
    case Task::kReconstruction: return std::make_unique<ReconstructionTally>(data);
    case Task::kPrediction:
    case Task::kTensor: break;
  }
  return fail(ErrorCode::kInternal, "nothing counts this task");
}

}  // namespace selvage::compress
