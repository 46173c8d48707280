// Random models for tests; see testing.h.
#include <algorithm>
#include <array>
#include <cmath>

#include <selvage/onnx.pb.h>

#include "base/random.h"
#include "graph/testing.h"
#include "graph/values.h"

namespace selvage::graph::testing {
namespace {

using Ints = std::vector<std::int64_t>;

/// A float value [1, C, H, W] that later nodes may read.
struct Picture {
  std::string name;
  std::int64_t channels = 0, side = 0;
};

class Generator {
 public:
  Generator(std::uint64_t seed, const RandomModelOptions& options)
      : random_(seed), options_(options) {}

  Model build() {
    const std::int64_t side = 2 * static_cast<std::int64_t>(3 + random_.below(3));
    builder_.input("x", DataType::kFloat32, {1, 3, side, side});
    live_.push_back(conv({"x", 3, side}));
    const int wanted = 1 + static_cast<int>(random_.below(
                               static_cast<std::uint64_t>(std::max(options_.nodes_max - 12, 1))));
    while (builder_.proto().graph().node_size() < wanted) step();
    const auto outputs = 1 + random_.below(2);
    for (std::uint64_t i = 0; i < outputs; ++i) head(i == 0 ? live_.back() : any());
    return builder_.build();
  }

 private:
  using Step = Picture (Generator::*)(const Picture&);

  std::uint64_t below(std::uint64_t bound) { return random_.below(bound); }
  bool chance(std::uint64_t one_in) { return below(one_in) == 0; }
  const Picture& any() { return live_[below(live_.size())]; }
  std::string fresh(std::string_view stem) { return std::string(stem) + std::to_string(next_++); }
  std::string node(std::string_view type, const std::vector<std::string>& inputs,
                   const std::vector<Attribute>& attributes = {}) {
    const auto output = fresh("v");
    builder_.node(type, inputs, {output}, attributes);
    auto& graph = *builder_.proto().mutable_graph();
    graph.mutable_node(graph.node_size() - 1)->set_name(fresh(type));
    return output;
  }
  /// Normal numbers around `mean`.
  std::string weight(const Shape& shape, double scale, double mean = 0) {
    std::vector<float> values(static_cast<std::size_t>(*element_count(shape)));
    for (auto& value : values) value = static_cast<float>(mean + scale * random_.normal());
    const auto name = fresh("w");
    builder_.initialiser(name, shape, values);
    return name;
  }
  std::string integers(const Ints& values) {
    const auto name = fresh("i");
    builder_.initialiser(name, {static_cast<std::int64_t>(values.size())},
                         std::span<const std::int64_t>(values));
    return name;
  }
  std::int64_t some_channels() { return 4 * static_cast<std::int64_t>(1 + below(5)); }

  void step() {
    static constexpr std::array<Step, 18> kVision = {
        &Generator::conv,          &Generator::conv,           &Generator::depthwise,
        &Generator::grouped,       &Generator::transpose_conv, &Generator::batch_norm,
        &Generator::activation,    &Generator::activation,     &Generator::residual,
        &Generator::concat,        &Generator::shuffle,        &Generator::cut,
        &Generator::excite,        &Generator::pool,           &Generator::resize,
        &Generator::channels_last, &Generator::scale,          &Generator::blocks};
    static constexpr std::array<Step, 7> kOther = {
        &Generator::identity,   &Generator::constant_node, &Generator::constant_arithmetic,
        &Generator::read_shape, &Generator::branch,        &Generator::shared,
        &Generator::replaceable};
    const auto count = kVision.size() + (options_.is_convolutional ? 0 : kOther.size());
    const auto pick = below(count);
    const auto chosen = pick < kVision.size() ? kVision[pick] : kOther[pick - kVision.size()];
    live_.push_back((this->*chosen)(Picture(any())));
  }

