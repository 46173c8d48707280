#include "infer/config_ensemble.h"

#include <algorithm>
#include <map>
#include <mutex>
#include <optional>
#include <set>

#include "infer/job.h"

namespace selvage::infer {
namespace {

[[nodiscard]] std::unexpected<Error> invalid(std::string message) {
  return fail(ErrorCode::kInvalidArgument, "ensemble_scheduling: " + std::move(message));
}

[[nodiscard]] std::string in_quotes(std::string_view name) {
  return "'" + std::string(name) + "'";
}

/// Whether tensors of both declarations can be the same: open dimensions fit any size.
[[nodiscard]] bool shapes_meet(const Shape& a, const Shape& b) {
  return std::ranges::equal(
      a, b, [](std::int64_t x, std::int64_t y) { return x < 0 || y < 0 || x == y; });
}

Result<std::vector<Port>> ports_of(const std::vector<TensorConfig>& tensors, bool batching) {
  std::vector<Port> ports;
  for (const auto& tensor : tensors) {
    if (tensor.reshape)
      return invalid("reshape of " + in_quotes(tensor.name) + " belongs into the step's model");
    Shape shape = tensor.dims;
    if (batching) shape.insert(shape.begin(), -1);
    ports.push_back({.name = tensor.name,
                     .type = tensor.type,
                     .client = shape,
                     .model = shape,
                     .index = ports.size()});
  }
  return ports;
}

/// Builds a plan: gives tensors numbers and remembers what each of them is.
class Planner {
 public:
  Planner(EnsemblePlan& plan, const ModelLookup& lookup) : plan_(plan), lookup_(lookup) {}

  Result<void> declare_inputs() {
    for (const auto& port : plan_.signature.inputs) {
      SELVAGE_TRY(const auto tensor, make(port.name, {port.name, port.type, port.client}, "input"));
      plan_.inputs.push_back(tensor);
    }
    return {};
  }

  Result<void> add_step(const EnsembleConfigStep& step) {
    const auto version = step.version < 0 ? "" : std::to_string(step.version);
    SELVAGE_TRY(auto metadata, lookup_(step.model, version));
    EnsemblePlan::Step planned{
        .model = step.model, .version = version, .inputs = {}, .outputs = {}};
    for (const auto& [name, tensor] : step.output_map) {
      const auto output = std::ranges::find(metadata.outputs, name, &TensorMetadata::name);
      if (output == metadata.outputs.end())
        return invalid("model " + in_quotes(step.model) + " has no output " + in_quotes(name));
      SELVAGE_TRY(const auto index, make(tensor, *output, step.model));
      planned.outputs.push_back({name, index});
    }
    plan_.steps.push_back(std::move(planned));
    uses_.push_back({&step, std::move(metadata.inputs)});
    return {};
  }

  Result<void> connect() {
    for (std::size_t i = 0; i < uses_.size(); ++i) {
      const auto& [step, inputs] = uses_[i];
      for (const auto& [name, tensor] : step->input_map) {
        const auto input = std::ranges::find(inputs, name, &TensorMetadata::name);
        if (input == inputs.end())
          return invalid("model " + in_quotes(step->model) + " has no input " + in_quotes(name));
        SELVAGE_TRY(const auto index, use(tensor, *input, "model " + in_quotes(step->model)));
        plan_.steps[i].inputs.push_back({name, index});
      }
      for (const auto& input : inputs)
        if (!step->input_map.contains(input.name))
          return invalid("input " + in_quotes(input.name) + " of model " + in_quotes(step->model) +
                         " is not in the step's input_map");
    }
    for (const auto& port : plan_.signature.outputs) {
      SELVAGE_TRY(const auto tensor,
                  use(port.name, {port.name, port.type, port.client}, "the ensemble's output"));
      if (std::ranges::find(plan_.inputs, tensor) != plan_.inputs.end())
        return invalid("output " + in_quotes(port.name) + " is an input of the ensemble itself");
      plan_.outputs.push_back(tensor);
    }
    return check_used();
  }

