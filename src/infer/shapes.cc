#include "infer/shapes.h"

#include <algorithm>

#include "graph/edit.h"
#include "infer/yaml.h"

namespace selvage::infer {

Result<std::unique_ptr<Session>> load_exposed(Runtime& runtime, const graph::Model& model,
                                              const SessionOptions& options) {
  if (const auto outline = graph::expose_outline(model))
    if (auto session = Session::load(runtime, *outline, options)) return session;
  SELVAGE_TRY(const auto exposed, graph::expose_all_values(model));
  return Session::load(runtime, exposed, options);
}

Result<graph::ShapeMap> resolve_shapes(
    Runtime& runtime, const graph::Model& model,
    const std::vector<std::pair<std::string, std::int64_t>>& dimensions) {
  // The runtime overrides dimensions in its first optimisation pass.
  SessionOptions options;
  options.optimization = dimensions.empty() ? Optimization::kNone : Optimization::kBasic;
  options.threads = 1;
  options.dimensions = dimensions;
  SELVAGE_TRY(const auto session, load_exposed(runtime, model, options));
  graph::ShapeMap shapes;
  const auto keep = [&](std::span<const ValueInfo> values) {
    for (const auto& value : values)
      if (value.kind == ValueKind::kTensor) shapes.emplace(value.name, value.shape);
  };
  keep(session->inputs());
  keep(session->outputs());
  return shapes;
}

Result<void> check_dimensions(const graph::Summary& model,
                              const std::vector<std::pair<std::string, std::int64_t>>& dimensions) {
  std::vector<std::string> names;
  for (const auto& input : model.inputs)
    for (const auto& dimension : input.shape.value_or(std::vector<graph::DimensionSummary>{}))
      if (!dimension.symbol.empty() && std::ranges::find(names, dimension.symbol) == names.end())
        names.push_back(dimension.symbol);
  for (const auto& [name, size] : dimensions) {
    if (std::ranges::find(names, name) != names.end()) continue;
    const std::string problem = "no input has an open dimension '" + name + "'";
    if (const auto nearest = nearest_name(name, names))
      return fail(ErrorCode::kInvalidArgument,
                  problem + ": did you mean '" + std::string(*nearest) + "'?");
    std::string all;
    for (const auto& one : names) all.append(all.empty() ? "" : ", ").append(one);
    return fail(ErrorCode::kInvalidArgument,
                problem + (all.empty() ? "; none is open by name" : "; there are " + all));
  }
  return {};
}

}  // namespace selvage::infer
