#include "compress/calibrate.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <limits>
#include <unordered_set>

#include <selvage/onnx.pb.h>

#include "compress/exposed.h"
#include "compress/histogram.h"
#include "graph/index.h"

namespace selvage::compress {
namespace {

constexpr std::array<std::string_view, 4> kBoundedTypes{"Sigmoid", "HardSigmoid", "Softmax",
                                                        "Tanh"};

/// A value and what was seen of it.
struct Watched {
  std::string name;
  std::optional<RealRange> range = std::nullopt;
  float smallest_magnitude = std::numeric_limits<float>::infinity();  ///< If uses_magnitudes().
  bool is_infinite = false;
  bool is_bounded = false;     ///< By the operator that makes it.
  std::uint64_t elements = 0;  ///< In all samples.
  std::optional<Histogram> histogram = std::nullopt;
};

Result<void> check_options(const CalibrationOptions& options, const Samples& samples) {
  const auto refuse = [](std::string what) {
    return fail(ErrorCode::kInvalidArgument, std::move(what));
  };
  if (samples.count == 0) return refuse("calibration needs at least one sample");
  if (options.bins < 2 || options.bins > kCalibrationBinsMax)
    return refuse("histograms have 2 to " + std::to_string(kCalibrationBinsMax) + " bins, not " +
                  std::to_string(options.bins));
  if (options.quantized_bins < 1 || options.quantized_bins > options.bins)
    return refuse("histograms of " + std::to_string(options.bins) + " bins are quantised to 1 to " +
                  std::to_string(options.bins) + " bins, not " +
                  std::to_string(options.quantized_bins));
  if (!(options.percentile > 0 && options.percentile <= 100))
    return refuse("a percentile is above 0 and at most 100");
  if (options.moving_average && !(*options.moving_average >= 0 && *options.moving_average <= 1))
    return refuse("the constant of a moving average is 0 to 1");
  if (options.method == CalibrationMethod::kMse && !is_quantized_type(options.type))
    return refuse("values cannot be quantised to " + std::string(to_string(options.type)));
  return {};
}

class Calibrator {
 public:
  Calibrator(infer::Runtime& runtime, const graph::Model& model, const Samples& samples,
             const CalibrationOptions& options)
      : runtime_(runtime), model_(model), samples_(samples), options_(options) {
    for (const auto& node : model.proto().graph().node())
      if (std::ranges::any_of(kBoundedTypes,
                              [&](std::string_view type) { return graph::is_op(node, type); }))
        bounded_.insert(node.output().begin(), node.output().end());
  }

  [[nodiscard]] Result<RangeMap> calibrate(std::span<const std::string> values) {
    SELVAGE_TRY(const auto first, samples_.get(0));
    SELVAGE_TRY(const auto groups,
                group_values(runtime_, model_, values, first, options_.memory_max));
    total_ = groups.size() * samples_.count * (needs_histogram() ? 2 : 1);
    RangeMap ranges;
    for (const auto& names : groups) {
      SELVAGE_TRY(const auto watched, watch(names));
      for (const auto& value : watched)
        if (value.range && !value.is_infinite) ranges.emplace(value.name, *value.range);
    }
    return ranges;
  }

 private:
  [[nodiscard]] bool needs_histogram() const {
    return options_.method != CalibrationMethod::kMinMax;
  }
  [[nodiscard]] bool is_symmetric() const {
    const bool by_default = options_.method == CalibrationMethod::kPercentile;
    return options_.symmetry ? *options_.symmetry == Symmetry::kSymmetric : by_default;
  }

  [[nodiscard]] bool uses_magnitudes() const {
    return options_.method == CalibrationMethod::kPercentile && is_symmetric();
  }

  [[nodiscard]] Result<std::vector<Watched>> watch(std::span<const std::string> names) {
    SELVAGE_TRY(auto exposed, ExposedModel::create(runtime_, model_, names));
    std::vector<Watched> watched;
    for (const auto& name : names)
      watched.push_back({.name = name, .is_bounded = bounded_.contains(name)});
    SELVAGE_RETURN_IF_ERROR(run_all(exposed, watched, &Calibrator::note_extremes));
    if (!needs_histogram()) {
      if (is_symmetric())
        for (auto& value : watched)
          if (value.range) value.range = symmetric(*value.range);
      return watched;
    }
    for (auto& value : watched) begin_histogram(value);
    SELVAGE_RETURN_IF_ERROR(run_all(exposed, watched, &Calibrator::note_counts));
    for (auto& value : watched) decide(value);
    return watched;
  }

