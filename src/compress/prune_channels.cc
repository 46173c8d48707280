#include "compress/prune_channels.h"

#include <algorithm>
#include <cmath>
#include <numeric>
#include <ranges>
#include <unordered_map>
#include <unordered_set>

#include <selvage/onnx.pb.h>

#include "graph/index.h"
#include "graph/values.h"

namespace selvage::compress {
namespace {

/// Sums of an initialiser's scores over everything but one axis, for each of its axes.
using AxisSums = std::vector<std::vector<double>>;

AxisSums sum_by_axis(std::span<const float> scores, const Shape& shape) {
  AxisSums sums;
  std::size_t inner = scores.size();
  for (const auto size : shape) {
    auto& along = sums.emplace_back(static_cast<std::size_t>(size), 0.0);
    if (along.empty()) continue;
    inner /= along.size();
    for (std::size_t i = 0; i < scores.size(); ++i)
      along[i / inner % along.size()] += static_cast<double>(scores[i]);
  }
  return sums;
}

/// What each channel of each group is worth, by the mean of its group.
class Scorer {
 public:
  Scorer(const graph::Model& model, const Channels& channels, const ChannelOptions& options)
      : model_(model), graph_(model.proto().graph()), channels_(channels), options_(options) {}

  Result<std::vector<std::vector<double>>> run() {
    find_batch_norm_scales();
    std::vector<std::vector<double>> worths;
    for (const auto& group : channels_.groups()) {
      SELVAGE_TRY(auto worth, score(group));
      const auto sum = std::accumulate(worth.begin(), worth.end(), 0.0);
      if (!std::isfinite(sum))
        return fail(ErrorCode::kFailedPrecondition,
                    "the channels of '" + group.name +
                        "' cannot be ranked: their weights or scores hold NaN or infinity");
      const auto mean = sum / static_cast<double>(worth.size());
      for (auto& value : worth) value = mean > 0 ? value / mean : 0;
      worths.push_back(std::move(worth));
    }
    return worths;
  }

 private:
  void find_batch_norm_scales() {
    const graph::Index index(graph_);
    for (const auto& node : graph_.node())
      if (graph::is_op(node, "BatchNormalization") && node.input_size() > 1)
        if (const int scale = index.initialiser(node.input(1)); scale != graph::Index::kNone)
          batch_norm_scales_.insert(scale);
  }

  Result<std::vector<double>> score(const ChannelGroup& group) {
    const auto has_scale = std::ranges::any_of(group.channels.front().slices, [&](const Slice& s) {
      return batch_norm_scales_.contains(s.tensor);
    });
    const bool by_scale = options_.importance == Importance::kBatchNorm && has_scale;
    std::vector<double> worth;
    for (const auto& channel : group.channels) {
      double sum = 0;
      for (const auto& slice : channel.slices) {
        const bool is_weight = graph_.initializer(slice.tensor).dims_size() >= 2;
        if (by_scale ? !batch_norm_scales_.contains(slice.tensor) : !is_weight) continue;
        SELVAGE_TRY(const auto* sums, sums_of(slice.tensor));
        if (sums != nullptr)
          sum +=
              (*sums)[static_cast<std::size_t>(slice.axis)][static_cast<std::size_t>(slice.index)];
      }
      const bool is_square = !by_scale && (options_.importance == Importance::kL2 ||
                                           options_.importance == Importance::kBatchNorm);
      worth.push_back(is_square ? std::sqrt(sum) : sum);
    }
    return worth;
  }

  /// Null for an initialiser that has no scores.
  Result<const AxisSums*> sums_of(int tensor) {
    const auto [entry, is_new] = sums_.try_emplace(tensor);
    if (!is_new) return entry->second.empty() ? nullptr : &entry->second;
    const auto& proto = graph_.initializer(tensor);
    SELVAGE_TRY(const auto scores, scores_of(tensor));
    const auto shape = graph::shape_of(proto);
    if (scores.empty()) return nullptr;
    if (static_cast<std::int64_t>(scores.size()) != element_count(shape))
      return fail(ErrorCode::kInvalidArgument,
                  "the scores of '" + proto.name() + "' are not one for each of its elements");
    entry->second = sum_by_axis(scores, shape);
    return &entry->second;
  }

