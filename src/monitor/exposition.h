// Metrics as text for Prometheus (exposition format 0.0.4), written at the moment they are asked
// for from the counters that each domain keeps anyway. docs/adr/0002-metrics-without-a-registry.md
// says why there is no registry.
//
//   Exposition page;
//   page.family("nv_inference_count", Kind::kCounter, "Inferences performed");
//   page.sample({{"model", "blazeface"}, {"version", "1"}}, 42);
#pragma once

#include <cstdint>
#include <initializer_list>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "base/histogram.h"

namespace selvage::monitor {

enum class Kind : std::uint8_t { kCounter, kGauge, kHistogram };

using Labels = std::vector<std::pair<std::string_view, std::string_view>>;

/// Upper bounds in seconds for latencies of an edge machine: 50 us to 10 s, in steps of 1, 2, 5.
[[nodiscard]] std::span<const double> latency_bounds_s();

/// Confined.
class Exposition {
 public:
  /// Begins a metric; its samples follow. `name` is [a-z_]+, in Prometheus's base units.
  void family(std::string_view name, Kind kind, std::string_view help);
  void sample(const Labels& labels, std::uint64_t value);
  void sample(const Labels& labels, double value);
  /// A histogram in seconds with latency_bounds_s().
  void histogram(const Labels& labels, const HistogramSnapshot& values);

  [[nodiscard]] std::string take() && { return std::move(text_); }

 private:
  void line(std::string_view suffix, const Labels& labels, std::string_view bound,
            std::string_view value);

  std::string family_;
  std::string text_;
};

}  // namespace selvage::monitor
