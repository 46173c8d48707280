#include "compress/quantize_weights.h"

#include <algorithm>
#include <bit>
#include <cmath>
#include <unordered_map>

#include <selvage/onnx.pb.h>

#include "compress/exposed.h"
#include "compress/graph_writer.h"
#include "compress/selection.h"
#include "graph/attributes.h"
#include "graph/index.h"
#include "graph/sort.h"
#include "graph/values.h"

namespace selvage::compress {
namespace {

using graph::Index;

const std::vector<std::string> kTypes{"MatMul", "Gemm"};

/// A product whose weight can be stored in blocks.
struct Product {
  int node = 0;
  std::string input, weight;
  std::size_t rows = 0, columns = 0;
  bool is_turned = false;  ///< Stored as [columns, rows].
};

Result<void> check_options(const WeightOnlyOptions& options) {
  const auto refuse = [](std::string what) {
    return fail(ErrorCode::kInvalidArgument, std::move(what));
  };
  if (options.bits != 4 && options.bits != 8)
    return refuse("weights are stored in 4 or 8 bits, not in " + std::to_string(options.bits));
  if (options.block_size < kBlockSizeMin || options.block_size > kBlockSizeMax ||
      !std::has_single_bit(static_cast<unsigned>(options.block_size)))
    return refuse("a block has a power of two of weights, from " + std::to_string(kBlockSizeMin) +
                  " to " + std::to_string(kBlockSizeMax));
  if (options.rounding == RoundingMethod::kHqq && options.symmetry == Symmetry::kSymmetric)
    return refuse("HQQ finds zero points: it cannot be symmetric");
  if (options.rounding == RoundingMethod::kHqq && options.bits != 4)
    return refuse("the runtime takes HQQ's real zero points with 4 bits only");
  if (options.accuracy_level < 0 || options.accuracy_level > 4)
    return refuse("the accuracy level is 0 to 4");
  return {};
}

/// Why a node's weight stays in float; "" with `product` filled in.
std::string find_product(const onnx::GraphProto& graph, const Index& index, int at,
                         Product& product) {
  const auto& node = graph.node(at);
  if (node.input_size() < 2) return "has no weight";
  const bool is_gemm = node.op_type() == "Gemm";
  if (is_gemm && (graph::int_attribute(node, "transA", 0) != 0 ||
                  graph::float_attribute(node, "alpha", 1) != 1 ||
                  graph::float_attribute(node, "beta", 1) != 1))
    return "its input is transposed or its result scaled";
  const int constant = index.constant(node.input(1));
  if (constant == Index::kNone) return "its weight is no constant";
  const auto& weight = graph.initializer(constant);
  if (graph::type_of(weight) != DataType::kFloat32 || weight.dims_size() != 2)
    return "its weight is no float32 matrix";
  if (weight.dims(0) == 0 || weight.dims(1) == 0) return "its weight is empty";
  product = {.node = at,
             .input = node.input(0),
             .weight = node.input(1),
             .rows = static_cast<std::size_t>(weight.dims(0)),
             .columns = static_cast<std::size_t>(weight.dims(1)),
             .is_turned = is_gemm && graph::int_attribute(node, "transB", 0) != 0};
  if (product.is_turned) std::swap(product.rows, product.columns);
  return "";
}

/// Adds the rows of an activation.
void add_rows(const TensorView& tensor, std::size_t size, Gram& gram) {
  const auto values = tensor.as<float>();
  gram.sums.resize(size * size);
  gram.rows += values.size() / size;
  for (std::size_t begin = 0; begin + size <= values.size(); begin += size) {
    const float* const row = values.data() + begin;
    for (std::size_t i = 0; i < size; ++i) {
      const double factor = row[i];
      if (factor == 0) continue;
      double* const to = gram.sums.data() + i * size;
      for (std::size_t k = 0; k < size; ++k) to[k] += factor * static_cast<double>(row[k]);
    }
  }
}

class WeightQuantizer {
 public:
  WeightQuantizer(graph::Model& model, const WeightOnlyOptions& options)
      : model_(model), graph_(*model.proto().mutable_graph()), index_(graph_), options_(options) {}

