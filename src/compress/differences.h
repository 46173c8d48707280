// How far the elements of a value are from what they should be.
#pragma once

#include <algorithm>
#include <cmath>
#include <limits>
#include <span>

namespace selvage::compress {

/// Sums over elements. What is equal, a NaN to a NaN and an infinity to the same, is no difference;
/// a NaN or infinity in place of anything else is an infinite one.
struct Differences {
  double signal = 0;  ///< Of the squares of what is expected, where that is finite.
  double noise = 0;   ///< Of the squared differences.
  double largest = 0;

  /// As many elements as both have.
  void add(std::span<const float> value, std::span<const float> expected) {
    const auto count = std::min(value.size(), expected.size());
    for (std::size_t i = 0; i < count; ++i) {
      const double wanted = static_cast<double>(expected[i]);
      double difference = std::abs(static_cast<double>(value[i]) - wanted);
      if (!std::isfinite(difference)) {
        const bool is_equal =
            value[i] == expected[i] || (std::isnan(value[i]) && std::isnan(wanted));
        difference = is_equal ? 0 : std::numeric_limits<double>::infinity();
      }
      if (std::isfinite(wanted)) signal += wanted * wanted;
      noise += difference * difference;
      largest = std::max(largest, difference);
    }
  }
};

}  // namespace selvage::compress
