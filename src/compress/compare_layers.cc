#include "compress/compare_layers.h"

#include <algorithm>
#include <array>
#include <cmath>

#include <selvage/onnx.pb.h>

#include "compress/differences.h"
#include "compress/exposed.h"
#include "compress/graph_writer.h"
#include "graph/index.h"
#include "graph/values.h"

namespace selvage::compress {
namespace {

using graph::Index;

/// What quantisers call a value that is in integers for a while: ours, and
/// onnxruntime.quantization.
constexpr std::array kDequantizedSuffixes{kDequantizedSuffix,
                                          std::string_view("_DequantizeLinear_Output")};

struct Pair {
  std::string first, second, type;
};

/// Running sums over samples.
struct Sums {
  Differences differences;
  std::optional<RealRange> range;
  bool is_broken = false;  ///< Holds NaN, which is equal to nothing.

  void add(std::span<const float> x, std::span<const float> y) {
    differences.add(y, x);
    is_broken = is_broken || std::ranges::any_of(x, [](float value) { return std::isnan(value); });
    const auto now = range_of(x);
    if (!now) return;
    if (!range) range = now;
    range->min = std::min(range->min, now->min);
    range->max = std::max(range->max, now->max);
  }
  [[nodiscard]] double sqnr_db() const {
    // qdq_loss_debug floors both norms, so that silence has a finite answer.
    constexpr double kFloor = 1e-12;
    const auto& [signal, noise, largest] = differences;
    if (is_broken) return -std::numeric_limits<double>::infinity();
    if (noise == 0) return std::numeric_limits<double>::infinity();
    return 20 *
           std::log10(std::max(std::sqrt(signal), kFloor) / std::max(std::sqrt(noise), kFloor));
  }
};

/// A value of the second model that stands for one of the first; "" if there is none.
std::string counterpart(const std::string& name, const Index& second) {
  for (const auto suffix : kDequantizedSuffixes) {
    auto dequantized = name + std::string(suffix);
    if (second.producer(dequantized) != Index::kNone) return dequantized;
  }
  return second.producer(name) != Index::kNone ? name : "";
}

std::vector<Pair> align(const onnx::GraphProto& first, const onnx::GraphProto& second) {
  const Index index(second);
  std::vector<Pair> pairs;
  for (const auto& node : first.node())
    for (const auto& name : node.output())
      if (auto other = name.empty() ? "" : counterpart(name, index); !other.empty())
        pairs.push_back({name, std::move(other), node.op_type()});
  return pairs;
}

class Comparison {
 public:
  Comparison(infer::Runtime& runtime, const graph::Model& first, const graph::Model& second,
             const Samples& samples, const CompareLayersOptions& options)
      : runtime_(runtime), first_(first), second_(second), samples_(samples), options_(options) {}

  [[nodiscard]] Result<std::vector<LayerDifference>> run() {
    const auto pairs = align(first_.proto().graph(), second_.proto().graph());
    std::unordered_map<std::string_view, const Pair*> by_name;
    std::vector<std::string> names;
    for (const auto& pair : pairs) {
      by_name.emplace(pair.first, &pair);
      names.push_back(pair.first);
    }
    SELVAGE_TRY(const auto sample, samples_.get(0));
    // Both models' values are held at once.
    SELVAGE_TRY(const auto groups,
                group_values(runtime_, first_, names, sample,
                             std::max<std::uint64_t>(1, options_.memory_max / 2)));
    if (groups.empty())
      return fail(ErrorCode::kInvalidArgument,
                  "the two models have no float32 value of the same name: are they the same "
                  "network?");
    total_ = groups.size() * samples_.count;
    std::vector<LayerDifference> found;
    for (const auto& group : groups) {
      SELVAGE_RETURN_IF_ERROR(compare(group, by_name, found));
    }
    return found;
  }

 private:
  [[nodiscard]] Result<void> compare(
      const std::vector<std::string>& group,
      const std::unordered_map<std::string_view, const Pair*>& by_name,
      std::vector<LayerDifference>& found) {
    std::vector<std::string> others;
    for (const auto& name : group) others.push_back(by_name.at(name)->second);
    SELVAGE_TRY(auto first, ExposedModel::create(runtime_, first_, group));
    SELVAGE_TRY(auto second, ExposedModel::create(runtime_, second_, others));
    std::vector<Sums> sums(group.size());
    std::vector<bool> comparable(group.size(), true);
    for (std::size_t i = 0; i < samples_.count; ++i) {
      SELVAGE_TRY(const auto tensors, samples_.get(i));
      SELVAGE_RETURN_IF_ERROR(first.run(tensors));
      SELVAGE_RETURN_IF_ERROR(second.run(tensors));
      for (std::size_t k = 0; k < group.size(); ++k) {
        const auto x = first.value(k), y = second.value(k);
        if (y.type != DataType::kFloat32 || !std::ranges::equal(x.shape, y.shape))
          comparable[k] = false;
        else
          sums[k].add(x.as<float>(), y.as<float>());
      }
      ++done_;
      if (options_.progress && !options_.progress(done_, total_))
        return fail(ErrorCode::kCancelled, "interrupted");
    }
    for (std::size_t k = 0; k < group.size(); ++k)
      if (comparable[k])
        found.push_back({.name = group[k],
                         .type = by_name.at(group[k])->type,
                         .sqnr_db = sums[k].sqnr_db(),
                         .largest_difference = sums[k].differences.largest,
                         .range = sums[k].range});
    return {};
  }

  infer::Runtime& runtime_;
  const graph::Model &first_, &second_;
  const Samples& samples_;
  const CompareLayersOptions& options_;
  std::size_t done_ = 0, total_ = 0;
};

}  // namespace

Result<std::vector<LayerDifference>> compare_layers(infer::Runtime& runtime,
                                                    const graph::Model& first,
                                                    const graph::Model& second,
                                                    const Samples& samples,
                                                    const CompareLayersOptions& options) {
  if (samples.count == 0)
    return fail(ErrorCode::kInvalidArgument, "a comparison needs at least one sample");
  return Comparison(runtime, first, second, samples, options).run();
}

}  // namespace selvage::compress
