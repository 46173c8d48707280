// The shapes of all values in a model, as the runtime works them out.
#pragma once

#include <cstdint>
#include <string>
#include <utility>
#include <vector>

#include "base/result.h"
#include "graph/model.h"
#include "graph/summary.h"
#include "infer/runtime.h"

namespace selvage::infer {

/// Loads a copy in which every value is an output, and asks for the outputs' shapes; nothing is
/// run. `dimensions` fixes symbolic dimensions by name. Values whose rank is open are left out.
/// kFailedPrecondition for a model with external data, which only loads from its own folder;
/// otherwise as Session::load. Takes as much memory as a session of the model.
[[nodiscard]] Result<graph::ShapeMap> resolve_shapes(
    Runtime& runtime, const graph::Model& model,
    const std::vector<std::pair<std::string, std::int64_t>>& dimensions = {});

/// kInvalidArgument when a name in `dimensions` is none of the model's inputs' open dimensions: the
/// runtime would ignore it. The message names the nearest one, or all of them.
[[nodiscard]] Result<void> check_dimensions(
    const graph::Summary& model,
    const std::vector<std::pair<std::string, std::int64_t>>& dimensions);

}  // namespace selvage::infer
