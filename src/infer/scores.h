// Class scores: activations and the best of them.
#pragma once

#include <span>
#include <vector>

#include "infer/model_card.h"
#include "infer/prediction.h"

namespace selvage::infer {

/// 1 / (1 + e^-x).
[[nodiscard]] float sigmoid(float x);

/// In place. Softmax subtracts the maximum first, so that no finite score overflows; equal infinite
/// scores share the probability. NaN scores become 0 in softmax and stay NaN otherwise.
void activate(std::span<float> scores, Activation activation);

/// The index of the largest score, the first of several; NaN is never the largest. 0 when there is
/// no number at all. The inner loop of text recognition: vectorised.
[[nodiscard]] std::size_t index_of_max(std::span<const float> scores);

/// The card's `top` best of activated scores, best first, of those at or above its threshold.
/// `order` is scratch.
[[nodiscard]] Classification top_classes(std::span<const float> scores,
                                         const ClassificationOutput& card,
                                         std::vector<std::size_t>& order);

}  // namespace selvage::infer
