// Protobuf messages from and to gRPC's buffers. Internal to src/serve.
#pragma once

#include <grpcpp/impl/codegen/proto_buffer_reader.h>
#include <grpcpp/support/byte_buffer.h>

#include "base/result.h"

namespace selvage::serve {

/// kInvalidArgument for bytes that are no such message.
template <typename Message>
[[nodiscard]] Result<void> parse_message(grpc::ByteBuffer& buffer, Message& message) {
  grpc::ProtoBufferReader reader(&buffer);
  if (reader.status().ok() && message.ParseFromZeroCopyStream(&reader)) return {};
  return fail(ErrorCode::kInvalidArgument, "the message is not valid protobuf");
}

template <typename Message>
[[nodiscard]] grpc::ByteBuffer to_buffer(const Message& message) {
  const grpc::Slice slice(message.SerializeAsString());
  return {&slice, 1};
}

}  // namespace selvage::serve
