// An inference on its way from a protocol's message to the backend's request, and what the client
// wants to be done with the outputs. Both protocols fill in the same InferCall.
#pragma once

#include <cstdint>
#include <deque>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "base/result.h"
#include "infer/request.h"
#include "serve/backend.h"
#include "serve/body.h"
#include "serve/parameters.h"
#include "serve/shared_memory.h"

namespace selvage::serve {

inline constexpr std::size_t kTensorsMax = 1'024;  ///< Inputs, and requested outputs.
inline constexpr std::size_t kRankMax = 32;

struct WantedOutput {
  std::string name;
  bool binary = false;        ///< Over HTTP: as binary data.
  std::uint32_t classes = 0;  ///< The classification extension's n; 0 = the tensor itself.
  std::optional<RegionBytes> region;
};

/// Owns what the request's views point into. Addresses of `shapes` and `tensors` are stable.
struct InferStorage {
  explicit InferStorage(BodyBudget& budget) : share(budget) {}

  BudgetShare share;  ///< For `tensors`.
  std::optional<Body> body;
  std::shared_ptr<const void> message;  ///< gRPC's, instead of a body.
  std::deque<Shape> shapes;
  std::deque<Tensor> tensors;
  std::vector<std::shared_ptr<const void>> regions;
};

struct InferCall {
  infer::InferenceRequest request;
  std::vector<WantedOutput> outputs;  ///< As asked for; empty = all of the model's.
  bool binary_outputs = false;        ///< For outputs that say nothing themselves.
};

/// Builds an InferCall. Confined. Errors are kInvalidArgument, those of SharedMemory, or
/// kResourceExhausted; those about an output name it, those about an input leave that to the
/// caller.
class InferCallBuilder {
 public:
  InferCallBuilder(const SharedMemory& shared, BodyBudget& budget)
      : shared_(shared), storage_(std::make_shared<InferStorage>(budget)) {}

  /// What an input says of itself before its elements.
  struct InputHead {
    std::string name;
    std::string datatype;
    Shape shape;
    Parameters parameters;
  };

  [[nodiscard]] InferCall& call() { return call_; }
  [[nodiscard]] InferStorage& storage() { return *storage_; }

  /// priority, timeout, sequence_*, binary_data_output; others are the model's business.
  [[nodiscard]] Result<void> set_parameters(const Parameters& parameters);
  [[nodiscard]] Result<void> add_output(std::string name, const Parameters& parameters);

  /// Before a tensor is made for add_input(): takes from the budget what `count` elements cost,
  /// without what strings hold.
  [[nodiscard]] Result<void> reserve(DataType type, std::uint64_t count);
  [[nodiscard]] Result<void> add_input(const InputHead& head, Tensor tensor);
  [[nodiscard]] Result<void> add_input(const InputHead& head, std::span<const std::byte> raw);
  /// Whether the input's elements lie in shared memory; then they are added from there.
  [[nodiscard]] Result<bool> add_shared_input(const InputHead& head);

  [[nodiscard]] InferCall finish() &&;

  /// The type of an input; kInvalidArgument for an unknown name or a shape that is none.
  [[nodiscard]] static Result<DataType> check(const InputHead& head);

 private:
  [[nodiscard]] Result<std::optional<RegionBytes>> region_of(const Parameters& parameters) const;

  const SharedMemory& shared_;
  std::shared_ptr<InferStorage> storage_;
  InferCall call_;
};

/// An output as it goes on the wire, after classification and shared memory.
struct FinishedOutput {
  std::string_view name;
  DataType type = DataType::kUndefined;
  std::span<const std::int64_t> shape;
  TensorView tensor;               ///< Empty when `in_region`.
  std::span<const std::byte> raw;  ///< The tensor's bytes; made only where `binary` is set.
  bool binary = false;
  std::optional<std::uint64_t> in_region;  ///< Bytes written into the client's shared memory.
};

/// Owns the response and all that finishing it made.
struct FinishedResponse {
  infer::InferenceResponse response;
  std::vector<FinishedOutput> outputs;
  std::deque<Tensor> tensors;
  std::deque<std::vector<std::byte>> buffers;
  std::vector<RegionBytes> regions;
};

/// Matches outputs with what was wanted of them, classifies, writes into shared memory and encodes
/// strings. `binary_outputs` as in InferCall; gRPC sets it, since all its outputs are raw.
[[nodiscard]] Result<std::shared_ptr<const FinishedResponse>> finish_response(
    Backend& backend, infer::InferenceResponse response, const std::vector<WantedOutput>& wanted,
    bool binary_outputs);

}  // namespace selvage::serve
