#include "learn/training_session.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <cstdlib>
#include <cstring>
#include <ranges>
#include <unordered_map>

#if defined(__GLIBC__)
#include <malloc.h>
#endif

#include <selvage/onnx.pb.h>

#include "crypto/digest.h"
#include "graph/edit.h"
#include "learn/kernels.h"
#include "learn/random.h"

namespace selvage::learn {
namespace {

/// A cache line, and the width of the widest vector register.
constexpr std::size_t kAlignment = 64;
constexpr std::string_view kMagic = "selvage training state 1\n";

struct Free {
  void operator()(std::byte* p) const { std::free(p); }
};

/// All state tensors one after another, so that saving them is one copy.
class StateBuffer {
 public:
  [[nodiscard]] static Result<StateBuffer> create(std::uint64_t bytes) {
    StateBuffer buffer;
    buffer.size_ = std::max<std::size_t>(bytes, kAlignment);
    buffer.data_.reset(static_cast<std::byte*>(std::aligned_alloc(kAlignment, buffer.size_)));
    if (!buffer.data_)
      return fail(ErrorCode::kResourceExhausted,
                  "out of memory for the training state of " + std::to_string(bytes) + " bytes");
    std::memset(buffer.data_.get(), 0, buffer.size_);
    return buffer;
  }
  [[nodiscard]] std::span<std::byte> bytes() const { return {data_.get(), size_}; }

 private:
  std::unique_ptr<std::byte, Free> data_;
  std::size_t size_ = 0;
};

/// Where a tensor lies in a StateBuffer.
struct Place {
  std::size_t offset = 0, size = 0;
};

template <typename T>
void append(std::vector<std::byte>& bytes, const T& value) {
  const auto raw = std::as_bytes(std::span(&value, 1));
  bytes.insert(bytes.end(), raw.begin(), raw.end());
}

/// What must be equal for a saved state to fit: names, types and shapes in their order.
crypto::Digest layout_digest(const TrainingGraph& graph) {
  crypto::Sha256 hash;
  for (const auto& state : graph.state)
    hash.update(state.input + "\n" + std::string(to_string(state.initial.type())) +
                to_string(state.initial.shape()) + "\n");
  hash.update(std::to_string(graph.accumulate) + " " + std::to_string(graph.seed));
  return hash.finish();
}

bool is_finite(TensorView view) {
  return view.type != DataType::kFloat32 ||
         std::ranges::all_of(view.as<float>(), [](float value) { return std::isfinite(value); });
}

/// base += scale * A.B
void merge(Tensor& base, std::span<const float> a, std::span<const float> b, std::int64_t rank,
           float scale) {
  const auto values = base.as<float>();
  const auto inner = static_cast<std::size_t>(rank);
  const auto rows = a.size() / inner, columns = b.size() / inner;
  for (std::size_t i = 0; i < rows; ++i)
    for (std::size_t k = 0; k < inner; ++k)
      for (std::size_t j = 0; j < columns; ++j)
        values[i * columns + j] += scale * a[i * inner + k] * b[k * columns + j];
}

}  // namespace

struct TrainingSession::State {
  infer::Runtime& runtime;
  TrainingGraph graph;
  std::vector<std::byte> model;  ///< Serialised, for first_non_finite().
  std::unique_ptr<infer::Session> session;
  std::vector<Place> places;
  /// Binding i reads buffer i and writes the other. `current` is the one to be read next.
  std::array<StateBuffer, 2> buffers;
  std::array<std::unique_ptr<infer::Binding>, 2> bindings;
  std::size_t current = 0, last = 0;
  std::vector<std::size_t> batch_inputs, mask_inputs, outputs, losses;
  std::size_t rate_input = 0, loss_output = 0;
  std::optional<std::size_t> apply_input;
  std::vector<StateBuffer> masks;
  float rate = 0;
  bool apply = true;
  std::uint64_t steps = 0;

  explicit State(infer::Runtime& owner) : runtime(owner) {}

