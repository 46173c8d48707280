#include "compress/calibrate.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <memory>
#include <thread>
#include <unordered_set>

#include <selvage/onnx.pb.h>

#include "compress/histogram.h"
#include "graph/edit.h"
#include "graph/index.h"
#include "infer/session.h"

namespace selvage::compress {
namespace {

constexpr int kThreadsMax = 256;

/// As the reference runs it: nothing fused, nothing rounded, so that ranges agree bit for bit.
infer::SessionOptions plain_options() {
  return {
      .optimization = infer::Optimization::kNone,
      .threads = std::clamp(static_cast<int>(std::thread::hardware_concurrency()), 1, kThreadsMax),
      .flush_denormals = false};
}

/// A value and what was seen of it.
struct Watched {
  std::string name;
  std::size_t index = 0;  ///< Among the session's inputs or outputs.
  bool is_input = false;
  std::uint64_t bytes = 0;  ///< What it takes in one sample, as estimated.
  std::optional<RealRange> range = std::nullopt;
  float smallest_magnitude = std::numeric_limits<float>::infinity();  ///< If uses_magnitudes().
  bool is_infinite = false;
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

/// Bytes of a value of `shape`; where a size is open, as many as the largest that is known.
class SizeEstimate {
 public:
  void learn(std::span<const infer::ValueInfo> values) {
    for (const auto& value : values)
      largest_ = std::max(largest_, byte_size(value.type, value.shape).value_or(0));
  }
  [[nodiscard]] std::uint64_t of(const infer::ValueInfo& value) const {
    return byte_size(value.type, value.shape).value_or(largest_);
  }

 private:
  std::uint64_t largest_ = 4096;
};

/// A copy whose inputs have the shapes of one sample, so that the runtime can work out the others.
Result<graph::Model> with_shapes(const graph::Model& model,
                                 std::span<const infer::ValueInfo> inputs,
                                 std::span<const Tensor> sample) {
  auto fixed = model.copy();
  for (auto& input : *fixed.proto().mutable_graph()->mutable_input()) {
    const auto found = std::ranges::find(inputs, input.name(), &infer::ValueInfo::name);
    if (found == inputs.end()) continue;
    auto& shape = *input.mutable_type()->mutable_tensor_type()->mutable_shape();
    shape.Clear();
    for (const auto size : sample[static_cast<std::size_t>(found - inputs.begin())].shape())
      shape.add_dim()->set_dim_value(size);
  }
  return fixed;
}

class Calibrator {
 public:
  Calibrator(infer::Runtime& runtime, const graph::Model& model, const Samples& samples,
             const CalibrationOptions& options)
      : runtime_(runtime), model_(model), samples_(samples), options_(options) {}

  [[nodiscard]] Result<RangeMap> calibrate(std::span<const std::string> values) {
    SELVAGE_TRY(auto watched, plan(values));
    const auto groups = group(watched);
    total_ = groups.size() * samples_.count * (needs_histogram() ? 2 : 1);
    for (const auto& one : groups) {
      SELVAGE_RETURN_IF_ERROR(watch(one));
    }
    RangeMap ranges;
    for (const auto& value : watched)
      if (value.range && !value.is_infinite) ranges.emplace(value.name, *value.range);
    return ranges;
  }

 private:
  using Group = std::span<Watched>;

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

  /// Finds the values that are float32 tensors, and what they take.
  [[nodiscard]] Result<std::vector<Watched>> plan(std::span<const std::string> values) {
    SELVAGE_TRY(const auto plain, graph::expose_values(model_, {}));
    SELVAGE_TRY(const auto session, infer::Session::load(runtime_, plain, plain_options()));
    SELVAGE_TRY(const auto sample, fetch(*session, 0));
    SELVAGE_TRY(const auto fixed, with_shapes(model_, session->inputs(), sample));
    SELVAGE_TRY(const auto exposed, graph::expose_values(fixed, values));
    SELVAGE_TRY(const auto sized, infer::Session::load(runtime_, exposed, plain_options()));
    SizeEstimate estimate;
    estimate.learn(sized->inputs());
    estimate.learn(sized->outputs());
    std::vector<Watched> watched;
    std::unordered_set<std::string_view> known;
    for (const auto& name : values) {
      const auto input = sized->input_index(name);
      const auto output = sized->output_index(name);
      if ((!input && !output) || !known.insert(name).second) continue;
      const auto& info = input ? sized->inputs()[*input] : sized->outputs()[*output];
      if (info.kind != infer::ValueKind::kTensor || info.type != DataType::kFloat32) continue;
      watched.push_back({.name = name,
                         .index = input.value_or(0),
                         .is_input = input.has_value(),
                         .bytes = input ? 0 : estimate.of(info)});
    }
    return watched;
  }

