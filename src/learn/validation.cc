#include "learn/validation.h"

#include <algorithm>

#include "infer/session.h"
#include "learn/batch_loader.h"

namespace selvage::learn {
namespace {

/// Larger than training's: nothing is kept for a backward pass.
constexpr std::size_t kBatch = 250;

/// The samples are divided into equal batches and a rest; each size has a graph of its own.
struct Part {
  EvaluationGraph graph;
  std::size_t first = 0, count = 0;  // Of the samples.
  std::size_t batch = 0;
};

}  // namespace

struct Validator::State {
  infer::Runtime& runtime;
  const Objective& objective;
  const infer::Dataset& data;
  std::vector<std::size_t> samples;
  int threads = 1;
  std::vector<Part> parts;

  struct Sums {
    double loss = 0;
    std::uint64_t correct = 0;
  };
  [[nodiscard]] Result<void> run_part(const Part& part, std::span<const NamedTensor> parameters,
                                      const std::function<bool()>& stop, Sums& sums);
};

Validator::Validator(std::unique_ptr<State> state) : state_(std::move(state)) {}
Validator::~Validator() = default;

Result<std::unique_ptr<Validator>> Validator::create(
    infer::Runtime& runtime, const graph::Model& model, const TrainingGraphOptions& options,
    const Objective& objective, const infer::Dataset& data, std::vector<std::size_t> samples,
    int threads) {
  auto state =
      std::unique_ptr<State>(new State{runtime, objective, data, std::move(samples), threads, {}});
  const auto total = state->samples.size();
  const auto whole = total / kBatch * kBatch;
  for (const auto& [first, count, batch] : {std::array{std::size_t{0}, whole, kBatch},
                                            std::array{whole, total - whole, total - whole}}) {
    if (count == 0) continue;
    auto sized = options;
    sized.batch = static_cast<std::int64_t>(batch);
    for (auto& [name, shape] : sized.input_shapes) shape[0] = sized.batch;
    SELVAGE_TRY(auto graph, build_evaluation_graph(runtime, model, sized));
    state->parts.push_back({std::move(graph), first, count, batch});
  }
  return std::unique_ptr<Validator>(new Validator(std::move(state)));
}

Result<void> Validator::State::run_part(const Part& part, std::span<const NamedTensor> parameters,
                                        const std::function<bool()>& stop, Sums& sums) {
  SELVAGE_TRY(const auto model, export_model(part.graph.model, parameters));
  SELVAGE_TRY(const auto bytes, model.serialise());
  SELVAGE_TRY(const auto session, infer::Session::load(runtime, bytes, {.threads = threads}));
  SELVAGE_TRY(const auto binding, infer::Binding::create(*session));
  const auto loss = session->output_index(part.graph.loss);
  const auto answer = session->output_index(objective.output);
  if (!loss || !answer) return fail(ErrorCode::kInternal, "the evaluation graph lost an output");

  const BatchPlan plan{.data = data,
                       .objective = objective,
                       .samples = {},
                       .inputs = part.graph.batch,
                       .target = part.graph.batch.back().name,
                       .teachers = {},
                       .augment = {},
                       .seed = 0};
  const auto order = std::span(samples).subspan(part.first, part.count);
  Batch batch;
  for (std::uint64_t step = 0; step < part.count / part.batch; ++step) {
    if (stop && stop()) return fail(ErrorCode::kCancelled, "interrupted");
    SELVAGE_RETURN_IF_ERROR(make_batch(plan, order, 0, step, batch));
    for (std::size_t i = 0; i < batch.tensors.size(); ++i) {
      const auto input = session->input_index(part.graph.batch[i].name);
      if (!input) continue;  // A target that this loss does not need.
      SELVAGE_RETURN_IF_ERROR(binding->bind_input(*input, batch.tensors[i]));
    }
    SELVAGE_RETURN_IF_ERROR(binding->run());
    sums.loss += static_cast<double>(binding->output(*loss).as<float>()[0]) *
                 static_cast<double>(part.batch);
    if (!objective.counts_classes()) continue;
    const auto values = binding->output(*answer).as<float>();
    const auto width = static_cast<std::size_t>(objective.width);
    for (std::size_t k = 0; k < part.batch; ++k)
      if (objective.is_correct(values.subspan(k * width, width), data.label(batch.samples[k])))
        ++sums.correct;
  }
  return {};
}

Result<ValidationResult> Validator::run(std::span<const NamedTensor> parameters,
                                        const std::function<bool()>& stop) {
  State::Sums sums;
  for (const auto& part : state_->parts)
    SELVAGE_RETURN_IF_ERROR(state_->run_part(part, parameters, stop, sums));
  const auto total = static_cast<double>(state_->samples.size());
  ValidationResult result{.loss = sums.loss / total, .accuracy = {}};
  if (state_->objective.counts_classes())
    result.accuracy = static_cast<double>(sums.correct) / total;
  return result;
}

}  // namespace selvage::learn
