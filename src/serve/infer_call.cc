#include "serve/infer_call.h"

#include <algorithm>
#include <cstring>

#include "serve/classification.h"
#include "serve/tensor_binary.h"
#include "serve/wire_type.h"

namespace selvage::serve {
namespace {

Error about_output(std::string_view name, Error error) {
  return std::move(error).with_context("output '" + std::string(name) + "'");
}

constexpr std::size_t kSequenceIdBytesMax = 128;  // As Triton's. It outlives the request.

Result<infer::SequenceId> sequence_of(const Parameters& parameters) {
  const auto* value = parameters.find("sequence_id");
  if (!value) return infer::SequenceId();
  if (const auto* text = std::get_if<std::string>(value)) {
    if (text->empty()) return infer::SequenceId();
    if (text->size() > kSequenceIdBytesMax)
      return fail(ErrorCode::kInvalidArgument, "parameter 'sequence_id' has at most " +
                                                   std::to_string(kSequenceIdBytesMax) + " bytes");
    return infer::SequenceId(*text);
  }
  SELVAGE_TRY(const auto number, parameters.size("sequence_id"));
  if (number.value_or(0) == 0) return infer::SequenceId();
  return infer::SequenceId(*number);
}

// What a client can wait for. Longer is the same as no limit.
constexpr std::uint64_t kTimeoutMaxUs = std::uint64_t{365} * 24 * 3600 * 1'000'000;

}  // namespace

Result<void> InferCallBuilder::set_parameters(const Parameters& parameters) {
  auto& request = call_.request;
  SELVAGE_TRY(const auto priority, parameters.size("priority"));
  if (priority.value_or(0) > UINT32_MAX)
    return fail(ErrorCode::kInvalidArgument, "parameter 'priority' is larger than any level");
  request.priority = static_cast<std::uint32_t>(priority.value_or(0));
  SELVAGE_TRY(const auto timeout, parameters.size("timeout"));
  if (timeout.value_or(0) > 0)
    request.timeout = std::chrono::microseconds(std::min(*timeout, kTimeoutMaxUs));
  SELVAGE_TRY(request.sequence, sequence_of(parameters));
  SELVAGE_TRY(const auto start, parameters.boolean("sequence_start"));
  SELVAGE_TRY(const auto end, parameters.boolean("sequence_end"));
  request.flags = {.start = start.value_or(false), .end = end.value_or(false)};
  SELVAGE_TRY(const auto binary, parameters.boolean("binary_data_output"));
  call_.binary_outputs = binary.value_or(false);
  return {};
}

Result<std::optional<RegionBytes>> InferCallBuilder::region_of(const Parameters& parameters) const {
  SELVAGE_TRY(const auto name, parameters.text("shared_memory_region"));
  if (!name) return std::nullopt;
  SELVAGE_TRY(const auto size, parameters.size("shared_memory_byte_size"));
  if (!size)
    return fail(ErrorCode::kInvalidArgument,
                "'shared_memory_region' needs 'shared_memory_byte_size' beside it");
  SELVAGE_TRY(const auto offset, parameters.size("shared_memory_offset"));
  SELVAGE_TRY(RegionBytes bytes, shared_.bytes(*name, offset.value_or(0), *size));
  return bytes;
}

Result<void> InferCallBuilder::add_output(std::string name, const Parameters& parameters) {
  if (call_.outputs.size() == kTensorsMax)
    return fail(ErrorCode::kInvalidArgument,
                "more than " + std::to_string(kTensorsMax) + " outputs");
  WantedOutput wanted;
  const auto read = [&]() -> Result<void> {
    SELVAGE_TRY(const auto binary, parameters.boolean("binary_data"));
    wanted.binary = binary.value_or(call_.binary_outputs);
    SELVAGE_TRY(const auto classes, parameters.size("classification"));
    wanted.classes =
        static_cast<std::uint32_t>(std::min<std::uint64_t>(classes.value_or(0), UINT32_MAX));
    SELVAGE_TRY(wanted.region, region_of(parameters));
    return {};
  };
  if (auto done = read(); !done)
    return std::unexpected(about_output(name, std::move(done).error()));
  call_.request.outputs.push_back({.name = name});
  wanted.name = std::move(name);
  call_.outputs.push_back(std::move(wanted));
  return {};
}

Result<DataType> InferCallBuilder::check(const InputHead& head) {
  const auto type = data_type_of_wire(head.datatype);
  if (!type) return fail(ErrorCode::kInvalidArgument, "unknown datatype '" + head.datatype + "'");
  if (head.shape.size() > kRankMax)
    return fail(ErrorCode::kInvalidArgument,
                "more than " + std::to_string(kRankMax) + " dimensions");
  if (!element_count(head.shape))
    return fail(ErrorCode::kInvalidArgument,
                "the shape " + to_string(head.shape) + " is not a size");
  return *type;
}

Result<void> InferCallBuilder::reserve(DataType type, std::uint64_t count) {
  return storage_->share.add(count *
                             (type == DataType::kString ? sizeof(std::string) : bits_of(type) / 8));
}

Result<void> InferCallBuilder::add_input(const InputHead& head, Tensor tensor) {
  if (call_.request.inputs.size() == kTensorsMax)
    return fail(ErrorCode::kInvalidArgument,
                "more than " + std::to_string(kTensorsMax) + " inputs");
  std::uint64_t text_bytes = 0;
  for (const std::string& text : tensor.strings()) text_bytes += text.size();
  SELVAGE_RETURN_IF_ERROR(storage_->share.add(text_bytes));
  storage_->tensors.push_back(std::move(tensor));
  call_.request.inputs.push_back({head.name, storage_->tensors.back().view()});
  return {};
}

Result<void> InferCallBuilder::add_input(const InputHead& head, std::span<const std::byte> raw) {
  if (call_.request.inputs.size() == kTensorsMax)
    return fail(ErrorCode::kInvalidArgument,
                "more than " + std::to_string(kTensorsMax) + " inputs");
  SELVAGE_TRY(const DataType type, check(head));
  if (type == DataType::kString) {
    // More elements than there are lengths, of four bytes, are refused before they take memory.
    const auto count = static_cast<std::uint64_t>(*element_count(head.shape));
    SELVAGE_RETURN_IF_ERROR(reserve(type, std::min<std::uint64_t>(count, raw.size() / 4)));
  }
  storage_->shapes.push_back(head.shape);
  SELVAGE_TRY(BinaryTensor tensor, read_binary(type, storage_->shapes.back(), raw));
  if (tensor.copy.type() != DataType::kUndefined) return add_input(head, std::move(tensor.copy));
  call_.request.inputs.push_back({head.name, tensor.view});
  return {};
}

Result<bool> InferCallBuilder::add_shared_input(const InputHead& head) {
  SELVAGE_TRY(const auto region, region_of(head.parameters));
  if (!region) return false;
  storage_->regions.push_back(region->keepalive);
  SELVAGE_RETURN_IF_ERROR(add_input(head, std::span<const std::byte>(region->bytes)));
  return true;
}

InferCall InferCallBuilder::finish() && {
  call_.request.compute_on = infer::ComputeOn::kCallerIfQuick;
  call_.request.keepalive = std::move(storage_);
  return std::move(call_);
}

namespace {

// One output: what goes on the wire instead of the tensor that the model gave.
class OutputFinisher {
 public:
  OutputFinisher(Backend& backend, FinishedResponse& to) : backend_(backend), to_(to) {}

