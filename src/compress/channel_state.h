// What Channels keeps of the analysed graph. Internal to src/compress.
#pragma once

#include <cstdint>
#include <vector>

#include "compress/channel_rules.h"
#include "compress/channels.h"

namespace selvage::compress {

struct Channels::State {
  Ties ties;
  std::vector<ChannelGroup> groups;
  std::vector<FrozenChannels> frozen;
  struct Place {
    std::int32_t group = -1;  ///< -1: stays.
    std::int32_t channel = 0;
  };
  std::vector<Place> places;  ///< Of each atom.

  [[nodiscard]] bool goes(std::size_t atom, const Removal& removal) const {
    const auto place = places[atom];
    return place.group >= 0 &&
           removal[static_cast<std::size_t>(place.group)][static_cast<std::size_t>(place.channel)];
  }
  /// The indices of an axis that stay.
  [[nodiscard]] std::vector<std::int64_t> kept(const Axis& axis, const Removal& removal) const {
    std::vector<std::int64_t> indices;
    for (std::int64_t i = 0; i < axis.size; ++i)
      if (!goes(axis.atom(i), removal)) indices.push_back(i);
    return indices;
  }
  [[nodiscard]] std::int64_t count_kept(const Axis& axis, const Removal& removal) const {
    std::int64_t count = 0;
    for (std::int64_t i = 0; i < axis.size; ++i) count += goes(axis.atom(i), removal) ? 0 : 1;
    return count;
  }
};

/// States the sizes that are left where nodes state sizes: groups of depthwise convolutions, shapes
/// of Reshape and Expand, Split and Slice. `index` and what it describes are from before the edit
/// of the initialisers' data, which does not change names.
void restate_sizes(onnx::GraphProto& graph, const std::filesystem::path& folder, std::int64_t opset,
                   const Channels::State& state, const Removal& removal);

}  // namespace selvage::compress
