// The shapes of all values in a model, as the runtime works them out.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "base/result.h"
#include "graph/model.h"
#include "graph/summary.h"
#include "infer/runtime.h"
#include "infer/session.h"

namespace selvage::infer {

/// A session of a copy in which every value is an output, for asking types and shapes: without
/// weights where that works (graph::expose_outline), since some kernels insist on constants. Errors
/// as Session::load.
[[nodiscard]] Result<std::unique_ptr<Session>> load_exposed(Runtime& runtime,
                                                            const graph::Model& model,
                                                            const SessionOptions& options);

/// Asks load_exposed() for the shapes of all values; nothing is run. `dimensions` fixes symbolic
/// dimensions by name. Values whose rank is open are left out. Errors as Session::load.
[[nodiscard]] Result<graph::ShapeMap> resolve_shapes(
    Runtime& runtime, const graph::Model& model,
    const std::vector<std::pair<std::string, std::int64_t>>& dimensions = {});

/// kInvalidArgument when a name in `dimensions` is none of the model's inputs' open dimensions: the
/// runtime would ignore it. The message names the nearest one, or all of them.
[[nodiscard]] Result<void> check_dimensions(
    const graph::Summary& model,
    const std::vector<std::pair<std::string, std::int64_t>>& dimensions);

}  // namespace selvage::infer
