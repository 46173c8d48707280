// The sliding window of Conv, ConvTranspose and the pools, all attributes resolved. Internal to
// src/learn.
#pragma once

#include <string_view>
#include <vector>

#include "base/result.h"
#include "learn/gradient_rules.h"

namespace selvage::learn {

/// One entry per spatial axis.
struct Window {
  std::vector<std::int64_t> kernel, strides, dilations, begin, end;  ///< begin, end: padding.
  std::int64_t group = 1;
  bool counts_padding = false;  ///< AveragePool.
  bool ceil = false;

  [[nodiscard]] std::size_t rank() const { return kernel.size(); }
  /// What the window covers along an axis.
  [[nodiscard]] std::int64_t extent(std::size_t axis) const {
    return dilations[axis] * (kernel[axis] - 1) + 1;
  }
  [[nodiscard]] std::vector<std::int64_t> pads() const {
    auto both = begin;
    both.insert(both.end(), end.begin(), end.end());
    return both;
  }
  [[nodiscard]] bool has_unit_strides() const;
  [[nodiscard]] bool has_unit_dilations() const;
  [[nodiscard]] bool has_padding() const;
  /// Which of our own convolutions takes so many channels in and out (kernels.h): "Conv" with one
  /// group, "DepthwiseConv" with one for each channel. Empty if none does: they have one or two
  /// dimensions, no dilation, and less padding than window.
  [[nodiscard]] std::string_view own_conv(std::int64_t in, std::int64_t out) const;
  /// A window of one dimension as one of two.
  [[nodiscard]] Window lifted() const;
};

/// Of a node with input [N,C,d...] and output [N,M,o...]; `kernel` where no attribute says it.
/// SAME padding follows from the sizes.
[[nodiscard]] Window window_of(const onnx::NodeProto& node, const Shape& input, const Shape& output,
                               const Shape& kernel);

}  // namespace selvage::learn
