// LSTM, GRU and RNN spelled out step by step, so that gates are visible to the gradient rules.
// Internal to src/learn.
#pragma once

#include "base/result.h"
#include "graph/model.h"
#include "learn/expression.h"

namespace selvage::learn {

/// Replaces each LSTM, GRU and RNN of the main graph by one matrix product for all its inputs and,
/// for each step of the sequence, one for the state and the gates. Sequences have the length that
/// `types` tells. kUnimplemented for what is rare: lengths that differ within a batch, activations
/// with parameters, clipped or coupled gates, sequences above kStepsMax, the batch-first layout.
[[nodiscard]] Result<void> lower_recurrent(graph::Model& model, const ValueTypes& types);

/// Each step becomes about 15 nodes.
inline constexpr std::int64_t kStepsMax = 2048;

}  // namespace selvage::learn
