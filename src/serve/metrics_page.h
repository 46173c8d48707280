// /metrics: Triton's counters under their names, so that its dashboards work, and histograms of
// queue, compute and total beside them.
#pragma once

#include <string>
#include <vector>

#include "infer/model_statistics.h"

namespace selvage::serve {

[[nodiscard]] std::string metrics_page(const std::vector<infer::ModelStatistics>& all);

}  // namespace selvage::serve
