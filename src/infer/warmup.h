// What is run before a model serves: samples that the configuration names, the batch sizes that the
// scheduler will use, and for models that say nothing about batches, whether batches pay at all.
// Internal to the serving core.
#pragma once

#include <cstdint>
#include <filesystem>

#include "infer/model_config.h"
#include "infer/onnx_runner.h"

namespace selvage::infer {

/// Models that take longer than this for one row do not gain from batches on a CPU.
inline constexpr std::chrono::milliseconds kBatchProbeRunMax{20};
inline constexpr std::int64_t kBatchProbeRowsMax = 32;
inline constexpr std::chrono::seconds kWarmUpTime{2};
/// What a doubled batch must save per row to be worth its latency.
inline constexpr double kBatchProbeGain = 0.05;

/// How many rows to merge into one run for a model whose configuration does not say: 0 (none)
/// unless the rows of random batches give the same results as one by one, and a batch is measured
/// to be faster per row.
[[nodiscard]] std::int64_t probe_batching(OnnxRunner& runner);

/// Runs the configured samples, or else zeros at every number of rows up to `rows_max`, the largest
/// first; what kWarmUpTime does not suffice for, at the powers of two only. Zeros prove nothing
/// about models with open dimensions: there they may fail.
[[nodiscard]] Result<void> warm_up(OnnxRunner& runner, const ModelConfig& config,
                                   std::int64_t rows_max, const std::filesystem::path& folder);

}  // namespace selvage::infer
