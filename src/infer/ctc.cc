#include "infer/ctc.h"

#include <algorithm>

#include "infer/elements.h"
#include "infer/scores.h"

namespace selvage::infer {

Result<Text> decode_ctc(const TensorView& scores, const CtcTextOutput& card,
                        std::vector<float>& scratch) {
  const std::size_t classes = card.labels.size() + 1 + (card.append_space ? 1 : 0);
  const auto rank = scores.shape.size();
  if (rank < 2 || scores.shape[rank - 1] != static_cast<std::int64_t>(classes) ||
      element_count(scores.shape) != scores.shape[rank - 2] * scores.shape[rank - 1])
    return fail(ErrorCode::kInvalidArgument,
                "character scores of shape " + to_string(scores.shape) +
                    " do not fit the model card: [1, T, " + std::to_string(classes) + "] for " +
                    std::to_string(card.labels.size()) + " labels, the blank" +
                    (card.append_space ? " and a space" : ""));
  SELVAGE_TRY(const auto values, as_floats(scores, scratch));
  const auto blank = static_cast<std::size_t>(card.blank);
  std::vector<float> step;  // Only for models that leave the activation to the card.
  Text text;
  double sum = 0;
  std::size_t kept = 0;
  std::size_t previous = blank;
  for (std::size_t begin = 0; begin + classes <= values.size(); begin += classes) {
    auto row = values.subspan(begin, classes);
    const auto best = index_of_max(row);
    if (best != std::exchange(previous, best) && best != blank) {
      if (card.activation != Activation::kNone) {
        step.assign(row.begin(), row.end());
        activate(step, card.activation);
        row = step;
      }
      const auto label = best < blank ? best : best - 1;
      text.text += label < card.labels.size() ? card.labels[label] : " ";
      sum += static_cast<double>(row[best]);
      ++kept;
    }
  }
  if (kept > 0) text.confidence = static_cast<float>(sum / static_cast<double>(kept));
  return text;
}

}  // namespace selvage::infer
