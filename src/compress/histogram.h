// What calibration remembers of a value's elements, and the range that each method takes from it.
// Internal to src/compress.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "compress/counting.h"
#include "compress/quantization.h"

namespace selvage::compress {

/// Counts per bin; NaN and what lies outside is passed over. Confined to one thread.
class Histogram {
 public:
  explicit Histogram(const UniformBins& bins);
  void add(std::span<const float> values);

  [[nodiscard]] const UniformBins& bins() const { return bins_; }
  [[nodiscard]] std::span<const std::uint64_t> counts() const {
    return std::span(counts_).first(counts_.size() - 1);
  }

 private:
  UniformBins bins_;
  std::vector<std::uint64_t> counts_;  ///< One a bin, and one for what lies outside.
};

/// Each takes a histogram over [-T, T], or of absolute values, and what was observed, which bounds
/// the result. As compute_entropy() and compute_percentile() of onnxruntime's calibrate.py.

/// Merges candidate ranges around zero to `quantized_bins` levels; the one whose levels tell most
/// (least KL divergence) wins, the smaller on ties. Needs bins over [-T, T].
[[nodiscard]] RealRange entropy_range(const Histogram& histogram, RealRange observed,
                                      int quantized_bins);
/// Of absolute values: [-p, p] with p at the percentile; otherwise half of what is beyond is cut on
/// each side. The edges are the bins' left ones.
[[nodiscard]] RealRange percentile_range(const Histogram& histogram, RealRange observed,
                                         double percentile);
/// The observed range shrunk by the factor (of kMseSteps between 0 and 1) with the least mean
/// squared error of quantisation to `quantized`.
[[nodiscard]] RealRange mse_range(const Histogram& histogram, RealRange observed,
                                  QuantizedRange quantized, Symmetry symmetry);
inline constexpr int kMseSteps = 100;

}  // namespace selvage::compress