  [[nodiscard]] Result<void> find() {
    SELVAGE_TRY(const auto selector, Selector::create(options_.selection, graph_, kTypes, kTypes));
    for (int i = 0; i < graph_.node_size(); ++i) {
      const auto& node = graph_.node(i);
      if (std::ranges::find(kTypes, node.op_type()) == kTypes.end()) continue;
      Product product;
      auto why = selector.takes(node, i) ? find_product(graph_, index_, i, product)
                                         : selector.reason(node, i);
      if (why.empty())
        products_.push_back(std::move(product));
      else
        report_.kept.push_back({node_label(node, i), node.op_type(), std::move(why)});
    }
    return products_.empty() ? nothing_left() : Result<void>();
  }

  /// One activation at a time: a Gram matrix may be large.
  [[nodiscard]] Result<void> quantize_with(infer::Runtime& runtime, const graph::Model& original,
                                           const Samples& samples) {
    for (const auto& product : products_) {
      Gram gram;
      if (product.rows <= kGptqRowsMax) {
        const std::vector<std::string> names{product.input};
        SELVAGE_TRY(auto exposed, ExposedModel::create(runtime, original, names));
        for (std::size_t i = 0; i < samples.count; ++i) {
          SELVAGE_TRY(const auto tensors, samples.get(i));
          SELVAGE_RETURN_IF_ERROR(exposed.run(tensors));
          add_rows(exposed.value(0), product.rows, gram);
        }
        // Such a matrix has no inverse, and no rounding of its weight lowers the error.
        if (!std::ranges::all_of(gram.sums, [](double sum) { return std::isfinite(sum); })) {
          keep(product, "its input '" + product.input + "' holds NaN or infinity");
          continue;
        }
      }
      SELVAGE_RETURN_IF_ERROR(quantize(product, gram));
    }
    return {};
  }

  [[nodiscard]] Result<void> quantize_all() {
    for (const auto& product : products_) {
      SELVAGE_RETURN_IF_ERROR(quantize(product, {}));
    }
    return {};
  }

  [[nodiscard]] Result<QuantizationReport> finish() {
    if (report_.quantized_nodes == 0) return std::unexpected(nothing_left().error());
    for (auto& node : added_) *graph_.add_node() = std::move(node);
    drop_unused_initialisers(graph_, replaced_);
    import_microsoft_domain(model_);
    graph::sort_nodes(model_);
    return std::move(report_);
  }

 private:
  [[nodiscard]] Result<void> nothing_left() const {
    return fail(ErrorCode::kFailedPrecondition,
                report_.kept.empty()
                    ? "nothing to quantise: the model has no MatMul or Gemm"
                    : "nothing to quantise: " + report_.kept.front().type + " '" +
                          report_.kept.front().name + "': " + report_.kept.front().reason);
  }
  void keep(const Product& product, std::string why) {
    const auto& node = graph_.node(product.node);
    report_.kept.push_back({node_label(node, product.node), node.op_type(), std::move(why)});
  }

  [[nodiscard]] BlockwiseMatrix round(const Product& product, std::span<const float> matrix,
                                      const Gram& gram) const {
    auto options = options_;
    if (gram.sums.empty() && needs_samples(options.rounding))
      options.rounding = RoundingMethod::kNearest;
    switch (options.rounding) {
      case RoundingMethod::kGptq:
        return quantize_gptq(matrix, product.rows, product.columns, gram, options);
      case RoundingMethod::kAdaRound:
        return quantize_adaround(matrix, product.rows, product.columns, gram.sums, options);
      default: return quantize_blockwise(matrix, product.rows, product.columns, options);
    }
  }

  [[nodiscard]] Result<void> quantize(const Product& product, const Gram& gram) {
    const auto& stored = graph_.initializer(index_.constant(product.weight));
    SELVAGE_TRY(auto matrix, graph::read_floats(stored, model_.folder()));
    if (!graph::all_finite(matrix)) {
      keep(product, "its weight holds NaN or infinity");
      return {};
    }
    if (product.is_turned) {
      std::vector<float> turned(matrix.size());
      for (std::size_t c = 0; c < product.columns; ++c)
        for (std::size_t r = 0; r < product.rows; ++r)
          turned[r * product.columns + c] = matrix[c * product.rows + r];
      matrix = std::move(turned);
    }
    write(product, round(product, matrix, gram));
    return {};
  }

