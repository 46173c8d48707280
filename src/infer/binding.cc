// The hot path: everything is prepared in create() and set_shape(), run() only calls the runtime.
#include <algorithm>
#include <cstdlib>
#include <cstring>
#include <mutex>
#include <string_view>
#include <utility>

#include "infer/denormals.h"
#include "infer/session_state.h"

namespace selvage::infer {
namespace {

using ort::api;
using ort::to_result;

/// A cache line, and the width of the widest vector register.
constexpr std::size_t kAlignment = 64;

struct Free {
  void operator()(std::byte* p) const { std::free(p); }
};
using Buffer = std::unique_ptr<std::byte, Free>;

Result<Buffer> allocate(std::uint64_t bytes) {
  const auto rounded =
      (std::max<std::uint64_t>(bytes, 1) + kAlignment - 1) / kAlignment * kAlignment;
  Buffer buffer(static_cast<std::byte*>(std::aligned_alloc(kAlignment, rounded)));
  if (!buffer)
    return fail(ErrorCode::kResourceExhausted,
                "out of memory for a tensor of " + std::to_string(bytes) + " bytes");
  std::memset(buffer.get(), 0, rounded);
  return buffer;
}

/// One input or output.
struct Slot {
  Shape shape = {};
  Buffer buffer = nullptr;          ///< Ours, when we own the memory.
  std::span<std::byte> bytes = {};  ///< Ours or the caller's; empty when the runtime allocates.
  std::vector<std::string> strings = {};
  ort::Handle<OrtValue> value = {};  ///< For outputs that the runtime allocates: of the last run.
  bool by_runtime = false;           ///< Its shape is known only after a run.
};

/// Sizes of the named open dimensions, as the inputs' shapes give them.
class SymbolSizes {
 public:
  void learn(const ValueInfo& declared, const Shape& shape) {
    for (std::size_t i = 0; i < shape.size(); ++i)
      if (!declared.symbols[i].empty()) sizes_.emplace_back(declared.symbols[i], shape[i]);
  }
  [[nodiscard]] std::optional<Shape> resolve(const ValueInfo& declared) const {
    Shape shape = declared.shape;
    for (std::size_t i = 0; i < shape.size(); ++i) {
      if (shape[i] >= 0) continue;
      const auto known = std::ranges::find(sizes_, declared.symbols[i], &Size::first);
      if (known == sizes_.end()) return std::nullopt;
      shape[i] = known->second;
    }
    return shape;
  }

 private:
  using Size = std::pair<std::string_view, std::int64_t>;
  std::vector<Size> sizes_;
};

Shape default_shape(const ValueInfo& declared) {
  Shape shape = declared.shape;
  std::ranges::replace_if(shape, [](std::int64_t size) { return size < 0; }, 1);
  return shape;
}

}  // namespace

struct Binding::State {
  explicit State(const Session::State& owner) : session(owner) {}

  const Session::State& session;
  ort::Handle<OrtRunOptions> run_options;
  std::vector<Slot> inputs, outputs;
  std::vector<const OrtValue*> input_values;
  std::vector<OrtValue*> output_values;

  std::mutex mutex;  ///< Between run() and cancel().
  bool running = false;
  bool cancelled = false;

  void begin_run() {
    const std::scoped_lock lock(mutex);
    running = true;
  }
  /// Whether the run was asked to stop; the next one starts unasked.
  [[nodiscard]] bool end_run() {
    const std::scoped_lock lock(mutex);
    running = false;
    if (!cancelled) return false;
    if (auto* status = api().RunOptionsUnsetTerminate(run_options.get()))
      api().ReleaseStatus(status);
    return std::exchange(cancelled, false);
  }
  [[nodiscard]] bool was_cancelled() {
    const std::scoped_lock lock(mutex);
    return cancelled;
  }

  [[nodiscard]] Result<void> wrap(Slot& slot, DataType type) const {
    SELVAGE_TRY(slot.value, to_ort(TensorView{type, slot.shape, slot.bytes, {}}, session.memory));
    return {};
  }