  [[nodiscard]] static RealRange symmetric(RealRange range) {
    const float limit = std::max(std::abs(range.min), std::abs(range.max));
    return {-limit, limit};
  }

  using Note = void (Calibrator::*)(Watched&, std::span<const float>) const;

  [[nodiscard]] Result<void> run_all(ExposedModel& exposed, std::span<Watched> watched, Note note) {
    for (std::size_t i = 0; i < samples_.count; ++i) {
      SELVAGE_TRY(const auto tensors, samples_.get(i));
      SELVAGE_RETURN_IF_ERROR(exposed.run(tensors));
      for (std::size_t k = 0; k < watched.size(); ++k)
        (this->*note)(watched[k], exposed.value(k).as<float>());
      ++done_;
      if (options_.progress && !options_.progress(done_, total_))
        return fail(ErrorCode::kCancelled, "interrupted");
    }
    return {};
  }

  void note_extremes(Watched& value, std::span<const float> elements) const {
    const auto now = range_of(elements);
    if (!now) return;
    value.elements += elements.size();
    if (uses_magnitudes())
      value.smallest_magnitude =
          std::min(value.smallest_magnitude, counting().magnitudes(elements).min);
    if (std::isinf(now->min) || std::isinf(now->max)) value.is_infinite = true;
    if (!value.range) {
      value.range = now;
    } else if (options_.moving_average && !needs_histogram()) {
      const float part = *options_.moving_average;
      value.range->min += part * (now->min - value.range->min);
      value.range->max += part * (now->max - value.range->max);
    } else {
      value.range->min = std::min(value.range->min, now->min);
      value.range->max = std::max(value.range->max, now->max);
    }
  }

  void begin_histogram(Watched& value) const {
    if (!value.range || value.is_infinite) return;
    const auto elements_min = kValuesPerBinMin * static_cast<std::uint64_t>(options_.bins);
    if (!options_.as_reference && (value.is_bounded || value.elements < elements_min)) return;
    const float limit = symmetric(*value.range).max;
    const bool absolute = uses_magnitudes();
    auto bins =
        UniformBins::between(absolute ? value.smallest_magnitude : -limit, limit, options_.bins);
    bins.absolute = absolute;
    value.histogram.emplace(bins);
  }

  void note_counts(Watched& value, std::span<const float> elements) const {
    if (value.histogram) value.histogram->add(elements);
  }

  void decide(Watched& value) const {
    if (!value.histogram) return;
    switch (options_.method) {
      case CalibrationMethod::kEntropy:
        value.range = entropy_range(*value.histogram, *value.range, options_.quantized_bins);
        break;
      case CalibrationMethod::kPercentile:
        value.range = percentile_range(*value.histogram, *value.range, options_.percentile);
        break;
      case CalibrationMethod::kMse: {
        const auto symmetry = is_symmetric() ? Symmetry::kSymmetric : Symmetry::kAsymmetric;
        value.range = mse_range(*value.histogram, *value.range,
                                quantized_range(options_.type, symmetry), symmetry);
        break;
      }
      case CalibrationMethod::kMinMax: break;
    }
    value.histogram.reset();
  }

  infer::Runtime& runtime_;
  const graph::Model& model_;
  const Samples& samples_;
  const CalibrationOptions& options_;
  std::unordered_set<std::string> bounded_;
  std::size_t done_ = 0, total_ = 0;
};

}  // namespace

std::string_view to_string(CalibrationMethod method) {
  switch (method) {
    case CalibrationMethod::kMinMax: return "minmax";
    case CalibrationMethod::kEntropy: return "entropy";
    case CalibrationMethod::kPercentile: return "percentile";
    case CalibrationMethod::kMse: return "mse";
  }
  return "";
}

Result<RangeMap> calibrate(infer::Runtime& runtime, const graph::Model& model,
                           std::span<const std::string> values, const Samples& samples,
                           const CalibrationOptions& options) {
  SELVAGE_RETURN_IF_ERROR(check_options(options, samples));
  return Calibrator(runtime, model, samples, options).calibrate(values);
}

}  // namespace selvage::compress
