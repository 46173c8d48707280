// The passes of standard_passes(), one a file. Internal to this folder; what each does: pass.h.
#pragma once

#include <cstddef>

#include "base/result.h"
#include "graph/model.h"
#include "graph/pass.h"

namespace selvage::graph {

[[nodiscard]] Result<std::size_t> drop_initialiser_inputs(Model& model, const PassContext& context);
[[nodiscard]] Result<std::size_t> store_constant_nodes(Model& model, const PassContext& context);
[[nodiscard]] Result<std::size_t> remove_identities(Model& model, const PassContext& context);
[[nodiscard]] Result<std::size_t> fold_constants(Model& model, const PassContext& context);
[[nodiscard]] Result<std::size_t> inline_branches(Model& model, const PassContext& context);
[[nodiscard]] Result<std::size_t> find_hard_sigmoids(Model& model, const PassContext& context);
[[nodiscard]] Result<std::size_t> fold_after_layers(Model& model, const PassContext& context);
[[nodiscard]] Result<std::size_t> fold_before_layers(Model& model, const PassContext& context);
[[nodiscard]] Result<std::size_t> remove_dead_code(Model& model, const PassContext& context);
[[nodiscard]] Result<std::size_t> declare_types(Model& model, const PassContext& context);

}  // namespace selvage::graph