  [[nodiscard]] Result<void> give_memory(Slot& slot, DataType type) const {
    if (type == DataType::kString) {
      const auto count = element_count(slot.shape);
      if (!count || *count > kStringsMax)
        return fail(ErrorCode::kOutOfRange,
                    "a string tensor of shape " + to_string(slot.shape) + " is too large");
      slot.strings.assign(static_cast<std::size_t>(*count), "");
      SELVAGE_TRY(slot.value,
                  to_ort(TensorView{type, slot.shape, {}, slot.strings}, session.memory));
      return {};
    }
    const auto bytes = byte_size(type, slot.shape);
    if (!bytes || *bytes > Tensor::kBytesMax)
      return fail(ErrorCode::kOutOfRange, "a " + std::string(to_string(type)) +
                                              " tensor of shape " + to_string(slot.shape) +
                                              " is too large");
    SELVAGE_TRY(slot.buffer, allocate(*bytes));
    slot.bytes = {slot.buffer.get(), static_cast<std::size_t>(*bytes)};
    return wrap(slot, type);
  }

  /// Gives memory to every output whose shape follows from the inputs; the caller's stays.
  [[nodiscard]] Result<void> prepare_outputs() {
    SymbolSizes sizes;
    for (std::size_t i = 0; i < inputs.size(); ++i) sizes.learn(session.inputs[i], inputs[i].shape);
    for (std::size_t i = 0; i < outputs.size(); ++i) {
      auto& slot = outputs[i];
      const auto shape = sizes.resolve(session.outputs[i]);
      const bool ours = shape && session.outputs[i].type != DataType::kString && !slot.by_runtime;
      if (ours && slot.value && slot.shape == *shape && !slot.bytes.empty()) continue;
      slot = Slot{.by_runtime = !ours};
      if (!ours) continue;
      slot.shape = *shape;
      SELVAGE_RETURN_IF_ERROR(give_memory(slot, session.outputs[i].type));
    }
    return {};
  }

  [[nodiscard]] Result<void> call() {
    for (std::size_t i = 0; i < inputs.size(); ++i) input_values[i] = inputs[i].value.get();
    for (std::size_t i = 0; i < outputs.size(); ++i) {
      if (outputs[i].by_runtime) outputs[i].value.reset();
      output_values[i] = session.output_is_alias[i] ? nullptr : outputs[i].value.get();
    }
    const DenormalsAsZero flush(session.options.flush_denormals);
    auto* status = api().Run(session.session.get(), run_options.get(), session.input_names.data(),
                             input_values.data(), input_values.size(), session.output_names.data(),
                             output_values.size(), output_values.data());
    if (status != nullptr) return to_result(status);
    for (std::size_t i = 0; i < outputs.size(); ++i) {
      if (outputs[i].by_runtime)
        outputs[i].value.reset(output_values[i]);
      else if (session.output_is_alias[i])
        SELVAGE_RETURN_IF_ERROR(copy_alias(ort::Handle<OrtValue>(output_values[i]), i));
    }
    return {};
  }

  [[nodiscard]] Result<void> copy_alias(ort::Handle<OrtValue> value, std::size_t index) {
    const auto& declared = session.outputs[index];
    Slot given{.by_runtime = true};
    given.value = std::move(value);
    SELVAGE_RETURN_IF_ERROR(read_back(given, declared.type));
    const auto& to = outputs[index];
    if (given.bytes.size() != to.bytes.size())
      return fail(ErrorCode::kInternal, "output '" + declared.name + "' is " +
                                            to_string(given.shape) + ", not " +
                                            to_string(to.shape));
    std::ranges::copy(given.bytes, to.bytes.begin());
    return {};
  }

  /// A model may declare shapes that it does not keep, so that prepared outputs do not fit: tries
  /// once with outputs that the runtime allocates, and stays with them if that was it.
  [[nodiscard]] Result<void> call_again(Result<void> failed) {
    if (std::ranges::none_of(outputs, [](const Slot& slot) { return slot.buffer != nullptr; }))
      return failed;
    std::vector<Slot> prepared(outputs.size());
    for (std::size_t i = 0; i < outputs.size(); ++i)
      if (outputs[i].buffer) prepared[i] = std::exchange(outputs[i], Slot{.by_runtime = true});
    if (call()) return {};
    for (std::size_t i = 0; i < outputs.size(); ++i)
      if (prepared[i].buffer) outputs[i] = std::move(prepared[i]);
    return failed;
  }

