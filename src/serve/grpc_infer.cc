// ModelInfer and ModelStreamInfer.
#include <algorithm>
#include <utility>

#include "inference.pb.h"
#include "serve/error_map.h"
#include "serve/grpc_api.h"
#include "serve/grpc_message.h"
#include "serve/infer_message.h"
#include "serve/wire_type.h"

namespace selvage::serve {
namespace {

using inference::InferTensorContents;
using inference::ModelInferResponse;

// --- Requests
// -------------------------------------------------------------------------------------

template <typename Map>
Result<Parameters> to_parameters(const Map& map) {
  Parameters parameters;
  for (const auto& [name, value] : map) {
    ParameterValue plain;
    switch (value.parameter_choice_case()) {
      case inference::InferParameter::kBoolParam: plain = value.bool_param(); break;
      case inference::InferParameter::kInt64Param: plain = value.int64_param(); break;
      case inference::InferParameter::kUint64Param: plain = value.uint64_param(); break;
      case inference::InferParameter::kDoubleParam: plain = value.double_param(); break;
      case inference::InferParameter::kStringParam: plain = value.string_param(); break;
      case inference::InferParameter::PARAMETER_CHOICE_NOT_SET: continue;
    }
    SELVAGE_RETURN_IF_ERROR(parameters.add(name, std::move(plain)));
  }
  return parameters;
}

template <typename T, typename Values>
Result<Tensor> from_values(const Shape& shape, const Values& values) {
  if (element_count(shape) != values.size())
    return fail(ErrorCode::kInvalidArgument, "'contents' has " + std::to_string(values.size()) +
                                                 " elements; its shape is " + to_string(shape));
  SELVAGE_TRY(Tensor tensor, Tensor::create(data_type_of<T>(), shape));
  const auto to = tensor.as<T>();
  std::size_t i = 0;
  for (const auto value : values) {
    if constexpr (std::is_integral_v<T> && !std::is_same_v<T, bool>)
      if (!std::in_range<T>(value))
        return fail(ErrorCode::kInvalidArgument, std::to_string(value) +
                                                     " is not a value of type " +
                                                     std::string(wire_name(data_type_of<T>())));
    to[i++] = static_cast<T>(value);
  }
  return tensor;
}

Result<Tensor> from_contents(DataType type, const Shape& shape, const InferTensorContents& from) {
  switch (type) {
    case DataType::kBool: return from_values<bool>(shape, from.bool_contents());
    case DataType::kInt8: return from_values<std::int8_t>(shape, from.int_contents());
    case DataType::kInt16: return from_values<std::int16_t>(shape, from.int_contents());
    case DataType::kInt32: return from_values<std::int32_t>(shape, from.int_contents());
    case DataType::kInt64: return from_values<std::int64_t>(shape, from.int64_contents());
    case DataType::kUint8: return from_values<std::uint8_t>(shape, from.uint_contents());
    case DataType::kUint16: return from_values<std::uint16_t>(shape, from.uint_contents());
    case DataType::kUint32: return from_values<std::uint32_t>(shape, from.uint_contents());
    case DataType::kUint64: return from_values<std::uint64_t>(shape, from.uint64_contents());
    case DataType::kFloat32: return from_values<float>(shape, from.fp32_contents());
    case DataType::kFloat64: return from_values<double>(shape, from.fp64_contents());
    case DataType::kString: {
      const auto& values = from.bytes_contents();
      if (element_count(shape) != values.size())
        return fail(ErrorCode::kInvalidArgument, "'contents' has " + std::to_string(values.size()) +
                                                     " elements; its shape is " + to_string(shape));
      return Tensor::from_strings(shape, {values.begin(), values.end()});
    }
    default:
      return fail(ErrorCode::kInvalidArgument,
                  std::string(wire_name(type)) + " has no typed contents: send raw_input_contents");
  }
}

Result<void> add_typed(InferCallBuilder& builder, const InferCallBuilder::InputHead& head,
                       const InferTensorContents& contents) {
  SELVAGE_TRY(const DataType type, InferCallBuilder::check(head));
  // As many as there are, or the tensor is not made.
  const auto count = static_cast<std::uint64_t>(*element_count(head.shape));
  SELVAGE_RETURN_IF_ERROR(
      builder.reserve(type, std::min<std::uint64_t>(count, contents.ByteSizeLong())));
  SELVAGE_TRY(Tensor tensor, from_contents(type, head.shape, contents));
  return builder.add_input(head, std::move(tensor));
}

using Raws = std::span<const std::span<const std::byte>>;

// Takes the input's entry from `raws`, of which there are none at all for typed contents.
Result<void> add_input(InferCallBuilder& builder,
                       const inference::ModelInferRequest::InferInputTensor& input, bool typed,
                       Raws& raws) {
  InferCallBuilder::InputHead head{
      input.name(), input.datatype(), {input.shape().begin(), input.shape().end()}, {}};
  SELVAGE_TRY(head.parameters, to_parameters(input.parameters()));
  SELVAGE_TRY(const bool shared, builder.add_shared_input(head));
  if (shared) return {};
  if (typed) return add_typed(builder, head, input.contents());
  if (input.has_contents() && input.contents().ByteSizeLong() > 0)
    return fail(ErrorCode::kInvalidArgument, "typed contents beside raw_input_contents");
  if (raws.empty())
    return fail(ErrorCode::kInvalidArgument, "raw_input_contents has no entry for it");
  const auto raw = raws.front();
  raws = raws.subspan(1);
  return builder.add_input(head, raw);
}

Result<void> add_inputs(InferCallBuilder& builder, const InferMessage& message) {
  Raws raws = message.raw;
  for (const auto& input : message.head.inputs()) {
    auto added = add_input(builder, input, message.raw.empty(), raws);
    if (!added)
      return std::unexpected(std::move(added).error().with_context("input '" + input.name() + "'"));
  }
  if (raws.empty()) return {};
  return fail(ErrorCode::kInvalidArgument,
              std::to_string(raws.size()) + " entries of raw_input_contents belong to no input");
}

Result<InferCall> to_call(Services& services, const std::shared_ptr<const InferMessage>& message) {
  InferCallBuilder builder(services.shared, services.bodies);
  builder.storage().message = message;
  const auto& head = message->head;
  auto& request = builder.call().request;
  request.model = head.model_name();
  request.version = head.model_version();
  request.id = head.id();
  SELVAGE_TRY(const Parameters parameters, to_parameters(head.parameters()));
  SELVAGE_RETURN_IF_ERROR(builder.set_parameters(parameters));
  builder.call().binary_outputs = true;
  SELVAGE_RETURN_IF_ERROR(add_inputs(builder, *message));
  for (const auto& output : head.outputs()) {
    SELVAGE_TRY(Parameters of, to_parameters(output.parameters()));
    SELVAGE_RETURN_IF_ERROR(of.add("binary_data", true));
    SELVAGE_RETURN_IF_ERROR(builder.add_output(output.name(), of));
  }
  return std::move(builder).finish();
}

// --- Responses
// ------------------------------------------------------------------------------------

constexpr std::size_t kCopyBytesMax = 4096;  // Below, a copy is cheaper than a slice of its own.

void append_varint(std::string& to, std::uint64_t value) {
  for (; value >= 0x80; value >>= 7) to += static_cast<char>(value | 0x80);
  to += static_cast<char>(value);
}

void append_field_head(std::string& to, unsigned field, std::uint64_t bytes) {
  constexpr unsigned kLengthDelimited = 2;
  append_varint(to, field << 3 | kLengthDelimited);
  append_varint(to, bytes);
}

// Clients of streams look for it: of models with many answers to a request, it marks the last one.
// Ours have one.
void mark_final(ModelInferResponse& message) {
  (*message.mutable_parameters())["triton_final_response"].set_bool_param(true);
}

ModelInferResponse head_of(const FinishedResponse& finished) {
  ModelInferResponse message;
  message.set_model_name(finished.response.model);
  message.set_model_version(finished.response.version);
  message.set_id(finished.response.id);
  for (const auto& output : finished.outputs) {
    auto& to = *message.add_outputs();
    to.set_name(std::string(output.name));
    to.set_datatype(std::string(wire_name(output.type)));
    to.mutable_shape()->Add(output.shape.begin(), output.shape.end());
    if (output.in_region)
      (*to.mutable_parameters())["shared_memory_byte_size"].set_int64_param(
          static_cast<std::int64_t>(*output.in_region));
  }
  return message;
}

// Bytes that stay where they are until gRPC has sent them.
grpc::Slice borrow(std::span<const std::byte> bytes, const std::shared_ptr<const void>& owner) {
  return {const_cast<std::byte*>(bytes.data()), bytes.size(),
          [](void* keep) { delete static_cast<std::shared_ptr<const void>*>(keep); },
          new std::shared_ptr<const void>(owner)};
}

// The message's wire form, written by hand: its last field, raw_output_contents, refers to the
// outputs instead of copying them.
class ResponseWriter {
 public:
  ResponseWriter(std::shared_ptr<const FinishedResponse> finished, GrpcShape shape)
      : finished_(std::move(finished)) {
    constexpr unsigned kRawOutputContents = 6;
    auto head = head_of(*finished_);
    if (shape == GrpcShape::kBothStreams) mark_final(head);
    head_ = head.SerializeAsString();
    bytes_ = head_.size();
    for (const auto& output : finished_->outputs) {
      std::string field;
      append_field_head(field, kRawOutputContents, output.raw.size());
      bytes_ += field.size() + output.raw.size();
      fields_.push_back(std::move(field));
    }
  }