  Picture conv(const Picture& x) {
    const auto channels = some_channels();
    return conv_to(x, channels, chance(2) ? 3 : 1, 1);
  }
  Picture conv_to(const Picture& x, std::int64_t channels, std::int64_t kernel,
                  std::int64_t groups) {
    const auto per_group = x.channels / groups;
    const auto scale = 1 / std::sqrt(static_cast<double>(per_group * kernel * kernel));
    std::vector<std::string> inputs{x.name, weight({channels, per_group, kernel, kernel}, scale)};
    if (chance(2)) inputs.push_back(weight({channels}, 0.1));
    const auto pad = kernel / 2;
    return {node("Conv", inputs, {{"group", groups}, {"pads", Ints{pad, pad, pad, pad}}}), channels,
            x.side};
  }
  Picture depthwise(const Picture& x) {
    const auto multiplier = chance(3) ? 2 : 1;
    return conv_to(x, x.channels * multiplier, 3, x.channels);
  }
  Picture grouped(const Picture& x) {
    const auto groups = x.channels % 2 == 0 ? 2 : 1;
    return conv_to(x, 2 * static_cast<std::int64_t>(2 + below(5)), 1, groups);
  }
  Picture transpose_conv(const Picture& x) {
    const bool is_depthwise = chance(2);
    const auto channels = is_depthwise ? x.channels : some_channels();
    const auto groups = is_depthwise ? x.channels : 1;
    const auto inputs = x.channels / groups;
    const auto w = weight({x.channels, channels / groups, 3, 3},
                          1 / std::sqrt(9.0 * static_cast<double>(inputs)));
    return {node("ConvTranspose", {x.name, w}, {{"group", groups}, {"pads", Ints{1, 1, 1, 1}}}),
            channels, x.side};
  }
  Picture batch_norm(const Picture& x) {
    const Shape shape{x.channels};
    std::vector<float> variances(static_cast<std::size_t>(x.channels));
    for (auto& value : variances) value = static_cast<float>(random_.uniform(0.5, 2));
    const auto variance = fresh("w");
    builder_.initialiser(variance, shape, variances);
    return {node("BatchNormalization",
                 {x.name, weight(shape, 0.3, 1), weight(shape, 0.2), weight(shape, 0.2), variance}),
            x.channels, x.side};
  }
  Picture activation(const Picture& x) {
    static constexpr std::array<std::string_view, 7> kTypes = {
        "Relu", "Sigmoid", "HardSwish", "LeakyRelu", "Tanh", "Softplus", "PRelu"};
    const auto type = kTypes[below(kTypes.size())];
    std::vector<std::string> inputs{x.name};
    if (type == "PRelu") inputs.push_back(weight({x.channels, 1, 1}, 0.2));
    return {node(type, inputs), x.channels, x.side};
  }
  /// Something of the same shape is added, or multiplied.
  Picture residual(const Picture& x) {
    for (const auto& other : live_)
      if (other.channels == x.channels && other.side == x.side && other.name != x.name)
        return {node("Add", {other.name, x.name}), x.channels, x.side};
    const auto branch = conv_to(x, x.channels, 3, 1);
    return {node("Add", {x.name, branch.name}), x.channels, x.side};
  }
  Picture concat(const Picture& x) {
    std::vector<std::string> parts{x.name};
    auto channels = x.channels;
    for (const auto& other : live_) {
      if (other.side != x.side || parts.size() == 3) continue;
      parts.push_back(other.name);
      channels += other.channels;
    }
    const auto joined = node("Concat", parts, {{"axis", std::int64_t{1}}});
    return channels > 40 ? conv_to({joined, channels, x.side}, 8, 1, 1)
                         : Picture{joined, channels, x.side};
  }
  /// Two parts of the channels, one of them changed, joined the other way round.
  Picture shuffle(const Picture& x) {
    const auto first = x.channels / 4, second = x.channels - first;
    if (first == 0) return activation(x);
    const auto a = fresh("v"), b = fresh("v");
    builder_.node("Split", {x.name, integers({first, second})}, {a, b},
                  {{"axis", std::int64_t{1}}});
    const auto changed = activation({b, second, x.side});
    return {node("Concat", {changed.name, a}, {{"axis", std::int64_t{1}}}), x.channels, x.side};
  }
  Picture cut(const Picture& x) {
    const auto start = x.channels / 4, end = x.channels - x.channels / 4;
    const auto part = node("Slice", {x.name, integers({start}), integers({end}), integers({1})});
    return {part, end - start, x.side};
  }
  Picture excite(const Picture& x) {
    const auto pooled = node("GlobalAveragePool", {x.name});
    const auto narrow = conv_to({pooled, x.channels, 1}, 4, 1, 1);
    const auto wide = conv_to({node("Relu", {narrow.name}), 4, 1}, x.channels, 1, 1);
    const auto gate = node("Sigmoid", {wide.name});
    return {node("Mul", {x.name, gate}), x.channels, x.side};
  }
  Picture pool(const Picture& x) {
    if (x.side % 2 != 0) return activation(x);
    const auto type = chance(2) ? "MaxPool" : "AveragePool";
    return {node(type, {x.name}, {{"kernel_shape", Ints{2, 2}}, {"strides", Ints{2, 2}}}),
            x.channels, x.side / 2};
  }
  Picture resize(const Picture& x) {
    if (x.side > 8) return pool(x);
    if (chance(2))
      return {node("Resize", {x.name, "", "", integers({1, x.channels, 2 * x.side, 2 * x.side})}),
              x.channels, 2 * x.side};
    const auto scales = fresh("w");
    builder_.initialiser(scales, {4}, std::vector<float>{1, 1, 2, 2});
    return {node("Resize", {x.name, "", scales}), x.channels, 2 * x.side};
  }
  /// A layer over channels that lie last, as in networks of TensorFlow and in transformers.
  Picture channels_last(const Picture& x) {
    const auto last = node("Transpose", {x.name}, {{"perm", Ints{0, 2, 3, 1}}});
    const auto rows = node("Reshape", {last, integers({x.side * x.side, -1})});
    const auto channels = some_channels();
    const auto product = node("MatMul", {rows, weight({x.channels, channels}, 0.3)});
    const auto sum = node("Add", {product, weight({channels}, 0.1)});
    const auto tall = node("Reshape", {sum, integers({1, x.side, x.side, channels})});
    return {node("Transpose", {tall}, {{"perm", Ints{0, 3, 1, 2}}}), channels, x.side};
  }
  Picture scale(const Picture& x) {
    const auto shape = chance(2) ? Shape{1, x.channels, 1, 1} : Shape{x.channels, 1, 1};
    return {node(chance(2) ? "Mul" : "Add", {x.name, weight(shape, 0.3, 0.5)}), x.channels, x.side};
  }
  Picture blocks(const Picture& x) {
    if (x.channels % 4 != 0 || x.side > 8) return activation(x);
    const auto mode = std::string(chance(2) ? "DCR" : "CRD");
    return {node("DepthToSpace", {x.name}, {{"blocksize", std::int64_t{2}}, {"mode", mode}}),
            x.channels / 4, 2 * x.side};
  }