  /// Shape and bytes of what the runtime allocated.
  [[nodiscard]] Result<void> read_back(Slot& slot, DataType type) const {
    OrtTensorTypeAndShapeInfo* raw = nullptr;
    SELVAGE_RETURN_IF_ERROR(to_result(api().GetTensorTypeAndShape(slot.value.get(), &raw)));
    const ort::Handle<OrtTensorTypeAndShapeInfo> info(raw);
    std::size_t rank = 0;
    SELVAGE_RETURN_IF_ERROR(to_result(api().GetDimensionsCount(info.get(), &rank)));
    slot.shape.resize(rank);
    SELVAGE_RETURN_IF_ERROR(to_result(api().GetDimensions(info.get(), slot.shape.data(), rank)));
    if (type == DataType::kString) {
      SELVAGE_TRY(auto value, from_ort(slot.value.get()));
      const auto strings = std::get<Tensor>(value).strings();
      slot.strings.assign(strings.begin(), strings.end());
      return {};
    }
    void* data = nullptr;
    SELVAGE_RETURN_IF_ERROR(to_result(api().GetTensorMutableData(slot.value.get(), &data)));
    slot.bytes = {static_cast<std::byte*>(data),
                  static_cast<std::size_t>(byte_size(type, slot.shape).value_or(0))};
    return {};
  }

