// What `selvage quantize` says of its work.
#pragma once

#include <cstddef>
#include <optional>
#include <string>
#include <vector>

#include "cli/model_change.h"
#include "cli/quantize_options.h"
#include "cli/text.h"
#include "compress/quantize_static.h"
#include "learn/trainer.h"

namespace selvage::cli {

/// What `selvage quantize` did.
struct QuantizeReport {
  std::string method;
  compress::QuantizationReport quantization;
  std::optional<std::size_t> samples;
  std::optional<std::size_t> equalized, smoothed, corrected;
  std::vector<std::string> bound;  ///< Inputs that nothing reads any more.
  std::optional<learn::TrainResult> training;
  std::optional<ModelChange> change;
};

/// For people.
[[nodiscard]] std::string to_text(const QuantizeReport& report, const QuantizeFlags& flags,
                                  const Style& style);
/// For programs.
[[nodiscard]] std::string to_json(const QuantizeReport& report, const QuantizeFlags& flags);

}  // namespace selvage::cli
