// What the quantisers share in rewriting graphs. Internal to src/compress.
#pragma once

#include <cstddef>
#include <span>
#include <string>
#include <string_view>
#include <unordered_set>
#include <vector>

#include "base/tensor.h"
#include "compress/quantization.h"
#include "graph/model.h"

namespace selvage::onnx {
class GraphProto;
class TensorProto;
}  // namespace selvage::onnx

namespace selvage::compress {

/// Where the runtime keeps its own operators.
inline constexpr std::string_view kMicrosoftDomain = "com.microsoft";

/// What quantize_static() calls what it makes of NAME: integers, and floats again. Short, since
/// names are a tenth of a small model's file.
inline constexpr std::string_view kQuantizedSuffix = "_q";
inline constexpr std::string_view kDequantizedSuffix = "_dq";

/// Adds an initialiser; `name` must be fresh.
onnx::TensorProto& add_tensor(onnx::GraphProto& graph, std::string_view name, DataType type,
                              const Shape& shape, std::span<const std::byte> bytes);
/// Zero points as elements of `type`, packed if of 4 bits.
[[nodiscard]] std::vector<std::byte> zero_point_bytes(
    DataType type, std::span<const QuantizationParameters> parameters);

/// Erases the nodes whose flag is set; `marked` has one for each node, or for the first ones.
void erase_nodes(onnx::GraphProto& graph, std::vector<bool> marked);
/// Erases those of `candidates` that nothing reads any more.
void drop_unused_initialisers(onnx::GraphProto& graph,
                              const std::unordered_set<std::string>& candidates);
/// Erases declarations of values that no node produces any more.
void drop_stale_value_infos(onnx::GraphProto& graph);
/// Lets the model use kMicrosoftDomain.
void import_microsoft_domain(graph::Model& model);

}  // namespace selvage::compress