  static constexpr std::int64_t kStringsMax = std::int64_t{1} << 24;
};

Result<std::unique_ptr<Binding>> Binding::create(const Session& session,
                                                 std::span<const Shape> input_shapes) {
  const auto& owner = *session.state_;
  const auto not_tensor = [](const ValueInfo& info) { return info.kind != ValueKind::kTensor; };
  if (std::ranges::any_of(owner.inputs, not_tensor) ||
      std::ranges::any_of(owner.outputs, not_tensor))
    return fail(
        ErrorCode::kUnimplemented,
        "the model takes or gives sequences, maps or optionals; only Session::run can run it");
  if (!input_shapes.empty() && input_shapes.size() != owner.inputs.size())
    return fail(ErrorCode::kInvalidArgument,
                "the model takes " + std::to_string(owner.inputs.size()) + " inputs, not " +
                    std::to_string(input_shapes.size()));
  auto state = std::make_unique<State>(owner);
  OrtRunOptions* run_options = nullptr;
  SELVAGE_RETURN_IF_ERROR(to_result(api().CreateRunOptions(&run_options)));
  state->run_options.reset(run_options);
  state->inputs.resize(owner.inputs.size());
  state->outputs.resize(owner.outputs.size());
  state->input_values.resize(owner.inputs.size());
  state->output_values.resize(owner.outputs.size());
  for (std::size_t i = 0; i < owner.inputs.size(); ++i) {
    auto& slot = state->inputs[i];
    slot.shape = input_shapes.empty() ? default_shape(owner.inputs[i]) : input_shapes[i];
    SELVAGE_RETURN_IF_ERROR(check_fits(owner.inputs[i], owner.inputs[i].type, slot.shape));
    SELVAGE_RETURN_IF_ERROR(state->give_memory(slot, owner.inputs[i].type));
  }
  SELVAGE_RETURN_IF_ERROR(state->prepare_outputs());
  return std::unique_ptr<Binding>(new Binding(std::move(state)));
}

Binding::Binding(std::unique_ptr<State> state) : state_(std::move(state)) {}
Binding::~Binding() = default;

std::span<std::byte> Binding::input_bytes(std::size_t index) {
  return state_->inputs[index].bytes;
}

std::span<const std::int64_t> Binding::input_shape(std::size_t index) const {
  return state_->inputs[index].shape;
}

Result<void> Binding::set_strings(std::size_t index, std::span<const std::string> values) {
  auto& slot = state_->inputs[index];
  const auto& declared = state_->session.inputs[index];
  SELVAGE_RETURN_IF_ERROR(check_fits(declared, DataType::kString, slot.shape));
  if (values.size() != slot.strings.size())
    return fail(ErrorCode::kInvalidArgument, "'" + declared.name + "' of shape " +
                                                 to_string(slot.shape) + " does not hold " +
                                                 std::to_string(values.size()) + " strings");
  return fill_strings(slot.value.get(), values);
}

Result<void> Binding::bind_input(std::size_t index, const TensorView& tensor) {
  const auto& declared = state_->session.inputs[index];
  SELVAGE_RETURN_IF_ERROR(check_fits(declared, tensor.type, tensor.shape));
  auto value = to_ort(tensor, state_->session.memory);
  if (!value)
    return std::unexpected(std::move(value).error().with_context("input '" + declared.name + "'"));
  auto& slot = state_->inputs[index];
  const bool reshaped = !std::ranges::equal(slot.shape, tensor.shape);
  slot.shape.assign(tensor.shape.begin(), tensor.shape.end());
  slot.buffer.reset();
  // The caller's memory is only read; the slot's type is shared with outputs.
  slot.bytes = {const_cast<std::byte*>(tensor.bytes.data()), tensor.bytes.size()};
  slot.strings.assign(tensor.strings.begin(), tensor.strings.end());
  slot.value = *std::move(value);
  if (reshaped) SELVAGE_RETURN_IF_ERROR(state_->prepare_outputs());
  return {};
}

Result<void> Binding::bind_output(std::size_t index, Shape shape, std::span<std::byte> bytes) {
  const auto& declared = state_->session.outputs[index];
  SELVAGE_RETURN_IF_ERROR(check_fits(declared, declared.type, shape));
  if (byte_size(declared.type, shape) != bytes.size())
    return fail(ErrorCode::kInvalidArgument, "output '" + declared.name + "': shape " +
                                                 to_string(shape) + " does not take " +
                                                 std::to_string(bytes.size()) + " bytes");
  state_->outputs[index] = Slot{.shape = std::move(shape), .bytes = bytes};
  return state_->wrap(state_->outputs[index], declared.type);
}

Result<void> Binding::set_shape(std::size_t index, Shape shape) {
  const auto& declared = state_->session.inputs[index];
  SELVAGE_RETURN_IF_ERROR(check_fits(declared, declared.type, shape));
  Slot fresh{.shape = std::move(shape)};
  SELVAGE_RETURN_IF_ERROR(state_->give_memory(fresh, declared.type));
  state_->inputs[index] = std::move(fresh);
  return state_->prepare_outputs();
}

Result<void> Binding::feed_back(std::size_t output, std::size_t input) {
  auto& from = state_->outputs[output];
  auto& to = state_->inputs[input];
  const auto& declared = state_->session.inputs[input];
  if (declared.type == DataType::kString)
    return fail(ErrorCode::kUnimplemented, "'" + declared.name + "' is a state of strings");
  SELVAGE_RETURN_IF_ERROR(check_fits(declared, state_->session.outputs[output].type, from.shape));
  if (from.by_runtime) {
    to.value = std::move(from.value);
    to.bytes = from.bytes;
    to.buffer.reset();
    to.shape = from.shape;
    return {};
  }
  if (from.shape != to.shape)
    return fail(ErrorCode::kInvalidArgument, "'" + declared.name + "' has shape " +
                                                 to_string(to.shape) + ", what comes back " +
                                                 to_string(from.shape));
  std::swap(from, to);
  return {};
}

void Binding::cancel() {
  const std::scoped_lock lock(state_->mutex);
  if (!state_->running) return;
  state_->cancelled = true;
  if (auto* status = api().RunOptionsSetTerminate(state_->run_options.get()))
    api().ReleaseStatus(status);
}

Result<void> Binding::run() {
  state_->begin_run();
  auto done = state_->call();
  if (!done && !state_->was_cancelled()) done = state_->call_again(std::move(done));
  const bool cancelled = state_->end_run();
  if (!done && cancelled) return fail(ErrorCode::kCancelled, "the run was cancelled");
  if (!done) return done;
  for (std::size_t i = 0; i < state_->outputs.size(); ++i)
    if (state_->outputs[i].by_runtime)
      SELVAGE_RETURN_IF_ERROR(
          state_->read_back(state_->outputs[i], state_->session.outputs[i].type));
  return {};
}

TensorView Binding::output(std::size_t index) const {
  const auto& slot = state_->outputs[index];
  return {state_->session.outputs[index].type, slot.shape, slot.bytes, slot.strings};
}

std::size_t Binding::output_count() const {
  return state_->outputs.size();
}

}  // namespace selvage::infer