  Picture identity(const Picture& x) {
    return {node(chance(2) ? "Identity" : "Dropout", {x.name}), x.channels, x.side};
  }
  Picture constant_node(const Picture& x) {
    const auto value = node("Constant", {}, {{"value_float", 0.5f}});
    const auto product = node("Mul", {x.name, value});
    if (next_ % 2 == 0) return {product, x.channels, x.side};
    const auto shift = node("Constant", {}, {{"value_float", 0.25f}});
    return {node("Add", {shift, product}), x.channels, x.side};
  }
  Picture constant_arithmetic(const Picture& x) {
    const auto sum = node("Add", {weight({x.channels, 1, 1}, 0.2), weight({1}, 0.2)});
    return {node("Mul", {x.name, node("Sigmoid", {sum})}), x.channels, x.side};
  }
  /// Flattens and restores by a shape that is computed.
  Picture read_shape(const Picture& x) {
    const auto shape = node("Shape", {x.name});
    const auto flat = node("Flatten", {x.name});
    return {node("Reshape", {node("Relu", {flat}), shape}), x.channels, x.side};
  }
  /// An If that reads a value of the main graph. Some branches pass a value on, some hold a
  /// constant and another If; all define the same names.
  Picture branch(const Picture& x) {
    const auto condition = fresh("c");
    auto& graph = *builder_.proto().mutable_graph();
    auto& stored = *graph.add_initializer();
    stored.set_name(condition);
    stored.set_data_type(onnx::TensorProto::BOOL);
    stored.set_raw_data(std::string(1, static_cast<char>(below(2))));
    const auto output = node("If", {condition});
    auto& made = *graph.mutable_node(graph.node_size() - 1);
    for (const auto* type : {"Relu", "Neg"}) {
      auto& attribute = *made.add_attribute();
      attribute.set_name(std::string_view(type) == "Relu" ? "then_branch" : "else_branch");
      attribute.set_type(onnx::AttributeProto::GRAPH);
      auto& inner = *attribute.mutable_g();
      inner.set_name(fresh("g"));
      auto& reader = *inner.add_node();
      reader.set_op_type(type);
      reader.add_input(x.name);
      reader.add_output(fresh("s"));
      inner.add_output()->set_name(reader.output(0));
      if (next_ % 2 == 0) nest(inner, condition);
    }
    return {output, x.channels, x.side};
  }
  /// The graph's result times a constant, or halved.
  static void nest(onnx::GraphProto& graph, const std::string& condition) {
    const auto inside = graph.output(0).name();
    auto& stored = *graph.add_initializer();
    stored.set_name("factor");
    stored.set_data_type(onnx::TensorProto::FLOAT);
    stored.add_float_data(0.5f);
    auto& nested = *graph.add_node();
    nested.set_op_type("If");
    nested.add_input(condition);
    nested.add_output("chosen");
    for (const auto* name : {"then_branch", "else_branch"}) {
      auto& attribute = *nested.add_attribute();
      attribute.set_name(name);
      attribute.set_type(onnx::AttributeProto::GRAPH);
      auto& inner = *attribute.mutable_g();
      inner.set_name(name);
      auto& product = *inner.add_node();
      product.set_op_type("Mul");
      product.add_input(inside);
      product.add_input("factor");
      product.add_output("product");
      inner.add_output()->set_name("product");
    }
    graph.mutable_output(0)->set_name("chosen");
  }
  /// Two convolutions with the same weights.
  Picture shared(const Picture& x) {
    const auto w =
        weight({x.channels, x.channels, 1, 1}, 1 / std::sqrt(static_cast<double>(x.channels)));
    const auto first = node("Conv", {x.name, w});
    return {node("Conv", {node("Relu", {first}), w}), x.channels, x.side};
  }
  /// A weight that the model's caller may replace.
  Picture replaceable(const Picture& x) {
    const auto w = weight({x.channels, 1, 1}, 0.2, 1);
    builder_.input(w, DataType::kFloat32, {x.channels, 1, 1});
    return {node("Mul", {x.name, w}), x.channels, x.side};
  }

