// Straight through (Bengio 2013, arXiv 1308.3432): rounding has gradient 1 where the value is not
// clipped. The gradient of a quantised value is that of the number which it stands for.
#include <algorithm>

#include "learn/gradient_rules.h"

namespace selvage::learn {
namespace {

struct Limits {
  double low = 0, high = 0;
};

std::optional<Limits> limits_of(DataType type) {
  switch (type) {
    case DataType::kInt8: return Limits{-128, 127};
    case DataType::kUint8: return Limits{0, 255};
    case DataType::kInt16: return Limits{-32768, 32767};
    case DataType::kUint16: return Limits{0, 65535};
    case DataType::kInt4: return Limits{-8, 7};
    case DataType::kUint4: return Limits{0, 15};
    default: return std::nullopt;
  }
}

/// One number per tensor, per slice of `axis`, or per block of it: broadcastable against `x`.
Expression spread(Expression v, Expression x, const onnx::NodeProto& node) {
  if (v.elements() == 1) return reshape(v, {});
  auto axis = int_attribute(node, "axis", 1);
  if (axis < 0) axis += x.rank();
  if (v.rank() == 1) {
    Shape shape(x.shape().size(), 1);
    shape[static_cast<std::size_t>(axis)] = v.elements();
    return reshape(v, shape);
  }
  const auto place = static_cast<std::size_t>(axis);
  const auto block = int_attribute(node, "block_size", 1);
  auto repeated = v.shape();
  repeated.insert(repeated.begin() + axis + 1, block);
  auto whole = v.shape();
  whole[place] *= block;
  return slice(reshape(expand(unsqueeze(v, axis + 1), repeated), whole), axis, 0, x.size(axis));
}

/// A zero point as numbers of `x`'s type, for operator sets that cannot cast from 4 bits; none
/// where it is zero.
Expression zero_point(NodeGradient& n, Expression x) {
  const auto stored = n.x(2);
  if (!stored) return {};
  const auto values = n.constant_ints(2);
  if (!values) return cast(spread(stored, x, n.node()), x.type());
  if (std::ranges::all_of(*values, [](auto value) { return value == 0; })) return {};
  const std::vector<float> numbers(values->begin(), values->end());
  const auto constant = Tensor::from<float>(stored.shape(), numbers);
  if (!constant) return {};  // As many numbers as the shape says: they came from it.
  return cast(spread(n.builder().constant(*constant), x, n.node()), x.type());
}

Result<void> quantize(NodeGradient& n) {
  if (n.wants(1)) return n.refuse("its scale is a trained parameter");
  const auto x = n.x();
  const auto limits = limits_of(n.y().type());
  if (!limits) return n.refuse("its type has no limits that are known");
  auto level = x / cast(spread(n.x(1), x, n.node()), x.type());
  if (const auto zero = zero_point(n, x)) level = level + zero;
  const auto inside = compare("And", compare("GreaterOrEqual", level, limits->low - 0.5),
                              compare("LessOrEqual", level, limits->high + 0.5));
  n.add(0, cast(n.dy(), x.type()) * mask(inside, x));
  return {};
}

Result<void> dequantize(NodeGradient& n) {
  if (n.wants(1)) return n.refuse("its scale is a trained parameter");
  n.add(0, n.dy());
  return {};
}

constexpr RuleEntry kRules[] = {
    {"QuantizeLinear", quantize},
    {"DequantizeLinear", dequantize},
};

}  // namespace

std::span<const RuleEntry> quantize_rules() {
  return kRules;
}

}  // namespace selvage::learn
