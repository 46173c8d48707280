// Nodes in the order of their data.
#pragma once

#include <filesystem>

#include "base/result.h"
#include "graph/check.h"
#include "graph/model.h"

namespace selvage::graph {

/// Puts the nodes of every graph, subgraph and function into an order in which each reads only what
/// exists; nodes that already stand so keep their order. ONNX demands this order of files, but
/// runtimes accept any, and some exporters and editors rely on it. Nodes of a cycle, and what
/// depends on them, stay behind the others: check() names the cycle. Returns whether anything
/// moved. Time: n log n.
bool sort_nodes(Model& model);

/// How commands open a model that they only read: load(), sort_nodes(), check(). Errors name the
/// file.
[[nodiscard]] Result<Model> load_checked(const std::filesystem::path& path,
                                         const LoadOptions& options = {},
                                         const CheckOptions& limits = {});
/// How they open one to change or run parts of it: the same, and Model::embed().
[[nodiscard]] Result<Model> load_whole(const std::filesystem::path& path);

}  // namespace selvage::graph
