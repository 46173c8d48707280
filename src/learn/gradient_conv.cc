// Conv and ConvTranspose. Which form is fast depends on the shapes; the measurements behind each
// choice are in docs/gradients.md.
#include <algorithm>
#include <numeric>

#include "learn/gradient_rules.h"
#include "learn/window.h"

namespace selvage::learn {
namespace {

/// From this many channels on both sides, products per window position beat other forms.
constexpr std::int64_t kManyChannels = 16;

Attributes attributes_of(const Window& window) {
  return {{"kernel_shape", window.kernel},
          {"strides", window.strides},
          {"dilations", window.dilations},
          {"pads", window.pads()},
          {"group", window.group}};
}

Shape with_spatial(std::int64_t n, std::int64_t c, std::span<const std::int64_t> spatial) {
  Shape shape{n, c};
  shape.insert(shape.end(), spatial.begin(), spatial.end());
  return shape;
}

std::span<const std::int64_t> spatial_of(Expression x) {
  return std::span(x.shape()).subspan(2);
}

std::int64_t area_of(Expression x) {
  return x.elements() / (x.size(0) * x.size(1));
}

/// Our own operator for a gradient of a Conv between `in` and `out` channels; empty if none is.
std::string own_operator(const Window& window, Expression any, std::int64_t in, std::int64_t out,
                         const char* gradient) {
  if (!any.builder().own_operators() || window.rank() != 2 || any.type() != DataType::kFloat32)
    return {};
  const auto family = window.own_conv(in, out);
  return family.empty() ? std::string() : std::string(family) + gradient;
}

/// [N,C,L] as [N,C,1,L]: what is fast for pictures is fast for signals.
Expression lifted(Expression x) {
  return unsqueeze(x, 2);
}

/// The weight as seen from the output: [C, M, k...], turned by 180 degrees.
Expression turned_weight(Expression w, bool exchange) {
  const auto area = area_of(w);
  std::vector<std::int64_t> backwards(static_cast<std::size_t>(area));
  std::iota(backwards.rbegin(), backwards.rend(), 0);
  // Reversing the flattened window reverses every axis of it.
  auto flat = reshape(w, {w.size(0), w.size(1), area});
  if (area > 1) flat = gather(flat, w.builder().integers(backwards), 2);
  if (!exchange) return reshape(flat, w.shape());
  const std::int64_t order[] = {1, 0, 2};
  return reshape(transpose(flat, order), with_spatial(w.size(1), w.size(0), spatial_of(w)));
}

/// dX = Conv(dY, turned W) for stride 1, where padding stays positive.
bool fits_turned(const Window& window, Expression w, const Shape& x) {
  if (!window.has_unit_strides()) return false;
  for (std::size_t i = 0; i < window.rank(); ++i)
    if (window.begin[i] >= window.extent(i) || window.end[i] >= window.extent(i)) return false;
  const bool is_depthwise = window.group == x[1] && w.size(0) == x[1];
  return is_depthwise || (window.group == 1 && std::min(w.size(0), w.size(1)) >= kManyChannels &&
                          *std::ranges::max_element(window.kernel) <= 3);
}

Expression turned_conv(const Window& window, Expression dy, Expression w, const Shape& x) {
  auto back = window;
  for (std::size_t i = 0; i < window.rank(); ++i) {
    back.begin[i] = window.extent(i) - 1 - window.begin[i];
    back.end[i] = window.extent(i) - 1 - window.end[i];
  }
  return dy.builder().node("Conv", {dy, turned_weight(w, window.group == 1)}, {dy.type(), x},
                           attributes_of(back));
}

Expression input_gradient(const Window& window, Expression dy, Expression w, const Shape& x) {
  if (const auto own = own_operator(window, dy, x[1], dy.size(1), "InputGradient"); !own.empty())
    return dy.builder().own_node(own, {dy, w}, {dy.type(), x},
                                 {{"pads", window.pads()},
                                  {"strides", window.strides},
                                  {"input_size", std::vector<std::int64_t>{x[2], x[3]}}});
  if (fits_turned(window, w, x)) return turned_conv(window, dy, w, x);
  auto attributes = attributes_of(window);
  std::vector<std::int64_t> output_padding;
  for (std::size_t i = 0; i < window.rank(); ++i)
    output_padding.push_back((x[i + 2] + window.begin[i] + window.end[i] - window.extent(i)) %
                             window.strides[i]);
  attributes.emplace_back("output_padding", output_padding);
  return dy.builder().node("ConvTranspose", {dy, w}, {dy.type(), x}, attributes);
}

/// Any window: a Conv whose batch are the input channels and whose kernel is dY, with strides and
/// dilations exchanged.
Expression weight_gradient_by_conv(const Window& window, Expression x, Expression dy,
                                   const Shape& w) {
  const auto n = x.size(0), c = x.size(1), m = dy.size(1), g = window.group;
  const auto per_group = c / g;
  // [N, G, C/G, HW] -> [C/G, G, N, HW]
  const std::int64_t order[] = {2, 1, 0, 3};
  auto images = reshape(transpose(reshape(x, {n, g, per_group, area_of(x)}), order),
                        with_spatial(per_group, g * n, spatial_of(x)));
  const std::int64_t exchange[] = {1, 0, 2};
  const auto kernels = reshape(transpose(reshape(dy, {n, m, area_of(dy)}), exchange),
                               with_spatial(m, n, spatial_of(dy)));
  Window back = window;
  back.kernel.assign(dy.shape().begin() + 2, dy.shape().end());
  std::swap(back.strides, back.dilations);
  Shape result{per_group, m};
  for (std::size_t i = 0; i < window.rank(); ++i)
    result.push_back(
        (x.shape()[i + 2] + back.begin[i] + back.end[i] - back.extent(i)) / back.strides[i] + 1);
  auto dw = x.builder().node("Conv", {images, kernels}, {x.type(), result}, attributes_of(back));
  // What the stride left over at the end of the input gives surplus positions.
  for (std::size_t i = 0; i < window.rank(); ++i)
    dw = slice(dw, static_cast<std::int64_t>(i) + 2, 0, window.kernel[i]);
  return reshape(transpose(reshape(dw, {per_group, m, area_of(dw)}), exchange), w);
}

/// Sum over the batch of a . b transposed, [N,M,L] x [N,C,L] -> [M,C]: the transpose becomes part
/// of the runtime's product, and the batch gives its threads something to share.
Expression batched_product(Expression a, Expression b) {
  return reduce("ReduceSum", matmul(a, swap_last(b)), {0}, false);
}

/// Stride 1 and an output of the input's size, two axes: each window position is a contiguous piece
/// of the flattened, padded image; what wraps around a row's end is masked in dY.
Expression weight_gradient_by_shifts(const Window& window, Expression x, Expression dy,
                                     const Shape& w) {
  const auto n = x.size(0), c = x.size(1), m = dy.size(1);
  const auto height = x.size(2), width = x.size(3), area = height * width;
  const auto before = window.begin[0] * width + window.begin[1];
  const auto after = window.end[0] * width + window.end[1];
  const std::int64_t pads[] = {0, 0, before, 0, 0, after};
  const auto padded = pad(reshape(x, {n, c, area}), pads);
  const auto flat_dy = reshape(dy, {n, m, area});
  std::vector<Expression> masked;
  for (std::int64_t b = 0; b < window.kernel[1]; ++b) {
    auto columns = Tensor::create(x.type(), {1, 1, area});
    for (std::int64_t i = 0; columns && i < area; ++i) {
      const auto column = i % width + b - window.begin[1];
      columns->as<float>()[static_cast<std::size_t>(i)] = column >= 0 && column < width ? 1 : 0;
    }
    const bool wraps = b != window.begin[1];
    masked.push_back(wraps ? flat_dy * x.builder().constant(*columns, "columns") : flat_dy);
  }
  std::vector<Expression> positions;
  for (std::int64_t a = 0; a < window.kernel[0]; ++a)
    for (std::int64_t b = 0; b < window.kernel[1]; ++b) {
      const auto start = a * width + b;
      positions.push_back(unsqueeze(batched_product(masked[static_cast<std::size_t>(b)],
                                                    slice(padded, 2, start, start + area)),
                                    2));
    }
  return reshape(concat(positions, 2), w);
}

/// Stride 1 and few channels, two axes: the kernel's columns as channels, then one product per row
/// of the kernel.
Expression weight_gradient_by_columns(const Window& window, Expression x, Expression dy,
                                      const Shape& w) {
  const auto n = x.size(0), c = x.size(1), m = dy.size(1);
  const auto rows = dy.size(2), width = dy.size(3);
  const std::int64_t pads[] = {0, 0, window.begin[0], window.begin[1],
                               0, 0, window.end[0],   window.end[1]};
  const auto padded = pad(x, pads);
  std::vector<Expression> columns;
  for (std::int64_t b = 0; b < window.kernel[1]; ++b)
    columns.push_back(slice(padded, 3, b, b + width));
  const auto wide = concat(columns, 1);  // [N, kw * C, H + pads, ow]
  const auto flat = reshape(wide, {n, window.kernel[1] * c, padded.size(2) * width});
  const auto flat_dy = reshape(dy, {n, m, rows * width});
  std::vector<Expression> products;
  for (std::int64_t a = 0; a < window.kernel[0]; ++a)
    products.push_back(
        unsqueeze(batched_product(flat_dy, slice(flat, 2, a * width, (a + rows) * width)), 1));
  // [M, kh, kw, C] -> [M, C, kh, kw]
  const auto all = reshape(concat(products, 1), {m, window.kernel[0], window.kernel[1], c});
  const std::int64_t order[] = {0, 3, 1, 2};
  return reshape(transpose(all, order), w);
}

/// A window of one element sees the (strided) input itself.
Expression weight_gradient_of_points(const Window& window, Expression x, Expression dy,
                                     const Shape& w) {
  for (std::size_t i = 0; i < window.rank(); ++i)
    x = slice(x, static_cast<std::int64_t>(i) + 2, 0,
              (dy.shape()[i + 2] - 1) * window.strides[i] + 1, window.strides[i]);
  const auto area = area_of(dy);
  return reshape(batched_product(reshape(dy, {dy.size(0), dy.size(1), area}),
                                 reshape(x, {x.size(0), x.size(1), area})),
                 w);
}

Expression weight_gradient(const Window& window, Expression x, Expression dy, const Shape& w) {
  if (const auto own = own_operator(window, x, x.size(1), dy.size(1), "WeightGradient");
      !own.empty())
    return x.builder().own_node(own, {x, dy}, {x.type(), w},
                                {{"pads", window.pads()},
                                 {"strides", window.strides},
                                 {"kernel_shape", std::vector<std::int64_t>{w[2], w[3]}}});
  const bool is_float = x.type() == DataType::kFloat32;
  if (window.group != 1 || !is_float) return weight_gradient_by_conv(window, x, dy, w);
  const bool is_point = std::ranges::all_of(window.kernel, [](auto size) { return size == 1; });
  if (is_point && !window.has_padding()) return weight_gradient_of_points(window, x, dy, w);
  const bool is_simple =
      window.rank() == 2 && window.has_unit_strides() && window.has_unit_dilations();
  if (!is_simple) return weight_gradient_by_conv(window, x, dy, w);
  if (std::ranges::equal(spatial_of(x), spatial_of(dy)) && x.size(1) >= kManyChannels)
    return weight_gradient_by_shifts(window, x, dy, w);
  return weight_gradient_by_columns(window, x, dy, w);
}

Expression channel_sum(Expression dy) {
  std::vector<std::int64_t> axes(dy.shape().size() - 1);
  std::iota(axes.begin() + 1, axes.end(), 2);
  return sum(dy, axes, false);
}

Result<void> conv(NodeGradient& n) {
  auto x = n.x(0), w = n.x(1), dy = n.dy();
  if (x.rank() < 3) return n.refuse("its input has no spatial axis");
  auto window =
      window_of(n.node(), x.shape(), dy.shape(), Shape(w.shape().begin() + 2, w.shape().end()));
  if (window.rank() == 1) {
    window = window.lifted();
    x = lifted(x), w = lifted(w), dy = lifted(dy);
  }
  if (n.wants(0)) n.add(0, reshape(input_gradient(window, dy, w, x.shape()), n.x(0).shape()));
  if (n.wants(1)) {
    const auto kept = reshape(n.elements_of_x(0), x.shape());
    n.add(1, reshape(weight_gradient(window, kept, dy, w.shape()), n.x(1).shape()));
  }
  if (n.wants(2)) n.add(2, channel_sum(dy));
  return {};
}

/// The mirror image: y is to x what a Conv's input is to its output.
Result<void> conv_transpose(NodeGradient& n) {
  const auto x = n.x(0), w = n.x(1), dy = n.dy();
  if (x.rank() < 3) return n.refuse("its input has no spatial axis");
  const auto automatic = string_attribute(n.node(), "auto_pad", "NOTSET");
  const bool has_shape = find_attribute(n.node(), "output_shape") != nullptr;
  if (has_shape || (automatic != "NOTSET" && automatic != "VALID"))
    return n.refuse("its padding follows from a wanted output size; say `pads` instead");
  auto window =
      window_of(n.node(), dy.shape(), x.shape(), Shape(w.shape().begin() + 2, w.shape().end()));
  // output_padding shows more of what x reaches, or even more than that, which is then constant.
  auto cut = dy;
  for (std::size_t i = 0; i < window.rank(); ++i) {
    const auto reached =
        (x.shape()[i + 2] - 1) * window.strides[i] + window.extent(i) - window.begin[i];
    window.end[i] = std::max<std::int64_t>(0, reached - dy.shape()[i + 2]);
    cut = slice(cut, static_cast<std::int64_t>(i) + 2, 0, std::min(reached, dy.shape()[i + 2]));
  }
  if (n.wants(0))
    n.add(0, dy.builder().node("Conv", {cut, w}, {x.type(), x.shape()}, attributes_of(window)));
  if (n.wants(1)) n.add(1, weight_gradient(window, cut, x, w.shape()));
  if (n.wants(2)) n.add(2, channel_sum(dy));
  return {};
}

constexpr RuleEntry kRules[] = {
    {"Conv", conv},
    {"DepthwiseConv", conv},
    {"ConvTranspose", conv_transpose},
};

}  // namespace

std::span<const RuleEntry> conv_rules() {
  return kRules;
}

}  // namespace selvage::learn
