// Conv and Gemm as what they share: a weight between input and output channels. Internal to
// src/compress.
#pragma once

#include <cstddef>
#include <optional>
#include <span>
#include <string>

#include "graph/index.h"

namespace selvage::onnx {
class GraphProto;
}

namespace selvage::compress {

struct WeightedLayer {
  int node = 0;
  std::string weight;
  std::string bias;  ///< "" where it has none, or none that is a constant list.
  std::size_t outputs = 0;
  std::size_t inputs = 0;  ///< Of one group.
  std::size_t inner = 1;   ///< Elements of a kernel.
  std::size_t groups = 1;
  bool outputs_first = true;  ///< False: Gemm without transB, [inputs, outputs].

  [[nodiscard]] std::size_t input_channels() const { return inputs * groups; }

  /// Calls `visit(element, output, input)` for each weight, channels counted over all groups.
  template <typename T, typename Visit>
  void for_each(std::span<T> values, Visit visit) const {
    const auto outputs_of_group = outputs / groups;
    for (std::size_t o = 0; o < outputs; ++o)
      for (std::size_t i = 0; i < inputs; ++i)
        for (std::size_t k = 0; k < inner; ++k) {
          const auto at = outputs_first ? (o * inputs + i) * inner + k : i * outputs + o;
          visit(values[at], o, o / outputs_of_group * inputs + i);
        }
  }
};

/// The node, if it is a Conv, or a Gemm of an untransposed input, with a constant float32 weight.
[[nodiscard]] std::optional<WeightedLayer> weighted_layer(const onnx::GraphProto& graph,
                                                          const graph::Index& index, int node);

}  // namespace selvage::compress
