// The options of `selvage quantize`, and what they ask of the library.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "base/result.h"
#include "base/tensor.h"
#include "cli/data_options.h"
#include "cli/options.h"
#include "cli/retrain.h"
#include "compress/pad_inputs.h"
#include "compress/quantization.h"
#include "compress/quantize_static.h"

namespace CLI {
class App;
}  // namespace CLI

namespace selvage::cli {

/// What the command line of `selvage quantize` says.
struct QuantizeFlags {
  std::string model, out;
  bool is_static = false, is_dynamic = false, is_weight_only = false;
  std::string floats;  ///< "float16" or "bfloat16".
  bool storage = false;
  DataFlags data;
  std::size_t samples = 300;

  std::string format = "qdq";
  std::string activations{to_string(compress::kFastActivations)}, weights = "int8";
  bool per_channel = false, symmetric = false;
  bool reduce_range = false, full_range = false;
  bool float_bias = false;

  int bits = 4, block = 128, accuracy_level = 0;
  std::string rounding = "nearest";

  std::string calibration = "minmax";
  std::optional<int> bins;
  std::optional<double> percentile;
  std::optional<float> moving_average;
  std::uint64_t memory_megabytes = 512;

  compress::NodeSelection selection;
  bool connected = false;
  std::vector<std::string> overrides;
  bool no_passes = false, no_measure = false;
  bool equalize = false, correct_bias = false;
  std::optional<float> smooth;
  std::size_t evaluate_samples = 2000;
  RetrainFlags training;
  SessionFlags session;

  [[nodiscard]] std::optional<compress::Width> width() const;
  /// Errors name the override that cannot be read.
  [[nodiscard]] Result<compress::StaticOptions> static_options() const;
};

/// kUndefined for a name that no quantised type has.
[[nodiscard]] DataType quantized_type_named(const std::string& name);

/// Adds all options; `flags` must outlive the parsing.
void add_quantize_options(CLI::App& app, QuantizeFlags& flags);

}  // namespace selvage::cli