  /// Runs the graph in thought: every step must come to its turn.
  Result<void> check_order() const {
    std::set<std::size_t> made(plan_.inputs.begin(), plan_.inputs.end());
    std::vector<bool> ran(plan_.steps.size(), false);
    for (bool progress = true; progress;) {
      progress = false;
      for (std::size_t i = 0; i < plan_.steps.size(); ++i) {
        const auto& step = plan_.steps[i];
        const bool fed = std::ranges::all_of(
            step.inputs, [&](const auto& link) { return made.contains(link.tensor); });
        if (ran[i] || !fed) continue;
        ran[i] = progress = true;
        for (const auto& link : step.outputs) made.insert(link.tensor);
      }
    }
    const auto stuck = std::ranges::find(ran, false);
    if (stuck == ran.end()) return {};
    return invalid("the step of model " +
                   in_quotes(plan_.steps[static_cast<std::size_t>(stuck - ran.begin())].model) +
                   " waits for itself: the steps go round in a circle");
  }

 private:
  struct Use {
    const EnsembleConfigStep* step;
    std::vector<TensorMetadata> inputs;
  };

  Result<std::size_t> make(const std::string& name, TensorMetadata what, const std::string& by) {
    if (!made_.emplace(name, plan_.tensors.size()).second)
      return invalid("tensor " + in_quotes(name) + " is made twice, last by " + in_quotes(by));
    plan_.tensors.push_back(name);
    declared_.push_back(std::move(what));
    return plan_.tensors.size() - 1;
  }

  Result<std::size_t> use(const std::string& name, const TensorMetadata& wanted,
                          const std::string& by) {
    const auto made = made_.find(name);
    if (made == made_.end())
      return invalid("tensor " + in_quotes(name) + " for " + by +
                     " is neither an input of the ensemble nor in an output_map");
    const auto& declared = declared_[made->second];
    if (declared.type != wanted.type || !shapes_meet(declared.shape, wanted.shape))
      return invalid("tensor " + in_quotes(name) + " is " + std::string(to_string(declared.type)) +
                     " " + selvage::to_string(declared.shape) + ", but " + by + " takes " +
                     in_quotes(wanted.name) + " as " + std::string(to_string(wanted.type)) + " " +
                     selvage::to_string(wanted.shape));
    used_.insert(made->second);
    return made->second;
  }

  Result<void> check_used() const {
    for (const auto input : plan_.inputs)
      if (!used_.contains(input))
        return invalid("no step takes the ensemble's input " + in_quotes(plan_.tensors[input]));
    return {};
  }

  EnsemblePlan& plan_;
  const ModelLookup& lookup_;
  std::map<std::string, std::size_t> made_;
  std::vector<TensorMetadata> declared_;  // By tensor.
  std::set<std::size_t> used_;
  std::vector<Use> uses_;
};

/// One request on its way through the steps. Synchronised; kept alive by the steps in flight.
class EnsembleJob final : public Job {
 public:
  EnsembleJob(std::shared_ptr<const EnsemblePlan> plan, InferenceRequest request,
              ResponseCallback callback, const Clock& clock, SubmitStep submit)
      : plan_(std::move(plan)),
        request_(std::move(request)),
        callback_(std::move(callback)),
        clock_(clock),
        submit_(std::move(submit)),
        tensors_(plan_->tensors.size()),
        started_(plan_->steps.size(), false) {}

  void start() {
    submitted = clock_.steady_now();
    auto accepted = accept(plan_->signature, request_);
    if (!accepted) return finish(std::move(accepted).error());
    rows = *accepted;
    for (std::size_t i = 0; i < plan_->inputs.size(); ++i)
      tensors_[plan_->inputs[i]] = request_.inputs[i].tensor;
    advance();
  }

  void fail(Error error) override { finish(std::move(error)); }

  void cancel() override {
    cancelled = true;
    std::vector<RequestHandle> handles;
    {
      const std::scoped_lock lock(mutex_);
      handles = handles_;
    }
    for (const auto& handle : handles) handle.cancel();
  }

