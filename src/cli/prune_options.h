// The options of `selvage prune`, and what they ask of the library.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "base/result.h"
#include "cli/data_options.h"
#include "cli/options.h"
#include "cli/retrain.h"
#include "compress/prune_channels.h"
#include "compress/prune_weights.h"
#include "graph/model.h"

namespace CLI {  // NOLINT(readability-identifier-naming): a library's
class App;
}

namespace selvage::cli {

/// What the command line of `selvage prune` says.
struct PruneFlags {
  std::string model, out;
  std::string method = "structured";
  std::string amount, macs, parameters, latency;
  std::string importance, pattern;
  bool is_global = false;
  std::optional<std::int64_t> round_to;
  std::optional<std::uint64_t> seed;
  std::vector<std::string> excluded;
  bool sensitivity = false, compress = false;
  DataFlags data;
  RetrainFlags finetune{.rate = 0.01};
  std::size_t evaluate_samples = 2000;
  SessionFlags session;

  [[nodiscard]] bool is_structured() const { return method == "structured"; }

  /// Options that the chosen method does not know are refused rather than ignored.
  [[nodiscard]] Result<void> check() const;
  [[nodiscard]] Result<compress::PruneWeightsOptions> weight_options() const;
  /// Without `measure` and, for --importance taylor, `scores`.
  [[nodiscard]] compress::ChannelOptions channel_options() const;
  /// How much of `whole` is to go; a --latency in milliseconds is measured with `options`.
  [[nodiscard]] Result<compress::PruneTarget> target(const compress::ChannelOptions& options,
                                                     const graph::Model& whole) const;
};

/// Adds all options; `flags` must outlive the parsing.
void add_prune_options(CLI::App& app, PruneFlags& flags);

}  // namespace selvage::cli
