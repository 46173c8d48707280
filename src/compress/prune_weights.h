// Pruning single weights: they become zero, shapes stay. Stock runtimes compute with zeros as with
// any number, so this makes no model faster; it makes the file smaller once it is compressed.
//
// Same rules as torch.nn.utils.prune: `amount` is a count, or a fraction of the entries that are
// not pruned yet, rounded half to even; L1 removes the smallest magnitudes (among equals the
// first), random removes the largest of torch.rand() numbers, so that a seed gives torch's own
// mask. What is pruned already is what is zero, since a file keeps no masks.
#pragma once

#include <cstdint>
#include <string>
#include <variant>
#include <vector>

#include "base/result.h"
#include "graph/model.h"
#include "graph/sparsity.h"

namespace selvage::compress {

enum class WeightCriterion : std::uint8_t {
  kL1,
  kRandom,
  kNOfM,  ///< Of every M weights along the inputs, the N of largest magnitude stay (2:4, ...).
};

struct PruneWeightsOptions {
  WeightCriterion criterion = WeightCriterion::kL1;
  /// A fraction in [0, 1], or a count; of each tensor, or of all together if is_global. kNOfM
  /// ignores it.
  std::variant<double, std::uint64_t> amount = 0.3;
  bool is_global = false;
  std::uint64_t seed = 0;  ///< As torch.manual_seed(), for kRandom: its low 32 bits count.
  int n = 2, m = 4;        ///< For kNOfM.
  std::vector<std::string> excluded;  ///< Names of nodes or initialisers that stay as they are.
};

/// A weight that was left alone, and why.
struct SkippedWeight {
  std::string name;
  std::string reason;
};

struct PruneWeightsReport {
  std::vector<graph::TensorSparsity> before, after;  ///< Of the pruned tensors, in the same order.
  std::vector<SkippedWeight> skipped;
};

/// Prunes the floating-point weights of Conv, ConvTranspose, Gemm, MatMul, LSTM, GRU and RNN in the
/// main graph, a shared one once. kInvalidArgument for an amount outside of what there is (torch's
/// rule), an n or m that makes no sense, or an excluded name that nothing has; on an error of the
/// options the model is unchanged. Memory: the model, and 4 bytes for each weight of the largest
/// tensor (of all, if is_global).
[[nodiscard]] Result<PruneWeightsReport> prune_weights(graph::Model& model,
                                                       const PruneWeightsOptions& options = {});

}  // namespace selvage::compress