 private:
  /// Submits every step whose inputs exist; answers when there is nothing left to wait for.
  void advance() {
    std::vector<std::pair<std::size_t, InferenceRequest>> ready;
    bool done = false;
    {
      const std::scoped_lock lock(mutex_);
      for (std::size_t i = 0; i < plan_->steps.size() && !error_ && !cancelled; ++i)
        if (!started_[i] && fed(plan_->steps[i])) {
          started_[i] = true;
          ++in_flight_;
          ready.emplace_back(i, step_request(plan_->steps[i]));
        }
      if (cancelled && !error_) error_ = Error{ErrorCode::kCancelled, "the request was cancelled"};
      done = in_flight_ == 0 && !std::exchange(answered_, true);
    }
    for (auto& [index, request] : ready) submit(index, std::move(request));
    if (!done) return;
    if (error_)
      finish(std::move(*error_));
    else
      respond();
  }

  void submit(std::size_t index, InferenceRequest request) {
    auto self = std::static_pointer_cast<EnsembleJob>(shared_from_this());
    auto handle = submit_(std::move(request), [self, index](Result<InferenceResponse> response) {
      self->step_ended(index, std::move(response));
    });
    {
      const std::scoped_lock lock(mutex_);
      handles_.push_back(handle);
    }
    if (cancelled) handle.cancel();  // It may have come too late for cancel() to see it.
  }

  void step_ended(std::size_t index, Result<InferenceResponse> response) {
    const auto& step = plan_->steps[index];
    {
      const std::scoped_lock lock(mutex_);
      --in_flight_;
      if (!response) {
        if (!error_)
          error_ = std::move(response).error().with_context("step " + in_quotes(step.model));
      } else {
        for (std::size_t i = 0; i < step.outputs.size(); ++i)
          tensors_[step.outputs[i].tensor] = response->outputs[i].tensor;
        times_.queue += response->times.queue;
        times_.compute_input += response->times.compute_input;
        times_.compute_infer += response->times.compute_infer;
        times_.compute_output += response->times.compute_output;
        responses_.push_back(*std::move(response));  // Keeps what the views point into.
      }
    }
    advance();
  }

  [[nodiscard]] bool fed(const EnsemblePlan::Step& step) const {
    return std::ranges::all_of(step.inputs,
                               [&](const auto& link) { return tensors_[link.tensor].has_value(); });
  }

  [[nodiscard]] InferenceRequest step_request(const EnsemblePlan::Step& step) {
    InferenceRequest request{.model = step.model,
                             .version = step.version,
                             .id = request_.id,
                             .priority = request_.priority,
                             .sequence = request_.sequence,
                             .flags = request_.flags,
                             .keepalive = shared_from_this()};
    for (const auto& link : step.inputs)
      request.inputs.push_back({link.name, *tensors_[link.tensor]});
    for (const auto& link : step.outputs) request.outputs.push_back({.name = link.name});
    if (request_.timeout && request_.timeout->count() > 0) {
      const auto spent =
          std::chrono::duration_cast<std::chrono::microseconds>(clock_.steady_now() - submitted);
      // 0 would mean none.
      request.timeout = std::max(*request_.timeout - spent, std::chrono::microseconds(1));
    }
    return request;
  }

