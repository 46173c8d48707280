#include "infer/scores.h"

#include <algorithm>
#include <cmath>
#include <limits>

#include "infer/labels.h"

namespace selvage::infer {
namespace {

constexpr float kInfinity = std::numeric_limits<float>::infinity();

float max_of(std::span<const float> values) {
  // One maximum per lane, so that the compiler can use vector registers: NaN never compares above.
  constexpr std::size_t kLanes = 16;
  float lanes[kLanes];
  std::fill_n(lanes, kLanes, -kInfinity);
  std::size_t i = 0;
  for (; i + kLanes <= values.size(); i += kLanes)
    for (std::size_t k = 0; k < kLanes; ++k)
      lanes[k] = values[i + k] > lanes[k] ? values[i + k] : lanes[k];
  float most = -kInfinity;
  for (; i < values.size(); ++i) most = values[i] > most ? values[i] : most;
  for (const float lane : lanes) most = lane > most ? lane : most;
  return most;
}

// NaN stays what it is, and no class: a broken model is not sure of its first one.
void softmax(std::span<float> scores) {
  const float most = max_of(scores);
  float sum = 0;
  for (float& score : scores) {
    if (std::isnan(score)) continue;
    // Infinity minus infinity is NaN: an infinite maximum takes part by equality.
    if (std::isinf(most))
      score = score == most ? 1.0f : 0.0f;
    else
      score = std::exp(score - most);
    sum += score;
  }
  if (sum > 0)
    for (float& score : scores) score /= sum;
}

}  // namespace

float sigmoid(float x) {
  return 1.0f / (1.0f + std::exp(-x));
}

void activate(std::span<float> scores, Activation activation) {
  if (activation == Activation::kSoftmax) softmax(scores);
  if (activation == Activation::kSigmoid)
    for (float& score : scores) score = sigmoid(score);
}

std::size_t index_of_max(std::span<const float> scores) {
  const float most = max_of(scores);
  const auto found = std::ranges::find(scores, most);
  return found == scores.end() ? 0 : static_cast<std::size_t>(found - scores.begin());
}

Classification top_classes(std::span<const float> scores, const ClassificationOutput& card,
                           std::vector<std::size_t>& order) {
  order.clear();
  for (std::size_t i = 0; i < scores.size(); ++i)
    if (scores[i] >= card.threshold) order.push_back(i);
  const auto count = std::min(order.size(), static_cast<std::size_t>(card.top));
  std::ranges::partial_sort(order, order.begin() + static_cast<std::ptrdiff_t>(count),
                            [&](std::size_t a, std::size_t b) {
                              return scores[a] != scores[b] ? scores[a] > scores[b] : a < b;
                            });
  Classification result;
  result.classes.reserve(count);
  for (std::size_t i = 0; i < count; ++i)
    result.classes.push_back({.index = static_cast<std::int32_t>(order[i]),
                              .score = scores[order[i]],
                              .label = label_of(card.labels, static_cast<std::int64_t>(order[i]))});
  return result;
}

}  // namespace selvage::infer
