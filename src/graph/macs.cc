#include "graph/macs.h"

#include <algorithm>
#include <array>
#include <limits>
#include <map>
#include <string>
#include <vector>

#include <selvage/onnx.pb.h>

#include "graph/names.h"

namespace selvage::graph {
namespace {

using Count = std::optional<std::uint64_t>;

/// Unknown where a factor is, or where the product overflows.
Count multiply(Count a, Count b) {
  std::uint64_t product = 0;
  if (!a || !b || __builtin_mul_overflow(*a, *b, &product)) return std::nullopt;
  return product;
}

Count add(Count a, Count b) {
  std::uint64_t sum = 0;
  if (!a || !b || __builtin_add_overflow(*a, *b, &sum)) return std::nullopt;
  return sum;
}

Count size_of(std::int64_t dimension) {
  if (dimension < 0) return std::nullopt;
  return static_cast<std::uint64_t>(dimension);
}

Count product_of(std::span<const std::int64_t> shape) {
  Count product = 1;
  for (const auto dimension : shape) product = multiply(product, size_of(dimension));
  return product;
}

/// One node with the shapes of its values.
class Node {
 public:
  Node(const onnx::NodeProto& proto, const FindShape& find, std::int64_t batch)
      : proto_(proto), find_(find), batch_(batch) {}

  /// Empty for an input that is left out or of unknown rank.
  [[nodiscard]] std::optional<Shape> weight(int index) const {
    if (index >= proto_.input_size() || proto_.input(index).empty()) return std::nullopt;
    return find_(proto_.input(index));
  }
  /// The same with the batch size in place of an open dimension at `batch_axis`.
  [[nodiscard]] std::optional<Shape> input(int index, std::size_t batch_axis = 0) const {
    return with_batch(weight(index), batch_axis);
  }
  [[nodiscard]] std::optional<Shape> output(int index) const {
    if (index >= proto_.output_size() || proto_.output(index).empty()) return std::nullopt;
    return with_batch(find_(proto_.output(index)), 0);
  }
  [[nodiscard]] std::int64_t attribute(std::string_view name, std::int64_t otherwise) const {
    for (const auto& attribute : proto_.attribute())
      if (attribute.name() == name && attribute.has_i()) return attribute.i();
    return otherwise;
  }
  [[nodiscard]] Shape attribute_list(std::string_view name) const {
    for (const auto& attribute : proto_.attribute())
      if (attribute.name() == name) return {attribute.ints().begin(), attribute.ints().end()};
    return {};
  }
  [[nodiscard]] const onnx::NodeProto& proto() const { return proto_; }

 private:
  [[nodiscard]] std::optional<Shape> with_batch(std::optional<Shape> shape,
                                                std::size_t axis) const {
    if (shape && axis < shape->size() && (*shape)[axis] < 0) (*shape)[axis] = batch_;
    return shape;
  }

