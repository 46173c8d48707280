#include "infer/signature.h"

#include <algorithm>
#include <cstring>

#include "base/file.h"

namespace selvage::infer {
namespace {

using selvage::to_string;

[[nodiscard]] std::unexpected<Error> invalid(std::string message) {
  return fail(ErrorCode::kInvalidArgument, std::move(message));
}

[[nodiscard]] std::string names_of(std::span<const ValueInfo> infos) {
  std::string names;
  for (const auto& info : infos) names += (names.empty() ? "'" : ", '") + info.name + "'";
  return names.empty() ? "none" : names;
}

[[nodiscard]] std::string describe(DataType type, const Shape& shape) {
  return std::string(to_string(type)) + " " + to_string(shape);
}

/// Matches the tensors of one side.
class Matcher {
 public:
  Matcher(std::string_view side, std::span<const ValueInfo> infos, bool batching)
      : side_(side), infos_(infos), batching_(batching), used_(infos.size(), false) {}

  Result<std::size_t> find(const std::string& name, std::string_view field) {
    const auto found = std::ranges::find(infos_, name, &ValueInfo::name);
    if (found == infos_.end())
      return invalid(std::string(field) + ": the model has no " + side_ + " '" + name +
                     "'; it has " + names_of(infos_));
    const auto index = static_cast<std::size_t>(found - infos_.begin());
    if (used_[index])
      return invalid(std::string(field) + ": " + side_ + " '" + name + "' is given twice");
    used_[index] = true;
    return index;
  }

  /// The model's own shape and type must be ones that requests can have.
  Result<void> check_carried(const ValueInfo& info) const {
    if (info.kind != ValueKind::kTensor)
      return invalid(side_ + " '" + info.name +
                     "' of the model is not a tensor, so the protocol cannot carry it; export the "
                     "model without sequences and maps (zipmap=False)");
    if (config_type_name(info.type) == "TYPE_INVALID")
      return invalid(side_ + " '" + info.name + "' of the model is " +
                     std::string(to_string(info.type)) + ", which the protocol cannot carry");
    if (batching_ && (info.shape.empty() || info.shape.front() >= 0))
      return invalid("max_batch_size is above 0, but " + side_ + " '" + info.name +
                     "' of the model has the shape " + to_string(info.shape) +
                     ": its first dimension must be open");
    return {};
  }

  Result<void> check_type(const ValueInfo& info, DataType type, std::string_view field) const {
    if (type == DataType::kUndefined || type == info.type) return {};
    return invalid(std::string(field) + ": data_type of '" + info.name + "' is " +
                   std::string(config_type_name(type)) + " in the configuration and " +
                   std::string(to_string(info.type)) + " in the model");
  }

  /// `dims` as the configuration has them, without the batch dimension.
  Result<void> check_dims(const ValueInfo& info, const Shape& dims, std::string_view field) const {
    const auto own = std::span(info.shape).subspan(batching_ ? 1 : 0);
    bool fits = dims.size() == own.size();
    for (std::size_t i = 0; fits && i < own.size(); ++i) fits = own[i] < 0 || own[i] == dims[i];
    if (fits) return {};
    return invalid(std::string(field) + ": dims of '" + info.name + "' are " + to_string(dims) +
                   " in the configuration" + (batching_ ? " (without the batch dimension)" : "") +
                   " and " + to_string(info.shape) + " in the model");
  }

  Result<Port> port(const TensorConfig& tensor) {
    SELVAGE_TRY(const auto index, find(tensor.name, side_));
    const auto& info = infos_[index];
    SELVAGE_RETURN_IF_ERROR(check_carried(info));
    SELVAGE_RETURN_IF_ERROR(check_type(info, tensor.type, side_));
    SELVAGE_RETURN_IF_ERROR(check_dims(info, tensor.reshape.value_or(tensor.dims), side_));
    return Port{.name = tensor.name,
                .type = info.type,
                .client = with_batch(tensor.dims),
                .model = with_batch(tensor.reshape.value_or(tensor.dims)),
                .reshaped = tensor.reshape.has_value(),
                .index = index};
  }

