#include "serve/infer_http.h"

#include <algorithm>
#include <utility>

#include "serve/json_text.h"
#include "serve/tensor_json.h"
#include "serve/wire_type.h"

namespace selvage::serve {
namespace {

Result<Shape> read_shape(JsonReader& reader) {
  Shape shape;
  SELVAGE_RETURN_IF_ERROR(reader.begin_array());
  while (true) {
    SELVAGE_TRY(const bool more, reader.next_element());
    if (!more) return shape;
    SELVAGE_TRY(const std::string_view text, reader.number_text());
    std::int64_t size = 0;
    if (!to_number(text, size) || size < 0)
      return fail(ErrorCode::kInvalidArgument,
                  "'shape' must hold integers from 0, not " + std::string(text));
    if (shape.size() == kRankMax)
      return fail(ErrorCode::kInvalidArgument,
                  "'shape' has more than " + std::to_string(kRankMax) + " dimensions");
    shape.push_back(size);
  }
}

// An entry of `inputs`. Its data is read where it stands if the tensor is known by then, as clients
// write it, and otherwise once the object has ended.
class InputReader {
 public:
  InputReader(JsonReader& reader, InferCallBuilder& builder, std::span<const std::byte>& binary,
              std::size_t text_bytes)
      : reader_(reader), builder_(builder), binary_(binary), text_bytes_(text_bytes) {}

  Result<void> read() {
    auto done = members();
    if (done) done = finish();
    if (!done && !head_.name.empty())
      return std::unexpected(std::move(done).error().with_context("input '" + head_.name + "'"));
    return done;
  }

 private:
  Result<void> members() {
    std::string key;
    SELVAGE_RETURN_IF_ERROR(reader_.begin_object());
    while (true) {
      SELVAGE_TRY(const bool more, reader_.next_key(key));
      if (!more) return {};
      if (key == "name") {
        SELVAGE_TRY(head_.name, reader_.string());
      } else if (key == "datatype") {
        SELVAGE_TRY(head_.datatype, reader_.string());
      } else if (key == "shape") {
        SELVAGE_TRY(head_.shape, read_shape(reader_));
        has_shape_ = true;
      } else if (key == "parameters") {
        SELVAGE_TRY(head_.parameters, read_parameters(reader_));
      } else if (key == "data") {
        SELVAGE_RETURN_IF_ERROR(data());
      } else {
        SELVAGE_RETURN_IF_ERROR(reader_.skip());
      }
    }
  }

  Result<void> data() {
    tensor_.reset();
    unread_ = {};
    if (has_shape_ && !head_.datatype.empty()) return take(reader_);
    SELVAGE_TRY(unread_, reader_.skip());
    return {};
  }

  Result<void> take(JsonReader& reader) {
    const auto type = data_type_of_wire(head_.datatype);
    if (!type)
      return fail(ErrorCode::kInvalidArgument, "unknown datatype '" + head_.datatype + "'");
    // More elements than the text can hold are refused before they take memory.
    const auto count = static_cast<std::uint64_t>(element_count(head_.shape).value_or(0));
    SELVAGE_RETURN_IF_ERROR(
        builder_.reserve(*type, std::min<std::uint64_t>(count, text_bytes_ / 2)));
    SELVAGE_TRY(tensor_, read_tensor(reader, *type, head_.shape, text_bytes_));
    return {};
  }

  Result<void> finish() {
    if (head_.name.empty()) return fail(ErrorCode::kInvalidArgument, "an input without a 'name'");
    if (!has_shape_) return fail(ErrorCode::kInvalidArgument, "'shape' is missing");
    if (head_.datatype.empty()) return fail(ErrorCode::kInvalidArgument, "'datatype' is missing");
    const bool has_data = tensor_ || !unread_.empty();
    SELVAGE_TRY(const auto binary_bytes, head_.parameters.size("binary_data_size"));
    const bool shared = head_.parameters.find("shared_memory_region") != nullptr;
    if (has_data + binary_bytes.has_value() + shared != 1)
      return fail(ErrorCode::kInvalidArgument,
                  "exactly one of 'data', 'binary_data_size' and 'shared_memory_region' is needed");
    if (binary_bytes) return from_binary(*binary_bytes);
    if (shared) {
      SELVAGE_RETURN_IF_ERROR(builder_.add_shared_input(head_));
      return {};
    }
    if (!tensor_) {
      JsonReader again(unread_);
      SELVAGE_RETURN_IF_ERROR(take(again));
    } else if (tensor_->shape() != head_.shape || wire_name(tensor_->type()) != head_.datatype) {
      return fail(ErrorCode::kInvalidArgument, "'shape' or 'datatype' is given twice");
    }
    return builder_.add_input(head_, *std::move(tensor_));
  }

