// From a run's output tensors to a Prediction, as the card's `output` says.
#pragma once

#include <cstddef>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "base/result.h"
#include "base/tensor.h"
#include "infer/frame.h"
#include "infer/model_card.h"
#include "infer/prediction.h"
#include "infer/session.h"

namespace selvage::infer {

/// Where the outputs that a card names are among the model's.
class OutputNames {
 public:
  /// Both must outlive this.
  OutputNames(std::span<const ValueInfo> outputs, std::span<const StatePair> state)
      : outputs_(outputs), state_(state) {}

  /// "" is the first output that is not state. kInvalidArgument lists the outputs there are.
  [[nodiscard]] Result<std::size_t> index_of(const std::string& name) const;
  [[nodiscard]] Result<std::vector<std::size_t>> indices_of(
      std::span<const std::string> names) const;
  [[nodiscard]] const std::string& name(std::size_t index) const { return outputs_[index].name; }

 private:
  std::span<const ValueInfo> outputs_;
  std::span<const StatePair> state_;
};

/// One kind of output. Confined to one thread: decoders keep their scratch.
class Postprocessor {
 public:
  /// `card` and the names must outlive it. kInvalidArgument for a tensor that the model lacks, and
  /// for activity, which is made of many runs: see ScoreReader.
  [[nodiscard]] static Result<std::unique_ptr<Postprocessor>> create(const OutputCard& card,
                                                                     const OutputNames& names);
  virtual ~Postprocessor() = default;

  /// `outputs` are all of the model's, in its order. kInvalidArgument when a shape does not fit the
  /// card. Whatever the values are (NaN, infinities), the call ends and its result is well formed.
  [[nodiscard]] virtual Result<Prediction> decode(std::span<const TensorView> outputs,
                                                  const Frame& frame) = 0;
};

/// The one score of a run, the last element of a tensor: what find_segments (activity.h) is fed
/// with.
class ScoreReader {
 public:
  explicit ScoreReader(std::size_t tensor) : tensor_(tensor) {}
  [[nodiscard]] Result<float> read(std::span<const TensorView> outputs);

 private:
  std::size_t tensor_;
  std::vector<float> scratch_;
};

/// Whether a card's predictions name places in a picture, so that its input must be one.
[[nodiscard]] bool names_places(const OutputCard& card);

}  // namespace selvage::infer
