// Where two models of the same network differ: value by value, on the same samples.
#pragma once

#include <cstdint>
#include <functional>
#include <limits>
#include <optional>
#include <string>
#include <vector>

#include "base/result.h"
#include "compress/calibrate.h"
#include "graph/model.h"
#include "infer/runtime.h"

namespace selvage::compress {

/// One value that both models have.
struct LayerDifference {
  std::string name;  ///< In the first model.
  std::string type;  ///< Of the operator that makes it.
  /// 20 log10(|x| / |x - y|) over all samples, as onnxruntime's qdq_loss_debug has it; infinite
  /// where they are equal, minus infinity where one holds NaN.
  double sqnr_db = std::numeric_limits<double>::infinity();
  double largest_difference = 0;
  std::optional<RealRange> range;  ///< In the first model; empty where it holds nothing but NaN.
};

struct CompareLayersOptions {
  std::uint64_t memory_max = std::uint64_t{512} << 20;  ///< As CalibrationOptions::memory_max.
  /// Called with the runs done and to do; false stops: kCancelled.
  std::function<bool(std::size_t done, std::size_t total)> progress;
};

/// Values are aligned by name; what quantisation put behind a value (NAME_dq, or
/// onnxruntime.quantization's NAME_DequantizeLinear_Output) stands for it. In the order of the
/// first model. kInvalidArgument when nothing can be aligned; otherwise as calibrate().
[[nodiscard]] Result<std::vector<LayerDifference>> compare_layers(
    infer::Runtime& runtime, const graph::Model& first, const graph::Model& second,
    const Samples& samples, const CompareLayersOptions& options = {});

}  // namespace selvage::compress
