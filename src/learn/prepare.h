// A model made ready for differentiation: all sizes fixed, all shape computations done, conditions
// decided, recurrent operators spelled out. It computes what the original computes.
#pragma once

#include <cstdint>
#include <string>
#include <utility>
#include <vector>

#include "base/result.h"
#include "graph/model.h"
#include "infer/runtime.h"
#include "learn/expression.h"

namespace selvage::learn {

struct PrepareOptions {
  std::int64_t batch = 1;  ///< For open first dimensions of inputs.
  std::vector<std::pair<std::string, Shape>> input_shapes;  ///< Whole shapes, by input.
};

struct PreparedModel {
  graph::Model model;  ///< Of opset kGradientOpset or later; weights are initialisers in the file.
  ValueTypes types;    ///< Of every value whose type and shape the runtime can tell.
};

/// kInvalidArgument for an input whose shape stays open or does not fit; kUnimplemented as
/// raise_opset() and lower_recurrent(); otherwise as infer::Session::load().
[[nodiscard]] Result<PreparedModel> prepare(infer::Runtime& runtime, const graph::Model& model,
                                            const PrepareOptions& options);

/// Type and shape of every value of the main graph that the runtime can tell, by loading it.
[[nodiscard]] Result<ValueTypes> infer_types(infer::Runtime& runtime, const graph::Model& model);

}  // namespace selvage::learn
