// Mixed precision by sensitivity: groups of quantised nodes go back to float, the worst first,
// until the quality is good enough. The loop of NNCF's accuracy control
// (openvinotoolkit/nncf, quantization/algorithms/accuracy_control/algorithm.py).
#pragma once

#include <cstddef>
#include <functional>
#include <vector>

#include "base/result.h"

namespace selvage::compress {

/// Which groups are in float.
using Reverted = std::vector<std::size_t>;

struct RevertOptions {
  std::size_t groups = 0;
  double quality = 0;         ///< With nothing reverted.
  double quality_wanted = 0;  ///< Ends the loop.
  /// The quality with these groups in float: decides.
  std::function<Result<double>(const Reverted&)> quality_of;
  /// How far the outputs are from the original's then, on other samples: ranks. Cheaper, and finer
  /// than an accuracy that counts whole samples.
  std::function<Result<double>(const Reverted&)> error_of;
  /// Asked between steps; false ends the loop with what there is.
  std::function<bool()> keep_going;
};

struct RevertOutcome {
  Reverted reverted;  ///< In the order in which they went.
  double quality = 0;
  /// The output's error with nothing but one group reverted: the lower, the more that group hurts.
  /// Infinite where it could not be found out. Empty if the ranking did not end.
  std::vector<double> errors;
  std::size_t evaluations = 0;  ///< Calls of quality_of.
};

/// Ranks the groups by the error that is left without each of them, then reverts them in this
/// order. One step that makes the quality worse is tolerated at the start and after a step back;
/// any other is taken back, its group stays quantised, and the rest is ranked again. kCancelled and
/// errors of quality_of end it; a group whose error_of fails otherwise is ranked last.
[[nodiscard]] Result<RevertOutcome> revert_until_good(const RevertOptions& options);

}  // namespace selvage::compress
