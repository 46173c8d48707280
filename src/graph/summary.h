// What is in a model, for people: `selvage inspect`. Works on any model that loads; one that has
// not passed check() gives partial answers, never a crash.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <unordered_map>
#include <utility>
#include <vector>

#include "base/tensor.h"
#include "graph/model.h"

namespace selvage::graph {

/// Shapes of values by name, as the runtime resolved them; -1 where even it does not know.
using ShapeMap = std::unordered_map<std::string, Shape>;

struct SummaryOptions {
  /// Stands for the first dimension of an activation whose size is open, in the MAC counts.
  std::int64_t batch = 1;
};

/// One dimension of a declared value: a size, a name ("batch"), or neither.
struct DimensionSummary {
  std::int64_t size = -1;
  std::string symbol;
};

struct ValueSummary {
  std::string name;
  std::string type;  ///< "float32", or "sequence(float32)", "map(string, float32)", ...
  std::optional<std::vector<DimensionSummary>> shape;  ///< Empty where the rank is open.
};

struct OperatorSummary {
  std::string domain;  ///< "" for ONNX's own.
  std::string type;
  std::uint64_t count = 0;
  std::uint64_t macs = 0;          ///< Of those whose MACs are known.
  std::uint64_t macs_unknown = 0;  ///< How many do multiply, but by shapes that are unknown.
};

struct ParameterSummary {
  DataType type = DataType::kUndefined;
  std::uint64_t tensors = 0;
  std::uint64_t elements = 0;
  std::uint64_t bytes = 0;  ///< As declared by type and shape; of strings their lengths.
};

/// A node's multiply-accumulates; see macs().
struct NodeSummary {
  std::string name;
  std::string domain;
  std::string type;
  std::optional<std::uint64_t> macs;  ///< Empty where a shape is missing.
};

struct Summary {
  std::int64_t ir_version = 0;
  std::vector<std::pair<std::string, std::int64_t>>
      opsets;            ///< Domain and version, as in the file.
  std::string producer;  ///< Name and version.
  std::string domain;
  std::int64_t model_version = 0;
  std::string description;
  std::vector<std::pair<std::string, std::string>> metadata;
  std::string graph_name;
  std::vector<ValueSummary> inputs;  ///< Without those that are initialisers.
  std::vector<ValueSummary> outputs;
  std::vector<OperatorSummary> operators;  ///< Most frequent first; subgraphs included.
  std::vector<std::string> functions;      ///< "domain:name" of model-local functions.
  /// Initialisers and the tensors of Constant nodes, where some exporters keep the weights. By
  /// type, most bytes first; subgraphs included.
  std::vector<ParameterSummary> parameters;
  std::uint64_t parameter_count = 0;
  std::uint64_t parameter_bytes = 0;
  std::uint64_t external_bytes = 0;  ///< The part of parameter_bytes that lies outside the file.
  std::uint64_t nodes = 0;           ///< Subgraphs included, function bodies not.
  std::uint64_t macs = 0;            ///< Of all nodes whose MACs are known.
  std::uint64_t macs_unknown = 0;    ///< Nodes that do multiply, but by unknown shapes.
  std::vector<NodeSummary> multipliers;  ///< Every node that multiplies, in the file's order.
};

/// Shapes come from `shapes`, then from the declarations in the file, then from initialisers.
///
/// A MAC is one multiplication with its addition; biases and elementwise work count nothing. Nodes
/// of a subgraph (If, Loop, Scan) count once, however often they would run; a call of a model-local
/// function counts as unknown if the function multiplies. In formulas, |x| is the number of
/// elements of x, Y the output, and a filter one of W's slices along its first axis:
///   Conv, ConvInteger, QLinearConv, DeformConv, FusedConv, NhwcFusedConv     |Y| * |filter|
///   ConvTranspose and its kin                                                |X| * |filter|
///   Gemm, FusedGemm, QGemm, MatMul, MatMulInteger, QLinearMatMul,
///     FusedMatMul, DynamicQuantizeMatMul, MatMulNBits, ...                   |Y| * inner dimension
///   Einsum of n operands                              (n - 1) * product of the sizes of all
///   letters LSTM, GRU, RNN, DynamicQuantizeLSTM                                steps * batch *
///   (|W| + |R|) Attention of ai.onnx, MultiHeadAttention,
///     GroupQueryAttention                    batch * queries * keys * (width of Q + width of Y)
///   Attention, QAttention of com.microsoft         the same, and |X| * width of the weights before
/// Other operators of com.microsoft that multiply (MoE, sparse and paged attention) count as
/// unknown.
[[nodiscard]] Summary summarise(const Model& model, const ShapeMap& shapes = {},
                                const SummaryOptions& options = {});

/// The operators that a model asks for, subgraphs and function bodies included, model-local
/// functions not, sorted by domain and type. To say which ones a runtime lacks.
struct Operator {
  std::string domain;  ///< "" for ONNX's own ("ai.onnx" is the same).
  std::string type;
  friend auto operator<=>(const Operator&, const Operator&) = default;
};
[[nodiscard]] std::vector<Operator> operators(const Model& model);

}  // namespace selvage::graph
