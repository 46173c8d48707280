// The error of each layer as a picture (SVG).
#pragma once

#include <string>
#include <vector>

#include "compress/compare_layers.h"

namespace selvage::cli {

/// SQNR of each value in the order of the network, a bar each; the worst ones carry their names.
[[nodiscard]] std::string plot_layers(const std::string& title,
                                      const std::vector<compress::LayerDifference>& layers);

}  // namespace selvage::cli
