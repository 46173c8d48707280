#include "compress/prepare.h"

#include <algorithm>

#include "graph/bind.h"
#include "graph/pass.h"
#include "infer/elements.h"
#include "infer/graph_runtime.h"

namespace selvage::compress {
namespace {

Result<bool> bind_constant(graph::Model& model, const infer::Model& original,
                           const infer::ConstantInput& constant) {
  const auto index = original.session().input_index(constant.tensor);
  if (!index)
    return fail(ErrorCode::kInvalidArgument,
                "the card's constants name input '" + constant.tensor + "', which the model lacks");
  const auto& input = original.session().inputs()[*index];
  if (std::ranges::any_of(input.shape, [](std::int64_t size) { return size < 0; })) return false;
  SELVAGE_TRY(auto tensor, Tensor::create(input.type, input.shape));
  const auto count = static_cast<std::size_t>(element_count(input.shape).value_or(0));
  auto values = constant.values;
  if (values.size() == 1) values.assign(count, constant.values.front());
  if (values.size() != count)
    return fail(ErrorCode::kInvalidArgument,
                "the card gives input '" + constant.tensor + "' " + std::to_string(values.size()) +
                    " values, the model wants " + std::to_string(count));
  SELVAGE_RETURN_IF_ERROR(infer::write_elements(values, input.type, tensor.bytes()));
  SELVAGE_RETURN_IF_ERROR(graph::bind_input(model, constant.tensor, tensor.view()));
  return true;
}

}  // namespace

Result<std::vector<std::string>> prepare_model(infer::Runtime& runtime, graph::Model& model,
                                               const infer::Model& original) {
  std::vector<std::string> bound;
  for (const auto& constant : original.card().input.constants) {
    SELVAGE_TRY(const auto is_bound, bind_constant(model, original, constant));
    if (is_bound) bound.push_back(constant.tensor);
  }
  SELVAGE_RETURN_IF_ERROR(graph::run_passes(model, graph::standard_passes(),
                                            {.context = infer::graph_context(runtime)}));
  return bound;
}

}  // namespace selvage::compress