  Result<void> from_binary(std::uint64_t size) {
    if (size > binary_.size())
      return fail(ErrorCode::kInvalidArgument, "'binary_data_size' is " + std::to_string(size) +
                                                   ", but " + std::to_string(binary_.size()) +
                                                   " bytes of the body are left");
    const auto raw = binary_.first(static_cast<std::size_t>(size));
    binary_ = binary_.subspan(static_cast<std::size_t>(size));
    return builder_.add_input(head_, raw);
  }

  JsonReader& reader_;
  InferCallBuilder& builder_;
  std::span<const std::byte>& binary_;  // What follows the JSON and is not taken yet.
  const std::size_t text_bytes_;
  InferCallBuilder::InputHead head_;
  bool has_shape_ = false;
  std::optional<Tensor> tensor_;
  std::string_view unread_;
};

struct OutputEntry {
  std::string name;
  Parameters parameters;
};

Result<OutputEntry> read_output(JsonReader& reader) {
  OutputEntry entry;
  std::string key;
  SELVAGE_RETURN_IF_ERROR(reader.begin_object());
  while (true) {
    SELVAGE_TRY(const bool more, reader.next_key(key));
    if (!more) break;
    if (key == "name") {
      SELVAGE_TRY(entry.name, reader.string());
    } else if (key == "parameters") {
      SELVAGE_TRY(entry.parameters, read_parameters(reader));
    } else {
      SELVAGE_RETURN_IF_ERROR(reader.skip());
    }
  }
  if (entry.name.empty()) return fail(ErrorCode::kInvalidArgument, "an output without a 'name'");
  return entry;
}

// The request object. Outputs wait until it has ended, since `parameters` may come after them.
class RequestReader {
 public:
  RequestReader(std::string_view json, std::span<const std::byte> binary, InferCallBuilder& builder)
      : reader_(json), json_bytes_(json.size()), binary_(binary), builder_(builder) {}

  Result<void> read() {
    std::string key;
    SELVAGE_RETURN_IF_ERROR(reader_.begin_object());
    while (true) {
      SELVAGE_TRY(const bool more, reader_.next_key(key));
      if (!more) break;
      SELVAGE_RETURN_IF_ERROR(member(key));
    }
    SELVAGE_RETURN_IF_ERROR(reader_.end());
    if (!has_inputs_) return fail(ErrorCode::kInvalidArgument, "'inputs' is missing");
    if (!binary_.empty())
      return fail(ErrorCode::kInvalidArgument,
                  std::to_string(binary_.size()) + " bytes of the body belong to no input");
    SELVAGE_RETURN_IF_ERROR(builder_.set_parameters(parameters_));
    for (auto& [name, parameters] : outputs_)
      SELVAGE_RETURN_IF_ERROR(builder_.add_output(std::move(name), parameters));
    return {};
  }

 private:
  Result<void> member(const std::string& key) {
    if (key == "id") {
      SELVAGE_TRY(builder_.call().request.id, reader_.string());
    } else if (key == "parameters") {
      SELVAGE_TRY(parameters_, read_parameters(reader_));
    } else if (key == "inputs") {
      if (std::exchange(has_inputs_, true))
        return fail(ErrorCode::kInvalidArgument, "'inputs' is given twice");
      return inputs();
    } else if (key == "outputs") {
      return outputs();
    } else {
      SELVAGE_RETURN_IF_ERROR(reader_.skip());
    }
    return {};
  }

  Result<void> inputs() {
    SELVAGE_RETURN_IF_ERROR(reader_.begin_array());
    while (true) {
      SELVAGE_TRY(const bool more, reader_.next_element());
      if (!more) return {};
      SELVAGE_RETURN_IF_ERROR(InputReader(reader_, builder_, binary_, json_bytes_).read());
    }
  }

  Result<void> outputs() {
    SELVAGE_RETURN_IF_ERROR(reader_.begin_array());
    while (true) {
      SELVAGE_TRY(const bool more, reader_.next_element());
      if (!more) return {};
      if (outputs_.size() == kTensorsMax)
        return fail(ErrorCode::kInvalidArgument,
                    "more than " + std::to_string(kTensorsMax) + " outputs");
      SELVAGE_TRY(OutputEntry entry, read_output(reader_));
      outputs_.push_back(std::move(entry));
    }
  }

