#include <algorithm>
#include <charconv>
#include <cmath>
#include <optional>

#include "infer/dataset_source.h"

namespace selvage::infer {
namespace {

std::optional<std::int64_t> whole_number(std::string_view text) {
  std::int64_t value = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (error != std::errc() || end != text.data() + text.size()) return std::nullopt;
  return value;
}

std::vector<std::string> numbered_classes(std::int64_t count) {
  std::vector<std::string> names;
  names.reserve(static_cast<std::size_t>(count));
  for (std::int64_t i = 0; i < count; ++i) names.push_back(std::to_string(i));
  return names;
}

Result<Targets> number_by_labels(std::span<const std::string_view> names,
                                 const std::vector<std::string>& labels) {
  Targets targets{.kind = TargetKind::kClass, .classes = labels};
  for (const auto name : names) {
    const auto found = std::ranges::find(labels, name);
    if (found == labels.end())
      return fail(ErrorCode::kInvalidArgument, "the model card has no label '" + std::string(name) +
                                                   "': name the classes as the card's labels do");
    targets.labels.push_back(found - labels.begin());
  }
  return targets;
}

}  // namespace

const std::vector<std::string>& card_labels(const ModelCard& card) {
  static const std::vector<std::string> none;
  const auto* classification = std::get_if<ClassificationOutput>(&card.output);
  return classification ? classification->labels : none;
}

Result<Targets> number_classes(std::span<const std::string_view> names, const ModelCard& card) {
  const auto& labels = card_labels(card);
  const bool numeric =
      std::ranges::all_of(names, [](auto name) { return whole_number(name).has_value(); });
  const bool labelled = std::ranges::all_of(
      names, [&](auto name) { return std::ranges::find(labels, name) != labels.end(); });
  if (numeric && !labelled) {
    std::vector<double> numbers;
    for (const auto name : names) numbers.push_back(static_cast<double>(*whole_number(name)));
    return targets_of_numbers(numbers, 1, true, card);
  }
  if (!labels.empty()) return number_by_labels(names, labels);
  std::vector<std::string> sorted(names.begin(), names.end());
  std::ranges::sort(sorted);
  const auto repeated = std::ranges::unique(sorted);
  sorted.erase(repeated.begin(), repeated.end());
  Targets targets{.kind = TargetKind::kClass};
  for (const auto name : names)
    targets.labels.push_back(std::ranges::lower_bound(sorted, name) - sorted.begin());
  targets.classes = std::move(sorted);
  return targets;
}

Result<Targets> targets_of_numbers(std::span<const double> numbers, std::size_t width, bool whole,
                                   const ModelCard& card) {
  Targets targets;
  if (!whole || width != 1 || std::holds_alternative<RegressionOutput>(card.output)) {
    targets.kind = TargetKind::kValues;
    targets.width = width;
    for (std::size_t i = 0; i < numbers.size(); ++i) {
      if (!std::isfinite(numbers[i]))
        return fail(ErrorCode::kInvalidArgument,
                    "the label of sample " + std::to_string(i / width) + " is not finite");
      targets.values.push_back(static_cast<float>(numbers[i]));
    }
    return targets;
  }
  targets.kind = TargetKind::kClass;
  std::int64_t most = -1;
  for (std::size_t i = 0; i < numbers.size(); ++i) {
    if (!(numbers[i] >= 0 && numbers[i] < static_cast<double>(kDatasetClassesMax)))
      return fail(
          ErrorCode::kInvalidArgument,
          "the label of sample " + std::to_string(i) + " is " +
              std::to_string(static_cast<std::int64_t>(std::clamp(numbers[i], -1e15, 1e15))) +
              ": classes are numbered from 0 and below " + std::to_string(kDatasetClassesMax));
    targets.labels.push_back(static_cast<std::int64_t>(numbers[i]));
    most = std::max(most, targets.labels.back());
  }
  const auto& labels = card_labels(card);
  targets.classes = static_cast<std::int64_t>(labels.size()) > most && !labels.empty()
                        ? labels
                        : numbered_classes(most + 1);
  return targets;
}

}  // namespace selvage::infer
