// Puts our own operators (kernels.h) into a forward graph. Internal to src/learn.
#pragma once

#include <string>
#include <unordered_set>

#include "learn/prepare.h"

namespace selvage::learn {

/// Replaces, in a graph in training mode (training_mode.h), each Conv that our kernel can compute
/// and whose weights are no constants (with a constant weight the runtime's is as fast), and each
/// BatchNormalization by the batch together with the Relu or Clip, or the addition and Relu, behind
/// it, where nobody else sees the values in between. Edits `prepared`.
void use_own_operators(PreparedModel& prepared, const std::unordered_set<std::string>& trained);

}  // namespace selvage::learn
