// What a client asks of a served model and what it gets, whatever the protocol was.
#pragma once

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <variant>
#include <vector>

#include "base/result.h"
#include "base/tensor.h"
#include "infer/model.h"
#include "infer/prediction.h"

namespace selvage::infer {

struct NamedTensor {
  std::string name;
  TensorView tensor;
};

/// A requested output. With `memory` (fixed-width types only) it is written there, at the start;
/// too little of it is kInvalidArgument. Empty: the server's own memory.
struct OutputTarget {
  std::string name;
  std::span<std::byte> memory = {};
};

/// The protocol's correlation id; 0 and "" count as none.
using SequenceId = std::variant<std::monostate, std::uint64_t, std::string>;

struct SequenceFlags {
  bool start = false;
  bool end = false;
};

/// Which thread computes. kCallerIfQuick: the one that calls submit(), which runs the callback,
/// too, before it returns, when the model is known to be done sooner than a worker would have woken
/// up (see Scheduler::kQuickRun) and nobody waits. For event loops that lose nothing by it.
enum class ComputeOn : std::uint8_t { kWorker, kCallerIfQuick };

/// Confined; moved into ModelRepository::submit.
struct InferenceRequest {
  std::string model;
  std::string version;  ///< "" = the highest that is served.
  std::string id;       ///< Returned with the response.
  std::vector<NamedTensor> inputs;
  std::vector<OutputTarget> outputs;  ///< In the order they are wanted; empty = all.
  std::uint32_t priority = 0;         ///< 1 is the most urgent; 0 = the model's default.
  std::optional<std::chrono::microseconds> timeout;  ///< From submit() to the start of compute.
  SequenceId sequence;
  SequenceFlags flags;
  ComputeOn compute_on = ComputeOn::kWorker;
  /// Owns what `inputs` (and `outputs` with memory) point into, such as the network's buffer.
  /// Released after the callback has returned.
  std::shared_ptr<const void> keepalive;
};

/// Where a request's time went. In a batch, compute times are those of the whole batch.
struct RequestTimes {
  std::chrono::nanoseconds queue{0};  ///< From submit() until a worker took it.
  std::chrono::nanoseconds compute_input{0};
  std::chrono::nanoseconds compute_infer{0};
  std::chrono::nanoseconds compute_output{0};
};

/// Movable. Keeps the memory of its outputs until it is destroyed, and with it the model version
/// that answered: it may outlive an unload and the repository, but not the Runtime.
struct InferenceResponse {
  std::string model;
  std::string version;  ///< The one that answered.
  std::string id;
  std::vector<NamedTensor> outputs;  ///< Views into memory that the members below keep.
  RequestTimes times;

  Shape shapes;  ///< The outputs' dimensions, one after the other.
  std::shared_ptr<const void> memory;
};

/// Runs exactly once: on a worker thread, or, for a request that is refused at once, computed by
/// its caller or cancelled while queued, inside submit() or cancel(). It should be quick: the
/// worker waits for it.
using ResponseCallback = std::move_only_function<void(Result<InferenceResponse>)>;

/// A request in the words of the model's card.
struct PredictionRequest {
  std::string model;
  std::string version;
  Input input;  ///< Borrowed until the callback has returned.
  std::uint32_t priority = 0;
  std::optional<std::chrono::microseconds> timeout;
  std::shared_ptr<const void> keepalive;  ///< Owns what `input` points into.
};

struct PredictionResponse {
  std::string model;
  std::string version;
  Prediction prediction;
  RequestTimes times;  ///< compute_infer holds all of the compute.
};

using PredictionCallback = std::move_only_function<void(Result<PredictionResponse>)>;

}  // namespace selvage::infer
