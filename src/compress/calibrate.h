// Calibration: the real range of every activation, from samples. Values stream through counters of
// fixed size, so memory does not grow with the number of samples (onnxruntime.quantization keeps
// every value of every sample).
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "base/result.h"
#include "base/tensor.h"
#include "compress/quantization.h"
#include "graph/model.h"
#include "infer/runtime.h"

namespace selvage::compress {

/// Where samples come from: a data set, a generator, a test. Called again for each pass with the
/// same index, it must give the same sample.
struct Samples {
  std::size_t count = 0;
  /// The tensors of sample `index`, in the order of the model's inputs. Errors name the sample.
  std::function<Result<std::vector<Tensor>>(std::size_t index)> get;
};

enum class CalibrationMethod : std::uint8_t {
  kMinMax,      ///< The smallest and largest value seen. One pass.
  kEntropy,     ///< Clips where the quantised histogram tells least from the real one (KL).
  kPercentile,  ///< Clips the given share of values.
  kMse,         ///< Clips where the mean squared error of the quantised histogram is least.
};
[[nodiscard]] std::string_view to_string(CalibrationMethod method);

inline constexpr int kCalibrationBinsMax = 1 << 16;
/// Values for each bin below which a histogram is noise: see CalibrationOptions::as_reference.
inline constexpr std::uint64_t kValuesPerBinMin = 16;

struct CalibrationOptions {
  CalibrationMethod method = CalibrationMethod::kMinMax;
  /// kMinMax: each sample moves the range by this part of the way to its own; empty: the extremes
  /// of all samples.
  std::optional<float> moving_average;
  /// Of the histograms. The reference's default for entropy, 128, makes its search find nothing but
  /// the extremes: see docs/quantization.md. Set 128 for equal files.
  int bins = 2048;
  int quantized_bins = 128;    ///< kEntropy: levels that a candidate is quantised to.
  double percentile = 99.999;  ///< kPercentile.
  /// kPercentile: of absolute values, cut at both sides alike (the reference's default). kMinMax:
  /// the range is widened to be symmetric.
  std::optional<Symmetry> symmetry;
  /// kMse: what the values will be quantised to.
  DataType type = DataType::kInt8;
  /// The methods that clip leave two kinds of values alone. Outputs of Sigmoid, HardSigmoid,
  /// Softmax and Tanh are bounded as they are, and what is rare among them (the text of a page, the
  /// one face of a picture) is what the model is about; of values with few elements (those of
  /// squeeze-and-excite blocks) a histogram says nothing. True: they are clipped as the reference
  /// does it.
  bool as_reference = false;
  /// Values that are watched in one run take at most about this much memory; more of them are
  /// watched in further runs of the same samples.
  std::uint64_t memory_max = std::uint64_t{512} << 20;
  /// Called with the runs done and to do; false stops: kCancelled.
  std::function<bool(std::size_t done, std::size_t total)> progress;
};

using RangeMap = std::unordered_map<std::string, RealRange>;

/// The ranges of `values`: inputs of the main graph and outputs of its nodes. Left out of the
/// result are those that are no float32 tensors, and those that are infinite somewhere or hold
/// nothing but NaN: nothing can quantise them. kInvalidArgument for no samples, or samples that do
/// not fit the model; otherwise as infer::Session::load().
[[nodiscard]] Result<RangeMap> calibrate(infer::Runtime& runtime, const graph::Model& model,
                                         std::span<const std::string> values,
                                         const Samples& samples,
                                         const CalibrationOptions& options = {});

}  // namespace selvage::compress
