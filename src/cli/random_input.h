// Inputs for measuring a model on nothing in particular.
#pragma once

#include <memory>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "infer/session.h"

namespace selvage::cli {

/// "x=1x3x224x224": an input's name and shape, as typed.
[[nodiscard]] Result<std::pair<std::string, Shape>> parse_input_shape(const std::string& typed);

/// The shape of every input: as typed ("x=1x3x224x224"), else as declared, an open first dimension
/// `batch` and the others the session's usual_side, or 1. kInvalidArgument for a name or size that
/// the model does not have.
[[nodiscard]] Result<std::vector<Shape>> input_shapes(const infer::Session& session,
                                                      std::span<const std::string> typed,
                                                      std::int64_t batch = 1);

/// A binding whose floating-point inputs are uniform in [0, 1), always the same for a shape;
/// integers are 0, so that they are valid as indices, and texts empty.
[[nodiscard]] Result<std::unique_ptr<infer::Binding>> bind_random_inputs(
    const infer::Session& session, std::span<const std::string> typed, std::int64_t batch = 1);

/// What a run on such inputs failed with, and what to do where their sizes were made up.
[[nodiscard]] Error explain_failed_run(const infer::Session& session,
                                       std::span<const std::string> typed, Error error);

/// Whether every input that declares dimensions leaves its first one open: the model takes batches.
[[nodiscard]] bool takes_batches(const infer::Session& session);

}  // namespace selvage::cli