  const onnx::NodeProto& proto_;
  const FindShape& find_;
  std::int64_t batch_;
};

/// Weights are [M, C/G, k...] and each output element sums one filter.
Count conv(const Node& node, int weight) {
  const auto w = node.weight(weight);
  const auto y = node.output(0);
  if (!w || !y || w->empty()) return std::nullopt;
  return multiply(product_of(*y), product_of(std::span(*w).subspan(1)));
}

/// Weights are [C, M/G, k...] and each input element is spread over one filter.
Count conv_transpose(const Node& node, int weight) {
  const auto w = node.weight(weight);
  const auto x = node.input(0);
  if (!w || !x || w->empty()) return std::nullopt;
  return multiply(product_of(*x), product_of(std::span(*w).subspan(1)));
}

Count gemm(const Node& node, int weight) {
  const auto a = node.input(0);
  const auto b = node.weight(weight);
  if (!a || !b || a->size() != 2 || b->size() != 2) return std::nullopt;
  return multiply(product_of(*a), size_of((*b)[node.attribute("transB", 0) != 0 ? 0 : 1]));
}

/// numpy.matmul: the last two dimensions multiply, those before them broadcast.
Count matmul(const Node& node, int right) {
  auto a = node.input(0);
  auto b = node.input(right);
  if (!a || !b || a->empty() || b->empty() || node.attribute("transBatchA", 0) != 0 ||
      node.attribute("transBatchB", 0) != 0)
    return std::nullopt;
  if (a->size() == 1) a->insert(a->begin(), 1);
  if (b->size() == 1) b->push_back(1);
  if (node.attribute("transA", 0) != 0) std::swap(a->end()[-1], a->end()[-2]);
  if (node.attribute("transB", 0) != 0) std::swap(b->end()[-1], b->end()[-2]);
  Count macs =
      multiply(multiply(size_of(a->end()[-2]), size_of(a->end()[-1])), size_of(b->end()[-1]));
  const auto dimension = [](const Shape& shape, std::size_t from_end) {
    return from_end <= shape.size() ? shape[shape.size() - from_end] : 1;
  };
  for (std::size_t i = 3; i <= std::max(a->size(), b->size()); ++i) {
    const auto left = dimension(*a, i);
    const auto other = dimension(*b, i);
    macs = multiply(macs, size_of(left == 1 ? other : left));
  }
  return macs;
}

/// MatMulNBits and its like: A [..., K] times a packed [K, N].
Count matmul_packed(const Node& node, int) {
  const auto a = node.input(0);
  if (!a) return std::nullopt;
  return multiply(product_of(*a), size_of(node.attribute("N", -1)));
}

/// W [directions, gates * H, I] and R [directions, gates * H, H] apply once to each step and
/// sample.
Count recurrent(const Node& node, int) {
  const bool is_batch_first = node.attribute("layout", 0) != 0;
  const auto x = node.input(0, is_batch_first ? 0 : 1);
  const auto w = node.weight(1);
  const auto r = node.weight(2);
  if (!x || !w || !r || x->size() != 3) return std::nullopt;
  return multiply(multiply(size_of((*x)[0]), size_of((*x)[1])),
                  add(product_of(*w), product_of(*r)));
}

/// Every letter is a loop; each operand after the first is one multiplication inside all of them.
Count einsum(const Node& node, int) {
  std::string equation;
  for (const auto& attribute : node.proto().attribute())
    if (attribute.name() == "equation") equation = attribute.s();
  const auto operands = node.proto().input_size();
  if (operands < 2) return 0;
  std::erase(equation, ' ');
  std::map<char, Count> sizes;
  std::string_view rest = std::string_view(equation).substr(0, equation.find("->"));
  for (int i = 0; i < operands; ++i) {
    const auto term = rest.substr(0, rest.find(','));
    rest.remove_prefix(std::min(rest.size(), term.size() + 1));
    const auto shape = node.input(i);
    if (!shape || shape->size() != term.size() || term.find('.') != std::string_view::npos)
      return std::nullopt;
    for (std::size_t axis = 0; axis < term.size(); ++axis) {
      auto& size = sizes[term[axis]];
      const auto here = size_of((*shape)[axis]);
      if (!size || *size == 1) size = here;  // A size of 1 broadcasts.
    }
  }
  Count macs = static_cast<std::uint64_t>(operands - 1);
  for (const auto& [letter, size] : sizes) macs = multiply(macs, size);
  return macs;
}

/// What all attentions share: scores of S queries and T keys, and their weighted sum of the values.
/// `query` and `value` are the widths over all heads of queries.
Count attend(Count batch, Count s, Count t, Count query, Count value) {
  return multiply(multiply(multiply(batch, s), t), add(query, value));
}

/// com.microsoft.Attention: input [B, S, D], weights [D, Dq + Dk + Dv], past [2, B, heads, P,
/// size].
Count packed_attention(const Node& node, int past_index) {
  const auto x = node.input(0);
  const auto w = node.weight(1);
  if (!x || !w || x->size() != 3 || w->size() != 2) return std::nullopt;
  const auto widths = node.attribute_list("qkv_hidden_sizes");
  const auto width = size_of((*w)[1]);
  Count query = width ? Count(*width / 3) : std::nullopt;
  Count value = query;
  if (widths.size() == 3) {
    query = size_of(widths[0]);
    value = size_of(widths[2]);
  }
  const auto batch = size_of((*x)[0]);
  const auto s = size_of((*x)[1]);
  auto t = s;
  if (node.proto().input_size() > past_index && !node.proto().input(past_index).empty()) {
    const auto past = node.weight(past_index);
    if (!past || past->size() != 5) return std::nullopt;
    t = add(t, size_of((*past)[3]));
  }
  return add(multiply(product_of(*x), width), attend(batch, s, t, query, value));
}

/// Separate query, key and value: [B, S, width], or [B, heads, S, size]. Keys from the past count
/// if the node puts out the present key (`present` is its index), whose length they share.
Count separate_attention(const Node& node, int present) {
  const auto q = node.input(0);
  const auto k = node.input(1);
  const auto y = node.output(0);
  if (!q || !k || !y || q->size() < 3 || k->size() < 3) return std::nullopt;
  const auto length = [](const Shape& shape) { return size_of(shape[shape.size() == 4 ? 2 : 1]); };
  const auto width = [](const Shape& shape) {
    return shape.size() == 4 ? multiply(size_of(shape[1]), size_of(shape[3])) : size_of(shape[2]);
  };
  if ((q->size() != 3 && q->size() != 4) || (k->size() != 3 && k->size() != 4) ||
      (y->size() != 3 && y->size() != 4))
    return std::nullopt;
  auto t = length(*k);
  if (node.proto().output_size() > present && !node.proto().output(present).empty()) {
    const auto keys = node.output(present);
    if (!keys || keys->size() != 4) return std::nullopt;
    t = size_of((*keys)[2]);
  }
  return attend(size_of((*q)[0]), length(*q), t, width(*q), width(*y));
}

Count unknown(const Node&, int) {
  return std::nullopt;
}

struct Formula {
  std::string_view type;
  Count (*count)(const Node&, int);
  int argument;  ///< Which input holds the weights, or as the function says.
};

constexpr std::array kStandard = {
    Formula{"Conv", conv, 1},
    Formula{"ConvInteger", conv, 1},
    Formula{"DeformConv", conv, 1},
    Formula{"QLinearConv", conv, 3},
    Formula{"ConvTranspose", conv_transpose, 1},
    Formula{"Gemm", gemm, 1},
    Formula{"MatMul", matmul, 1},
    Formula{"MatMulInteger", matmul, 1},
    Formula{"QLinearMatMul", matmul, 3},
    Formula{"Einsum", einsum, 0},
    Formula{"LSTM", recurrent, 0},
    Formula{"GRU", recurrent, 0},
    Formula{"RNN", recurrent, 0},
    Formula{"Attention", separate_attention, 1},
};

constexpr std::array kMicrosoft = {
    Formula{"FusedConv", conv, 1},
    Formula{"NhwcFusedConv", conv, 1},
    Formula{"QLinearConv", conv, 3},
    Formula{"QLinearConvTranspose", conv_transpose, 3},
    Formula{"ConvTransposeWithDynamicPads", conv_transpose, 1},
    Formula{"FusedGemm", gemm, 1},
    Formula{"GemmFloat8", gemm, 1},
    Formula{"QGemm", gemm, 3},
    Formula{"FusedMatMul", matmul, 1},
    Formula{"FusedMatMulActivation", matmul, 1},
    Formula{"TransposeMatMul", matmul, 1},
    Formula{"MatMulInteger16", matmul, 1},
    Formula{"MatMulIntegerToFloat", matmul, 1},
    Formula{"DynamicQuantizeMatMul", matmul, 1},
    Formula{"MatMulNBits", matmul_packed, 0},
    Formula{"MatMulBnb4", matmul_packed, 0},
    Formula{"MatMulFpQ4", unknown, 0},
    Formula{"DynamicQuantizeLSTM", recurrent, 0},
    Formula{"Attention", packed_attention, 4},
    Formula{"QAttention", packed_attention, 8},
    Formula{"MultiHeadAttention", separate_attention, 1},
    Formula{"GroupQueryAttention", separate_attention, 1},
    Formula{"DecoderMaskedMultiHeadAttention", unknown, 0},
    Formula{"DecoderMaskedSelfAttention", unknown, 0},
    Formula{"LongformerAttention", unknown, 0},
    Formula{"PackedAttention", unknown, 0},
    Formula{"PackedMultiHeadAttention", unknown, 0},
    Formula{"PagedAttention", unknown, 0},
    Formula{"SparseAttention", unknown, 0},
    Formula{"QOrderedAttention", unknown, 0},
    Formula{"QOrderedMatMul", unknown, 0},
    Formula{"MoE", unknown, 0},
    Formula{"QMoE", unknown, 0},
};

const Formula* find_formula(std::string_view domain, std::string_view type) {
  const auto find = [type](const auto& formulas) -> const Formula* {
    const auto found = std::ranges::find(formulas, type, &Formula::type);
    return found == formulas.end() ? nullptr : &*found;
  };
  if (canonical_domain(domain).empty()) return find(kStandard);
  return domain == "com.microsoft" ? find(kMicrosoft) : nullptr;
}

}  // namespace

Macs count_macs(const onnx::NodeProto& node, const FindShape& find_shape, std::int64_t batch) {
  const auto* formula = find_formula(node.domain(), node.op_type());
  if (formula == nullptr) return {};
  const auto count = formula->count(Node(node, find_shape, batch), formula->argument);
  if (!count) return {.kind = MacKind::kUnknown, .count = 0};
  return {.kind = MacKind::kKnown, .count = *count};
}

}  // namespace selvage::graph