  JsonReader reader_;
  const std::size_t json_bytes_;
  std::span<const std::byte> binary_;
  InferCallBuilder& builder_;
  Parameters parameters_;
  std::vector<OutputEntry> outputs_;
  bool has_inputs_ = false;
};

// The raw request has no shape of its own: the model's, its one open dimension found by division.
Result<Shape> shape_of_raw(const infer::TensorMetadata& input, std::size_t bytes) {
  Shape shape = input.shape;
  if (input.type == DataType::kString) {
    for (std::int64_t& size : shape) size = size < 0 ? 1 : size;
    return shape;
  }
  std::int64_t* open = nullptr;
  // The first dimension of a batching model is the batch, and a raw request is one of it.
  for (std::int64_t& size : shape) {
    if (size >= 0) continue;
    if (open && open != &shape.front())
      return fail(ErrorCode::kInvalidArgument,
                  "a raw request needs an input with at most one open "
                  "dimension, not " +
                      to_string(input.shape));
    if (open) *open = 1;
    open = &size;
  }
  if (!open) return shape;
  *open = 1;
  const auto unit = byte_size(input.type, shape);
  if (!unit || *unit == 0 || bytes % *unit != 0)
    return fail(ErrorCode::kInvalidArgument,
                std::to_string(bytes) + " bytes do not make up " + to_string(input.shape));
  *open = static_cast<std::int64_t>(bytes / *unit);
  return shape;
}

void append_shape(std::string& to, std::span<const std::int64_t> shape) {
  to += ",\"shape\":[";
  for (std::size_t i = 0; i < shape.size(); ++i) {
    if (i > 0) to += ',';
    append_json_number(to, shape[i]);
  }
  to += ']';
}

Result<void> append_output(std::string& to, const FinishedOutput& output) {
  to += "{\"name\":";
  append_json_string(to, output.name);
  to += ",\"datatype\":\"";
  to += wire_name(output.type);
  to += '"';
  append_shape(to, output.shape);
  if (output.in_region || output.binary) {
    to += output.in_region ? ",\"parameters\":{\"shared_memory_byte_size\":"
                           : ",\"parameters\":{\"binary_data_size\":";
    append_json_number(to, output.in_region.value_or(output.raw.size()));
    to += "}}";
    return {};
  }
  to += ",\"data\":";
  auto data = append_tensor(to, output.tensor);
  if (!data)
    return std::unexpected(
        std::move(data).error().with_context("output '" + std::string(output.name) + "'"));
  to += '}';
  return {};
}

}  // namespace

Result<InferCall> decode_infer(Body body, std::optional<std::uint64_t> json_length,
                               const SharedMemory& shared) {
  InferCallBuilder builder(shared, body.budget());
  builder.storage().body = std::move(body);
  const Body& kept = *builder.storage().body;
  if (json_length.value_or(0) > kept.size())
    return fail(ErrorCode::kInvalidArgument,
                "Inference-Header-Content-Length is " + std::to_string(*json_length) +
                    ", but the body has " + std::to_string(kept.size()) + " bytes");
  const auto length = static_cast<std::size_t>(json_length.value_or(kept.size()));
  RequestReader reader(kept.text().substr(0, length), kept.bytes().subspan(length), builder);
  SELVAGE_RETURN_IF_ERROR(reader.read());
  return std::move(builder).finish();
}

Result<InferCall> decode_raw_infer(Body body, const infer::ModelMetadata& metadata,
                                   const SharedMemory& shared) {
  if (metadata.inputs.size() != 1)
    return fail(ErrorCode::kInvalidArgument, "a raw request needs a model with one input; '" +
                                                 metadata.name + "' has " +
                                                 std::to_string(metadata.inputs.size()));
  const auto& input = metadata.inputs.front();
  InferCallBuilder builder(shared, body.budget());
  builder.storage().body = std::move(body);
  std::span<const std::byte> raw = builder.storage().body->bytes();
  SELVAGE_TRY(Shape shape, shape_of_raw(input, raw.size()));
  builder.call().binary_outputs = true;
  InferCallBuilder::InputHead head{
      input.name, std::string(wire_name(input.type)), std::move(shape), {}};
  const auto add = [&]() -> Result<void> {
    if (input.type != DataType::kString) return builder.add_input(head, raw);
    std::vector<std::string> one(1);
    one[0].assign(reinterpret_cast<const char*>(raw.data()), raw.size());
    SELVAGE_TRY(Tensor tensor, Tensor::from_strings(head.shape, std::move(one)));
    return builder.add_input(head, std::move(tensor));
  };
  if (auto added = add(); !added)
    return std::unexpected(std::move(added).error().with_context("input '" + head.name + "'"));
  return std::move(builder).finish();
}

Result<HttpReply> encode_infer(std::shared_ptr<const FinishedResponse> finished) {
  HttpReply reply;
  std::string& text = reply.text;
  const auto& response = finished->response;
  text = "{\"model_name\":";
  append_json_string(text, response.model);
  text += ",\"model_version\":";
  append_json_string(text, response.version);
  if (!response.id.empty()) {
    text += ",\"id\":";
    append_json_string(text, response.id);
  }
  text += ",\"outputs\":[";
  bool binary = false;
  for (const auto& output : finished->outputs) {
    if (&output != &finished->outputs.front()) text += ',';
    SELVAGE_RETURN_IF_ERROR(append_output(text, output));
    if (!output.binary || output.in_region) continue;
    binary = true;
    if (!output.raw.empty()) reply.parts.push_back(output.raw);
  }
  text += "]}";
  if (binary) {
    reply.content_type = "application/octet-stream";
    reply.fields.emplace_back("Inference-Header-Content-Length", std::to_string(text.size()));
  }
  reply.keepalive = std::move(finished);
  return reply;
}

}  // namespace selvage::serve
