// The infer endpoint's messages: JSON, with tensors behind it as raw bytes where the client says so
// (docs/serving.md, "Infer").
#pragma once

#include <memory>
#include <string>

#include "base/result.h"
#include "infer/repository.h"
#include "serve/http.h"
#include "serve/infer_call.h"

namespace selvage::serve {

/// From a request's whole body, its coding undone. `json_length` is the Inference-Header-Content-
/// Length: empty = all of the body is JSON, 0 = the body is the model's only input, for which
/// `metadata` describes the model. Errors are kInvalidArgument and name the tensor.
[[nodiscard]] Result<InferCall> decode_infer(Body body, std::optional<std::uint64_t> json_length,
                                             const SharedMemory& shared);
[[nodiscard]] Result<InferCall> decode_raw_infer(Body body, const infer::ModelMetadata& metadata,
                                                 const SharedMemory& shared);

/// kInvalidArgument for an output that has no JSON form and was not asked for as binary.
[[nodiscard]] Result<HttpReply> encode_infer(std::shared_ptr<const FinishedResponse> response);

}  // namespace selvage::serve
