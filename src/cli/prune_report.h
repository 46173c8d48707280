// What `selvage prune` says of its work.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "cli/model_change.h"
#include "cli/prune_options.h"
#include "cli/text.h"
#include "compress/channels.h"
#include "compress/prune_channels.h"
#include "compress/prune_weights.h"
#include "learn/trainer.h"

namespace selvage::cli {

/// What `selvage prune` did.
struct PruneReport {
  std::optional<compress::PruneWeightsReport> weights;
  std::vector<compress::FrozenChannels> frozen;
  struct Group {
    std::string name;
    std::size_t before = 0, after = 0;
  };
  std::vector<Group> groups;
  std::string verified;  ///< How the result was held against the masked original.
  std::optional<std::uint64_t> gzip_before, gzip_after;
  std::optional<learn::TrainResult> training;
  std::optional<ModelChange> change;
};

/// For people.
[[nodiscard]] std::string to_text(const PruneReport& report, const PruneFlags& flags,
                                  const Style& style);
/// For programs.
[[nodiscard]] std::string to_json(const PruneReport& report, const PruneFlags& flags);

/// The parts of each group's channels that --sensitivity takes away.
inline constexpr std::array kScanRatios{0.25, 0.5, 0.75};

/// What a scan with --sensitivity found.
[[nodiscard]] std::string to_text(std::span<const compress::Sensitivity> found, const Style& style);
[[nodiscard]] std::string to_json(std::span<const compress::Sensitivity> found,
                                  const PruneFlags& flags);

}  // namespace selvage::cli