  void write(const Product& product, const BlockwiseMatrix& matrix) {
    const auto columns = static_cast<std::int64_t>(matrix.columns);
    const auto blocks = static_cast<std::int64_t>(matrix.blocks());
    const auto block_bytes = static_cast<std::int64_t>(matrix.block_size) * matrix.bits / 8;
    const auto stem = product.weight;
    const auto codes = index_.fresh_name(stem + "_Q" + std::to_string(matrix.bits));
    const auto scales = index_.fresh_name(stem + "_scales");
    add_tensor(graph_, codes, DataType::kUint8, {columns, blocks, block_bytes}, matrix.bytes);
    graph::add_initialiser(graph_, scales, {columns * blocks}, std::span(matrix.scales));
    auto& node = *graph_.mutable_node(product.node);
    onnx::NodeProto quantized;
    quantized.set_op_type("MatMulNBits");
    quantized.set_domain(std::string(kMicrosoftDomain));
    if (!node.name().empty()) quantized.set_name(node.name() + "_Q" + std::to_string(matrix.bits));
    for (const auto* name : {&product.input, &codes, &scales}) quantized.add_input(*name);
    if (!matrix.zero_points.empty()) {
      const auto zeros = index_.fresh_name(stem + "_zero_points");
      add_tensor(graph_, zeros, DataType::kUint8,
                 {static_cast<std::int64_t>(matrix.zero_points.size())}, matrix.zero_points);
      quantized.add_input(zeros);
    } else if (!matrix.real_zero_points.empty()) {
      const auto zeros = index_.fresh_name(stem + "_zero_points");
      graph::add_initialiser(graph_, zeros, {columns * blocks}, std::span(matrix.real_zero_points));
      quantized.add_input(zeros);
    }
    graph::set_attribute(quantized, "K", static_cast<std::int64_t>(matrix.rows));
    graph::set_attribute(quantized, "N", columns);
    graph::set_attribute(quantized, "bits", std::int64_t{matrix.bits});
    graph::set_attribute(quantized, "block_size", std::int64_t{matrix.block_size});
    if (options_.accuracy_level > 0)
      graph::set_attribute(quantized, "accuracy_level", std::int64_t{options_.accuracy_level});
    const auto bias = node.op_type() == "Gemm" && node.input_size() > 2 ? node.input(2) : "";
    if (bias.empty()) {
      quantized.add_output(node.output(0));
    } else {
      const auto product_name = index_.fresh_name(node.output(0) + "_product");
      quantized.add_output(product_name);
      auto& add = added_.emplace_back();
      add.set_op_type("Add");
      add.set_name(index_.fresh_name(node.output(0) + "_bias"));
      add.add_input(product_name);
      add.add_input(bias);
      add.add_output(node.output(0));
    }
    node = std::move(quantized);
    replaced_.insert(product.weight);
    ++report_.quantized_nodes;
    ++report_.quantized_weights;
  }

  graph::Model& model_;
  onnx::GraphProto& graph_;
  Index index_;
  const WeightOnlyOptions& options_;
  std::vector<Product> products_;
  QuantizationReport report_;
  std::unordered_set<std::string> replaced_;
  std::vector<onnx::NodeProto> added_;
};

}  // namespace

Result<QuantizationReport> quantize_weights(graph::Model& model, const WeightOnlyOptions& options) {
  SELVAGE_RETURN_IF_ERROR(check_options(options));
  if (needs_samples(options.rounding))
    return fail(ErrorCode::kInvalidArgument, "GPTQ and AdaRound need samples");
  auto copy = model.copy();
  WeightQuantizer quantizer(copy, options);
  SELVAGE_RETURN_IF_ERROR(quantizer.find());
  SELVAGE_RETURN_IF_ERROR(quantizer.quantize_all());
  SELVAGE_TRY(auto report, quantizer.finish());
  model = std::move(copy);
  return report;
}

Result<QuantizationReport> quantize_weights(infer::Runtime& runtime, graph::Model& model,
                                            const Samples& samples,
                                            const WeightOnlyOptions& options) {
  if (!needs_samples(options.rounding)) return quantize_weights(model, options);
  SELVAGE_RETURN_IF_ERROR(check_options(options));
  if (samples.count == 0)
    return fail(ErrorCode::kInvalidArgument, "GPTQ and AdaRound need at least one sample");
  auto copy = model.copy();
  WeightQuantizer quantizer(copy, options);
  SELVAGE_RETURN_IF_ERROR(quantizer.find());
  SELVAGE_RETURN_IF_ERROR(quantizer.quantize_with(runtime, model, samples));
  SELVAGE_TRY(auto report, quantizer.finish());
  model = std::move(copy);
  return report;
}

}  // namespace selvage::compress
