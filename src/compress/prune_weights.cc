#include "compress/prune_weights.h"

#include <algorithm>
#include <array>
#include <bit>
#include <cmath>
#include <cstring>
#include <random>
#include <unordered_set>

#include <selvage/onnx.pb.h>

#include "graph/attributes.h"
#include "graph/index.h"
#include "graph/names.h"
#include "graph/values.h"

namespace selvage::compress {
namespace {

/// The weights of an operator: which inputs, and which axis of a two-dimensional one they sum over.
struct Prunable {
  std::string_view type;
  std::array<int, 2> inputs;
  int sum_axis;
};
constexpr std::array kPrunable = {
    Prunable{"Conv", {1, -1}, 1}, Prunable{"ConvTranspose", {1, -1}, 0},
    Prunable{"Gemm", {1, -1}, 0}, Prunable{"MatMul", {0, 1}, -2},
    Prunable{"LSTM", {1, 2}, -1}, Prunable{"GRU", {1, 2}, -1},
    Prunable{"RNN", {1, 2}, -1}};

struct Weight {
  int tensor = 0;
  int sum_axis = 0;  ///< The inputs of a weighted sum lie along it.
};

int sum_axis_of(const Prunable& found, const onnx::NodeProto& node, int input, std::size_t rank) {
  int axis = found.sum_axis;
  if (found.type == "Gemm" && graph::int_attribute(node, "transB", 0) != 0) axis = 1;
  if (found.type == "MatMul" && input == 0) axis = -1;
  return axis < 0 ? axis + static_cast<int>(rank) : axis;
}

class Finder {
 public:
  Finder(const graph::Model& model, const PruneWeightsOptions& options)
      : graph_(model.proto().graph()), index_(graph_), options_(options) {}

  Result<std::vector<Weight>> run(std::vector<SkippedWeight>& skipped) {
    for (const auto& node : graph_.node()) {
      known_.insert(node.name());
      for (const auto& candidate : kPrunable)
        if (graph::is_op(node, candidate.type)) visit(node, candidate, skipped);
    }
    for (const auto& tensor : graph_.initializer()) known_.insert(tensor.name());
    for (const auto& name : options_.excluded)
      if (!known_.contains(name))
        return fail(ErrorCode::kInvalidArgument,
                    "nothing in the model is named " + graph::quote(name));
    return std::move(weights_);
  }

 private:
  void visit(const onnx::NodeProto& node, const Prunable& candidate,
             std::vector<SkippedWeight>& skipped) {
    for (const int input : candidate.inputs) {
      if (input < 0 || input >= node.input_size() || node.input(input).empty()) continue;
      const auto& name = node.input(input);
      const int tensor = index_.initialiser(name);
      if (tensor == graph::Index::kNone || !seen_.insert(tensor).second) continue;
      const auto& proto = graph_.initializer(tensor);
      const auto skip = [&](std::string reason) { skipped.push_back({name, std::move(reason)}); };
      if (is_excluded(node.name()) || is_excluded(name)) {
        skip("excluded");
      } else if (index_.is_input(name)) {
        skip("is an input of the model, which its caller may replace");
      } else if (!graph::is_float(graph::type_of(proto))) {
        skip("holds " + std::string(to_string(graph::type_of(proto))));
      } else if (proto.dims_size() < 2) {
        skip("has a single dimension");
      } else {
        weights_.push_back({tensor, sum_axis_of(candidate, node, input,
                                                static_cast<std::size_t>(proto.dims_size()))});
      }
    }
  }
  [[nodiscard]] bool is_excluded(const std::string& name) const {
    return std::ranges::find(options_.excluded, name) != options_.excluded.end();
  }

