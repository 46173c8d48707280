// Multiply-accumulates of one node. Formulas: summary.h. Internal to this folder.
#pragma once

#include <cstdint>
#include <functional>
#include <optional>
#include <string_view>

#include "base/tensor.h"

namespace selvage::onnx {
class NodeProto;
}

namespace selvage::graph {

enum class MacKind : std::uint8_t {
  kNone,  ///< Not an operator that multiplies; counts nothing.
  kKnown,
  kUnknown,  ///< Multiplies, but a shape is missing, or there is no formula.
};

struct Macs {
  MacKind kind = MacKind::kNone;
  std::uint64_t count = 0;  ///< If kKnown.
};

/// The shape of a value, or nothing where even its rank is unknown. Open dimensions are -1.
using FindShape = std::function<std::optional<Shape>(std::string_view name)>;

[[nodiscard]] Macs count_macs(const onnx::NodeProto& node, const FindShape& find_shape,
                              std::int64_t batch);

}  // namespace selvage::graph
