// Where the time of a run goes, operator by operator: from the runtime's own trace.
#pragma once

#include <chrono>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"

namespace selvage::cli {

struct ProfiledNode {
  std::string name;
  std::string type;      ///< The operator.
  std::string provider;  ///< "CPU", "CUDA", ...
  std::chrono::nanoseconds mean{};
};

struct Profile {
  std::uint64_t runs = 0;
  std::chrono::nanoseconds run_mean{};  ///< Of a whole run, as the runtime saw it.
  std::vector<ProfiledNode> nodes;      ///< Of the optimised graph, slowest first.
};

/// Reads ONNX Runtime's trace: a JSON array of Chrome trace events ("cat": "Node", "dur" in
/// microseconds). The first `runs_ignored` runs were warm-up. kDataLoss for another format.
[[nodiscard]] Result<Profile> parse_trace(std::string_view json, std::uint64_t runs_ignored);

}  // namespace selvage::cli
