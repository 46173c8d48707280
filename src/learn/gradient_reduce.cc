// Reductions and running sums.
#include <algorithm>

#include "learn/gradient_rules.h"

namespace selvage::learn {
namespace {

/// What a reduction reduced, with its result and gradient broadcastable against the input again.
struct Reduced {
  std::vector<std::int64_t> axes;
  Expression x, y, dy;
  double count = 1;  ///< Elements that became one.
};

Result<Reduced> reduced(NodeGradient& n) {
  Reduced r{.axes = {}, .x = n.x(), .y = {}, .dy = {}};
  if (n.x(1)) {
    const auto axes = n.constant_ints(1);
    if (!axes) return n.refuse("its axes depend on the data");
    r.axes = *axes;
  }
  const bool keeps_all = r.axes.empty() && int_attribute(n.node(), "noop_with_empty_axes", 0) != 0;
  Shape kept = r.x.shape();
  for (std::int64_t i = 0; i < r.x.rank(); ++i) {
    const bool is_reduced =
        r.axes.empty() ? !keeps_all : std::ranges::any_of(r.axes, [&](auto axis) {
          return axis == i || axis + r.x.rank() == i;
        });
    if (is_reduced) kept[static_cast<std::size_t>(i)] = 1;
  }
  r.y = reshape(n.y(), kept);
  r.dy = reshape(n.dy(), kept);
  r.count = static_cast<double>(r.x.elements()) /
            static_cast<double>(std::max<std::int64_t>(r.y.elements(), 1));
  // So that "all" has a name from here on.
  r.axes.clear();
  for (std::int64_t i = 0; i < r.x.rank(); ++i)
    if (kept[static_cast<std::size_t>(i)] != r.x.size(i)) r.axes.push_back(i);
  return r;
}

template <auto Derivative>
Result<void> from_reduced(NodeGradient& n) {
  SELVAGE_TRY(const auto r, reduced(n));
  n.add(0, expand(Derivative(r), r.x.shape()));
  return {};
}

Expression total(const Reduced& r, Expression x) {
  return r.axes.empty() ? x : reduce("ReduceSum", x, r.axes, true);
}

Expression d_sum(const Reduced& r) {
  return r.dy;
}
Expression d_mean(const Reduced& r) {
  return r.dy * (1 / r.count);
}
/// Equal extrema share the gradient.
Expression d_extremum(const Reduced& r) {
  const auto hits = mask(compare("Equal", r.x, r.y), r.dy);
  return hits * (r.dy / total(r, hits));
}
Expression d_l1(const Reduced& r) {
  return r.dy * unary("Sign", r.x);
}
Expression d_l2(const Reduced& r) {
  const auto is_zero = compare("Equal", r.y, 0);
  return r.x * (r.dy / where(is_zero, r.y.builder().scalar(1, r.y.type()), r.y));
}
Expression d_sum_square(const Reduced& r) {
  return r.x * (r.dy * 2.0);
}
Expression d_log_sum(const Reduced& r) {
  return r.dy * unary("Exp", -r.y);
}
Expression d_log_sum_exp(const Reduced& r) {
  return r.dy * unary("Exp", r.x - r.y);
}
/// The product of the others: y / x, but exact where elements are zero.
Expression d_prod(const Reduced& r) {
  auto& builder = r.x.builder();
  const auto zero = builder.scalar(0, r.x.type());
  const auto is_zero = compare("Equal", r.x, 0);
  const auto zeros = total(r, mask(is_zero, r.x));
  const auto safe = where(is_zero, builder.scalar(1, r.x.type()), r.x);
  const auto product = r.axes.empty() ? safe : reduce("ReduceProd", safe, r.axes, true);
  const auto at_zero = where(compare("Equal", zeros, 1), product, zero);
  const auto elsewhere = where(compare("Equal", zeros, 0), product / safe, zero);
  return r.dy * where(is_zero, at_zero, elsewhere);
}

Result<void> cum_sum(NodeGradient& n) {
  const auto reverse = int_attribute(n.node(), "reverse", 0) == 0;
  n.add(0, n.builder().node("CumSum", {n.dy(), n.x(1)}, {n.dy().type(), n.dy().shape()},
                            {{"exclusive", int_attribute(n.node(), "exclusive", 0)},
                             {"reverse", std::int64_t{reverse}}}));
  return {};
}

constexpr RuleEntry kRules[] = {
    {"ReduceSum", from_reduced<d_sum>},
    {"ReduceMean", from_reduced<d_mean>},
    {"ReduceMax", from_reduced<d_extremum>},
    {"ReduceMin", from_reduced<d_extremum>},
    {"ReduceL1", from_reduced<d_l1>},
    {"ReduceL2", from_reduced<d_l2>},
    {"ReduceSumSquare", from_reduced<d_sum_square>},
    {"ReduceLogSum", from_reduced<d_log_sum>},
    {"ReduceLogSumExp", from_reduced<d_log_sum_exp>},
    {"ReduceProd", from_reduced<d_prod>},
    {"CumSum", cum_sum},
};

}  // namespace

std::span<const RuleEntry> reduce_rules() {
  return kRules;
}

}  // namespace selvage::learn
