// Losses as graph nodes: each reads a value of the model and a target that comes with the batch,
// and gives one float32 number. Definitions are PyTorch's (torch.nn.*Loss with reduction='mean')
// where it has them.
#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "base/result.h"
#include "learn/expression.h"

namespace selvage::learn {

/// N is the batch. Classes lie on axis 1 (of a [N,C] or [N,C,d1,...] value).
enum class LossKind : std::uint8_t {
  kCrossEntropy,        ///< Softmax cross-entropy of logits; targets int64 [N,d1,...], or soft.
  kBinaryCrossEntropy,  ///< Of logits; targets float32 of the value's shape, 0 to 1.
  kMeanSquared,         ///< Targets of the value's shape, as for the next two.
  kAbsolute,
  kHuber,
  /// KL(softmax(target/T) || softmax(value/T)) * T^2, the batch's mean: distillation from a
  /// teacher's logits (Hinton 2015, arXiv 1503.02531). Targets float32 of the value's shape.
  kDistillation,
  kCosine,  ///< 1 - cosine similarity along the last axis with a target of the same shape.
  /// Supervised contrastive (Khosla 2020, arXiv 2004.11362, L_out) of embeddings [N,D], normalised
  /// here; targets int64 [N]: rows of equal label attract. Anchors without a partner do not count.
  kContrastive,
  /// Connectionist temporal classification (Graves 2006) of logits [T,N,C], blank = class 0;
  /// targets int64 [N,L], padded with 0. PyTorch's mean: by target length, then over the batch.
  kCtc,
  /// Which samples of a batch look alike to the value is to be what it is to a teacher's: the mean
  /// squared difference of G(value) and G(target), G(Z) = Z Z^T with rows of length 1 (Tung and
  /// Mori 2019, arXiv 1907.09682). The two need not be of one size; their paper weighs it by 3000.
  /// Targets float32 [N,target_length].
  kSimilarity,
};

struct LossTerm {
  LossKind kind = LossKind::kCrossEntropy;
  /// A value of the model, usually an output. Where a Softmax, LogSoftmax or Sigmoid makes it, a
  /// loss of logits reads what goes into that instead.
  std::string output;
  /// The batch input that holds the target. Terms of the same name (and type) share it.
  std::string target = "target";
  float weight = 1;

  bool soft_targets = false;         ///< kCrossEntropy: float32 probabilities of the value's shape.
  std::vector<float> class_weights;  ///< kCrossEntropy with class targets: one per class, or none.
  float label_smoothing = 0;         ///< kCrossEntropy: 0 <= s < 1.
  std::optional<std::int64_t> ignore_index;  ///< kCrossEntropy: targets that do not count.
  float huber_delta = 1;
  float temperature = 1;           ///< kDistillation, kContrastive (there usually 0.07 to 0.5).
  std::int64_t target_length = 0;  ///< kCtc: L. kSimilarity: a sample's elements.
};

/// What the target of `term` must be for a value of `shape`. kInvalidArgument where the value or an
/// option does not fit the loss.
struct TargetType {
  DataType type = DataType::kFloat32;
  Shape shape;
};
[[nodiscard]] Result<TargetType> target_type(const LossTerm& term, const Shape& shape);

/// Appends one term, its weight not yet applied. `target` has the type target_type() tells.
[[nodiscard]] Result<Expression> add_loss(const LossTerm& term, Expression value,
                                          Expression target);

}  // namespace selvage::learn
