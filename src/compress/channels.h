// Which channels of a model can leave it, and what must leave with each.
//
// Every axis of every value and initialiser is a row of atoms, one for each index. Each operator
// ties the atoms that can only be removed together: a residual Add ties channel 5 of its inputs, a
// Flatten ties channel 5 to columns 5*49 ... 5*49+48 of the Gemm behind it, and so on. What is tied
// is one *channel*; channels that lie on the same axes are a *group*, pruned by one ratio. After
// DepGraph (G. Fang et al., CVPR 2023), on ONNX graphs and per index instead of per layer, so that
// Concat, Split and Slice need no bookkeeping of their own.
//
// A channel may leave only where a weighted sum over it ends it: the input axis of a Conv,
// ConvTranspose, Gemm or MatMul with a constant weight. Removing it then computes exactly what
// zeros in those weights would. Whatever else happens to it freezes it, with a reason: it reaches
// a graph output, a normalisation or softmax runs over it, an operator is not understood, a shape
// is read or unknown.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"
#include "graph/model.h"
#include "graph/summary.h"

namespace selvage::compress {

/// One index of one axis of an initialiser.
struct Slice {
  int tensor = 0;  ///< Index into GraphProto::initializer.
  int axis = 0;
  std::int64_t index = 0;
};

struct Channel {
  std::vector<Slice> slices;  ///< What leaves the file with it.
};

struct ChannelGroup {
  std::string name;  ///< Of the node that makes the channels; of the first one where several do.
  std::vector<Channel> channels;
  /// Indices that one channel takes on the axis of the weight that makes it: more than 1 for
  /// grouped convolutions and attention heads.
  std::int64_t width = 1;
};

/// Output channels of a weight that stay.
struct FrozenChannels {
  std::string name;  ///< Of the node.
  std::int64_t channels = 0;
  std::string reason;
};

/// Which channels go: for each group one flag a channel.
using Removal = std::vector<std::vector<bool>>;

/// More atoms than this: kOutOfRange.
inline constexpr std::size_t kAtomsMax = 64u << 20;

/// Immutable. Belongs to the model that it was made from, as it was: after an edit make a new one.
class Channels {
 public:
  /// `shapes` are those of infer::resolve_shapes(): values that it lacks freeze what touches them.
  /// Expects a model without Constant nodes (graph::standard_passes()): they freeze, too.
  [[nodiscard]] static Result<Channels> analyse(const graph::Model& model,
                                                const graph::ShapeMap& shapes);
  Channels(Channels&&) noexcept;
  Channels& operator=(Channels&&) noexcept;
  ~Channels();

  [[nodiscard]] std::span<const ChannelGroup> groups() const;
  [[nodiscard]] std::span<const FrozenChannels> frozen() const;
  /// Nothing removed.
  [[nodiscard]] Removal none() const;

  /// The shapes of all values and initialisers after a removal.
  [[nodiscard]] graph::ShapeMap shapes_after(const Removal& removal) const;

  /// Takes the channels out of `model`, which must be the one analysed. kInvalidArgument for a
  /// removal that leaves an axis empty; then, and on any error, the model is unchanged.
  [[nodiscard]] Result<void> remove(graph::Model& model, const Removal& removal) const;
  /// The reference for remove(): zeros where a sum over the channels reads them; shapes stay.
  [[nodiscard]] Result<void> mask(graph::Model& model, const Removal& removal) const;

  struct State;  ///< Internal to src/compress.

 private:
  explicit Channels(std::unique_ptr<State> state);
  std::unique_ptr<State> state_;
};

}  // namespace selvage::compress