  Result<std::vector<float>> scores_of(int tensor) {
    const auto& proto = graph_.initializer(tensor);
    if (options_.importance == Importance::kGiven) {
      if (!options_.scores)
        return fail(ErrorCode::kInvalidArgument, "importance by given scores, but none are given");
      return options_.scores(proto.name()).value_or(std::vector<float>());
    }
    if (!graph::is_float(graph::type_of(proto))) return std::vector<float>();
    SELVAGE_TRY(auto values, graph::read_floats(proto, model_.folder()));
    const bool is_square =
        options_.importance == Importance::kL2 ||
        (options_.importance == Importance::kBatchNorm && !batch_norm_scales_.contains(tensor));
    for (auto& value : values) value = is_square ? value * value : std::abs(value);
    return values;
  }

  const graph::Model& model_;
  const onnx::GraphProto& graph_;
  const Channels& channels_;
  const ChannelOptions& options_;
  std::unordered_set<int> batch_norm_scales_;
  std::unordered_map<int, AxisSums> sums_;
};

/// Removals by one number from 0 (nothing) to 1 (as much as the options allow): each contains those
/// of smaller numbers.
class Ladder {
 public:
  Ladder(const Channels& channels, const ChannelOptions& options, std::int64_t round_to,
         std::vector<std::vector<double>> worths)
      : channels_(channels), options_(options), round_to_(round_to), worths_(std::move(worths)) {
    for (std::size_t g = 0; g < worths_.size(); ++g) {
      std::vector<std::size_t> order(worths_[g].size());
      std::iota(order.begin(), order.end(), std::size_t{0});
      std::ranges::stable_sort(order, {}, [&](std::size_t c) { return worths_[g][c]; });
      for (std::size_t i = 0; i < order.size(); ++i) ranking_.push_back({g, order[i]});
      orders_.push_back(std::move(order));
    }
    std::ranges::stable_sort(ranking_, {},
                             [&](const auto& place) { return worths_[place.first][place.second]; });
  }

  [[nodiscard]] Removal at(double fraction) const {
    auto removal = channels_.none();
    std::vector<double> wanted(orders_.size(), 0);
    if (options_.is_global) {
      const auto count = std::lround(fraction * static_cast<double>(ranking_.size()));
      for (std::size_t i = 0; i < static_cast<std::size_t>(count); ++i)
        wanted[ranking_[i].first] += 1;
    } else {
      for (std::size_t g = 0; g < orders_.size(); ++g)
        wanted[g] = fraction * static_cast<double>(orders_[g].size());
    }
    for (std::size_t g = 0; g < orders_.size(); ++g) mark(removal[g], g, wanted[g]);
    return removal;
  }

  /// The least important channels of one group; how many is rounded.
  void mark(std::vector<bool>& removal, std::size_t group, double wanted) const {
    const auto gone = rounded(group, wanted);
    for (std::size_t i = 0; i < gone; ++i) removal[orders_[group][i]] = true;
  }

 private:
  /// Channels to remove so that what stays is a multiple of round_to, at least one multiple, and at
  /// least what group_ratio_max leaves.
  [[nodiscard]] std::size_t rounded(std::size_t group, double wanted) const {
    const auto& found = channels_.groups()[group];
    if (std::ranges::find(options_.excluded, found.name) != options_.excluded.end()) return 0;
    const auto size = static_cast<std::int64_t>(found.channels.size());
    const auto step = round_to_ / std::gcd(round_to_, found.width);
    const auto least = std::ceil(static_cast<double>(size) * (1 - options_.group_ratio_max));
    const auto left = std::max(static_cast<double>(size) - wanted, least);
    auto kept = std::max<std::int64_t>(std::llround(left / static_cast<double>(step)), 1) * step;
    if (static_cast<double>(kept) < least) kept += step;
    return static_cast<std::size_t>(std::max<std::int64_t>(size - kept, 0));
  }

  const Channels& channels_;
  const ChannelOptions& options_;
  std::int64_t round_to_;
  std::vector<std::vector<double>> worths_;
  std::vector<std::vector<std::size_t>> orders_;  // Of each group, least important first.
  std::vector<std::pair<std::size_t, std::size_t>> ranking_;  // Of all: group and channel.
};

Result<void> check_options(const Channels& channels, const ChannelOptions& options) {
  if (options.round_to && *options.round_to < 1)
    return fail(ErrorCode::kInvalidArgument, "channels cannot be rounded to multiples of " +
                                                 std::to_string(*options.round_to) +
                                                 ": use 1 or more");
  for (const auto& name : options.excluded) {
    if (std::ranges::find(channels.groups(), name, &ChannelGroup::name) != channels.groups().end())
      continue;
    return fail(ErrorCode::kInvalidArgument,
                "no group of prunable channels is named '" + name + "'");
  }
  return {};
}

/// What is left of a model under a removal, in one number.
class Gauge {
 public:
  Gauge(const graph::Model& model, const Channels& channels, const PruneTarget& target,
        const ChannelOptions& options)
      : model_(model), channels_(channels), target_(target), options_(options) {}

