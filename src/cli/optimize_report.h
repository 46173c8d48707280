// What `selvage optimize` found, as text, as JSON and as a page that needs nothing but itself.
#pragma once

#include <cstddef>
#include <optional>
#include <string>
#include <vector>

#include "cli/model_change.h"
#include "cli/text.h"
#include "compress/candidate.h"
#include "compress/compare_layers.h"
#include "compress/optimize.h"
#include "compress/optimize_machine.h"

namespace selvage::cli {

struct OptimizeReport {
  compress::CommandNames names;
  compress::Targets targets;
  compress::OptimizeResult result;
  compress::WorkTimes times;
  std::string quality;  ///< What it is: "accuracy", "agreement with the original", ...
  bool is_part = true;  ///< Quality is a part of the whole, shown in per cent.
  std::size_t evaluation_samples = 0;
  std::size_t layers_of = 0;  ///< The candidate that `layers` compares with the original.
  std::vector<compress::LayerDifference> layers;
  bool is_written = true;             ///< False: not even the original meets the targets.
  std::optional<ModelChange> change;  ///< Of the file that was written.

  [[nodiscard]] const compress::Candidate& chosen() const {
    return result.candidates[result.chosen];
  }
};

[[nodiscard]] std::string to_text(const OptimizeReport& report, const Style& style);
[[nodiscard]] std::string to_json(const OptimizeReport& report);
/// HTML with an inline SVG plot: no script, no style sheet or picture from elsewhere.
[[nodiscard]] std::string to_html(const OptimizeReport& report);

/// The command that makes a candidate, quoted for a shell; "" for the original.
[[nodiscard]] std::string command_line(const OptimizeReport& report,
                                       const compress::Candidate& candidate);
/// "98.41 %", or three digits of what is no part of a whole.
[[nodiscard]] std::string quality_text(const OptimizeReport& report, double quality);
/// "-0.31", in points or the quality's unit; "" for the original.
[[nodiscard]] std::string drop_text(const OptimizeReport& report,
                                    const compress::Candidate& candidate);
/// Why a candidate was taken or not.
[[nodiscard]] std::string verdict(const OptimizeReport& report, std::size_t index);
/// "12 candidates in 48.2 s: 91 % running models, 6 % loading them, 3 % everything else".
[[nodiscard]] std::string effort_text(const OptimizeReport& report);

}  // namespace selvage::cli
