// What a benchmark measured, as text and as JSON.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "base/json_writer.h"
#include "cli/cold_start.h"
#include "cli/load.h"
#include "cli/subject.h"
#include "cli/text.h"

namespace selvage::cli {

/// Of this process, in bytes; zeros where the system does not tell.
struct ResidentMemory {
  std::uint64_t now = 0;
  std::uint64_t most = 0;
  [[nodiscard]] static ResidentMemory read();
};

/// The latency of one stage of one step.
struct StageLatency {
  std::string step;  ///< "" for a single model.
  infer::Stage stage;
  HistogramSnapshot latency;
};

struct BenchReport {
  std::string model;
  std::string input;
  std::string unit;
  std::size_t callers = 1;
  double rate = 0;
  infer::SessionOptions session;  ///< Of the first model, as decided.
  LoadResult load;
  std::vector<StageLatency> stages;  ///< Empty where only the session ran.
  std::chrono::nanoseconds load_time{};
  ResidentMemory memory_before, memory_loaded, memory_after;
  std::optional<ColdStart> cold_start;
};

[[nodiscard]] std::string to_text(const BenchReport& report, const Style& style);
[[nodiscard]] std::string to_json(const BenchReport& report);

/// The cells "p50 p90 p99 p99.9 max" of a latency table, and their titles.
[[nodiscard]] std::vector<Column> latency_columns();
[[nodiscard]] std::vector<Cell> latency_cells(const HistogramSnapshot& latency);
/// {"count": ..., "mean": ..., "p50": ...}, in milliseconds.
void write_latency(std::string_view key, const HistogramSnapshot& latency, JsonWriter& json);

}  // namespace selvage::cli
