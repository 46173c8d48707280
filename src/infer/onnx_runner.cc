#include "infer/onnx_runner.h"

#include <algorithm>
#include <cstring>
#include <utility>

#include "infer/run_slot.h"

namespace selvage::infer {

/// One execution: its jobs, and when what happened.
struct OnnxRunner::Run {
  std::span<const std::shared_ptr<Job>> jobs;
  std::int64_t rows = 0;
  SteadyTime began{}, gathered{}, ran{};

  [[nodiscard]] InferJob& job(std::size_t i) const { return static_cast<InferJob&>(*jobs[i]); }
  [[nodiscard]] bool single() const { return jobs.size() == 1; }
};

namespace {

[[nodiscard]] bool is_open(std::int64_t size) {
  return size < 0;
}

/// Bytes of a tensor whose shape is known; such a one fits into memory that exists.
[[nodiscard]] std::size_t bytes_of(DataType type, std::span<const std::int64_t> shape) {
  return static_cast<std::size_t>(byte_size(type, shape).value_or(0));
}

/// The shape that the model is given for a client's.
void model_shape(const Port& port, std::span<const std::int64_t> client, std::int64_t rows,
                 bool batching, Shape& shape) {
  if (port.reshaped)
    shape.assign(port.model.begin(), port.model.end());
  else
    shape.assign(client.begin(), client.end());
  if (batching) shape.front() = rows;
}

/// Part of a tensor: `rows` of its first dimension from `first` on.
[[nodiscard]] TensorView slice(const TensorView& whole, std::int64_t first, std::int64_t rows) {
  const auto all = whole.shape.front();
  const auto cut = [&](auto span) {
    const auto each = span.size() / static_cast<std::size_t>(all);
    return span.subspan(static_cast<std::size_t>(first) * each,
                        static_cast<std::size_t>(rows) * each);
  };
  return {whole.type, whole.shape, cut(whole.bytes), cut(whole.strings)};
}

void write_control(const SequenceControl& control, const Job& job, std::size_t row,
                   std::span<std::byte> bytes) {
  using Kind = SequenceControl::Kind;
  const auto put = [&]<typename T>(T value) {
    std::memcpy(bytes.data() + row * sizeof(T), &value, sizeof(T));
  };
  if (control.kind == Kind::kCorrelationId) {
    const auto* id = std::get_if<std::uint64_t>(&job.sequence_id);
    const auto number = id == nullptr ? 0 : *id;
    if (bits_of(control.type) == 64)
      put(number);
    else
      put(static_cast<std::uint32_t>(number));  // The low 32 bits, as Triton has it.
    return;
  }
  const bool on = control.kind == Kind::kReady ||
                  (control.kind == Kind::kStart && job.sequence_flags.start) ||
                  (control.kind == Kind::kEnd && job.sequence_flags.end);
  const double value = on ? control.true_value : control.false_value;
  if (control.type == DataType::kInt32) put(static_cast<std::int32_t>(value));
  if (control.type == DataType::kFloat32) put(static_cast<float>(value));
  if (control.type == DataType::kBool) put(value != 0);
}

[[nodiscard]] std::string text_of(const SequenceId& id) {
  const auto* number = std::get_if<std::uint64_t>(&id);
  return number != nullptr ? std::to_string(*number) : std::get<std::string>(id);
}

}  // namespace

OnnxRunner::OnnxRunner(std::shared_ptr<const Model> model, Signature signature, std::string name,
                       std::string version, std::size_t idle_max)
    : model_(std::move(model)),
      signature_(std::move(signature)),
      name_(std::move(name)),
      version_(std::move(version)),
      slots_(std::make_shared<SlotPool>(model_, idle_max)),
      predictors_(idle_max) {
  for (const auto& port : signature_.inputs) {
    const auto open = std::ranges::count_if(port.client, is_open);
    if (open > 1) rows_alike_ = false;
    if (open > (signature_.batching ? 1 : 0)) work_alike_ = false;
  }
}

OnnxRunner::~OnnxRunner() = default;

Result<void> OnnxRunner::prepare(InferJob& job) const {
  SELVAGE_TRY(job.rows, accept(signature_, job.request));
  job.here = job.request.compute_on == ComputeOn::kCallerIfQuick && work_alike_ && job.rows == 1;
  for (const auto& port : signature_.controls)
    if (port.control.kind == SequenceControl::Kind::kCorrelationId &&
        port.control.type != DataType::kString &&
        std::holds_alternative<std::string>(job.request.sequence))
      return selvage::fail(ErrorCode::kInvalidArgument,
                           "the model takes sequence ids that are numbers, not text");
  return {};
}

const Tensor& OnnxRunner::state_of(const Job& job, std::size_t index) const {
  const auto& slot = *job.sequence;
  if (job.sequence_flags.start || slot.state.empty()) return signature_.states[index].initial;
  return slot.state[index];
}

bool OnnxRunner::compatible(const Job& a, const Job& b) const {
  if (!rows_alike_) {
    const auto &left = static_cast<const InferJob&>(a).request.inputs,
               &right = static_cast<const InferJob&>(b).request.inputs;
    for (std::size_t i = 0; i < left.size(); ++i)
      if (!std::ranges::equal(left[i].tensor.shape.subspan(1), right[i].tensor.shape.subspan(1)))
        return false;
  }
  for (std::size_t i = 0; i < signature_.states.size(); ++i)
    if (state_of(a, i).shape() != state_of(b, i).shape()) return false;
  return true;
}

void OnnxRunner::run(Scheduler& scheduler, Batch& batch) {
  if (batch.jobs.front()->alone)
    return predict(scheduler, batch, static_cast<PredictJob&>(*batch.jobs.front()));
  auto done = infer(scheduler, batch, batch.jobs);
  if (done) return;
  const bool alone = batch.jobs.size() == 1 || done.error().code == ErrorCode::kCancelled;
  for (const auto& job : batch.jobs) {
    if (!alone) done = infer(scheduler, batch, {&job, 1});
    if (!done) scheduler.fail(*job, done.error());
  }
}

Result<void> OnnxRunner::infer(Scheduler& scheduler, Batch& batch,
                               std::span<const std::shared_ptr<Job>> jobs) {
  const auto& clock = scheduler.clock();
  Run run{.jobs = jobs};
  for (const auto& job : jobs) run.rows += job->rows;
  run.began = jobs.size() == batch.jobs.size() ? batch.taken : clock.steady_now();
  SELVAGE_TRY(const auto slot, slots_->lease());
  // Whatever goes wrong from here on may leave the binding half set up.
  slot->spoilt = true;
  SELVAGE_RETURN_IF_ERROR(bind(*slot, run));
  run.gathered = clock.steady_now();
  if (!batch.begin_run(*slot->binding))
    return selvage::fail(ErrorCode::kCancelled, "the request was cancelled");
  auto done = slot->binding->run();
  const bool cancelled = batch.end_run();
  SELVAGE_RETURN_IF_ERROR(std::move(done));
  slot->spoilt = cancelled;
  run.ran = clock.steady_now();
  batch.ran = run.ran;
  SELVAGE_RETURN_IF_ERROR(check_rows(*slot, run));
  SELVAGE_RETURN_IF_ERROR(keep_state(*slot, run));
  answer(scheduler, batch, run, slot);
  return {};
}

Result<void> OnnxRunner::bind(RunSlot& slot, const Run& run) const {
  // Outputs first: the binding then finds memory of the right size and allocates none.
  SELVAGE_RETURN_IF_ERROR(bind_outputs(slot, run));
  for (std::size_t i = 0; i < signature_.inputs.size(); ++i) {
    const auto& port = signature_.inputs[i];
    const auto& first = run.job(0).request.inputs[i].tensor;
    model_shape(port, first.shape, run.rows, signature_.batching, slot.shape);
    TensorView view{port.type, slot.shape, first.bytes, first.strings};
    if (!run.single() && port.type == DataType::kString) {
      auto& strings = slot.strings[port.index];
      strings.clear();
      for (std::size_t k = 0; k < run.jobs.size(); ++k)
        strings.insert(strings.end(), run.job(k).request.inputs[i].tensor.strings.begin(),
                       run.job(k).request.inputs[i].tensor.strings.end());
      view.strings = strings;
    } else if (!run.single()) {
      SELVAGE_TRY(const auto all, slot.inputs[port.index].reserve(bytes_of(port.type, slot.shape)));
      auto* to = all.data();
      for (std::size_t k = 0; k < run.jobs.size(); ++k) {
        const auto part = run.job(k).request.inputs[i].tensor.bytes;
        to = std::copy(part.begin(), part.end(), to);
      }
      view.bytes = all;
    }
    SELVAGE_RETURN_IF_ERROR(slot.binding->bind_input(port.index, view));
  }
  SELVAGE_RETURN_IF_ERROR(bind_sequence(slot, run));
  // Where an output's size does not follow from the inputs' names of dimensions, the binding has
  // dropped our memory for it.
  for (const auto& port : signature_.outputs)
    if (auto& bound = slot.bound[port.index];
        !bound.empty() && slot.binding->output(port.index).bytes.data() != bound.data())
      bound = {};
  return bind_outputs(slot, run);
}

Result<void> OnnxRunner::bind_sequence(RunSlot& slot, const Run& run) const {
  for (const auto& port : signature_.controls) {
    slot.shape = port.model;
    if (signature_.batching) slot.shape.front() = run.rows;
    TensorView view{port.control.type, slot.shape, {}, {}};
    if (port.control.type == DataType::kString) {
      auto& strings = slot.strings[port.index];
      strings.clear();
      for (const auto& job : run.jobs) strings.push_back(text_of(job->sequence_id));
      view.strings = strings;
    } else {
      SELVAGE_TRY(const auto bytes,
                  slot.inputs[port.index].reserve(bytes_of(port.control.type, slot.shape)));
      for (std::size_t k = 0; k < run.jobs.size(); ++k)
        write_control(port.control, *run.jobs[k], k, bytes);
      view.bytes = bytes;
    }
    SELVAGE_RETURN_IF_ERROR(slot.binding->bind_input(port.index, view));
  }
  for (std::size_t s = 0; s < signature_.states.size(); ++s) {
    const auto& port = signature_.states[s];
    slot.shape = state_of(*run.jobs[0], s).shape();
    if (signature_.batching) slot.shape.front() = run.rows;
    TensorView view{port.type, slot.shape, {}, {}};
    if (port.type == DataType::kString) {
      auto& strings = slot.strings[port.input];
      strings.clear();
      for (const auto& job : run.jobs)
        strings.insert(strings.end(), state_of(*job, s).strings().begin(),
                       state_of(*job, s).strings().end());
      view.strings = strings;
    } else {
      SELVAGE_TRY(const auto all, slot.inputs[port.input].reserve(bytes_of(port.type, slot.shape)));
      auto* to = all.data();
      for (const auto& job : run.jobs) {
        const auto part = state_of(*job, s).bytes();
        to = std::copy(part.begin(), part.end(), to);
      }
      view.bytes = all;
    }
    SELVAGE_RETURN_IF_ERROR(slot.binding->bind_input(port.input, view));
  }
  return {};
}

/// Gives memory to the outputs whose size is known before the run: the client's for a request that
/// runs alone, otherwise the slot's.
Result<void> OnnxRunner::bind_outputs(RunSlot& slot, const Run& run) const {
  for (const auto& port : signature_.outputs) {
    slot.shape = port.model;
    if (signature_.batching) slot.shape.front() = run.rows;
    if (port.type == DataType::kString || std::ranges::any_of(slot.shape, is_open)) continue;
    const auto bytes = bytes_of(port.type, slot.shape);
    std::span<std::byte> memory;
    if (run.single()) {
      const auto& targets = run.job(0).request.outputs;
      const auto target = std::ranges::find(targets, port.name, &OutputTarget::name);
      if (target != targets.end()) memory = target->memory;
      if (!memory.empty() && memory.size() < bytes)
        return selvage::fail(ErrorCode::kInvalidArgument,
                             "output '" + port.name + "' takes " + std::to_string(bytes) +
                                 " bytes; its memory has " + std::to_string(memory.size()));
    }
    if (memory.empty()) {
      SELVAGE_TRY(memory, slot.outputs[port.index].reserve(bytes));
    }
    memory = memory.first(bytes);
    auto& bound = slot.bound[port.index];
    if (bound.data() == memory.data() && bound.size() == bytes) continue;
    bound = {};
    SELVAGE_RETURN_IF_ERROR(slot.binding->bind_output(port.index, slot.shape, memory));
    bound = memory;
  }
  return {};
}

Result<void> OnnxRunner::check_rows(RunSlot& slot, const Run& run) const {
  if (!signature_.batching) return {};
  const auto check = [&](const std::string& name, std::size_t index) -> Result<void> {
    const auto output = slot.binding->output(index);
    if (!output.shape.empty() && output.shape.front() == run.rows) return {};
    return selvage::fail(ErrorCode::kInternal,
                         "output '" + name + "' has the shape " + selvage::to_string(output.shape) +
                             " for a batch of " + std::to_string(run.rows) +
                             ": the model does not batch; set max_batch_size: 0");
  };
  for (const auto& port : signature_.outputs) SELVAGE_RETURN_IF_ERROR(check(port.name, port.index));
  for (const auto& port : signature_.states) SELVAGE_RETURN_IF_ERROR(check(port.name, port.output));
  return {};
}

Result<void> OnnxRunner::keep_state(RunSlot& slot, const Run& run) const {
  if (signature_.states.empty()) return {};
  for (std::size_t k = 0; k < run.jobs.size(); ++k) {
    std::vector<Tensor> states;
    for (const auto& port : signature_.states) {
      const auto whole = slot.binding->output(port.output);
      const auto part = signature_.batching ? slice(whole, static_cast<std::int64_t>(k), 1) : whole;
      Shape shape(whole.shape.begin(), whole.shape.end());
      if (signature_.batching) shape.front() = 1;
      SELVAGE_TRY(auto state, Tensor::create(port.type, std::move(shape)));
      std::ranges::copy(part.bytes, state.bytes().begin());
      std::ranges::copy(part.strings, state.strings().begin());
      states.push_back(std::move(state));
    }
    run.jobs[k]->sequence->state = std::move(states);
  }
  return {};
}

Result<InferenceResponse> OnnxRunner::respond(const std::shared_ptr<RunSlot>& slot, const Run& run,
                                              InferJob& job, std::int64_t first_row) const {
  InferenceResponse response{
      .model = name_, .version = version_, .id = std::move(job.request.id), .memory = slot};
  const auto count =
      job.request.outputs.empty() ? signature_.outputs.size() : job.request.outputs.size();
  response.outputs.reserve(count);
  std::size_t dimensions = 0;
  for (const auto& port : signature_.outputs) dimensions += port.client.size();
  response.shapes.reserve(dimensions);  // Views point into it: it must not grow.
  for (std::size_t i = 0; i < count; ++i) {
    const auto* target = job.request.outputs.empty() ? nullptr : &job.request.outputs[i];
    const auto& port = target == nullptr
                           ? signature_.outputs[i]
                           : *std::ranges::find(signature_.outputs, target->name, &Port::name);
    auto view = slot->binding->output(port.index);
    const auto shape = port.reshaped ? std::span<const std::int64_t>(port.client) : view.shape;
    if (!run.single()) view = slice(view, first_row, job.rows);
    const auto start = response.shapes.size();
    response.shapes.insert(response.shapes.end(), shape.begin(), shape.end());
    if (signature_.batching) response.shapes[start] = job.rows;
    view.shape = std::span(response.shapes).subspan(start);
    if (target != nullptr && !target->memory.empty() &&
        target->memory.data() != view.bytes.data()) {
      if (target->memory.size() < view.bytes.size())
        return selvage::fail(ErrorCode::kInvalidArgument,
                             "output '" + port.name + "' takes " +
                                 std::to_string(view.bytes.size()) + " bytes; its memory has " +
                                 std::to_string(target->memory.size()));
      std::ranges::copy(view.bytes, target->memory.begin());
      view.bytes = target->memory.first(view.bytes.size());
    }
    response.outputs.push_back({port.name, view});
  }
  return response;
}

void OnnxRunner::answer(Scheduler& scheduler, const Batch& batch, Run& run,
                        const std::shared_ptr<RunSlot>& slot) const {
  std::vector<Result<InferenceResponse>> responses;
  responses.reserve(run.jobs.size());
  std::int64_t row = 0;
  for (std::size_t k = 0; k < run.jobs.size(); ++k) {
    auto& job = run.job(k);
    if (job.cancelled)
      responses.push_back(selvage::fail(ErrorCode::kCancelled, "the request was cancelled"));
    else
      responses.push_back(respond(slot, run, job, row));
    row += job.rows;
  }
  const auto now = scheduler.clock().steady_now();
  RequestTimes times{.queue = {},
                     .compute_input = run.gathered - run.began,
                     .compute_infer = run.ran - run.gathered,
                     .compute_output = now - run.ran};
  std::vector<StatisticsRecorder::Request> requests;
  requests.reserve(run.jobs.size());
  std::int64_t rows = 0;
  for (std::size_t k = 0; k < run.jobs.size(); ++k) {
    if (!responses[k]) continue;
    const auto& job = *run.jobs[k];
    rows += job.rows;
    requests.push_back({.queue = batch.taken - job.submitted, .total = now - job.submitted});
  }
  // Before the answers: a client that has its own must find it counted.
  scheduler.statistics().record_batch(static_cast<std::uint64_t>(rows), requests, times,
                                      scheduler.clock().system_now());
  for (std::size_t k = 0; k < run.jobs.size(); ++k) {
    auto& job = run.job(k);
    if (!responses[k]) {
      scheduler.fail(job, std::move(responses[k]).error());
      continue;
    }
    auto& response = *responses[k];
    response.times = times;
    response.times.queue = batch.taken - job.submitted;
    scheduler.succeed(job, [owner = run.jobs[k], response = std::move(response)]() mutable {
      static_cast<InferJob&>(*owner).callback(std::move(response));
    });
  }
}

void OnnxRunner::predict(Scheduler& scheduler, const Batch& batch, PredictJob& job) {
  const auto began = scheduler.clock().steady_now();
  const auto predict = [&]() -> Result<Prediction> {
    auto predictor = predictors_.take();
    if (!predictor) {
      SELVAGE_TRY(predictor, Predictor::create(*model_));
    }
    predictor->reset();  // Another client's state is none of this one's business.
    auto prediction = predictor->predict(job.request.input);
    if (prediction) predictors_.give_back(std::move(predictor));
    return prediction;
  };
  answer_prediction(scheduler, batch, job, began, name_, version_, predict());
}

Result<std::vector<Tensor>> OnnxRunner::try_run(std::span<const Tensor> inputs) {
  // Requests of sequences have one row each: a batch of them is that many jobs.
  const bool by_row =
      signature_.batching && (!signature_.states.empty() || signature_.rows_max == 1);
  const auto rows = inputs.empty() || !by_row ? 1 : inputs[0].shape().front();
  const auto count = static_cast<std::size_t>(std::max<std::int64_t>(rows, 1));
  std::vector<SequenceSlot> sequences(count);
  std::vector<Shape> shapes(count * inputs.size());
  Jobs jobs;
  Run run;
  for (std::size_t k = 0; k < count; ++k) {
    const auto job = std::make_shared<InferJob>();
    for (std::size_t i = 0; i < inputs.size(); ++i) {
      auto view = inputs[i].view();
      if (by_row) {
        auto& shape = shapes[k * inputs.size() + i] = inputs[i].shape();
        if (shape.empty() || shape.front() < static_cast<std::int64_t>(count))
          return selvage::fail(ErrorCode::kInvalidArgument, "inputs have different batches");
        view = slice(view, static_cast<std::int64_t>(k), 1);
        shape.front() = 1;
        view.shape = shape;
      }
      job->request.inputs.push_back({signature_.inputs[i].name, view});
    }
    SELVAGE_TRY(job->rows, accept(signature_, job->request));
    job->sequence = &sequences[k];
    job->sequence_id = std::uint64_t{k + 1};
    job->sequence_flags = {.start = true, .end = false};
    run.rows += job->rows;
    jobs.push_back(job);
  }
  run.jobs = jobs;
  SELVAGE_TRY(const auto slot, slots_->lease());
  slot->spoilt = true;
  SELVAGE_RETURN_IF_ERROR(bind(*slot, run));
  SELVAGE_RETURN_IF_ERROR(slot->binding->run());
  SELVAGE_RETURN_IF_ERROR(check_rows(*slot, run));
  slot->spoilt = false;
  std::vector<Tensor> outputs;
  for (const auto& port : signature_.outputs) {
    const auto view = slot->binding->output(port.index);
    SELVAGE_TRY(auto tensor,
                Tensor::create(view.type, Shape(view.shape.begin(), view.shape.end())));
    std::ranges::copy(view.bytes, tensor.bytes().begin());
    std::ranges::copy(view.strings, tensor.strings().begin());
    outputs.push_back(std::move(tensor));
  }
  return outputs;
}

}  // namespace selvage::infer