  /// Neighbours that together take at most memory_max.
  [[nodiscard]] std::vector<Group> group(std::vector<Watched>& watched) const {
    std::vector<Group> groups;
    std::size_t begin = 0;
    std::uint64_t bytes = 0;
    for (std::size_t i = 0; i < watched.size(); ++i) {
      if (i > begin && bytes + watched[i].bytes > options_.memory_max) {
        groups.push_back(std::span(watched).subspan(begin, i - begin));
        begin = i;
        bytes = 0;
      }
      bytes += watched[i].bytes;
    }
    if (begin < watched.size()) groups.push_back(std::span(watched).subspan(begin));
    return groups;
  }

  [[nodiscard]] Result<std::vector<Tensor>> fetch(const infer::Session& session,
                                                  std::size_t index) const {
    SELVAGE_TRY(auto tensors, samples_.get(index));
    if (tensors.size() != session.inputs().size())
      return fail(ErrorCode::kInvalidArgument,
                  "sample " + std::to_string(index) + " has " + std::to_string(tensors.size()) +
                      " tensors, the model " + std::to_string(session.inputs().size()) + " inputs");
    return tensors;
  }

  [[nodiscard]] Result<void> watch(Group group) {
    std::vector<std::string> names;
    for (const auto& value : group)
      if (!value.is_input) names.push_back(value.name);
    SELVAGE_TRY(const auto exposed, graph::expose_values(model_, names));
    SELVAGE_TRY(const auto session, infer::Session::load(runtime_, exposed, plain_options()));
    SELVAGE_TRY(const auto binding, infer::Binding::create(*session));
    for (auto& value : group)
      if (!value.is_input) value.index = *session->output_index(value.name);
    SELVAGE_RETURN_IF_ERROR(run_all(*session, *binding, group, &Calibrator::note_extremes));
    if (!needs_histogram()) {
      if (is_symmetric())
        for (auto& value : group)
          if (value.range) value.range = symmetric(*value.range);
      return {};
    }
    for (auto& value : group) begin_histogram(value);
    SELVAGE_RETURN_IF_ERROR(run_all(*session, *binding, group, &Calibrator::note_counts));
    for (auto& value : group) decide(value);
    return {};
  }

  [[nodiscard]] static RealRange symmetric(RealRange range) {
    const float limit = std::max(std::abs(range.min), std::abs(range.max));
    return {-limit, limit};
  }

  using Note = void (Calibrator::*)(Watched&, std::span<const float>) const;

  [[nodiscard]] Result<void> run_all(const infer::Session& session, infer::Binding& binding,
                                     Group group, Note note) {
    for (std::size_t i = 0; i < samples_.count; ++i) {
      SELVAGE_TRY(const auto tensors, fetch(session, i));
      for (std::size_t k = 0; k < tensors.size(); ++k) {
        SELVAGE_RETURN_IF_ERROR(binding.bind_input(k, tensors[k].view()));
      }
      SELVAGE_RETURN_IF_ERROR(binding.run());
      for (auto& value : group) {
        const auto tensor =
            value.is_input ? tensors[value.index].view() : binding.output(value.index);
        (this->*note)(value, tensor.as<float>());
      }
      ++done_;
      if (options_.progress && !options_.progress(done_, total_))
        return fail(ErrorCode::kCancelled, "interrupted");
    }
    return {};
  }

  void note_extremes(Watched& value, std::span<const float> elements) const {
    const auto now = range_of(elements);
    if (!now) return;
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
