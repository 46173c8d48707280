#include "learn/loss.h"

#include <numeric>

namespace selvage::learn {
namespace {

/// Stands for minus infinity in sums of logarithms, where the real one would give NaN.
constexpr double kNever = -1e30;

std::unexpected<Error> misfit(const LossTerm& term, const Shape& shape, const std::string& what) {
  return fail(ErrorCode::kInvalidArgument,
              "the loss on '" + term.output + "' of shape " + to_string(shape) + ": " + what);
}

Shape without_axis(Shape shape, std::size_t axis) {
  shape.erase(shape.begin() + static_cast<std::ptrdiff_t>(axis));
  return shape;
}

Expression mean_all(Expression x) {
  return reduce("ReduceMean", x, {}, false);
}

Expression log_softmax(Expression x, std::int64_t axis) {
  return unary("LogSoftmax", x, {{"axis", axis}});
}

Expression iota(GraphBuilder& builder, std::int64_t count, Shape shape) {
  std::vector<std::int64_t> numbers(static_cast<std::size_t>(count));
  std::iota(numbers.begin(), numbers.end(), 0);
  return reshape(builder.integers(numbers), std::move(shape));
}

/// 1 where `indices` names the position along a new axis 1 of `count`.
Expression one_hot(Expression indices, std::int64_t count, DataType type) {
  Shape positions(indices.shape().size() + 1, 1);
  positions[1] = count;
  const auto hits =
      compare("Equal", unsqueeze(indices, 1), iota(indices.builder(), count, positions));
  return cast(hits, type);
}

/// [C] as [1,C,1,...]; none without class weights.
Expression class_weights(const LossTerm& term, Expression value) {
  if (term.class_weights.empty()) return {};
  Shape shape(value.shape().size(), 1);
  shape[1] = value.size(1);
  const auto tensor = Tensor::from<float>(shape, term.class_weights);
  return tensor ? cast(value.builder().constant(*tensor, "class_weights"), value.type())
                : Expression();
}

/// sum over samples and classes of -q log p / sum of the targets' weights.
Expression cross_entropy(const LossTerm& term, Expression value, Expression target) {
  const auto classes = value.size(1);
  const auto log_p = log_softmax(value, 1);
  const auto weights = class_weights(term, value);
  const double smoothing = term.label_smoothing;
  const double samples = static_cast<double>(value.elements()) / static_cast<double>(classes);
  if (term.soft_targets) {
    auto q = smoothing > 0 ? target * (1 - smoothing) + smoothing / static_cast<double>(classes)
                           : target;
    if (weights) q = q * weights;
    return sum_all(q * log_p) * (-1 / samples);
  }
  auto index = target;
  Expression counts;  // Whether a target counts, [N,1,d...].
  if (term.ignore_index) {
    const auto ignored = compare("Equal", target, static_cast<double>(*term.ignore_index));
    index = where(ignored, value.builder().scalar(-1, DataType::kInt64), target);
    counts = mask(unary("Not", unsqueeze(ignored, 1)), value);
  }
  auto hits = one_hot(index, classes, value.type());
  if (weights) hits = hits * weights;
  auto q = hits;
  if (smoothing > 0) {
    const double share = smoothing / static_cast<double>(classes);
    const auto even = weights ? weights * share : value.builder().scalar(share, value.type());
    q = hits * (1 - smoothing) + (counts ? even * counts : even);
  }
  const auto total = -sum_all(q * log_p);
  if (!weights && !counts) return total / samples;
  // Nothing counts in a batch without targets; its loss is 0 and not 0/0.
  const auto weight = sum_all(hits);
  return total / binary("Max", weight, value.builder().scalar(1e-12, value.type()));
}

Expression distillation(const LossTerm& term, Expression value, Expression target) {
  const double temperature = term.temperature;
  const auto log_student = log_softmax(value * (1 / temperature), 1);
  const auto log_teacher = log_softmax(target * (1 / temperature), 1);
  const auto divergence = sum_all(unary("Exp", log_teacher) * (log_teacher - log_student));
  return divergence * (temperature * temperature / static_cast<double>(value.size(0)));
}

/// c (|d| - c/2) with c = min(|d|, delta).
Expression huber(const LossTerm& term, Expression value, Expression target) {
  const auto distance = unary("Abs", value - target);
  const auto clipped = binary(
      "Min", distance, value.builder().scalar(static_cast<double>(term.huber_delta), value.type()));
  return mean_all(clipped * (distance - clipped * 0.5));
}

Expression normalised(Expression x) {
  const auto norm = reduce("ReduceL2", x, {-1}, true);
  return x / binary("Max", norm, x.builder().scalar(1e-8, x.type()));
}

Expression cosine(Expression value, Expression target) {
  const auto similarity = reduce("ReduceSum", normalised(value) * normalised(target), {-1}, false);
  return mean_all(1.0 - similarity);
}

/// How alike the samples of a batch are: Z Z^T, each row divided by its length.
Expression likeness(Expression x) {
  const auto rows = reshape(x, {x.size(0), x.elements() / x.size(0)});
  return normalised(matmul(rows, swap_last(rows)));
}

Expression similarity(Expression value, Expression target) {
  const auto difference = likeness(value) - likeness(target);
  return mean_all(difference * difference);
}

Expression contrastive(const LossTerm& term, Expression value, Expression labels) {
  auto& builder = value.builder();
  const auto count = value.size(0);
  const auto z = normalised(value);
  const auto similarity = matmul(z, swap_last(z)) * (1 / static_cast<double>(term.temperature));
  const auto rows = iota(builder, count, {count, 1}), columns = iota(builder, count, {1, count});
  const auto self = mask(compare("Equal", rows, columns), value);
  const auto log_p = similarity - reduce("ReduceLogSumExp", similarity + self * kNever, {1}, true);
  const auto equal =
      mask(compare("Equal", unsqueeze(labels, 1), unsqueeze(labels, 0)), value) - self;
  const auto partners = reduce("ReduceSum", equal, {1}, false);
  const auto one = builder.scalar(1, value.type());
  const auto per_anchor =
      -reduce("ReduceSum", equal * log_p, {1}, false) / binary("Max", partners, one);
  const auto anchors = sum_all(mask(compare("Greater", partners, 0), value));
  return sum_all(per_anchor) / binary("Max", anchors, one);
}

/// The sum over all alignments, step by step in logarithms (Graves 2006, section 4.1). The targets
/// are written with a blank before, between and after: position 2k+1 holds label k.
Expression ctc(Expression value, Expression target) {
  auto& builder = value.builder();
  const auto steps = value.size(0), batch = value.size(1), labels = target.size(1);
  const auto positions = 2 * labels + 1;
  const auto type = value.type();
  const auto never = builder.scalar(kNever, type), always = builder.scalar(0, type);
  const auto blank = builder.zeros({batch, 1}, DataType::kInt64);
  const Expression pairs[] = {builder.zeros({batch, labels, 1}, DataType::kInt64),
                              unsqueeze(target, 2)};
  const Expression parts[] = {reshape(concat(pairs, 2), {batch, 2 * labels}), blank};
  const auto written = concat(parts, 1);  // [N, S]
  const auto wanted = expand(unsqueeze(written, 0), {steps, batch, positions});
  const auto emitted = builder.node("GatherElements", {log_softmax(value, 2), wanted},
                                    {type, {steps, batch, positions}}, {{"axis", std::int64_t{2}}});
  const auto shifted = [&](Expression x, std::int64_t by, Expression fill) {
    const Expression both[] = {expand(fill, {batch, by}), slice(x, 1, 0, positions - by)};
    return concat(both, 1);
  };
  // A label may follow another directly unless they are equal; a blank may not be skipped to.
  const auto before = shifted(written, 2, builder.scalar(0, DataType::kInt64));
  const auto repeats =
      compare("Or", compare("Equal", written, before), compare("Equal", written, 0));
  const auto skip = where(repeats, never, always);
  const auto places = iota(builder, positions, {1, positions});
  auto alpha = where(compare("Less", places, 2), always, never) +
               reshape(slice(emitted, 0, 0, 1), {batch, positions});
  for (std::int64_t t = 1; t < steps; ++t) {
    const Expression ways[] = {
        unsqueeze(alpha, 0), unsqueeze(shifted(alpha, 1, never), 0),
        unsqueeze(positions > 1 ? shifted(alpha, 2, never) + skip : alpha + never, 0)};
    alpha = reduce("ReduceLogSumExp", concat(ways, 0), {0}, false) +
            reshape(slice(emitted, 0, t, t + 1), {batch, positions});
  }
  const auto is_label = cast(compare("Greater", target, 0), DataType::kInt64);
  const auto lengths = reduce("ReduceSum", is_label, {1}, true);  // [N, 1]
  const auto last = lengths * 2.0;
  const auto ends =
      compare("Or", compare("Equal", places, last), compare("Equal", places, last - 1.0));
  const auto likelihood = reduce("ReduceLogSumExp", alpha + where(ends, always, never), {1}, false);
  // A target that does not fit into the steps has no alignment; it does not count.
  const auto possible = compare("Greater", likelihood, kNever / 2);
  const auto cost = where(possible, -likelihood, always);
  const auto length = binary("Max", cast(reshape(lengths, {batch}), type), builder.scalar(1, type));
  return mean_all(cost / length);
}

}  // namespace

Result<TargetType> target_type(const LossTerm& term, const Shape& shape) {
  const bool has_classes =
      term.kind == LossKind::kCrossEntropy || term.kind == LossKind::kDistillation;
  if (has_classes && (shape.size() < 2 || shape[1] < 1))
    return misfit(term, shape, "it needs classes on axis 1");
  if (!(term.temperature > 0)) return misfit(term, shape, "the temperature must be positive");
  if (!(term.huber_delta > 0)) return misfit(term, shape, "delta must be positive");
  switch (term.kind) {
    case LossKind::kCrossEntropy:
      if (!(term.label_smoothing >= 0 && term.label_smoothing < 1))
        return misfit(term, shape, "label smoothing lies between 0 and 1");
      if (!term.class_weights.empty() && std::ssize(term.class_weights) != shape[1])
        return misfit(term, shape,
                      "there are " + std::to_string(term.class_weights.size()) + " class weights");
      if (term.soft_targets) return TargetType{DataType::kFloat32, shape};
      return TargetType{DataType::kInt64, without_axis(shape, 1)};
    case LossKind::kContrastive:
      if (shape.size() != 2) return misfit(term, shape, "it needs embeddings [N,D]");
      return TargetType{DataType::kInt64, {shape[0]}};
    case LossKind::kCtc:
      if (shape.size() != 3) return misfit(term, shape, "it needs logits [T,N,C]");
      if (term.target_length < 1) return misfit(term, shape, "the target length is missing");
      return TargetType{DataType::kInt64, {shape[1], term.target_length}};
    case LossKind::kSimilarity:
      if (shape.size() < 2 || shape[0] < 1) return misfit(term, shape, "it needs a row a sample");
      if (term.target_length < 1) return misfit(term, shape, "the target's size is missing");
      return TargetType{DataType::kFloat32, {shape[0], term.target_length}};
    case LossKind::kCosine:
      if (shape.empty()) return misfit(term, shape, "it needs an axis");
      break;
    default: break;
  }
  return TargetType{DataType::kFloat32, shape};
}

Result<Expression> add_loss(const LossTerm& term, Expression value, Expression target) {
  SELVAGE_TRY(const auto expected, target_type(term, value.shape()));
  if (!value.is_float() || target.shape() != expected.shape)
    return misfit(term, value.shape(),
                  "it needs a floating-point value and a target of shape " +
                      to_string(expected.shape) + ", not " + to_string(target.shape()));
  if (target.is_float()) target = cast(target, value.type());
  switch (term.kind) {
    case LossKind::kCrossEntropy: return cross_entropy(term, value, target);
    case LossKind::kBinaryCrossEntropy: return mean_all(unary("Softplus", value) - value * target);
    case LossKind::kMeanSquared: {
      const auto difference = value - target;
      return mean_all(difference * difference);
    }
    case LossKind::kAbsolute: return mean_all(unary("Abs", value - target));
    case LossKind::kHuber: return huber(term, value, target);
    case LossKind::kDistillation: return distillation(term, value, target);
    case LossKind::kCosine: return cosine(value, target);
    case LossKind::kContrastive: return contrastive(term, value, target);
    case LossKind::kCtc: return ctc(value, target);
    case LossKind::kSimilarity: return similarity(value, target);
  }
  return fail(ErrorCode::kInternal, "an unknown loss");
}

}  // namespace selvage::learn
