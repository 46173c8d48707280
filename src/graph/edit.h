// Small edits of whole models.
#pragma once

#include <cstddef>
#include <span>
#include <string>
#include <vector>

#include "base/result.h"
#include "graph/model.h"

namespace selvage::graph {

/// How many values expose_all_values() makes outputs: each costs the runtime a buffer.
inline constexpr std::size_t kExposedValuesMax = 100'000;

/// The bytes of a copy in which every value that a node of the main graph produces is a graph
/// output, without a type: a runtime that loads it infers types and shapes, and tells them for its
/// outputs. Values of subgraphs stay hidden, and so do those of Constant nodes, whose shape the
/// file says. Existing outputs come first, in their order. kOutOfRange above kExposedValuesMax, and
/// as Model::serialise().
[[nodiscard]] Result<std::vector<std::byte>> expose_all_values(const Model& model);
/// The same of a copy without weights, for asking types and shapes: initialisers of at least
/// kExternalTensorBytesMin are inputs of their type and shape instead, so that the copy is small
/// and needs no other file.
[[nodiscard]] Result<std::vector<std::byte>> expose_outline(const Model& model);
/// As expose_all_values(), for some of them only; names that no node of the main graph produces are
/// passed over.
[[nodiscard]] Result<std::vector<std::byte>> expose_values(const Model& model,
                                                           std::span<const std::string> values);

}  // namespace selvage::graph