  Result<void> add(const infer::NamedTensor& output, const WantedOutput* wanted, bool binary) {
    FinishedOutput& out = to_.outputs.emplace_back();
    out.name = output.name;
    out.binary = wanted ? wanted->binary : binary;
    out.tensor = output.tensor;
    if (wanted && wanted->classes > 0) {
      SELVAGE_TRY(Tensor classes, classify(output, wanted->classes));
      to_.tensors.push_back(std::move(classes));
      out.tensor = to_.tensors.back().view();
    }
    out.type = out.tensor.type;
    out.shape = out.tensor.shape;
    if (wire_name(out.type).empty())
      return fail(ErrorCode::kUnimplemented,
                  std::string(to_string(out.type)) + " is a type that the protocol does not carry");
    const bool shared = wanted && wanted->region;
    if (!out.binary && !shared) return {};
    out.raw = out.tensor.bytes;
    if (out.type == DataType::kString) {
      to_.buffers.push_back(encode_strings(out.tensor.strings));
      out.raw = to_.buffers.back();
    }
    return shared ? write(out, *wanted->region) : Result<void>();
  }

 private:
  Result<Tensor> classify(const infer::NamedTensor& output, std::uint32_t classes) {
    const auto& response = to_.response;
    SELVAGE_TRY(const auto config, backend_.config(response.model, response.version));
    SELVAGE_TRY(const auto labels, backend_.labels(response.model, response.version, output.name));
    static const infer::Labels none;
    return serve::classify(
        output.tensor, classes,
        config.max_batch_size.value_or(0) > 0 ? BatchDimension::kFirst : BatchDimension::kNone,
        labels ? *labels : none);
  }

  Result<void> write(FinishedOutput& out, const RegionBytes& region) {
    if (out.raw.size() > region.bytes.size())
      return fail(ErrorCode::kInvalidArgument,
                  std::to_string(out.raw.size()) + " bytes do not fit the " +
                      std::to_string(region.bytes.size()) + " of its shared memory");
    if (!out.raw.empty()) std::memcpy(region.bytes.data(), out.raw.data(), out.raw.size());
    out.in_region = out.raw.size();
    out.raw = {};
    return {};
  }

  Backend& backend_;
  FinishedResponse& to_;
};

}  // namespace

Result<std::shared_ptr<const FinishedResponse>> finish_response(
    Backend& backend, infer::InferenceResponse response, const std::vector<WantedOutput>& wanted,
    bool binary_outputs) {
  auto finished = std::make_shared<FinishedResponse>();
  finished->response = std::move(response);
  const auto& outputs = finished->response.outputs;
  finished->outputs.reserve(outputs.size());
  OutputFinisher finisher(backend, *finished);
  for (const auto& output : outputs) {
    const auto match = std::ranges::find(wanted, output.name, &WantedOutput::name);
    auto added = finisher.add(output, match == wanted.end() ? nullptr : &*match, binary_outputs);
    if (!added) return std::unexpected(about_output(output.name, std::move(added).error()));
  }
  return finished;
}

}  // namespace selvage::serve
