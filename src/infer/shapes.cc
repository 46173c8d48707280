#include "infer/shapes.h"

#include "graph/edit.h"
#include "infer/session.h"

namespace selvage::infer {

Result<graph::ShapeMap> resolve_shapes(
    Runtime& runtime, const graph::Model& model,
    const std::vector<std::pair<std::string, std::int64_t>>& dimensions) {
  if (graph::summarise(model).external_bytes > 0)
    return fail(ErrorCode::kFailedPrecondition,
                "shapes inside a model with external data cannot be worked out");
  SELVAGE_TRY(const auto exposed, graph::expose_all_values(model));
  // The runtime overrides dimensions in its first optimisation pass.
  SessionOptions options;
  options.optimization = dimensions.empty() ? Optimization::kNone : Optimization::kBasic;
  options.threads = 1;
  options.dimensions = dimensions;
  SELVAGE_TRY(const auto session, Session::load(runtime, exposed, options));
  graph::ShapeMap shapes;
  const auto keep = [&](std::span<const ValueInfo> values) {
    for (const auto& value : values)
      if (value.kind == ValueKind::kTensor) shapes.emplace(value.name, value.shape);
  };
  keep(session->inputs());
  keep(session->outputs());
  return shapes;
}

}  // namespace selvage::infer
