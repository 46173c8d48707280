// The gate in front of the runtime: what a model file must satisfy before ONNX Runtime may see it.
// Files come from anywhere; a corrupt or hostile one must end here, with a message that names the
// node or tensor and the way out, and not in the runtime's allocator.
//
// Checked are the rules of ONNX's IR specification (docs/IR.md of the onnx project) that do not
// need operator schemas, and limits. Not checked: whether operators exist and take these inputs
// (the runtime says which do not; operators() in summary.h names them), and how much memory a run
// takes: a graph may legally compute a shape and fill it. The node's own memory limit is for that.
#pragma once

#include <cstddef>
#include <cstdint>

#include "base/result.h"
#include "graph/model.h"

namespace selvage::graph {

/// Limits, generous for any model in the field. Each error names its limit.
struct CheckOptions {
  std::size_t nodes_max = 1'000'000;  ///< In the whole model, subgraphs included, each function
                                      ///< counted wherever it is called.
  std::size_t depth_max = 16;         ///< Of subgraphs in subgraphs; the main graph has depth 0.
  std::size_t rank_max = 64;          ///< Dimensions of one tensor.
  std::size_t call_depth_max = 64;    ///< Of functions that call functions.
  /// Of a tensor whose size is only stated and not stored: the shape that a constant gives to
  /// ConstantOfShape, Expand, Tile or a random operator, and the dense shape of a sparse
  /// initialiser.
  std::uint64_t stated_elements_max = std::uint64_t{1} << 28;
  /// Versions that ONNX Runtime 1.30 reads.
  std::int64_t ir_version_min = 3;
  std::int64_t ir_version_max = 13;
  std::int64_t opset_max = 26;  ///< Of the default domain ("ai.onnx").
};

/// Succeeds for a model that is safe to hand to the runtime. kInvalidArgument: the model breaks a
/// rule. kDataLoss: tensor data are missing, cut short, or of the wrong size. kOutOfRange: beyond a
/// limit. kNotFound: an external file is missing. Reads no tensor data but the constants that
/// become shapes and the indices of sparse tensors. Time and memory are linear in the model's nodes
/// and names.
[[nodiscard]] Result<void> check(const Model& model, const CheckOptions& options = {});

}  // namespace selvage::graph
