#include "learn/importance.h"

#include <algorithm>
#include <cmath>

#include "graph/values.h"
#include "infer/session.h"
#include "learn/batch_loader.h"
#include "learn/objective.h"
#include "learn/parameters.h"
#include "learn/training_graph.h"

namespace selvage::learn {
namespace {

constexpr const char* kTarget = "training.target";

using Scores = std::unordered_map<std::string, std::vector<float>>;

TrainingGraphOptions graph_options(const infer::Dataset& data, const Objective& objective,
                                   std::int64_t batch) {
  TrainingGraphOptions options{
      .batch = batch,
      .losses = {{.kind = objective.loss, .output = objective.output, .target = kTarget}}};
  for (const auto& input : data.inputs()) {
    auto shape = input.shape;
    shape.insert(shape.begin(), batch);
    options.input_shapes.emplace_back(input.name, std::move(shape));
  }
  return options;
}

/// |weight * gradient| of each element, added to the scores.
Result<void> add_scores(const graph::Model& model, const std::string& parameter,
                        std::span<const float> gradient, double share, Scores& scores) {
  SELVAGE_TRY(const auto weights,
              graph::read_floats(*find_stored(model, parameter), model.folder()));
  auto& sums = scores[parameter];
  sums.resize(weights.size());
  for (std::size_t i = 0; i < weights.size(); ++i)
    sums[i] += static_cast<float>(share) * std::abs(weights[i] * gradient[i]);
  return {};
}

}  // namespace

Result<std::unordered_map<std::string, std::vector<float>>> taylor_importance(
    infer::Runtime& runtime, const infer::Model& loaded, const graph::Model& model,
    const infer::Dataset& data, const ImportanceOptions& options) {
  if (!data.takes_batches())
    return fail(ErrorCode::kInvalidArgument,
                "Taylor importance takes batches of samples of one shape, but the model's input '" +
                    loaded.session().inputs()[0].name + "' has shape " +
                    selvage::to_string(loaded.session().inputs()[0].shape) +
                    " or the samples differ in theirs: leave the first dimension open when "
                    "exporting the model, or rank by weights (--importance l1)");
  SELVAGE_TRY(const auto objective, choose_objective(loaded, model, data, options.loss));
  const auto count = std::min(options.samples, data.size());
  const auto batch_size = std::min(options.batch, count);
  if (batch_size == 0) return fail(ErrorCode::kInvalidArgument, "there are no samples to rank on");
  std::vector<std::size_t> samples;
  for (std::size_t i = 0; i < count; ++i) samples.push_back(i * data.size() / count);

  SELVAGE_TRY(
      const auto graph,
      build_gradient_graph(runtime, model,
                           graph_options(data, objective, static_cast<std::int64_t>(batch_size))));
  SELVAGE_TRY(const auto bytes, graph.forward.model.serialise());
  SELVAGE_TRY(const auto session,
              infer::Session::load(runtime, bytes, {.threads = options.threads}));
  SELVAGE_TRY(const auto binding, infer::Binding::create(*session));
  const BatchPlan plan{.data = data,
                       .objective = objective,
                       .samples = {},
                       .inputs = graph.forward.batch,
                       .target = kTarget,
                       .teachers = {},
                       .augment = {},
                       .seed = 0};
  Scores scores;
  Batch batch;
  const auto steps = count / batch_size;
  for (std::uint64_t step = 0; step < steps; ++step) {
    if (options.stop && options.stop()) return fail(ErrorCode::kCancelled, "interrupted");
    SELVAGE_RETURN_IF_ERROR(make_batch(plan, samples, 0, step, batch));
    for (std::size_t i = 0; i < batch.tensors.size(); ++i)
      if (const auto input = session->input_index(graph.forward.batch[i].name))
        SELVAGE_RETURN_IF_ERROR(binding->bind_input(*input, batch.tensors[i]));
    SELVAGE_RETURN_IF_ERROR(binding->run());
    for (std::size_t i = 0; i < graph.parameters.size(); ++i) {
      const auto output = session->output_index(graph.gradients[i]);
      if (!output) return fail(ErrorCode::kInternal, "the gradient graph lost an output");
      SELVAGE_RETURN_IF_ERROR(add_scores(model, graph.parameters[i],
                                         binding->output(*output).as<float>(),
                                         1 / static_cast<double>(steps), scores));
    }
  }
  return scores;
}

}  // namespace selvage::learn
