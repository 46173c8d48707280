#include <algorithm>
#include <cmath>
#include <limits>
#include <numeric>

#include "compress/differences.h"
#include "compress/evaluate.h"
#include "compress/evaluate_runner.h"
#include "compress/evaluate_tally.h"

namespace selvage::compress {
namespace {

double ratio(double part, double whole) {
  return whole > 0 ? part / whole : 1;
}

double area_of(const infer::Box& box) {
  return static_cast<double>(std::max(0.0f, box.right - box.left)) *
         static_cast<double>(std::max(0.0f, box.bottom - box.top));
}

double overlap(const infer::Box& a, const infer::Box& b) {
  infer::Box common = a;
  common.left = std::max(a.left, b.left);
  common.top = std::max(a.top, b.top);
  common.right = std::min(a.right, b.right);
  common.bottom = std::min(a.bottom, b.bottom);
  const double both = area_of(common);
  return ratio(both, area_of(a) + area_of(b) - both);
}

/// Pairs boxes of the same class, best overlap first.
double agree(const infer::Boxes& a, const infer::Boxes& b) {
  struct Pair {
    double iou;
    std::size_t first, second;
  };
  std::vector<Pair> pairs;
  for (std::size_t i = 0; i < a.boxes.size(); ++i)
    for (std::size_t j = 0; j < b.boxes.size(); ++j)
      if (a.boxes[i].best.index == b.boxes[j].best.index)
        if (const double iou = overlap(a.boxes[i], b.boxes[j]); iou > 0)
          pairs.push_back({iou, i, j});
  std::ranges::stable_sort(pairs, std::ranges::greater(), &Pair::iou);
  std::vector<bool> first_taken(a.boxes.size()), second_taken(b.boxes.size());
  double sum = 0;
  for (const auto& pair : pairs) {
    if (first_taken[pair.first] || second_taken[pair.second]) continue;
    first_taken[pair.first] = second_taken[pair.second] = true;
    sum += pair.iou;
  }
  return ratio(sum, static_cast<double>(std::max(a.boxes.size(), b.boxes.size())));
}

/// 1 - Levenshtein's distance / length, over bytes: a character of several bytes counts as many.
double agree(const std::string& a, const std::string& b) {
  std::vector<std::size_t> row(b.size() + 1);
  std::iota(row.begin(), row.end(), std::size_t{0});
  for (std::size_t i = 1; i <= a.size(); ++i) {
    std::size_t diagonal = std::exchange(row[0], i);
    for (std::size_t j = 1; j <= b.size(); ++j) {
      const auto replaced = diagonal + (a[i - 1] == b[j - 1] ? 0u : 1u);
      diagonal = row[j];
      row[j] = std::min({replaced, row[j] + 1, row[j - 1] + 1});
    }
  }
  const auto length = std::max(a.size(), b.size());
  return ratio(static_cast<double>(length - row.back()), static_cast<double>(length));
}

infer::Boxes as_boxes(const infer::TextRegions& found) {
  infer::Boxes boxes;
  for (const auto& region : found.regions) {
    const auto [left, right] = std::ranges::minmax(region.corners, {}, &infer::Point::x);
    const auto [top, bottom] = std::ranges::minmax(region.corners, {}, &infer::Point::y);
    boxes.boxes.push_back({.left = left.x,
                           .top = top.y,
                           .right = right.x,
                           .bottom = bottom.y,
                           .best = {},
                           .keypoints = {},
                           .details = {}});
  }
  return boxes;
}

double agree(const infer::Segmentation& a, const infer::Segmentation& b) {
  if (a.classes.size() != b.classes.size()) return 0;
  std::size_t same = 0;
  for (std::size_t i = 0; i < a.classes.size(); ++i)
    if (a.classes[i] == b.classes[i]) ++same;
  return ratio(static_cast<double>(same), static_cast<double>(a.classes.size()));
}

double agree(const infer::Activity& a, const infer::Activity& b, float threshold) {
  if (a.scores.size() != b.scores.size()) return 0;
  std::size_t same = 0;
  for (std::size_t i = 0; i < a.scores.size(); ++i)
    if ((a.scores[i] >= threshold) == (b.scores[i] >= threshold)) ++same;
  return ratio(static_cast<double>(same), static_cast<double>(a.scores.size()));
}

double agree(const infer::Prediction& a, const infer::Prediction& b, const infer::ModelCard& card) {
  if (a.index() != b.index()) return 0;
  if (const auto* boxes = std::get_if<infer::Boxes>(&a))
    return agree(*boxes, std::get<infer::Boxes>(b));
  if (const auto* regions = std::get_if<infer::TextRegions>(&a))
    return agree(as_boxes(*regions), as_boxes(std::get<infer::TextRegions>(b)));
  if (const auto* text = std::get_if<infer::Text>(&a))
    return agree(text->text, std::get<infer::Text>(b).text);
  if (const auto* segmentation = std::get_if<infer::Segmentation>(&a))
    return agree(*segmentation, std::get<infer::Segmentation>(b));
  const auto& activity = std::get<infer::Activity>(a);
  return agree(activity, std::get<infer::Activity>(b),
               std::get<infer::ActivityOutput>(card.output).threshold);
}

/// Whether a card's answers are compared as a person sees them, not element by element.
bool compares_predictions(const infer::ModelCard& card) {
  return std::holds_alternative<infer::BoxesOutput>(card.output) ||
         std::holds_alternative<infer::TextRegionsOutput>(card.output) ||
         std::holds_alternative<infer::CtcTextOutput>(card.output) ||
         std::holds_alternative<infer::SegmentationOutput>(card.output) ||
         std::holds_alternative<infer::ActivityOutput>(card.output);
}

Task task_of_comparison(const infer::Model& model, const infer::Dataset& data, std::size_t width) {
  const auto& output = model.card().output;
  const bool raw = std::holds_alternative<infer::RawOutput>(output);
  const bool classes = data.target_kind() == infer::TargetKind::kClass;
  if (std::holds_alternative<infer::ClassificationOutput>(output) ||
      (raw && classes && width >= data.classes().size() && width > 1))
    return Task::kClassification;
  if (std::holds_alternative<infer::AnomalyOutput>(output)) return Task::kDetection;
  return Task::kTensor;
}

double sqnr_db(const Differences& all) {
  return all.noise == 0 ? std::numeric_limits<double>::infinity()
                        : 10 * std::log10(all.signal / all.noise);
}

double closeness(const Differences& sample) {
  if (sample.noise == 0) return 1;
  return std::max(0.0, 1 - std::sqrt(sample.noise) / std::sqrt(sample.signal));
}

double agree(Task task, std::span<const float> value, std::span<const float> reference,
             float threshold) {
  if (task == Task::kClassification)
    return index_of_largest(value) == index_of_largest(reference) ? 1 : 0;
  if (task == Task::kDetection)
    return (*std::ranges::max_element(value) >= threshold) ==
                   (*std::ranges::max_element(reference) >= threshold)
               ? 1
               : 0;
  Differences own;
  own.add(value, reference);
  return closeness(own);
}

/// Whether every output of the last run that has numbers has finite ones.
bool can_judge_outputs(const infer::Predictor& predictor) {
  return std::ranges::all_of(predictor.outputs(), [](const TensorView& output) {
    return output.type != DataType::kFloat32 || output.bytes.empty() ||
           can_judge(Task::kTensor, output.as<float>());
  });
}

constexpr std::string_view kOwn = "the model's";
constexpr std::string_view kOther = "the other model's";

/// Whether a prediction of something to be found has found any.
bool finds_any(const infer::Prediction& prediction) {
  if (const auto* boxes = std::get_if<infer::Boxes>(&prediction)) return !boxes->boxes.empty();
  if (const auto* found = std::get_if<infer::TextRegions>(&prediction))
    return !found->regions.empty();
  if (const auto* text = std::get_if<infer::Text>(&prediction)) return !text->text.empty();
  return true;
}

Result<Agreement> compare_predictions(const infer::Model& model, const infer::Model& reference,
                                      const infer::Dataset& data, const EvaluateOptions& options) {
  SELVAGE_TRY(const auto first, infer::Predictor::create(model));
  SELVAGE_TRY(const auto second, infer::Predictor::create(reference));
  Agreement result{.task = Task::kPrediction};
  bool is_any_found = false;
  const auto each = [&](std::span<const std::size_t> indices) -> Result<void> {
    SELVAGE_TRY(const auto sample, data.decode(indices.front()));
    SELVAGE_TRY(const auto found, first->predict(sample.input));
    if (!can_judge_outputs(*first)) return not_finite(data, indices.front(), {}, 0, 1, kOwn);
    SELVAGE_TRY(const auto expected, second->predict(sample.input));
    if (!can_judge_outputs(*second)) return not_finite(data, indices.front(), {}, 0, 1, kOther);
    is_any_found = is_any_found || finds_any(found) || finds_any(expected);
    result.agreement += agree(found, expected, reference.card());
    ++result.samples;
    return {};
  };
  SELVAGE_RETURN_IF_ERROR(for_each_batch(data, options.samples, 1, options.progress, each));
  if (!is_any_found)
    return fail(ErrorCode::kFailedPrecondition,
                "no model finds anything in any of the " + std::to_string(result.samples) +
                    " samples, so there is nothing to agree on: are these the right data, and is "
                    "the card's threshold right?");
  result.agreement = ratio(result.agreement, static_cast<double>(result.samples));
  return result;
}

}  // namespace

Result<Agreement> compare(const infer::Model& model, const infer::Model& reference,
                          const infer::Dataset& data, const EvaluateOptions& options) {
  if (compares_predictions(reference.card()))
    return compare_predictions(model, reference, data, options);
  const auto batch =
      std::min(batch_for(model, data, options.batch), batch_for(reference, data, options.batch));
  BatchReader reader(data, batch);
  SELVAGE_TRY(auto first, ModelRunner::create(model, data));
  SELVAGE_TRY(auto second, ModelRunner::create(reference, data));
  Agreement result;
  Differences all;
  const auto each = [&](std::span<const std::size_t> indices) -> Result<void> {
    SELVAGE_TRY(const auto inputs, reader.read(indices));
    SELVAGE_TRY(const auto found, first.run(inputs));
    SELVAGE_TRY(const auto expected, second.run(inputs));
    if (found.size() != expected.size() || found.empty())
      return fail(ErrorCode::kInvalidArgument, data.place(indices.front()) + ": one model gives " +
                                                   std::to_string(found.size()) +
                                                   " elements, the other " +
                                                   std::to_string(expected.size()));
    const auto width = found.size() / indices.size();
    result.task = task_of_comparison(reference, data, width);
    const float threshold = threshold_of(reference.card()).value_or(0.5f);
    for (std::size_t k = 0; k < indices.size(); ++k) {
      const auto one = found.subspan(k * width, width), other = expected.subspan(k * width, width);
      for (const auto& [answer, whose] : {std::pair(one, kOwn), std::pair(other, kOther)})
        if (!can_judge(result.task, answer))
          return not_finite(data, indices[k], inputs, k, indices.size(), whose);
      result.agreement += agree(result.task, one, other, threshold);
    }
    all.add(found, expected);
    result.samples += indices.size();
    return {};
  };
  SELVAGE_RETURN_IF_ERROR(for_each_batch(data, options.samples, batch, options.progress, each));
  result.agreement = ratio(result.agreement, static_cast<double>(result.samples));
  result.sqnr_db = sqnr_db(all);
  result.largest_difference = all.largest;
  return result;
}

}  // namespace selvage::compress
