// Passes over whole models, and what runs them: each rewrites a model so that it computes the same,
// or leaves it as it is.
//
//   PassOptions options{.context = {.evaluate = infer::graph_evaluator(*runtime)}};
//   SELVAGE_TRY(const auto reports, run_passes(model, standard_passes(), options));
//
// Subgraphs, functions, shared initialisers and initialisers that are graph inputs or outputs stay
// right: a pass that cannot be sure leaves them alone.
#pragma once

#include <chrono>
#include <cstddef>
#include <functional>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "base/result.h"
#include "base/tensor.h"
#include "graph/model.h"

namespace selvage::graph {

/// Runs a small model without inputs and returns its outputs in order. A higher layer provides it:
/// this folder has no runtime.
using Evaluate = std::function<Result<std::vector<Tensor>>(const Model&)>;

/// What is known of a value: shape and names of its open dimensions ("" for none), as
/// infer::ValueInfo.
struct ValueType {
  DataType type = DataType::kUndefined;
  Shape shape;                       ///< -1 where open.
  std::vector<std::string> symbols;  ///< As long as `shape`.
};
using TypeMap = std::unordered_map<std::string, ValueType>;
/// The types of the main graph's values that are tensors of known rank, but not necessarily
/// scalars.
using InferTypes = std::function<Result<TypeMap>(const Model&)>;

/// What passes may ask of higher layers. Passes that need what is missing change nothing.
struct PassContext {
  Evaluate evaluate = {};
  InferTypes infer_types = {};
};

struct Pass {
  std::string_view name;     ///< "fold-constants"; for PassOptions::disabled.
  std::string_view summary;  ///< Half a line.
  /// Returns how many edits it made. On an error the model is unchanged.
  Result<std::size_t> (*run)(Model& model, const PassContext& context);
};

#ifdef NDEBUG
inline constexpr bool kCheckPasses = false;
#else
inline constexpr bool kCheckPasses = true;
#endif

struct PassOptions {
  PassContext context = {};
  std::vector<std::string> disabled = {};  ///< Names of passes to leave out.
  bool check_each = kCheckPasses;          ///< check() after each pass that changed something.
  /// Whether the model still computes the same, asked after each pass that changed something: an
  /// error says how it differs. Costs a copy of the model. Null: not asked.
  std::function<Result<void>(const Model& before, const Model& after)> same = {};
};

struct PassReport {
  std::string_view name;
  bool is_disabled = false;
  std::size_t edits = 0;
  std::chrono::nanoseconds time{};
};

/// Runs the passes in order. kInvalidArgument for a disabled name that is no pass's; kInternal,
/// naming the pass, when one breaks what check_each or `same` ask; otherwise the pass's own error.
[[nodiscard]] Result<std::vector<PassReport>> run_passes(Model& model, std::span<const Pass> passes,
                                                         const PassOptions& options = {});

/// In the order in which they help each other:
///   initialiser-inputs  models of IR version 3 list their weights as inputs: they become constants
///   constant-nodes      Constant nodes become initialisers
///   identities          Identity, Dropout outside of training, and factors of 1 leave the main
///                       graph
///   fold-constants      what depends on constants only is computed once (needs evaluate)
///   branches            an If whose condition is constant gives way to the branch that it takes
///   hard-sigmoids       Clip(x + c, 0, h) / h becomes HardSigmoid, HardSwish a product with it
///   fold-batch-norm     BatchNormalization, and multiplications and additions of constants, are
///                       merged into the Conv, ConvTranspose or Gemm before them
///   fold-factors        numbers that a Conv's input is scaled and shifted by go into its weights
///   dead-code           nodes and initialisers that no output needs leave
[[nodiscard]] std::span<const Pass> standard_passes();
/// Declares types and shapes of all values (ValueInfoProto) as the runtime infers them; outputs
/// without a type get theirs.
[[nodiscard]] const Pass& infer_types_pass();

/// A result that takes this many bytes more than what it is computed from stays computed at run
/// time: a file should not grow for the sake of one fill operator.
inline constexpr std::uint64_t kFoldedGrowthMax = 4096;

}  // namespace selvage::graph
