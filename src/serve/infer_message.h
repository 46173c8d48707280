// A ModelInferRequest without copies of its tensors: the wire format is walked by hand as far as
// raw_input_contents go, whose bytes stay where gRPC received them, or are gathered once where they
// came in pieces. Everything else is protobuf's. Internal to src/serve.
#pragma once

#include <cstddef>
#include <memory>
#include <span>
#include <vector>

#include <grpcpp/support/byte_buffer.h>

#include "base/result.h"
#include "inference.pb.h"
#include "serve/body.h"

namespace selvage::serve {

/// Immutable. Owns what its spans refer to.
struct InferMessage {
  explicit InferMessage(BodyBudget& budget) : share(budget) {}

  BudgetShare share;                            ///< For a large `head`.
  inference::ModelInferRequest head;            ///< Read raw_input_contents from `raw` only.
  std::vector<std::span<const std::byte>> raw;  ///< raw_input_contents, in order.
  std::vector<grpc::Slice> slices;
  std::vector<Body> gathered;
};

/// Takes the buffer's slices. A message that is in any way unusual is left to protobuf as a whole,
/// so that what is valid, and what it means, is the same. kInvalidArgument for bytes that are no
/// such message; kResourceExhausted when `budget` is used up.
[[nodiscard]] Result<std::shared_ptr<const InferMessage>> read_infer_message(
    grpc::ByteBuffer& buffer, BodyBudget& budget);

}  // namespace selvage::serve