  Result<void> begin() {
    SELVAGE_TRY(whole_, measure(channels_.none()));
    if (whole_ > 0) return {};
    if (target_.kind == PruneTargetKind::kMacs)
      return fail(
          ErrorCode::kFailedPrecondition,
          "the multiply-accumulates cannot be counted, since sizes are open: give them with "
          "--dim, or prune by --params");
    return fail(ErrorCode::kFailedPrecondition, "the model has nothing that could be pruned");
  }
  /// As a fraction of the whole.
  Result<double> operator()(const Removal& removal) const {
    double whole = whole_;
    // A machine's speed drifts: the two are timed in turn.
    if (target_.kind == PruneTargetKind::kLatency) {
      SELVAGE_TRY(whole, measure(channels_.none()));
    }
    SELVAGE_TRY(const auto left, measure(removal));
    return left / whole;
  }

 private:
  [[nodiscard]] Result<double> measure(const Removal& removal) const {
    switch (target_.kind) {
      case PruneTargetKind::kMacs: {
        const auto summary =
            graph::summarise(model_, channels_.shapes_after(removal), {.batch = options_.batch});
        return static_cast<double>(summary.macs);
      }
      case PruneTargetKind::kParameters: return count_parameters(removal);
      case PruneTargetKind::kLatency: {
        auto pruned = model_.copy();
        SELVAGE_RETURN_IF_ERROR(channels_.remove(pruned, removal));
        SELVAGE_TRY(const auto time, options_.measure(pruned));
        return static_cast<double>(time.count());
      }
      case PruneTargetKind::kRatio: break;
    }
    return 1.0;
  }

  [[nodiscard]] double count_parameters(const Removal& removal) const {
    const auto shapes = channels_.shapes_after(removal);
    double count = 0;
    for (const auto& tensor : model_.proto().graph().initializer())
      count += static_cast<double>(element_count(shapes.at(tensor.name())).value_or(0));
    return count;
  }

