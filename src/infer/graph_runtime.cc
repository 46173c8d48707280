#include "infer/graph_runtime.h"

#include <cmath>

#include "base/random.h"
#include "graph/edit.h"
#include "infer/elements.h"

namespace selvage::infer {
namespace {

/// As the file says it: what is optimised differently may differ in the last digits.
SessionOptions plain_options() {
  SessionOptions options;
  options.optimization = Optimization::kNone;
  options.threads = 1;
  return options;
}

Result<std::unique_ptr<Session>> load(Runtime& runtime, const graph::Model& model) {
  SELVAGE_TRY(const auto bytes, model.serialise());
  return Session::load(runtime, bytes, plain_options());
}

Result<std::vector<Value>> random_inputs(const Session& session, std::uint64_t seed) {
  Random random(seed);
  std::vector<Value> inputs;
  for (const auto& info : session.inputs()) {
    auto shape = info.shape;
    for (auto& size : shape) size = size < 0 ? 1 : size;
    SELVAGE_TRY(auto tensor, Tensor::create(info.type, std::move(shape)));
    if (info.type == DataType::kFloat32)
      for (auto& value : tensor.as<float>()) value = static_cast<float>(random.uniform(-1, 1));
    inputs.emplace_back(std::move(tensor));
  }
  return inputs;
}

std::unexpected<Error> differs(const ValueInfo& output, const std::string& how) {
  return fail(ErrorCode::kFailedPrecondition, "output '" + output.name + "' differs: " + how);
}

/// The largest difference, if none is beyond the tolerance.
Result<double> compare(const ValueInfo& info, const Value& left, const Value& right,
                       const Tolerance& tolerance) {
  const auto *a = std::get_if<Tensor>(&left), *b = std::get_if<Tensor>(&right);
  if (a == nullptr || b == nullptr) {
    if (left.index() == right.index()) return 0.0;  // Lists and maps: not compared.
    return differs(info, "it is another kind of value");
  }
  if (a->type() != b->type() || a->shape() != b->shape())
    return differs(info, to_string(a->shape()) + " became " + to_string(b->shape()));
  if (!std::ranges::equal(a->strings(), b->strings())) return differs(info, "other texts");
  std::vector<float> left_scratch, right_scratch;
  const auto expected = as_floats(a->view(), left_scratch);
  const auto actual = as_floats(b->view(), right_scratch);
  if (!expected || !actual) {
    if (std::ranges::equal(a->bytes(), b->bytes())) return 0.0;
    return differs(info, "other elements");
  }
  double largest = 0;
  for (std::size_t i = 0; i < expected->size(); ++i) {
    const double x = (*expected)[i], y = (*actual)[i];
    if (x == y || (std::isnan(x) && std::isnan(y))) continue;
    const double difference = std::abs(x - y);
    if (!(difference <= tolerance.absolute + tolerance.relative * std::abs(x)))
      return differs(info, "element " + std::to_string(i) + " is " + std::to_string(y) + ", not " +
                               std::to_string(x));
    largest = std::max(largest, difference);
  }
  return largest;
}

}  // namespace

graph::Evaluate graph_evaluator(Runtime& runtime) {
  return [&runtime](const graph::Model& model) -> Result<std::vector<Tensor>> {
    SELVAGE_TRY(const auto session, load(runtime, model));
    SELVAGE_TRY(auto values, session->run({}));
    std::vector<Tensor> tensors;
    for (auto& value : values) {
      if (!std::holds_alternative<Tensor>(value))
        return fail(ErrorCode::kUnimplemented, "an output is not a tensor");
      tensors.push_back(std::get<Tensor>(std::move(value)));
    }
    return tensors;
  };
}

graph::InferTypes graph_type_inference(Runtime& runtime) {
  return [&runtime](const graph::Model& model) -> Result<graph::TypeMap> {
    SELVAGE_TRY(const auto exposed, graph::expose_all_values(model));
    SELVAGE_TRY(const auto session, Session::load(runtime, exposed, plain_options()));
    graph::TypeMap types;
    for (const auto infos : {session->inputs(), session->outputs()})
      for (const auto& info : infos)
        // The runtime's interface shows an open rank as it shows a scalar: nothing is known.
        if (info.kind == ValueKind::kTensor && !info.shape.empty())
          types.emplace(info.name, graph::ValueType{info.type, info.shape, info.symbols});
    return types;
  };
}

graph::PassContext graph_context(Runtime& runtime) {
  return {.evaluate = graph_evaluator(runtime), .infer_types = graph_type_inference(runtime)};
}

namespace {

Result<double> run_and_compare(const Session& left, const Session& right,
                               std::span<const Value> inputs, const Tolerance& tolerance) {
  SELVAGE_TRY(const auto before, left.run(inputs));
  SELVAGE_TRY(const auto after, right.run(inputs));
  if (before.size() != after.size())
    return fail(ErrorCode::kFailedPrecondition, "the model has another number of outputs");
  double largest = 0;
  for (std::size_t i = 0; i < before.size(); ++i) {
    SELVAGE_TRY(const auto difference, compare(left.outputs()[i], before[i], after[i], tolerance));
    largest = std::max(largest, difference);
  }
  return largest;
}

}  // namespace

Result<double> compare_outputs(Runtime& runtime, const graph::Model& expected,
                               const graph::Model& actual, const Tolerance& tolerance,
                               std::uint64_t seed) {
  SELVAGE_TRY(const auto left, load(runtime, expected));
  SELVAGE_TRY(const auto right, load(runtime, actual));
  SELVAGE_TRY(const auto inputs, random_inputs(*left, seed));
  return run_and_compare(*left, *right, inputs, tolerance);
}

Result<double> compare_outputs(Runtime& runtime, const graph::Model& expected,
                               const graph::Model& actual, std::span<const Value> inputs,
                               const Tolerance& tolerance) {
  SELVAGE_TRY(const auto left, load(runtime, expected));
  SELVAGE_TRY(const auto right, load(runtime, actual));
  return run_and_compare(*left, *right, inputs, tolerance);
}

}  // namespace selvage::infer
