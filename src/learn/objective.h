// What a model is trained for on a data set: which loss, on which output, against which target.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

#include "base/result.h"
#include "base/tensor.h"
#include "graph/model.h"
#include "infer/dataset.h"
#include "infer/model.h"
#include "learn/loss.h"

namespace selvage::learn {

/// Where a target's elements come from.
enum class TargetSource : std::uint8_t {
  kClass,   ///< The class's number; as shares of classes where samples are mixed.
  kBinary,  ///< 0 or 1 of two classes, for one output.
  kValues,  ///< The data set's numbers, as the card's `scale` and `offset` make them.
  kInput,   ///< The sample itself, as it goes in: reconstruction.
};

struct Objective {
  LossKind loss = LossKind::kCrossEntropy;
  TargetSource source = TargetSource::kClass;
  std::string output;                  ///< Of the model.
  std::int64_t width = 0;              ///< Elements of the output for one sample.
  Shape shape;                         ///< Of the output for one sample.
  bool output_is_probability = false;  ///< A Sigmoid makes it: 0.5 divides the classes, else 0.
  float scale = 1, offset = 0;         ///< Of kValues: target = (value - offset) / scale.

  [[nodiscard]] bool counts_classes() const {
    return source == TargetSource::kClass || source == TargetSource::kBinary;
  }
  /// Whether the outputs of one sample say its class.
  [[nodiscard]] bool is_correct(std::span<const float> output_values, std::int64_t label) const;
};

/// "cross-entropy", "binary", "mse", "l1", "huber" or "reconstruction"; "auto" chooses by the
/// labels and the output's size. kInvalidArgument: data and model that do not fit each other, a
/// label that the model does not know (its sample is named), labels all of one class, several
/// outputs of which no card chooses one, an output whose size is open.
[[nodiscard]] Result<Objective> choose_objective(const infer::Model& model,
                                                 const graph::Model& graph,
                                                 const infer::Dataset& data,
                                                 std::string_view loss = "auto");
/// The words above.
[[nodiscard]] std::vector<std::string> loss_words();

}  // namespace selvage::learn
