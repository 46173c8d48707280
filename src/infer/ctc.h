// Text from character scores over time: connectionist temporal classification, best path.
// Source: A. Graves et al., "Connectionist Temporal Classification" (2006), section 3.2.
#pragma once

#include <vector>

#include "base/result.h"
#include "base/tensor.h"
#include "infer/model_card.h"
#include "infer/prediction.h"

namespace selvage::infer {

/// The most likely class of each step, repetitions once, blanks removed. `scores` is [1, T, C]:
/// kInvalidArgument otherwise, and when C is not what the card's labels make. Confidence is the
/// mean score of the characters kept (as PaddleOCR's CTCLabelDecode), 0 without any. `scratch`
/// keeps its memory for the next call.
[[nodiscard]] Result<Text> decode_ctc(const TensorView& scores, const CtcTextOutput& card,
                                      std::vector<float>& scratch);

}  // namespace selvage::infer