  const onnx::GraphProto& graph_;
  const graph::Index index_;
  const PruneWeightsOptions& options_;
  std::unordered_set<std::string> known_;
  std::unordered_set<int> seen_;
  std::vector<Weight> weights_;
};

/// Python's round(): half to even.
std::uint64_t round_half_even(double value) {
  return static_cast<std::uint64_t>(std::nearbyint(value));
}

/// torch's _compute_nparams_toprune, over what is not pruned yet.
Result<std::uint64_t> count_to_prune(const PruneWeightsOptions& options, std::uint64_t unpruned,
                                     const std::string& of) {
  if (const auto* fraction = std::get_if<double>(&options.amount)) {
    if (!(*fraction >= 0 && *fraction <= 1))
      return fail(ErrorCode::kInvalidArgument,
                  "the amount must be a fraction from 0 to 1, or a whole number");
    return round_half_even(*fraction * static_cast<double>(unpruned));
  }
  const auto count = std::get<std::uint64_t>(options.amount);
  if (count > unpruned)
    return fail(ErrorCode::kInvalidArgument, "cannot prune " + std::to_string(count) +
                                                 " weights of " + of + ", which has " +
                                                 std::to_string(unpruned) + " that are not zero");
  return count;
}

/// The `count`-th smallest of `keys`, from 1, and how many are below it. By counting the upper
/// halves and then the lower ones: nothing to predict, nothing to move.
struct NthKey {
  std::uint32_t key = 0;
  std::uint64_t below = 0;
};
NthKey nth_key(std::span<const std::uint32_t> keys, std::uint64_t count) {
  NthKey nth;
  std::vector<std::uint64_t> counts(1u << 16);
  const auto find = [&](int shift) {
    std::uint32_t half = 0;
    for (; nth.below + counts[half] < count; ++half) nth.below += counts[half];
    nth.key |= half << shift;
  };
  for (const auto key : keys) ++counts[key >> 16];
  find(16);
  std::ranges::fill(counts, 0);
  for (const auto key : keys)
    if (key >> 16 == nth.key >> 16) ++counts[key & 0xFFFFu];
  find(0);
  return nth;
}

/// A number for each unpruned weight, the smallest of which go first: the bits of magnitudes, which
/// are in the order of the magnitudes, or torch.rand() turned round. NaN counts as infinity, so
/// that it goes last, as in torch.topk(). Numbers are made twice, so that they need not be kept
/// once the threshold is known.
class Ranking {
 public:
  explicit Ranking(const PruneWeightsOptions& options)
      : is_random_(options.criterion == WeightCriterion::kRandom),
        engine_(static_cast<std::uint32_t>(options.seed)) {}

  /// Forgets what was added; the random numbers go on.
  void begin() {
    keys_.clear();
    replay_ = engine_;
    threshold_ = 0;
    ties_ = 0;
  }
  void add(std::span<const float> values) {
    for (const float value : values)
      if (value != 0) keys_.push_back(key_of(value, engine_));
  }
  [[nodiscard]] std::uint64_t size() const { return keys_.size(); }

  /// Chooses `count` of what was added since begin(): those below a threshold, and of those equal
  /// to it the first.
  void choose(std::uint64_t count) {
    if (count == 0) {
      engine_ = replay_;  // torch draws no numbers for a tensor that keeps everything.
    } else {
      const auto nth = nth_key(keys_, count);
      threshold_ = nth.key;
      ties_ = count - nth.below;
    }
    keys_ = {};
  }
  /// Whether a weight goes. Asked for each that was added, in the same order.
  bool goes(float value) {
    if (value == 0) return false;
    const auto key = key_of(value, replay_);
    if (key < threshold_) return true;
    if (key > threshold_ || ties_ == 0) return false;
    --ties_;
    return true;
  }

 private:
  std::uint32_t key_of(float value, std::mt19937& engine) const {
    // torch draws 24 bits of each number of its Mersenne Twister.
    constexpr std::uint32_t kDrawn = 0xFF'FFFF;
    if (is_random_) return kDrawn - (static_cast<std::uint32_t>(engine()) & kDrawn);
    return std::bit_cast<std::uint32_t>(std::isnan(value) ? INFINITY : std::abs(value));
  }

  bool is_random_;
  std::mt19937 engine_, replay_;
  std::vector<std::uint32_t> keys_;
  std::uint32_t threshold_ = 0;
  std::uint64_t ties_ = 0;
};

class WeightPruner {
 public:
  WeightPruner(graph::Model& model, const PruneWeightsOptions& options)
      : model_(model), graph_(*model.proto().mutable_graph()), options_(options) {}

  Result<void> run(std::span<const Weight> weights) {
    if (options_.criterion == WeightCriterion::kNOfM) {
      for (const auto& weight : weights) SELVAGE_RETURN_IF_ERROR(prune_blocks(weight));
      return {};
    }
    Ranking ranking(options_);
    if (options_.is_global) return prune_together(weights, ranking);
    // All amounts first: a wrong one must leave the model as it is.
    const bool is_count = std::holds_alternative<std::uint64_t>(options_.amount);
    for (const auto& weight : weights) {
      SELVAGE_TRY(const auto unpruned,
                  is_count ? count_unpruned(weight.tensor) : Result<std::uint64_t>(0));
      SELVAGE_RETURN_IF_ERROR(count_to_prune(options_, unpruned, name_of(weight)));
    }
    for (const auto& weight : weights) {
      ranking.begin();
      SELVAGE_RETURN_IF_ERROR(rank(weight.tensor, ranking));
      SELVAGE_TRY(const auto count, count_to_prune(options_, ranking.size(), name_of(weight)));
      ranking.choose(count);
      SELVAGE_RETURN_IF_ERROR(zero_chosen(weight.tensor, ranking));
    }
    return {};
  }