  void head(const Picture& x) {
    const auto output = fresh("out");
    auto& graph = *builder_.proto().mutable_graph();
    const auto finish = [&](const Shape& shape) {
      graph.mutable_node(graph.node_size() - 1)->set_output(0, output);
      builder_.output(output, DataType::kFloat32, shape);
    };
    const auto elements = x.channels * x.side * x.side;
    switch (below(4)) {
      case 0: {
        const auto flat = node("Flatten", {node("GlobalAveragePool", {x.name})});
        (void)node("Gemm", {flat, weight({5, x.channels}, 0.3), weight({5}, 0.1)},
                   {{"transB", std::int64_t{1}}});
        return finish({1, 5});
      }
      case 1: {
        const auto flat = node("Reshape", {x.name, integers({1, -1})});
        (void)node("MatMul", {flat, weight({elements, 5}, 0.1)});
        return finish({1, 5});
      }
      case 2: {
        const auto pooled =
            node("ReduceMean", {x.name}, {{"axes", Ints{2, 3}}, {"keepdims", std::int64_t{0}}});
        (void)node("Gemm", {pooled, weight({x.channels, 5}, 0.3)});
        return finish({1, 5});
      }
      default: (void)conv_to(x, 2, 1, 1); return finish({1, 2, x.side, x.side});
    }
  }

  Random random_;
  RandomModelOptions options_;
  ModelBuilder builder_;
  std::vector<Picture> live_;
  int next_ = 0;
};

}  // namespace

Model random_model(std::uint64_t seed, const RandomModelOptions& options) {
  return Generator(seed, options).build();
}

void reverse_nodes(Model& model) {
  auto& nodes = *model.proto().mutable_graph()->mutable_node();
  std::reverse(nodes.pointer_begin(), nodes.pointer_end());
}

}  // namespace selvage::graph::testing