  /// A configuration for each tensor that nothing has claimed.
  [[nodiscard]] std::vector<TensorConfig> unclaimed() const {
    std::vector<TensorConfig> tensors;
    for (std::size_t i = 0; i < infos_.size(); ++i) {
      if (used_[i]) continue;
      const auto own =
          std::span(infos_[i].shape).subspan(batching_ && !infos_[i].shape.empty() ? 1 : 0);
      tensors.push_back({.name = infos_[i].name, .type = infos_[i].type, .dims = {}});
      tensors.back().dims.assign(own.begin(), own.end());
    }
    return tensors;
  }

  [[nodiscard]] Shape with_batch(const Shape& dims) const {
    Shape shape = dims;
    if (batching_) shape.insert(shape.begin(), -1);
    return shape;
  }
  [[nodiscard]] const ValueInfo& info(std::size_t index) const { return infos_[index]; }

 private:
  std::string side_;
  std::span<const ValueInfo> infos_;
  bool batching_;
  std::vector<bool> used_;
};

[[nodiscard]] bool first_dimensions_open(std::span<const ValueInfo> infos) {
  return !infos.empty() && std::ranges::all_of(infos, [](const ValueInfo& info) {
    return info.kind == ValueKind::kTensor && !info.shape.empty() && info.shape.front() < 0;
  });
}

Result<StatePort> make_state(const SequenceState& state, Matcher& inputs, Matcher& outputs,
                             bool batching, const std::filesystem::path& folder) {
  constexpr std::string_view kField = "sequence_batching.state";
  StatePort port{.name = state.input_name};
  SELVAGE_TRY(port.input, inputs.find(state.input_name, kField));
  SELVAGE_TRY(port.output, outputs.find(state.output_name, kField));
  for (const auto* info : {&inputs.info(port.input), &outputs.info(port.output)}) {
    const auto& side = info == &inputs.info(port.input) ? inputs : outputs;
    SELVAGE_RETURN_IF_ERROR(side.check_carried(*info));
    SELVAGE_RETURN_IF_ERROR(side.check_type(*info, state.type, kField));
    SELVAGE_RETURN_IF_ERROR(side.check_dims(*info, state.dims, kField));
  }
  port.type = inputs.info(port.input).type;
  Shape shape = state.initial ? state.initial->dims : state.dims;
  if (state.initial) {
    SELVAGE_RETURN_IF_ERROR(
        inputs.check_type(inputs.info(port.input), state.initial->type, kField));
    SELVAGE_RETURN_IF_ERROR(inputs.check_dims(inputs.info(port.input), shape, kField));
  }
  std::ranges::replace_if(shape, [](std::int64_t size) { return size < 0; }, 1);
  if (batching) shape.insert(shape.begin(), 1);
  if (state.initial && !state.initial->data_file.empty()) {
    SELVAGE_TRY(port.initial, read_tensor_file(folder / "initial_state" / state.initial->data_file,
                                               port.type, std::move(shape)));
  } else {
    SELVAGE_TRY(port.initial, Tensor::create(port.type, std::move(shape), kDataFileBytesMax));
  }
  return port;
}

Result<ControlPort> make_control(const SequenceControl& control, Matcher& inputs, bool batching) {
  constexpr std::string_view kField = "sequence_batching.control_input";
  ControlPort port{.control = control};
  SELVAGE_TRY(port.index, inputs.find(control.input, kField));
  const auto& info = inputs.info(port.index);
  SELVAGE_RETURN_IF_ERROR(inputs.check_carried(info));
  SELVAGE_RETURN_IF_ERROR(inputs.check_type(info, control.type, kField));
  port.model = info.shape;
  const auto rest = std::span(port.model).subspan(batching ? 1 : 0);
  std::ranges::replace_if(rest, [](std::int64_t size) { return size < 0; }, 1);
  if (element_count(rest) != 1)
    return invalid(std::string(kField) + ": '" + control.input + "' has the shape " +
                   to_string(info.shape) + " in the model; a control is one element");
  return port;
}

/// Whether the first dimension is the batch, as far as the configuration and the shapes tell.
void decide_batching(ModelConfig& config, Signature& signature, std::span<const ValueInfo> inputs,
                     std::span<const ValueInfo> outputs) {
  const bool told = config.max_batch_size.has_value() || !config.inputs.empty() ||
                    !config.outputs.empty() ||
                    std::holds_alternative<SequenceBatching>(config.scheduling);
  signature.automatic = !told && first_dimensions_open(inputs) && first_dimensions_open(outputs);
  if (!config.max_batch_size) config.max_batch_size = signature.automatic ? kAutoRowsMax : 0;
  signature.batching = *config.max_batch_size > 0;
  signature.rows_max = std::max(*config.max_batch_size, 1);
}

}  // namespace

Result<Signature> make_signature(ModelConfig& config, std::span<const ValueInfo> inputs,
                                 std::span<const ValueInfo> outputs,
                                 const std::filesystem::path& folder) {
  Signature signature;
  decide_batching(config, signature, inputs, outputs);
  if (!signature.batching && std::holds_alternative<DynamicBatching>(config.scheduling))
    return invalid("dynamic_batching: needs max_batch_size above 0");
  Matcher input_side("input", inputs, signature.batching);
  Matcher output_side("output", outputs, signature.batching);
  if (const auto* sequences = std::get_if<SequenceBatching>(&config.scheduling)) {
    for (const auto& control : sequences->controls) {
      SELVAGE_TRY(auto port, make_control(control, input_side, signature.batching));
      signature.controls.push_back(std::move(port));
    }
    for (const auto& state : sequences->states) {
      SELVAGE_TRY(auto port,
                  make_state(state, input_side, output_side, signature.batching, folder));
      signature.states.push_back(std::move(port));
    }
    signature.rows_max = 1;
  }
  if (config.inputs.empty()) config.inputs = input_side.unclaimed();
  if (config.outputs.empty()) config.outputs = output_side.unclaimed();
  for (const auto& tensor : config.inputs) {
    SELVAGE_TRY(auto port, input_side.port(tensor));
    signature.inputs.push_back(std::move(port));
  }
  for (const auto& tensor : config.outputs) {
    SELVAGE_TRY(auto port, output_side.port(tensor));
    signature.outputs.push_back(std::move(port));
  }
  if (const auto missing = input_side.unclaimed(); !missing.empty())
    return invalid("input: '" + missing.front().name +
                   "' of the model is missing in the configuration");
  // Even outputs that nobody is given must be tensors: the runtime computes them all.
  for (const auto& info : outputs)
    if (info.kind != ValueKind::kTensor) SELVAGE_RETURN_IF_ERROR(output_side.check_carried(info));
  return signature;
}

namespace {

Result<void> check_input(const Signature& signature, const Port& port, const NamedTensor& input) {
  const auto& tensor = input.tensor;
  bool fits = tensor.type == port.type && tensor.shape.size() == port.client.size();
  for (std::size_t i = 0; fits && i < port.client.size(); ++i)
    fits = port.client[i] < 0 ? tensor.shape[i] >= 0 : tensor.shape[i] == port.client[i];
  if (!fits)
    return invalid("input '" + port.name + "' is " + describe(port.type, port.client) + ", not " +
                   describe(tensor.type, Shape(tensor.shape.begin(), tensor.shape.end())));
  const bool holds =
      tensor.type == DataType::kString
          ? element_count(tensor.shape) == static_cast<std::int64_t>(tensor.strings.size())
          : byte_size(tensor.type, tensor.shape) == tensor.bytes.size();
  if (!holds)
    return invalid(
        "input '" + port.name + "' of shape " + to_string(tensor.shape) + " does not hold " +
        (tensor.type == DataType::kString ? std::to_string(tensor.strings.size()) + " strings"
                                          : std::to_string(tensor.bytes.size()) + " bytes"));
  if (!signature.batching) return {};
  const auto rows = tensor.shape.front();
  if (rows < 1 || rows > signature.rows_max)
    return invalid("input '" + port.name + "' has a batch of " + std::to_string(rows) +
                   "; the model takes 1 to " + std::to_string(signature.rows_max) +
                   (signature.automatic
                        ? " (if the first dimension is not the batch, say max_batch_size: 0)"
                        : ""));
  return {};
}

Result<void> check_outputs(const Signature& signature, const InferenceRequest& request) {
  for (std::size_t i = 0; i < request.outputs.size(); ++i) {
    const auto& wanted = request.outputs[i];
    const auto port = std::ranges::find(signature.outputs, wanted.name, &Port::name);
    if (port == signature.outputs.end())
      return invalid("the model has no output '" + wanted.name + "'");
    if (port->type == DataType::kString && !wanted.memory.empty())
      return invalid("output '" + wanted.name +
                     "' holds strings, which cannot be written to given memory");
    for (std::size_t k = 0; k < i; ++k)
      if (request.outputs[k].name == wanted.name)
        return invalid("output '" + wanted.name + "' is requested twice");
  }
  return {};
}

}  // namespace

Result<std::int64_t> accept(const Signature& signature, InferenceRequest& request) {
  auto& given = request.inputs;
  const auto count = signature.inputs.size();
  for (std::size_t i = 0; i < count; ++i) {
    const auto& port = signature.inputs[i];
    std::size_t at = i;
    while (at < given.size() && given[at].name != port.name) ++at;
    if (at >= given.size()) return invalid("input '" + port.name + "' is missing");
    if (at != i) std::swap(given[i], given[at]);
    SELVAGE_RETURN_IF_ERROR(check_input(signature, port, given[i]));
    if (signature.batching && given[i].tensor.shape.front() != given[0].tensor.shape.front())
      return invalid("input '" + port.name + "' has a batch of " +
                     std::to_string(given[i].tensor.shape.front()) + ", but '" + given[0].name +
                     "' one of " + std::to_string(given[0].tensor.shape.front()));
  }
  if (given.size() > count)
    return invalid("the model has no further input '" + given[count].name + "'");
  SELVAGE_RETURN_IF_ERROR(check_outputs(signature, request));
  return signature.batching && count > 0 ? given[0].tensor.shape.front() : 1;
}

Result<Tensor> read_tensor_file(const std::filesystem::path& path, DataType type, Shape shape) {
  SELVAGE_TRY(const auto content, read_bytes(path, kDataFileBytesMax));
  const auto wrong = [&] {
    return invalid("'" + path.string() + "' of " + std::to_string(content.size()) +
                   " bytes is not a tensor " + describe(type, shape));
  };
  if (type != DataType::kString) {
    if (byte_size(type, shape) != content.size()) return wrong();
    SELVAGE_TRY(auto tensor, Tensor::create(type, std::move(shape)));
    std::ranges::copy(content, tensor.bytes().begin());
    return tensor;
  }
  const auto count = element_count(shape);
  std::vector<std::string> strings;
  for (auto rest = std::span(content); !rest.empty();) {
    std::uint32_t length = 0;
    if (rest.size() < sizeof length) return wrong();
    std::memcpy(&length, rest.data(), sizeof length);
    rest = rest.subspan(sizeof length);
    if (length > rest.size()) return wrong();
    strings.emplace_back(reinterpret_cast<const char*>(rest.data()), length);
    rest = rest.subspan(length);
  }
  if (!count || *count != static_cast<std::int64_t>(strings.size())) return wrong();
  return Tensor::from_strings(std::move(shape), std::move(strings));
}

}  // namespace selvage::infer