  [[nodiscard]] std::span<std::byte> state(std::size_t index, std::size_t buffer) const {
    return buffers[buffer].bytes().subspan(places[index].offset, places[index].size);
  }
  [[nodiscard]] TensorView view(std::size_t index) const {
    const auto& initial = graph.state[index].initial;
    return {initial.type(), initial.shape(), state(index, current), {}};
  }
  [[nodiscard]] std::optional<std::size_t> find(std::string_view name) const {
    const auto found = std::ranges::find_if(graph.state, [&](const StateTensor& state) {
      const bool has_role =
          state.role == StateRole::kParameter || state.role == StateRole::kStatistic;
      return has_role && state.name == name;
    });
    if (found == graph.state.end()) return std::nullopt;
    return static_cast<std::size_t>(found - graph.state.begin());
  }
  [[nodiscard]] std::size_t find_input(std::string_view input) const {
    return static_cast<std::size_t>(std::ranges::find(graph.state, input, &StateTensor::input) -
                                    graph.state.begin());
  }

  Result<void> lay_out();
  Result<void> find_ports();
  Result<void> bind(std::size_t side);
  void draw_masks();
  Result<void> prepare(std::span<const TensorView> batch, infer::Binding& binding) const;
  [[nodiscard]] float scalar(std::size_t output) const {
    return bindings[last]->output(output).as<float>()[0];
  }
};

Result<void> TrainingSession::State::lay_out() {
  std::size_t bytes = 0;
  for (const auto& tensor : graph.state) {
    places.push_back({bytes, tensor.initial.bytes().size()});
    bytes += (tensor.initial.bytes().size() + kAlignment - 1) / kAlignment * kAlignment;
  }
  for (auto& buffer : buffers) {
    SELVAGE_TRY(buffer, StateBuffer::create(bytes));
  }
  for (std::size_t i = 0; i < places.size(); ++i)
    std::ranges::copy(graph.state[i].initial.bytes(), state(i, 0).begin());
  for (const auto& mask : graph.masks) {
    const auto size = byte_size(DataType::kFloat32, mask.shape).value_or(0);
    SELVAGE_TRY(auto buffer,
                StateBuffer::create((size + kAlignment - 1) / kAlignment * kAlignment));
    masks.push_back(std::move(buffer));
  }
  return {};
}

Result<void> TrainingSession::State::find_ports() {
  const auto lost = [](const std::string& name) {
    return fail(ErrorCode::kInternal, "the training graph lost '" + name + "'");
  };
  const auto input = [&](const std::string& name, std::size_t& index) -> Result<void> {
    const auto found = session->input_index(name);
    if (!found) return lost(name);
    index = *found;
    return {};
  };
  const auto output = [&](const std::string& name, std::size_t& index) -> Result<void> {
    const auto found = session->output_index(name);
    if (!found) return lost(name);
    index = *found;
    return {};
  };
  SELVAGE_RETURN_IF_ERROR(input(graph.learning_rate, rate_input));
  SELVAGE_RETURN_IF_ERROR(output(graph.loss, loss_output));
  if (!graph.apply.empty()) SELVAGE_RETURN_IF_ERROR(input(graph.apply, apply_input.emplace()));
  for (const auto& data : graph.batch)
    SELVAGE_RETURN_IF_ERROR(input(data.name, batch_inputs.emplace_back()));
  for (const auto& mask : graph.masks)
    SELVAGE_RETURN_IF_ERROR(input(mask.input, mask_inputs.emplace_back()));
  for (const auto& name : graph.outputs)
    SELVAGE_RETURN_IF_ERROR(output(name, outputs.emplace_back()));
  for (const auto& name : graph.losses)
    SELVAGE_RETURN_IF_ERROR(output(name, losses.emplace_back()));
  return {};
}

Result<void> TrainingSession::State::bind(std::size_t side) {
  SELVAGE_TRY(bindings[side], infer::Binding::create(*session));
  auto& binding = *bindings[side];
  for (std::size_t i = 0; i < graph.state.size(); ++i) {
    const auto& tensor = graph.state[i];
    const auto in = session->input_index(tensor.input);
    const auto out = session->output_index(tensor.output);
    if (!in || !out)
      return fail(ErrorCode::kInternal, "the training graph lost the state '" + tensor.input + "'");
    const auto& initial = tensor.initial;
    SELVAGE_RETURN_IF_ERROR(
        binding.bind_input(*in, {initial.type(), initial.shape(), state(i, side), {}}));
    SELVAGE_RETURN_IF_ERROR(binding.bind_output(*out, initial.shape(), state(i, 1 - side)));
  }
  for (std::size_t i = 0; i < masks.size(); ++i) {
    const auto& shape = graph.masks[i].shape;
    const auto bytes = masks[i].bytes().first(
        static_cast<std::size_t>(byte_size(DataType::kFloat32, shape).value_or(0)));
    SELVAGE_RETURN_IF_ERROR(
        binding.bind_input(mask_inputs[i], {DataType::kFloat32, shape, bytes, {}}));
  }
  return {};
}

void TrainingSession::State::draw_masks() {
  for (std::size_t i = 0; i < masks.size(); ++i) {
    const auto bytes = masks[i].bytes();
    const std::span values(reinterpret_cast<float*>(bytes.data()), bytes.size() / sizeof(float));
    fill_dropout(values, graph.masks[i].ratio, graph.seed, steps * masks.size() + i);
  }
}

/// Everything of a step that is not state.
Result<void> TrainingSession::State::prepare(std::span<const TensorView> batch,
                                             infer::Binding& binding) const {
  if (batch.size() != batch_inputs.size())
    return fail(ErrorCode::kInvalidArgument, "a batch of this model has " +
                                                 std::to_string(batch_inputs.size()) +
                                                 " tensors, not " + std::to_string(batch.size()));
  for (std::size_t i = 0; i < batch.size(); ++i)
    SELVAGE_RETURN_IF_ERROR(binding.bind_input(batch_inputs[i], batch[i]));
  binding.input<float>(rate_input)[0] = rate;
  if (apply_input) binding.input<bool>(*apply_input)[0] = apply;
  return {};
}

Result<std::unique_ptr<TrainingSession>> TrainingSession::create(
    infer::Runtime& runtime, TrainingGraph graph, const TrainingSessionOptions& options) {
  auto state = std::make_unique<State>(runtime);
  infer::SessionOptions session;
  session.threads = options.threads;
  session.spin_us = options.spin_us;
  session.profile_prefix = options.profile_prefix;
  // Measured: layouts of the highest level cost as much as they give here, and planned memory
  // blocks keep a third more resident at the same speed.
  session.optimization = infer::Optimization::kExtended;
  session.memory_pattern = false;
  const auto operators = training_operators();
  session.operators.assign(operators.begin(), operators.end());
  SELVAGE_TRY(state->model, graph.model.serialise());
  state->graph = std::move(graph);
  state->graph.model = graph::Model();
  SELVAGE_TRY(state->session, infer::Session::load(runtime, state->model, session));
  // In one piece: what pieces of the forward pass's sizes leave free between them does not hold the
  // larger ones of the backward pass, which took a third more.
  SELVAGE_RETURN_IF_ERROR(state->session->reserve(2 * state->graph.activation_bytes));
  SELVAGE_RETURN_IF_ERROR(state->lay_out());
  SELVAGE_RETURN_IF_ERROR(state->find_ports());
  for (const std::size_t side : {0u, 1u}) SELVAGE_RETURN_IF_ERROR(state->bind(side));
#if defined(__GLIBC__)
  ::malloc_trim(0);  // Building and loading the graph took several times what stays.
#endif
  return std::unique_ptr<TrainingSession>(new TrainingSession(std::move(state)));
}

TrainingSession::TrainingSession(std::unique_ptr<State> state) : state_(std::move(state)) {}
TrainingSession::~TrainingSession() = default;

const TrainingGraph& TrainingSession::graph() const {
  return state_->graph;
}

Result<float> TrainingSession::step(std::span<const TensorView> batch, float learning_rate) {
  auto& state = *state_;
  auto& binding = *state.bindings[state.current];
  const auto gathered = static_cast<std::uint64_t>(state.graph.accumulate);
  state.rate = learning_rate;
  state.apply = (state.steps + 1) % gathered == 0;
  SELVAGE_RETURN_IF_ERROR(state.prepare(batch, binding));
  state.draw_masks();
  SELVAGE_RETURN_IF_ERROR(binding.run());
  state.last = state.current;
  const float loss = state.scalar(state.loss_output);
  if (!std::isfinite(loss)) return loss;
  state.current = 1 - state.current;
  ++state.steps;
  return loss;
}

TensorView TrainingSession::output(std::size_t index) const {
  return state_->bindings[state_->last]->output(state_->outputs[index]);
}

float TrainingSession::loss(std::size_t index) const {
  return state_->scalar(state_->losses[index]);
}

std::uint64_t TrainingSession::steps() const {
  return state_->steps;
}

Result<std::vector<NamedTensor>> TrainingSession::parameters(bool average) const {
  const auto& state = *state_;
  std::vector<NamedTensor> values;
  const auto copy = [&](std::size_t index, const std::string& name) -> Result<void> {
    const auto view = state.view(index);
    SELVAGE_TRY(auto tensor,
                Tensor::create(view.type, Shape(view.shape.begin(), view.shape.end())));
    std::ranges::copy(view.bytes, tensor.bytes().begin());
    values.push_back({name, std::move(tensor)});
    return {};
  };
  const bool has_average =
      std::ranges::count(state.graph.state, StateRole::kAverage, &StateTensor::role) > 0;
  const auto wanted = average && has_average ? StateRole::kAverage : StateRole::kParameter;
  for (std::size_t i = 0; i < state.graph.state.size(); ++i) {
    const auto& tensor = state.graph.state[i];
    if (tensor.role == wanted || tensor.role == StateRole::kStatistic)
      SELVAGE_RETURN_IF_ERROR(copy(i, tensor.name));
  }
  for (const auto& adapter : state.graph.adapters) {
    auto& merged = values.emplace_back(adapter.weight, adapter.base);
    const auto a = state.view(state.find_input(adapter.a));
    const auto b = state.view(state.find_input(adapter.b));
    merge(merged.value, a.as<float>(), b.as<float>(), a.shape[1], adapter.scale);
  }
  return values;
}

Result<void> TrainingSession::set_parameters(std::span<const NamedTensor> values) {
  auto& state = *state_;
  std::vector<std::size_t> targets;
  for (const auto& [name, value] : values) {
    const auto index = state.find(name);
    if (!index)
      return fail(ErrorCode::kNotFound, "'" + name + "' is no trained parameter or statistic");
    const auto& initial = state.graph.state[*index].initial;
    if (value.type() != initial.type() || value.shape() != initial.shape())
      return fail(ErrorCode::kInvalidArgument, "'" + name + "' is " + to_string(initial.shape()) +
                                                   ", not " + to_string(value.shape()));
    targets.push_back(*index);
  }
  for (std::size_t i = 0; i < values.size(); ++i)
    std::ranges::copy(values[i].value.bytes(), state.state(targets[i], state.current).begin());
  return {};
}

void TrainingSession::reset_optimizer() {
  auto& state = *state_;
  for (std::size_t i = 0; i < state.graph.state.size(); ++i)
    if (state.graph.state[i].role == StateRole::kOptimizer)
      std::ranges::copy(state.graph.state[i].initial.bytes(),
                        state.state(i, state.current).begin());
}

std::vector<std::byte> TrainingSession::save() const {
  const auto& state = *state_;
  std::vector<std::byte> bytes;
  const auto magic = std::as_bytes(std::span(kMagic));
  bytes.insert(bytes.end(), magic.begin(), magic.end());
  const auto layout = layout_digest(state.graph).hex();
  const auto digest = std::as_bytes(std::span(layout));
  bytes.insert(bytes.end(), digest.begin(), digest.end());
  append(bytes, state.steps);
  const auto content = state.buffers[state.current].bytes();
  bytes.insert(bytes.end(), content.begin(), content.end());
  return bytes;
}

bool TrainingSession::state_is_finite() const {
  return std::ranges::all_of(std::views::iota(0UZ, state_->graph.state.size()),
                             [&](std::size_t i) { return is_finite(state_->view(i)); });
}

Result<void> TrainingSession::restore(std::span<const std::byte> bytes) {
  auto& state = *state_;
  const auto take = [&](std::size_t count) {
    const auto piece = bytes.first(std::min(count, bytes.size()));
    bytes = bytes.subspan(piece.size());
    return piece;
  };
  const auto layout = layout_digest(state.graph).hex();
  if (!std::ranges::equal(take(kMagic.size()), std::as_bytes(std::span(kMagic))))
    return fail(ErrorCode::kDataLoss, "this is no saved training state");
  if (!std::ranges::equal(take(layout.size()), std::as_bytes(std::span(layout))))
    return fail(ErrorCode::kInvalidArgument,
                "the saved training state belongs to another model or other options");
  const auto steps = take(sizeof state.steps);
  const auto content = state.buffers[state.current].bytes();
  if (steps.size() != sizeof state.steps || bytes.size() != content.size())
    return fail(ErrorCode::kDataLoss, "the saved training state is cut short");
  std::memcpy(&state.steps, steps.data(), sizeof state.steps);
  std::ranges::copy(bytes, content.begin());
  return {};
}

Result<std::optional<std::string>> TrainingSession::first_non_finite(
    std::span<const TensorView> batch, float learning_rate) const {
  const auto& state = *state_;
  for (std::size_t i = 0; i < batch.size(); ++i)
    if (!is_finite(batch[i])) return "the batch's '" + state.graph.batch[i].name + "'";
  for (std::size_t i = 0; i < state.graph.state.size(); ++i)
    if (!is_finite(state.view(i)))
      return "the state '" + state.graph.state[i].input +
             "', since a gradient of the step before is none";
  SELVAGE_TRY(const auto model, graph::Model::parse(state.model));
  SELVAGE_TRY(const auto exposed, graph::expose_all_values(model));
  infer::SessionOptions options;
  options.optimization = infer::Optimization::kNone;
  options.threads = 1;
  const auto operators = training_operators();
  options.operators.assign(operators.begin(), operators.end());
  SELVAGE_TRY(const auto session, infer::Session::load(state.runtime, exposed, options));
  SELVAGE_TRY(const auto binding, infer::Binding::create(*session));
  for (std::size_t i = 0; i < batch.size(); ++i)
    SELVAGE_RETURN_IF_ERROR(
        binding->bind_input(*session->input_index(state.graph.batch[i].name), batch[i]));
  for (std::size_t i = 0; i < state.graph.state.size(); ++i)
    SELVAGE_RETURN_IF_ERROR(
        binding->bind_input(*session->input_index(state.graph.state[i].input), state.view(i)));
  for (std::size_t i = 0; i < state.masks.size(); ++i) {
    const auto target = binding->input_bytes(*session->input_index(state.graph.masks[i].input));
    std::ranges::copy(state.masks[i].bytes().first(target.size()), target.begin());
  }
  binding->input<float>(*session->input_index(state.graph.learning_rate))[0] = learning_rate;
  if (state.apply_input)
    binding->input<bool>(*session->input_index(state.graph.apply))[0] = state.apply;
  SELVAGE_RETURN_IF_ERROR(binding->run());
  for (const auto& node : model.proto().graph().node())
    for (const auto& name : node.output()) {
      const auto index = session->output_index(name);
      if (index && !is_finite(binding->output(*index)))
        return "'" + name + "', made by " + node.op_type() + " '" + node.name() + "'";
    }
  return std::optional<std::string>();
}

}  // namespace selvage::learn
