// What the passes of src/graph ask of the runtime.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "base/result.h"
#include "graph/model.h"
#include "graph/pass.h"
#include "infer/runtime.h"
#include "infer/session.h"

namespace selvage::infer {

/// Runs small models for constant folding. `runtime` must outlive it.
[[nodiscard]] graph::Evaluate graph_evaluator(Runtime& runtime);

/// Types and shapes of all values but scalars, as resolve_shapes() finds them, with the names of
/// open dimensions. `runtime` must outlive it.
[[nodiscard]] graph::InferTypes graph_type_inference(Runtime& runtime);

/// Both of them.
[[nodiscard]] graph::PassContext graph_context(Runtime& runtime);

/// How far two models' outputs may lie apart: |a - b| <= absolute + relative * |a|.
struct Tolerance {
  double absolute = 1e-4;
  double relative = 1e-3;
  double outliers = 0;  ///< The part of an output's elements for which that need not hold.
};

/// What a model answers to some inputs, for comparing it with what it becomes. Holds no weights.
struct RecordedRun {
  std::vector<Value> inputs, outputs;
  std::vector<ValueInfo> output_infos;
};
/// On random inputs: floats in [-1, 1), integers 0; open dimensions are 1. Errors as
/// Session::load() and run().
[[nodiscard]] Result<RecordedRun> record_run(Runtime& runtime, const graph::Model& model,
                                             std::uint64_t seed = 0);
/// Runs `actual` on the same inputs and compares all outputs, whose largest difference it returns.
/// Lists and maps are not compared. kFailedPrecondition, naming the output, where they differ by
/// more than the tolerance; otherwise as record_run().
[[nodiscard]] Result<double> compare_with(Runtime& runtime, const RecordedRun& expected,
                                          const graph::Model& actual,
                                          const Tolerance& tolerance = {});

/// record_run() of one model and compare_with() of the other.
[[nodiscard]] Result<double> compare_outputs(Runtime& runtime, const graph::Model& expected,
                                             const graph::Model& actual,
                                             const Tolerance& tolerance = {},
                                             std::uint64_t seed = 0);
/// The same on these inputs, in the order of `expected`'s.
[[nodiscard]] Result<double> compare_outputs(Runtime& runtime, const graph::Model& expected,
                                             const graph::Model& actual,
                                             std::span<const Value> inputs,
                                             const Tolerance& tolerance = {});

}  // namespace selvage::infer
