// Latency percentiles as a picture (SVG).
#pragma once

#include <string>
#include <vector>

#include "base/histogram.h"

namespace selvage::cli {

struct PlottedLatency {
  std::string name;
  HistogramSnapshot latency;
};

/// Latency over percentile, HdrHistogram's way: the horizontal axis is logarithmic in 1 / (1 - p),
/// so that the tail has room. With the 10 ms line. At most ten curves are told apart by colour.
[[nodiscard]] std::string plot_percentiles(const std::string& title,
                                           const std::vector<PlottedLatency>& curves);

}  // namespace selvage::cli
