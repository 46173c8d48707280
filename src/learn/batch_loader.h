// Training batches, made on a thread of their own while the last one is being trained on.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <vector>

#include "base/result.h"
#include "base/tensor.h"
#include "infer/dataset.h"
#include "learn/augment.h"
#include "learn/objective.h"
#include "learn/teacher.h"
#include "learn/training_graph.h"

namespace selvage::learn {

/// An entry of TrainingGraph::batch that holds what a teacher says about the samples.
struct TeacherTarget {
  std::string name;
  const TeacherOutputs* outputs = nullptr;
};

/// What a batch holds: the model's inputs as the data set fills them, and a target for each other
/// entry of TrainingGraph::batch.
struct BatchPlan {
  const infer::Dataset& data;
  const Objective& objective;
  std::vector<std::size_t> samples;  ///< Of the data set, that take part.
  std::span<const BatchInput> inputs;
  std::string target;  ///< The objective's entry.
  std::vector<TeacherTarget> teachers;
  AugmentOptions augment;
  std::uint64_t seed = 0;

  [[nodiscard]] std::size_t batch() const { return static_cast<std::size_t>(inputs[0].shape[0]); }
  /// What is left over when an epoch's samples are divided into batches is left out of it.
  [[nodiscard]] std::uint64_t steps_per_epoch() const { return samples.size() / batch(); }
};

struct Batch {
  std::vector<std::vector<std::byte>> bytes;
  std::vector<TensorView> tensors;  ///< In the order of BatchPlan::inputs.
  std::vector<std::size_t> samples;
  bool mixed = false;  ///< Samples were mixed: their labels are not to be counted.
};

/// The samples in the order in which epoch `epoch` (from 1) takes them.
[[nodiscard]] std::vector<std::size_t> epoch_order(const BatchPlan& plan, std::uint64_t epoch);
/// Fills `batch` with step `step` (from 0) of an epoch, whose order is given. What it holds follows
/// from the plan and these two numbers alone. Safe from any thread.
[[nodiscard]] Result<void> make_batch(const BatchPlan& plan, std::span<const std::size_t> order,
                                      std::uint64_t epoch, std::uint64_t step, Batch& batch);

/// Hands out the batches in order, a few ahead. next() is confined to one thread.
class BatchLoader {
 public:
  /// `plan` and what it refers to must outlive the loader. Begins at `step` of `epoch`.
  BatchLoader(const BatchPlan& plan, std::uint64_t epoch, std::uint64_t step);
  ~BatchLoader();
  BatchLoader(const BatchLoader&) = delete;
  BatchLoader& operator=(const BatchLoader&) = delete;

  /// Valid until the next call.
  [[nodiscard]] Result<const Batch*> next();

 private:
  struct State;
  std::unique_ptr<State> state_;
};

}  // namespace selvage::learn
