#include "learn/window.h"

#include <algorithm>

namespace selvage::learn {
namespace {

bool all_are(const std::vector<std::int64_t>& values, std::int64_t wanted) {
  return std::ranges::all_of(values, [&](auto value) { return value == wanted; });
}

}  // namespace

bool Window::has_unit_strides() const {
  return all_are(strides, 1);
}
bool Window::has_unit_dilations() const {
  return all_are(dilations, 1);
}
bool Window::has_padding() const {
  return !all_are(begin, 0) || !all_are(end, 0);
}

std::string_view Window::own_conv(std::int64_t in, std::int64_t out) const {
  if (rank() < 1 || rank() > 2 || !has_unit_dilations()) return {};
  for (std::size_t i = 0; i < rank(); ++i)
    if (begin[i] < 0 || end[i] < 0 || begin[i] >= kernel[i] || end[i] >= kernel[i]) return {};
  if (group == 1) return "Conv";
  return group == in && in == out ? "DepthwiseConv" : "";
}

Window Window::lifted() const {
  auto window = *this;
  window.kernel.insert(window.kernel.begin(), 1);
  window.strides.insert(window.strides.begin(), 1);
  window.dilations.insert(window.dilations.begin(), 1);
  window.begin.insert(window.begin.begin(), 0);
  window.end.insert(window.end.begin(), 0);
  return window;
}

Window window_of(const onnx::NodeProto& node, const Shape& input, const Shape& output,
                 const Shape& kernel) {
  Window window;
  window.kernel = ints_attribute(node, "kernel_shape");
  if (window.kernel.empty()) window.kernel = kernel;
  const auto rank = window.kernel.size();
  const auto or_ones = [&](const std::vector<std::int64_t>& values) {
    return values.size() == rank ? values : std::vector<std::int64_t>(rank, 1);
  };
  window.strides = or_ones(ints_attribute(node, "strides"));
  window.dilations = or_ones(ints_attribute(node, "dilations"));
  window.group = int_attribute(node, "group", 1);
  window.counts_padding = int_attribute(node, "count_include_pad", 0) != 0;
  window.ceil = int_attribute(node, "ceil_mode", 0) != 0;
  window.begin.assign(rank, 0);
  window.end.assign(rank, 0);
  const auto pads = ints_attribute(node, "pads");
  const auto automatic = string_attribute(node, "auto_pad", "NOTSET");
  for (std::size_t i = 0; i < rank; ++i) {
    if (automatic == "SAME_UPPER" || automatic == "SAME_LOWER") {
      const auto total = std::max<std::int64_t>(
          0, (output[i + 2] - 1) * window.strides[i] + window.extent(i) - input[i + 2]);
      const auto less = total / 2;
      window.begin[i] = automatic == "SAME_UPPER" ? less : total - less;
      window.end[i] = total - window.begin[i];
    } else if (automatic != "VALID" && pads.size() == 2 * rank) {
      window.begin[i] = pads[i];
      window.end[i] = pads[i + rank];
    }
  }
  return window;
}

}  // namespace selvage::learn
