// Runs a training graph: state lives in two buffers that change places after each step, so that a
// step copies nothing. Equal graph, state, batches, learning rates and thread count give equal
// bits.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "base/result.h"
#include "base/tensor.h"
#include "infer/session.h"
#include "learn/training_graph.h"

namespace selvage::learn {

struct TrainingSessionOptions {
  int threads = 1;
  /// How long idle compute threads spin. Steps follow one another closely, so spinning pays.
  std::uint32_t spin_us = 1000;
  std::filesystem::path profile_prefix;  ///< As infer::SessionOptions has it.
};

/// Confined to one thread at a time. The runtime must outlive it.
class TrainingSession {
 public:
  [[nodiscard]] static Result<std::unique_ptr<TrainingSession>> create(
      infer::Runtime& runtime, TrainingGraph graph, const TrainingSessionOptions& options = {});
  ~TrainingSession();
  TrainingSession(const TrainingSession&) = delete;
  TrainingSession& operator=(const TrainingSession&) = delete;

  [[nodiscard]] const TrainingGraph& graph() const;

  /// One step on a batch in the order of TrainingGraph::batch, read from the caller's memory.
  /// Returns the loss before the update. A loss that is not finite leaves the state as it was: see
  /// first_non_finite(). kInvalidArgument names the input that does not fit.
  [[nodiscard]] Result<float> step(std::span<const TensorView> batch, float learning_rate);
  /// Of the last step, in the order of TrainingGraph::outputs and ::losses; valid until the next.
  [[nodiscard]] TensorView output(std::size_t index) const;
  [[nodiscard]] float loss(std::size_t index) const;
  [[nodiscard]] std::uint64_t steps()
      const;  ///< That changed the state, since creation or restore.

  /// Trained parameters and statistics by their names in the model, adapters merged: what
  /// export_model() takes. `average`: the moving averages instead, where there are some.
  [[nodiscard]] Result<std::vector<NamedTensor>> parameters(bool average = false) const;
  /// Replaces parameters or statistics by name (not with adapters); optimiser state stays.
  /// kNotFound, kInvalidArgument; nothing changes on an error.
  [[nodiscard]] Result<void> set_parameters(std::span<const NamedTensor> values);
  /// Back to the graph's initial optimiser state; parameters, statistics and averages stay.
  void reset_optimizer();

  /// The whole state, exact; restore() into a session of an equal graph continues bit for bit.
  [[nodiscard]] std::vector<std::byte> save() const;
  /// No NaN or infinity in parameters, statistics and optimiser: a gradient may have one where the
  /// loss has none.
  [[nodiscard]] bool state_is_finite() const;
  /// kDataLoss or kInvalidArgument for bytes that save() of an equal graph did not write; nothing
  /// changes then.
  [[nodiscard]] Result<void> restore(std::span<const std::byte> bytes);

  /// The first value (in the order of computation) that is NaN or infinite when the current state
  /// meets `batch`, and the node that makes it: "'/layer1/conv1/Conv_output_0', made by Conv
  /// '/layer1/conv1/Conv'". Empty if all are finite. Slow: loads the graph anew.
  [[nodiscard]] Result<std::optional<std::string>> first_non_finite(
      std::span<const TensorView> batch, float learning_rate) const;

 private:
  struct State;
  explicit TrainingSession(std::unique_ptr<State> state);
  std::unique_ptr<State> state_;
};

}  // namespace selvage::learn
