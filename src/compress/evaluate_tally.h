// What evaluate() counts, task by task. Internal to src/compress.
#pragma once

#include <cstddef>
#include <memory>
#include <span>

#include "compress/evaluate.h"

namespace selvage::compress {

/// What `width` outputs a sample answer; `input_width` elements went in (0: not float32).
/// Errors as evaluate().
[[nodiscard]] Result<Task> task_of(const infer::Model& model, const infer::Dataset& data,
                                   std::size_t width, std::size_t input_width);

/// Confined to one thread.
class Tally {
 public:
  virtual ~Tally() = default;
  [[nodiscard]] static Result<std::unique_ptr<Tally>> create(Task task, const infer::Model& model,
                                                             const infer::Dataset& data,
                                                             std::size_t width);
  /// `input` is what the model was given, with kReconstruction.
  [[nodiscard]] virtual Result<void> add(std::size_t sample, std::span<const float> output,
                                         std::span<const float> input) = 0;
  virtual void finish(Evaluation& result) = 0;
};

/// The threshold of a card's score. Empty without one.
[[nodiscard]] std::optional<float> threshold_of(const infer::ModelCard& card);
[[nodiscard]] std::size_t index_of_largest(std::span<const float> values);
/// Whether an answer says anything. Tensors need one finite number; all others no NaN and a finite
/// largest one: a logarithm of 0, minus infinity beside finite scores, is an answer.
[[nodiscard]] bool can_judge(Task task, std::span<const float> answer);

}  // namespace selvage::compress
