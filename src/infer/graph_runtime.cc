#include "infer/graph_runtime.h"

#include <cmath>

#include "base/random.h"
#include "infer/elements.h"
#include "infer/shapes.h"

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
  auto outliers =
      static_cast<std::size_t>(tolerance.outliers * static_cast<double>(expected->size()));
  for (std::size_t i = 0; i < expected->size(); ++i) {
    const double x = (*expected)[i], y = (*actual)[i];
    if (x == y || (std::isnan(x) && std::isnan(y))) continue;
    const double difference = std::abs(x - y);
    if (difference <= tolerance.absolute + tolerance.relative * std::abs(x)) {
      largest = std::max(largest, difference);
    } else if (outliers-- == 0) {
      return differs(info, "element " + std::to_string(i) + " is " + std::to_string(y) + ", not " +
                               std::to_string(x));
    }
  }
  return largest;
}

Result<double> compare_all(std::span<const ValueInfo> infos, std::span<const Value> expected,
                           std::span<const Value> actual, const Tolerance& tolerance) {
  if (expected.size() != actual.size())
    return fail(ErrorCode::kFailedPrecondition, "the model has another number of outputs");
  double largest = 0;
  for (std::size_t i = 0; i < expected.size(); ++i) {
    SELVAGE_TRY(const auto difference, compare(infos[i], expected[i], actual[i], tolerance));
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
    SELVAGE_TRY(const auto session, load_exposed(runtime, model, plain_options()));
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

Result<RecordedRun> record_run(Runtime& runtime, const graph::Model& model, std::uint64_t seed) {
  SELVAGE_TRY(const auto session, load(runtime, model));
  SELVAGE_TRY(auto inputs, random_inputs(*session, seed));
  SELVAGE_TRY(auto outputs, session->run(inputs));
  return RecordedRun{std::move(inputs),
                     std::move(outputs),
                     {session->outputs().begin(), session->outputs().end()}};
}

Result<double> compare_with(Runtime& runtime, const RecordedRun& expected,
                            const graph::Model& actual, const Tolerance& tolerance) {
  SELVAGE_TRY(const auto session, load(runtime, actual));
  SELVAGE_TRY(const auto outputs, session->run(expected.inputs));
  return compare_all(expected.output_infos, expected.outputs, outputs, tolerance);
}

Result<double> compare_outputs(Runtime& runtime, const graph::Model& expected,
                               const graph::Model& actual, const Tolerance& tolerance,
                               std::uint64_t seed) {
  SELVAGE_TRY(const auto recorded, record_run(runtime, expected, seed));
  return compare_with(runtime, recorded, actual, tolerance);
}

Result<double> compare_outputs(Runtime& runtime, const graph::Model& expected,
                               const graph::Model& actual, std::span<const Value> inputs,
                               const Tolerance& tolerance) {
  SELVAGE_TRY(const auto left, load(runtime, expected));
  SELVAGE_TRY(const auto before, left->run(inputs));
  SELVAGE_TRY(const auto right, load(runtime, actual));
  SELVAGE_TRY(const auto after, right->run(inputs));
  return compare_all(left->outputs(), before, after, tolerance);
}

}  // namespace selvage::infer