 private:
  Result<void> prune_together(std::span<const Weight> weights, Ranking& ranking) {
    ranking.begin();
    for (const auto& weight : weights) SELVAGE_RETURN_IF_ERROR(rank(weight.tensor, ranking));
    SELVAGE_TRY(const auto count, count_to_prune(options_, ranking.size(), "the model"));
    ranking.choose(count);
    for (const auto& weight : weights) SELVAGE_RETURN_IF_ERROR(zero_chosen(weight.tensor, ranking));
    return {};
  }

  [[nodiscard]] std::string name_of(const Weight& weight) const {
    return graph::quote(graph_.initializer(weight.tensor).name());
  }
  [[nodiscard]] Result<std::vector<float>> values_of(int tensor) const {
    return graph::read_floats(graph_.initializer(tensor), model_.folder());
  }
  [[nodiscard]] Result<std::uint64_t> count_unpruned(int tensor) const {
    SELVAGE_TRY(const auto values, values_of(tensor));
    return values.size() - static_cast<std::uint64_t>(std::ranges::count(values, 0.0f));
  }
  Result<void> rank(int tensor, Ranking& ranking) const {
    SELVAGE_TRY(const auto values, values_of(tensor));
    ranking.add(values);
    return {};
  }

  /// Zeroes elements in place; the others keep their bits.
  template <typename Choose>
  Result<void> zero(int tensor, Choose goes) {
    SELVAGE_TRY(const auto values, values_of(tensor));
    auto& proto = *graph_.mutable_initializer(tensor);
    SELVAGE_TRY(const auto bytes, graph::edit_bytes(proto, model_.folder()));
    const auto width = graph::bits_of_stored(proto) / 8;
    for (std::size_t i = 0; i < values.size(); ++i)
      if (goes(i, values)) std::memset(bytes.data() + i * width, 0, width);
    return {};
  }
  Result<void> zero_chosen(int tensor, Ranking& ranking) {
    return zero(tensor, [&](std::size_t i, std::span<const float> values) {
      return ranking.goes(values[i]);
    });
  }

  /// Of each block of m weights along the sum axis the n largest stay, the first among equals. A
  /// last, shorter block keeps n, too.
  Result<void> prune_blocks(const Weight& weight) {
    const auto shape = graph::shape_of(graph_.initializer(weight.tensor));
    std::size_t inner = 1;
    for (auto i = static_cast<std::size_t>(weight.sum_axis) + 1; i < shape.size(); ++i)
      inner *= static_cast<std::size_t>(shape[i]);
    const auto length = static_cast<std::size_t>(shape[static_cast<std::size_t>(weight.sum_axis)]);
    const auto n = static_cast<std::size_t>(options_.n), m = static_cast<std::size_t>(options_.m);
    return zero(weight.tensor, [=](std::size_t i, std::span<const float> values) {
      const auto position = i / inner % length;
      const auto first = position / m * m;
      std::size_t larger = 0;
      for (auto other = first; other < std::min(first + m, length); ++other) {
        const auto magnitude = std::abs(values[i + (other - position) * inner]);
        const auto own = std::abs(values[i]);
        larger += magnitude > own || (magnitude == own && other < position) ? 1u : 0u;
      }
      return larger >= n;
    });
  }

  graph::Model& model_;
  onnx::GraphProto& graph_;
  const PruneWeightsOptions& options_;
};

Result<void> check_options(const PruneWeightsOptions& options) {
  if (options.criterion != WeightCriterion::kNOfM) return {};
  static constexpr int kBlockMax = 1024;
  if (options.n < 0 || options.m < 1 || options.n > options.m || options.m > kBlockMax)
    return fail(ErrorCode::kInvalidArgument, std::to_string(options.n) + ":" +
                                                 std::to_string(options.m) +
                                                 " is no pattern: of every M weights, at most " +
                                                 std::to_string(kBlockMax) + ", N stay");
  return {};
}

Result<std::vector<graph::TensorSparsity>> sparsity_of(const graph::Model& model,
                                                       std::span<const Weight> weights) {
  SELVAGE_TRY(const auto all, graph::measure_sparsity(model));
  std::vector<graph::TensorSparsity> found;
  for (const auto& weight : weights) {
    const auto& name = model.proto().graph().initializer(weight.tensor).name();
    found.push_back(*std::ranges::find(all, name, &graph::TensorSparsity::name));
  }
  return found;
}

}  // namespace

Result<PruneWeightsReport> prune_weights(graph::Model& model, const PruneWeightsOptions& options) {
  SELVAGE_RETURN_IF_ERROR(check_options(options));
  PruneWeightsReport report;
  SELVAGE_TRY(const auto weights, Finder(model, options).run(report.skipped));
  SELVAGE_TRY(report.before, sparsity_of(model, weights));
  SELVAGE_RETURN_IF_ERROR(WeightPruner(model, options).run(weights));
  SELVAGE_TRY(report.after, sparsity_of(model, weights));
  return report;
}

}  // namespace selvage::compress