  /// Whoever set `answered_` calls this: nothing else touches the members any more.
  void respond() {
    InferenceResponse response{
        .model = plan_->name, .version = plan_->version, .id = request_.id, .times = times_};
    const auto& ports = plan_->signature.outputs;
    const auto count = request_.outputs.empty() ? ports.size() : request_.outputs.size();
    for (std::size_t i = 0; i < count; ++i) {
      const auto* target = request_.outputs.empty() ? nullptr : &request_.outputs[i];
      const auto port =
          target == nullptr
              ? i
              : static_cast<std::size_t>(std::ranges::find(ports, target->name, &Port::name) -
                                         ports.begin());
      auto view = *tensors_[plan_->outputs[port]];
      if (target != nullptr && !target->memory.empty()) {
        if (target->memory.size() < view.bytes.size())
          return finish({ErrorCode::kInvalidArgument,
                         "output " + in_quotes(target->name) + " takes " +
                             std::to_string(view.bytes.size()) + " bytes; its memory has " +
                             std::to_string(target->memory.size())});
        std::ranges::copy(view.bytes, target->memory.begin());
        view.bytes = target->memory.first(view.bytes.size());
      }
      response.outputs.push_back({ports[port].name, view});
    }
    response.memory = shared_from_this();
    const auto total = clock_.steady_now() - submitted;
    const StatisticsRecorder::Request request{.queue = times_.queue, .total = total};
    plan_->statistics->record_batch(static_cast<std::uint64_t>(rows), {&request, 1}, times_,
                                    clock_.system_now());
    deliver(std::move(response));
  }

  void finish(Error error) {
    plan_->statistics->record_failure(error.code, clock_.steady_now() - submitted);
    deliver(std::unexpected(std::move(error)));
  }

  void deliver(Result<InferenceResponse> result) {
    callback_(std::move(result));
    callback_ = nullptr;
    // The response may keep this job, and be kept by the job that this one's request keeps:
    // ensembles in ensembles would never be freed.
    request_.inputs.clear();
    request_.keepalive.reset();
    pass = GatePass();
  }

  const std::shared_ptr<const EnsemblePlan> plan_;
  InferenceRequest request_;
  ResponseCallback callback_;
  const Clock& clock_;
  const SubmitStep submit_;

  std::mutex mutex_;  // Guards everything below, until answered_.
  std::vector<std::optional<TensorView>> tensors_;
  std::vector<bool> started_;
  std::size_t in_flight_ = 0;
  std::vector<InferenceResponse> responses_;
  std::vector<RequestHandle> handles_;
  RequestTimes times_;
  std::optional<Error> error_;
  bool answered_ = false;
};

}  // namespace

Result<std::shared_ptr<const EnsemblePlan>> make_ensemble_plan(const ModelConfig& config,
                                                               std::string name,
                                                               std::string version,
                                                               const ModelLookup& lookup) {
  const auto& ensemble = std::get<EnsembleScheduling>(config.scheduling);
  if (ensemble.steps.size() > kEnsembleConfigStepsMax)
    return fail(ErrorCode::kOutOfRange, "ensemble_scheduling: more than " +
                                            std::to_string(kEnsembleConfigStepsMax) + " steps");
  if (config.inputs.empty() || config.outputs.empty())
    return invalid("an ensemble must list its inputs and outputs");
  auto plan = std::make_shared<EnsemblePlan>();
  plan->name = std::move(name);
  plan->version = std::move(version);
  plan->statistics = std::make_unique<StatisticsRecorder>();
  auto& signature = plan->signature;
  signature.batching = config.max_batch_size.value_or(0) > 0;
  signature.rows_max = std::max(config.max_batch_size.value_or(0), 1);
  SELVAGE_TRY(signature.inputs, ports_of(config.inputs, signature.batching));
  SELVAGE_TRY(signature.outputs, ports_of(config.outputs, signature.batching));
  Planner planner(*plan, lookup);
  SELVAGE_RETURN_IF_ERROR(planner.declare_inputs());
  for (const auto& step : ensemble.steps) SELVAGE_RETURN_IF_ERROR(planner.add_step(step));
  SELVAGE_RETURN_IF_ERROR(planner.connect());
  SELVAGE_RETURN_IF_ERROR(planner.check_order());
  return plan;
}

RequestHandle run_ensemble(std::shared_ptr<const EnsemblePlan> plan, InferenceRequest request,
                           ResponseCallback callback, const Clock& clock, SubmitStep submit,
                           GatePass pass) {
  auto job = std::make_shared<EnsembleJob>(std::move(plan), std::move(request), std::move(callback),
                                           clock, std::move(submit));
  job->pass = std::move(pass);
  job->start();
  return RequestHandle(job);
}

}  // namespace selvage::infer
