// Which settings suit a model on this machine: measured, not guessed.
#pragma once

#include <string>
#include <vector>

#include "cli/load.h"
#include "cli/output.h"
#include "cli/workload.h"

namespace selvage::cli {

/// One way to run the model.
struct Setting {
  int threads = 1;
  infer::PowerProfile power = infer::PowerProfile::kBalanced;
  std::string provider;  ///< "" = the CPU alone.
  std::int64_t batch = 1;
  int callers = 1;

  /// "2 threads, latency", "1 thread x 2 callers, balanced".
  [[nodiscard]] std::string name() const;
};

struct Compared {
  Setting setting;
  LoadResult load;
  std::string problem;  ///< Why it was not measured, or "".

  /// Samples, which a batch has several of.
  [[nodiscard]] double per_second() const {
    return load.per_second() * static_cast<double>(setting.batch);
  }
};

struct Comparison {
  std::string model;
  std::string input;
  std::vector<Compared> results;
  std::size_t recommended = 0;  ///< Index into results: lowest tail at the least processor time.
  std::size_t fastest = 0;      ///< Index into results: highest throughput.
};

/// Each setting is measured twice, there and back, for `time` in all, so that a machine that slows
/// down meanwhile favours none. Errors are those of settings that must work: the CPU's.
[[nodiscard]] Result<Comparison> compare(infer::Runtime& runtime, const WorkloadOptions& workload,
                                         const infer::ModelOptions& model,
                                         std::chrono::nanoseconds time, Output& output);

[[nodiscard]] std::string to_text(const Comparison& comparison, const Style& style);
[[nodiscard]] std::string to_json(const Comparison& comparison);

}  // namespace selvage::cli
