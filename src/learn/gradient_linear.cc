// Matrix products.
#include <algorithm>
#include <map>

#include "learn/gradient_rules.h"

namespace selvage::learn {
namespace {

/// op(a) . op(b) of two matrices in one node.
Expression gemm(Expression a, bool transpose_a, Expression b, bool transpose_b) {
  return a.builder().node(
      "Gemm", {a, b}, {a.type(), {a.size(transpose_a ? 1 : 0), b.size(transpose_b ? 0 : 1)}},
      {{"transA", std::int64_t{transpose_a}}, {"transB", std::int64_t{transpose_b}}});
}

Expression rows(Expression x) {
  return reshape(x, {x.elements() / x.size(-1), x.size(-1)});
}

Result<void> matmul_rule(NodeGradient& n) {
  auto a = n.x(0), b = n.x(1), dy = n.dy();
  // Vectors are matrices of one row or one column.
  if (b.rank() == 1) {
    b = reshape(b, {b.size(0), 1});
    dy = unsqueeze(dy, dy.rank());
  }
  if (a.rank() == 1) {
    a = reshape(a, {1, a.size(0)});
    auto shape = dy.shape();
    shape.insert(shape.end() - 1, 1);
    dy = reshape(dy, shape);
  }
  const bool is_plain = b.rank() == 2;  // Then all rows of a are one matrix.
  if (n.wants(0)) {
    const auto da = is_plain ? reshape(gemm(rows(dy), false, b, true), a.shape())
                             : sum_to(matmul(dy, swap_last(b)), a.shape());
    n.add(0, reshape(da, n.x(0).shape()));
  }
  if (n.wants(1)) {
    const auto db = is_plain ? gemm(rows(a), true, rows(dy), false)
                             : sum_to(matmul(swap_last(a), dy), b.shape());
    n.add(1, reshape(db, n.x(1).shape()));
  }
  return {};
}

Result<void> gemm_rule(NodeGradient& n) {
  const double alpha = float_attribute(n.node(), "alpha", 1);
  const double beta = float_attribute(n.node(), "beta", 1);
  const bool ta = int_attribute(n.node(), "transA", 0) != 0;
  const bool tb = int_attribute(n.node(), "transB", 0) != 0;
  const auto a = n.x(0), b = n.x(1), dy = n.dy();
  if (n.wants(0)) n.add(0, (ta ? gemm(b, tb, dy, true) : gemm(dy, false, b, !tb)) * alpha);
  if (n.wants(1)) n.add(1, (tb ? gemm(dy, true, a, ta) : gemm(a, !ta, dy, false)) * alpha);
  if (n.wants(2)) n.add(2, sum_to(dy, n.x(2).shape()) * beta);
  return {};
}

/// "bij,bjk->bik" taken apart: one letter per axis, "..." spelled out.
struct Equation {
  std::vector<std::string> operands;
  std::string output;
};

Result<Equation> parse(NodeGradient& n) {
  auto text = string_attribute(n.node(), "equation", "");
  std::erase(text, ' ');
  const auto arrow = text.find("->");
  std::string left = text.substr(0, arrow);
  Equation equation;
  for (std::size_t from = 0; from <= left.size();) {
    const auto comma = std::min(left.find(',', from), left.size());
    equation.operands.push_back(left.substr(from, comma - from));
    from = comma + 1;
  }
  if (std::ssize(equation.operands) != n.input_count())
    return n.refuse("its equation does not fit its inputs");
  if (arrow != std::string::npos) {
    equation.output = text.substr(arrow + 2);
  } else {  // Letters that occur once, in alphabetical order.
    std::map<char, int> counts;
    for (const char letter : left)
      if (letter != ',') ++counts[letter];
    for (const auto& [letter, count] : counts)
      if (count == 1) equation.output += letter;
  }
  // "..." becomes capital letters that the equation does not use.
  std::string spare;
  for (char letter = 'A'; letter <= 'Z'; ++letter)
    if (text.find(letter) == std::string::npos) spare += letter;
  const auto spell = [&](std::string& term, std::int64_t rank) {
    const auto dots = term.find("...");
    if (dots == std::string::npos) return true;
    const auto hidden = rank - (std::ssize(term) - 3);
    if (hidden < 0 || hidden > std::ssize(spare)) return false;
    term.replace(dots, 3, spare.substr(spare.size() - static_cast<std::size_t>(hidden)));
    return true;
  };
  bool fits = spell(equation.output, n.y().rank());
  for (int i = 0; i < n.input_count(); ++i) {
    auto& term = equation.operands[static_cast<std::size_t>(i)];
    fits = fits && spell(term, n.x(i).rank()) && std::ssize(term) == n.x(i).rank();
  }
  if (!fits || std::ssize(equation.output) != n.y().rank())
    return n.refuse("its equation does not fit its inputs");
  return equation;
}

/// The gradient of one operand is the product of the others and dy, summed over the letters that
/// the operand lacks; letters that only the operand has are summed alone, so they repeat.
Result<void> einsum(NodeGradient& n) {
  SELVAGE_TRY(const auto equation, parse(n));
  std::map<char, std::int64_t> sizes;
  for (int i = 0; i < n.input_count(); ++i) {
    const auto& term = equation.operands[static_cast<std::size_t>(i)];
    for (std::size_t k = 0; k < term.size(); ++k) {
      if (term.find(term[k], k + 1) != std::string::npos)
        return n.refuse("its equation takes a diagonal");
      const auto size = n.x(i).size(static_cast<std::int64_t>(k));
      if (const auto [entry, is_new] = sizes.emplace(term[k], size); entry->second != size)
        return n.refuse("its equation broadcasts");
    }
  }
  for (int i = 0; i < n.input_count(); ++i) {
    if (!n.wants(i)) continue;
    const auto& own = equation.operands[static_cast<std::size_t>(i)];
    std::vector<Expression> factors{n.dy()};
    std::string text = equation.output;
    for (int j = 0; j < n.input_count(); ++j) {
      if (j == i) continue;
      factors.push_back(n.x(j));
      text += "," + equation.operands[static_cast<std::size_t>(j)];
    }
    std::string kept;
    Shape kept_shape, repeated;
    for (const char letter : own) {
      const bool is_shared = text.find(letter) != std::string::npos;
      if (is_shared) kept += letter, kept_shape.push_back(sizes[letter]);
      repeated.push_back(is_shared ? sizes[letter] : 1);
    }
    const auto gradient = n.builder().node("Einsum", factors, {n.dy().type(), kept_shape},
                                           {{"equation", text + "->" + kept}});
    n.add(i, expand(reshape(gradient, repeated), n.x(i).shape()));
  }
  return {};
}

constexpr RuleEntry kRules[] = {
    {"MatMul", matmul_rule},
    {"Gemm", gemm_rule},
    {"Einsum", einsum},
};

}  // namespace

std::span<const RuleEntry> linear_rules() {
  return kRules;
}

}  // namespace selvage::learn
