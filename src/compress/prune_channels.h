// Structured pruning: whole channels leave a model, least important first, until a target is met.
// This makes models faster on any runtime; accuracy comes back by fine-tuning.
//
//   SELVAGE_TRY(const auto channels, Channels::analyse(model, shapes));
//   PruneTarget target{.kind = PruneTargetKind::kMacs, .value = 0.5};
//   SELVAGE_TRY(const auto plan, plan_removal(model, channels, target, {}));
//   SELVAGE_RETURN_IF_ERROR(channels.remove(model, plan.removal));
#pragma once

#include <chrono>
#include <cstdint>
#include <functional>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"
#include "compress/channels.h"
#include "graph/model.h"
#include "graph/summary.h"

namespace selvage::compress {

/// What a channel is worth. Scores of all its weights of two or more dimensions are added up, then
/// divided by the mean of the group, so that groups can be ranked together.
enum class Importance : std::uint8_t {
  kL1,         ///< Sum of magnitudes.
  kL2,         ///< Root of the sum of squares.
  kBatchNorm,  ///< Magnitude of the batch norms' scales; kL2 for groups without any.
  kGiven,      ///< ChannelOptions::scores: |weight * gradient| (first-order Taylor), or anything.
};

enum class PruneTargetKind : std::uint8_t {
  kRatio,  ///< `value`: the fraction of each group's channels (of all, if is_global) to remove.
  kMacs,   ///< `value`: the fraction of the multiply-accumulates to keep.
  kParameters,  ///< `value`: the fraction of the parameters to keep.
  kLatency,     ///< `value`: the fraction of ChannelOptions::measure's time to keep.
};
struct PruneTarget {
  PruneTargetKind kind = PruneTargetKind::kMacs;
  double value = 0.5;
};

/// What the runtime's convolutions like on this processor: MLAS computes them in blocks of 16
/// channels with AVX-512 and of 8 without, and fills the last one with zeros (its NCHWc layout), so
/// that 24 channels take the time of 32.
[[nodiscard]] std::int64_t preferred_channel_multiple();
inline constexpr std::int64_t kFineChannelMultiple = 8;

struct ChannelOptions {
  Importance importance = Importance::kL2;
  bool is_global = false;  ///< Rank all channels together instead of one ratio for every group.
  /// Channels kept are a multiple of this, where a group has so many. Nothing:
  /// preferred_channel_multiple(), or kFineChannelMultiple where that would remove too little.
  std::optional<std::int64_t> round_to;
  double group_ratio_max = 0.9;       ///< At most this part of one group goes.
  std::vector<std::string> excluded;  ///< Names of groups that stay.
  /// For kGiven: one score for each element of an initialiser, or nothing to leave it out.
  std::function<std::optional<std::vector<float>>(std::string_view initialiser)> scores;
  /// For kLatency: runs a model and returns how long one run takes.
  std::function<Result<std::chrono::nanoseconds>(const graph::Model&)> measure;
  /// Open batch dimensions count as this in multiply-accumulates.
  std::int64_t batch = 1;
};

struct RemovalPlan {
  Removal removal;
  /// What is left of the target's quantity, as a fraction of the original.
  double reached = 1;
  std::int64_t round_to = 1;  ///< What was rounded to.
};

/// The smallest removal that meets the target. kFailedPrecondition, saying what is left at best,
/// where even the largest removal does not; or where multiply-accumulates are asked for that
/// unknown shapes hide. kInvalidArgument for a value outside (0, 1) or an excluded name that no
/// group has.
[[nodiscard]] Result<RemovalPlan> plan_removal(const graph::Model& model, const Channels& channels,
                                               const PruneTarget& target,
                                               const ChannelOptions& options = {});

/// One group pruned alone.
struct Sensitivity {
  std::string group;
  std::int64_t channels = 0;
  struct Point {
    double ratio;   ///< Of the channels removed.
    double metric;  ///< What `evaluate` said.
  };
  std::vector<Point> points;
};
/// Prunes every group alone by each of `ratios` and evaluates the model: which layers can spare
/// channels. Costs an evaluation each.
[[nodiscard]] Result<std::vector<Sensitivity>> scan_sensitivity(
    const graph::Model& model, const Channels& channels, const ChannelOptions& options,
    std::span<const double> ratios,
    const std::function<Result<double>(const graph::Model&)>& evaluate);

}  // namespace selvage::compress
