// Element by element. Where a function has a kink, the gradient there is PyTorch's.
#include <cmath>
#include <numbers>

#include "learn/gradient_rules.h"

namespace selvage::learn {
namespace {

constexpr double kPi = std::numbers::pi;

/// What dy is multiplied by, for functions of one value.
template <auto Derivative>
Result<void> from_derivative(NodeGradient& n) {
  n.add(0, n.dy() * Derivative(n));
  return {};
}

Expression positive(Expression x) {
  return mask(compare("Greater", x, 0), x);
}

Expression d_exp(NodeGradient& n) {
  return n.y();
}
Expression d_log(NodeGradient& n) {
  return 1.0 / n.x();
}
Expression d_sqrt(NodeGradient& n) {
  return 0.5 / n.y();
}
Expression d_reciprocal(NodeGradient& n) {
  return -(n.y() * n.y());
}
Expression d_abs(NodeGradient& n) {
  return unary("Sign", n.x());
}
Expression d_sin(NodeGradient& n) {
  return unary("Cos", n.x());
}
Expression d_cos(NodeGradient& n) {
  return -unary("Sin", n.x());
}
Expression d_tan(NodeGradient& n) {
  return 1.0 + n.y() * n.y();
}
Expression d_asin(NodeGradient& n) {
  return 1.0 / unary("Sqrt", 1.0 - n.x() * n.x());
}
Expression d_acos(NodeGradient& n) {
  return -1.0 / unary("Sqrt", 1.0 - n.x() * n.x());
}
Expression d_atan(NodeGradient& n) {
  return 1.0 / (1.0 + n.x() * n.x());
}
Expression d_sinh(NodeGradient& n) {
  return unary("Cosh", n.x());
}
Expression d_cosh(NodeGradient& n) {
  return unary("Sinh", n.x());
}
Expression d_asinh(NodeGradient& n) {
  return 1.0 / unary("Sqrt", n.x() * n.x() + 1.0);
}
Expression d_acosh(NodeGradient& n) {
  return 1.0 / unary("Sqrt", n.x() * n.x() - 1.0);
}
Expression d_atanh(NodeGradient& n) {
  return 1.0 / (1.0 - n.x() * n.x());
}
Expression d_erf(NodeGradient& n) {
  return unary("Exp", -(n.x() * n.x())) * (2 / std::sqrt(kPi));
}
Expression d_sigmoid(NodeGradient& n) {
  return n.y() * (1.0 - n.y());
}
Expression d_tanh(NodeGradient& n) {
  return 1.0 - n.y() * n.y();
}
Expression d_softplus(NodeGradient& n) {
  return unary("Sigmoid", n.x());
}
Expression d_softsign(NodeGradient& n) {
  const auto root = 1.0 / (1.0 + unary("Abs", n.x()));
  return root * root;
}
Expression d_hard_sigmoid(NodeGradient& n) {
  const auto y = n.y();
  const auto inside = compare("And", compare("Greater", y, 0), compare("Less", y, 1));
  return mask(inside, y) * static_cast<double>(float_attribute(n.node(), "alpha", 0.2f));
}
/// x * clip(x / 6 + 1/2, 0, 1)
Expression d_hard_swish(NodeGradient& n) {
  const auto x = n.x();
  const auto inside = mask(compare("Less", unary("Abs", x), 3), x);
  return mask(compare("GreaterOrEqual", x, 3), x) + inside * (x * (1.0 / 3) + 0.5);
}
/// x * tanh(softplus(x))
Expression d_mish(NodeGradient& n) {
  const auto x = n.x();
  const auto t = unary("Tanh", unary("Softplus", x));
  return t + x * (1.0 - t * t) * unary("Sigmoid", x);
}
Expression d_gelu(NodeGradient& n) {
  const auto x = n.x();
  if (string_attribute(n.node(), "approximate", "none") == "tanh") {
    // x/2 (1 + tanh u), u = sqrt(2/pi) (x + 0.044715 x^3)
    const double root = std::sqrt(2 / kPi);
    const auto square = x * x;
    const auto t = unary("Tanh", x * (square * (0.044715 * root) + root));
    return (t + 1.0) * 0.5 + x * (1.0 - t * t) * (square * (3 * 0.044715 * root / 2) + root / 2);
  }
  const auto normal = (unary("Erf", x * std::sqrt(0.5)) + 1.0) * 0.5;
  return normal + x * unary("Exp", x * x * -0.5) * (1 / std::sqrt(2 * kPi));
}
Expression d_leaky_relu(NodeGradient& n) {
  const auto alpha = static_cast<double>(float_attribute(n.node(), "alpha", 0.01f));
  return positive(n.x()) * (1 - alpha) + alpha;
}
/// On the negative side y = alpha (e^x - 1), so that the derivative is y + alpha.
Expression exponential_unit(Expression x, Expression negative) {
  return where(compare("Greater", x, 0), x.builder().scalar(1, x.type()), negative);
}
Expression d_elu(NodeGradient& n) {
  return exponential_unit(n.x(),
                          n.y() + static_cast<double>(float_attribute(n.node(), "alpha", 1)));
}
Expression d_selu(NodeGradient& n) {
  const double alpha = float_attribute(n.node(), "alpha", 1.67326319217681884765625f);
  const double gamma = float_attribute(n.node(), "gamma", 1.05070102214813232421875f);
  return where(compare("Greater", n.x(), 0), n.builder().scalar(gamma, n.x().type()),
               n.y() + alpha * gamma);
}
Expression d_celu(NodeGradient& n) {
  const double alpha = float_attribute(n.node(), "alpha", 1);
  return exponential_unit(n.x(), n.y() * (1 / alpha) + 1.0);
}
Expression d_thresholded_relu(NodeGradient& n) {
  return mask(compare("Greater", n.x(), static_cast<double>(float_attribute(n.node(), "alpha", 1))),
              n.x());
}

Result<void> identity(NodeGradient& n) {
  n.add(0, n.dy());
  return {};
}
Result<void> neg(NodeGradient& n) {
  n.add(0, -n.dy());
  return {};
}
Result<void> cast_rule(NodeGradient& n) {
  n.add(0, cast(n.dy(), n.x().type()));
  return {};
}

bool uses_own(NodeGradient& n) {
  return n.builder().own_operators() && n.x().type() == DataType::kFloat32;
}
/// dy where `value` is within limits.
Expression limited(Expression value, Expression dy, const Attributes& limits) {
  return value.builder().own_node("LimitGradient", {value, dy}, {dy.type(), dy.shape()}, limits);
}

Result<void> relu(NodeGradient& n) {
  if (uses_own(n)) {
    n.add(0, limited(n.y(), n.dy(), {{"floor", 0.0f}, {"open", std::vector<std::int64_t>{1}}}));
  } else {
    n.add(0, n.dy() * positive(n.y()));  // Measured: Mul with a Cast mask is faster than Where.
  }
  return {};
}

Result<void> clip(NodeGradient& n) {
  if (n.wants(1) || n.wants(2)) return n.refuse("its bounds are trained parameters");
  // What lies inside, the bounds included, is what Clip left as it was.
  n.add(0, n.dy() * mask(compare("Equal", n.x(), n.y()), n.dy()));
  return {};
}

Result<void> add(NodeGradient& n) {
  n.add(0, n.dy());
  n.add(1, n.dy());
  return {};
}
Result<void> sub(NodeGradient& n) {
  n.add(0, n.dy());
  if (n.wants(1)) n.add(1, -sum_to(n.dy(), n.x(1).shape()));
  return {};
}
Result<void> mul(NodeGradient& n) {
  if (n.wants(0)) n.add(0, n.dy() * n.x(1));
  if (n.wants(1)) n.add(1, n.dy() * n.x(0));
  return {};
}
Result<void> div(NodeGradient& n) {
  const auto quotient = n.dy() / n.x(1);
  n.add(0, quotient);
  if (n.wants(1)) n.add(1, -(quotient * n.y()));
  return {};
}

Result<void> pow_rule(NodeGradient& n) {
  const auto base = n.x(0);
  const auto exponent = cast(n.x(1), base.type());
  if (n.wants(0)) {
    const auto known = n.builder().constant_value(n.x(1));
    const bool is_square = known && known->type() == DataType::kFloat32 &&
                           known->as<float>().size() == 1 && known->as<float>()[0] == 2;
    n.add(0, is_square ? n.dy() * base * 2.0
                       : n.dy() * exponent * binary("Pow", base, exponent - 1.0));
  }
  if (n.wants(1)) {
    // Where the base is 0 the power is flat in the exponent; log would make it NaN.
    const auto is_zero = compare("Equal", base, 0);
    const auto log = unary("Log", where(is_zero, n.builder().scalar(1, base.type()), base));
    n.add(1, n.dy() * n.y() * log);
  }
  return {};
}

/// Max, Min: equal largest ones share the gradient.
Result<void> extremum(NodeGradient& n) {
  std::vector<Expression> masks;
  Expression count;
  for (int i = 0; i < n.input_count(); ++i) {
    masks.push_back(mask(compare("Equal", n.x(i), n.y()), n.dy()));
    count = count ? count + masks.back() : masks.back();
  }
  const auto share = n.dy() / count;
  for (int i = 0; i < n.input_count(); ++i)
    if (n.wants(i)) n.add(i, share * masks[static_cast<std::size_t>(i)]);
  return {};
}

Result<void> sum_rule(NodeGradient& n) {
  for (int i = 0; i < n.input_count(); ++i) n.add(i, n.dy());
  return {};
}
Result<void> mean_rule(NodeGradient& n) {
  const auto share = n.dy() * (1.0 / n.input_count());
  for (int i = 0; i < n.input_count(); ++i) n.add(i, share);
  return {};
}

Result<void> where_rule(NodeGradient& n) {
  const auto zero = n.builder().scalar(0, n.dy().type());
  if (n.wants(1)) n.add(1, where(n.x(0), n.dy(), zero));
  if (n.wants(2)) n.add(2, where(n.x(0), zero, n.dy()));
  return {};
}

Result<void> prelu(NodeGradient& n) {
  const auto is_positive = compare("Greater", n.x(), 0);
  if (n.wants(0)) n.add(0, where(is_positive, n.dy(), n.dy() * n.x(1)));
  if (n.wants(1))
    n.add(1, where(is_positive, n.builder().scalar(0, n.dy().type()), n.dy() * n.x(0)));
  return {};
}

/// In training the second output says what was kept; what was kept has been scaled up.
Result<void> dropout(NodeGradient& n) {
  const auto training = n.builder().constant_value(n.x(2));
  const bool trains = training && training->bytes()[0] != std::byte{0};
  if (!trains) return identity(n);
  const auto ratio = n.x(1) ? n.builder().constant_value(n.x(1)) : std::nullopt;
  if (n.x(1) && (!ratio || ratio->type() != DataType::kFloat32))
    return n.refuse("its ratio is no float32 constant");
  const double rate = ratio ? ratio->as<float>()[0] : 0.5f;
  if (rate == 0) return identity(n);
  const auto kept = n.ask_output(1, {DataType::kBool, n.x().shape()});
  n.add(0, n.dy() * mask(kept, n.dy()) * (1 / (1 - rate)));
  return {};
}

constexpr RuleEntry kRules[] = {
    {"Exp", from_derivative<d_exp>},
    {"Log", from_derivative<d_log>},
    {"Sqrt", from_derivative<d_sqrt>},
    {"Reciprocal", from_derivative<d_reciprocal>},
    {"Abs", from_derivative<d_abs>},
    {"Sin", from_derivative<d_sin>},
    {"Cos", from_derivative<d_cos>},
    {"Tan", from_derivative<d_tan>},
    {"Asin", from_derivative<d_asin>},
    {"Acos", from_derivative<d_acos>},
    {"Atan", from_derivative<d_atan>},
    {"Sinh", from_derivative<d_sinh>},
    {"Cosh", from_derivative<d_cosh>},
    {"Asinh", from_derivative<d_asinh>},
    {"Acosh", from_derivative<d_acosh>},
    {"Atanh", from_derivative<d_atanh>},
    {"Erf", from_derivative<d_erf>},
    {"Sigmoid", from_derivative<d_sigmoid>},
    {"Tanh", from_derivative<d_tanh>},
    {"Relu", relu},
    {"Softplus", from_derivative<d_softplus>},
    {"Softsign", from_derivative<d_softsign>},
    {"HardSigmoid", from_derivative<d_hard_sigmoid>},
    {"HardSwish", from_derivative<d_hard_swish>},
    {"Mish", from_derivative<d_mish>},
    {"Gelu", from_derivative<d_gelu>},
    {"LeakyRelu", from_derivative<d_leaky_relu>},
    {"Elu", from_derivative<d_elu>},
    {"Selu", from_derivative<d_selu>},
    {"Celu", from_derivative<d_celu>},
    {"ThresholdedRelu", from_derivative<d_thresholded_relu>},
    {"Identity", identity},
    {"Neg", neg},
    {"Cast", cast_rule},
    {"CastLike", cast_rule},
    {"Clip", clip},
    {"Add", add},
    {"Sub", sub},
    {"Mul", mul},
    {"Div", div},
    {"Pow", pow_rule},
    {"Max", extremum},
    {"Min", extremum},
    {"Sum", sum_rule},
    {"Mean", mean_rule},
    {"Where", where_rule},
    {"PRelu", prelu},
    {"Dropout", dropout},
};

}  // namespace

std::span<const RuleEntry> elementwise_rules() {
  return kRules;
}

}  // namespace selvage::learn
