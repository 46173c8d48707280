// What the passes of src/graph ask of the runtime.
#pragma once

#include <cstdint>
#include <span>

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
};

/// Runs both models on the same random inputs (floats in [-1, 1), integers 0; open dimensions are
/// 1) and compares all outputs, whose largest difference it returns. kFailedPrecondition, naming
/// the output, where they differ by more than the tolerance; otherwise as Session::load() and
/// run().
[[nodiscard]] Result<double> compare_outputs(Runtime& runtime, const graph::Model& expected,
                                             const graph::Model& actual,
                                             const Tolerance& tolerance = {},
                                             std::uint64_t seed = 0);
/// The same on these inputs, in the order of `expected`'s. Lists and maps are not compared.
[[nodiscard]] Result<double> compare_outputs(Runtime& runtime, const graph::Model& expected,
                                             const graph::Model& actual,
                                             std::span<const Value> inputs,
                                             const Tolerance& tolerance = {});

}  // namespace selvage::infer