  [[nodiscard]] std::uint64_t bytes() const { return bytes_; }

  grpc::ByteBuffer write(std::string pending = {}) {
    std::vector<grpc::Slice> slices;
    pending += head_;
    for (std::size_t i = 0; i < fields_.size(); ++i) {
      const auto raw = finished_->outputs[i].raw;
      pending += fields_[i];
      if (raw.size() <= kCopyBytesMax) {
        pending.append(reinterpret_cast<const char*>(raw.data()), raw.size());
        continue;
      }
      slices.emplace_back(pending);
      pending.clear();
      slices.push_back(borrow(raw, finished_));
    }
    if (!pending.empty() || slices.empty()) slices.emplace_back(pending);
    return {slices.data(), slices.size()};
  }

 private:
  std::shared_ptr<const FinishedResponse> finished_;
  std::string head_;
  std::vector<std::string> fields_;  // Before each output's bytes.
  std::uint64_t bytes_ = 0;
};

grpc::ByteBuffer stream_error(const std::string& id, const Error& error) {
  inference::ModelStreamInferResponse message;
  message.set_error_message(error.message);
  message.mutable_infer_response()->set_id(id);
  mark_final(*message.mutable_infer_response());
  return to_buffer(message);
}

grpc::ByteBuffer stream_response(std::shared_ptr<const FinishedResponse> finished) {
  constexpr unsigned kInferResponse = 2;
  ResponseWriter writer(std::move(finished), GrpcShape::kBothStreams);
  std::string head;
  append_field_head(head, kInferResponse, writer.bytes());
  return writer.write(std::move(head));
}

// --- Calls
// ----------------------------------------------------------------------------------------

using Answer = std::move_only_function<void(Result<std::shared_ptr<const FinishedResponse>>)>;

void infer(Services& services, const std::shared_ptr<const InferMessage>& message,
           GrpcExchange& exchange, Answer answer) {
  auto call = to_call(services, message);
  if (!call) return answer(std::unexpected(std::move(call).error()));
  auto& request = call->request;
  if (const auto left = exchange.time_left())
    request.timeout = std::min(*left, request.timeout.value_or(*left));
  auto done = [&services, outputs = std::move(call->outputs),
               answer = std::move(answer)](Result<infer::InferenceResponse> response) mutable {
    if (!response) return answer(std::unexpected(std::move(response).error()));
    answer(finish_response(services.backend, *std::move(response), outputs, true));
  };
  exchange.on_leave(services.backend.submit(std::move(request), std::move(done)));
}

}  // namespace

void handle_model_infer(Services& services, grpc::ByteBuffer& buffer,
                        const std::shared_ptr<GrpcExchange>& exchange) {
  const auto message = read_infer_message(buffer, services.bodies);
  if (!message) return exchange->reply(std::unexpected(message.error()));
  // It may answer before it returns, and that would be the last that holds the exchange.
  infer(services, *message, *exchange, [exchange](auto finished) {
    if (!finished) return exchange->reply(std::unexpected(std::move(finished).error()));
    exchange->reply(ResponseWriter(*std::move(finished), GrpcShape::kUnary).write());
  });
}

void handle_stream_infer(Services& services, grpc::ByteBuffer& buffer,
                         const std::shared_ptr<GrpcExchange>& exchange) {
  const auto message = read_infer_message(buffer, services.bodies);
  if (!message) return exchange->reply(stream_error("", message.error()));
  infer(services, *message, *exchange, [exchange, id = (*message)->head.id()](auto finished) {
    exchange->reply(finished ? stream_response(*std::move(finished))
                             : stream_error(id, finished.error()));
  });
}

grpc::ByteBuffer refuse_stream_infer(const Error& error) {
  return stream_error("", error);
}

}  // namespace selvage::serve