  const graph::Model& model_;
  const Channels& channels_;
  const PruneTarget& target_;
  const ChannelOptions& options_;
  double whole_ = 0;
};

std::string percent(double fraction) {
  return std::to_string(std::lround(100 * fraction)) + " %";
}

/// The part of a message that blames rounding, where there is any.
std::string or_rounding(std::int64_t round_to) {
  if (round_to == 1) return "";
  return ", or channels are rounded up to multiples of " + std::to_string(round_to) +
         " (--round 1 allows any number)";
}

/// Rounding makes whole groups jump at once: takes back what the target does not need of the step
/// from `less`, which is too little, to `plan`, one group after the other.
Result<void> settle(const Removal& less, const Gauge& gauge, double target, RemovalPlan& plan) {
  for (std::size_t g = 0; g < less.size(); ++g) {
    if (less[g] == plan.removal[g]) continue;
    auto removal = plan.removal;
    removal[g] = less[g];
    SELVAGE_TRY(const auto reached, gauge(removal));
    if (reached > target) continue;
    plan.removal = std::move(removal);
    plan.reached = reached;
  }
  return {};
}

/// Halves the interval of fractions until the removal that just meets the target is found. A
/// measured time is noisy, and each costs: fewer steps.
Result<RemovalPlan> search(const Ladder& ladder, const Gauge& gauge, const PruneTarget& target,
                           std::int64_t round_to) {
  const bool is_measured = target.kind == PruneTargetKind::kLatency;
  double low = 0, high = 1;
  RemovalPlan best{.removal = ladder.at(high), .round_to = round_to};
  SELVAGE_TRY(best.reached, gauge(best.removal));
  if (best.reached > target.value)
    return fail(ErrorCode::kFailedPrecondition, "at best " + percent(best.reached) +
                                                    " would be left, not " + percent(target.value) +
                                                    ": too much of the model cannot be pruned" +
                                                    or_rounding(round_to));
  for (int i = 0; i < (is_measured ? 6 : 20); ++i) {
    const double middle = (low + high) / 2;
    auto removal = ladder.at(middle);
    SELVAGE_TRY(const auto reached, gauge(removal));
    if (reached <= target.value) {
      high = middle;
      best = {.removal = std::move(removal), .reached = reached, .round_to = round_to};
    } else {
      low = middle;
    }
  }
  if (!is_measured) SELVAGE_RETURN_IF_ERROR(settle(ladder.at(low), gauge, target.value, best));
  return best;
}

double removed_part(const Removal& removal) {
  std::size_t removed = 0, all = 0;
  for (const auto& group : removal) {
    removed += static_cast<std::size_t>(std::ranges::count(group, true));
    all += group.size();
  }
  return all == 0 ? 0 : static_cast<double>(removed) / static_cast<double>(all);
}

/// Why nothing can go: of the first nodes whose channels must stay.
std::string reasons(const Channels& channels) {
  constexpr std::size_t kShown = 3;
  std::string text;
  for (const auto& frozen : channels.frozen() | std::views::take(kShown))
    text += (text.empty() ? ": " : "; ") + frozen.name + " " + frozen.reason;
  return text + (channels.frozen().size() > kShown ? "; ..." : "");
}

}  // namespace

std::int64_t preferred_channel_multiple() {
#if defined(__x86_64__)
  return __builtin_cpu_supports("avx512f") ? 16 : 8;
#else
  return 8;
#endif
}

Result<RemovalPlan> plan_removal(const graph::Model& model, const Channels& channels,
                                 const PruneTarget& target, const ChannelOptions& options) {
  SELVAGE_RETURN_IF_ERROR(check_options(channels, options));
  if (!(target.value > 0 && target.value < 1))
    return fail(ErrorCode::kInvalidArgument, "the target must lie between 0 and 1, both excluded");
  if (target.kind == PruneTargetKind::kLatency && !options.measure)
    return fail(ErrorCode::kInvalidArgument, "a target of latency needs something to measure it");
  if (channels.groups().empty())
    return fail(ErrorCode::kFailedPrecondition,
                "no channel of the model can be removed" + reasons(channels));
  SELVAGE_TRY(const auto worths, Scorer(model, channels, options).run());
  Gauge gauge(model, channels, target, options);
  if (target.kind != PruneTargetKind::kRatio) SELVAGE_RETURN_IF_ERROR(gauge.begin());
  const auto plan_with = [&](std::int64_t round_to) -> Result<RemovalPlan> {
    const Ladder ladder(channels, options, round_to, worths);
    if (target.kind != PruneTargetKind::kRatio) return search(ladder, gauge, target, round_to);
    RemovalPlan plan{.removal = ladder.at(target.value), .round_to = round_to};
    plan.reached = 1 - removed_part(plan.removal);
    return plan;
  };
  auto plan = plan_with(options.round_to.value_or(preferred_channel_multiple()));
  const bool is_enough = plan && plan->reached < 1;
  if (!is_enough && !options.round_to && preferred_channel_multiple() != kFineChannelMultiple)
    plan = plan_with(kFineChannelMultiple);
  const auto is_kept = [](const std::vector<bool>& group) {
    return std::ranges::find(group, true) == group.end();
  };
  if (plan && std::ranges::all_of(plan->removal, is_kept))
    return fail(
        ErrorCode::kFailedPrecondition,
        std::string("no channel would be removed: all are excluded") +
            (target.kind == PruneTargetKind::kRatio ? ", the amount is too small (--amount)" : "") +
            or_rounding(plan->round_to));
  return plan;
}

Result<std::vector<Sensitivity>> scan_sensitivity(
    const graph::Model& model, const Channels& channels, const ChannelOptions& options,
    std::span<const double> ratios,
    const std::function<Result<double>(const graph::Model&)>& evaluate) {
  SELVAGE_RETURN_IF_ERROR(check_options(channels, options));
  SELVAGE_TRY(auto worths, Scorer(model, channels, options).run());
  const Ladder ladder(channels, options, options.round_to.value_or(kFineChannelMultiple),
                      std::move(worths));
  std::vector<Sensitivity> found;
  for (std::size_t g = 0; g < channels.groups().size(); ++g) {
    const auto& group = channels.groups()[g];
    const auto size = static_cast<std::int64_t>(group.channels.size());
    Sensitivity sensitivity{.group = group.name, .channels = size, .points = {}};
    for (const auto ratio : ratios) {
      auto removal = channels.none();
      ladder.mark(removal[g], g, ratio * static_cast<double>(size));
      const auto removed = std::ranges::count(removal[g], true);
      if (removed == 0) continue;  // Rounded away.
      auto pruned = model.copy();
      SELVAGE_RETURN_IF_ERROR(channels.remove(pruned, removal));
      SELVAGE_TRY(const auto metric, evaluate(pruned));
      sensitivity.points.push_back(
          {.ratio = static_cast<double>(removed) / static_cast<double>(size), .metric = metric});
    }
    found.push_back(std::move(sensitivity));
  }
  return found;
}

}  // namespace selvage::compress
