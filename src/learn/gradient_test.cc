// Every rule against central differences of the model that it differentiates, on the runtime.
#include "learn/gradient.h"

#include <cmath>
#include <functional>
#include <limits>
#include <numeric>
#include <random>

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <selvage/onnx.pb.h>

#include "graph/testing.h"
#include "infer/session.h"
#include "learn/kernels.h"
#include "learn/own_operators.h"
#include "learn/prepare.h"
#include "learn/vector_lanes.h"

namespace selvage::learn {
namespace {

using graph::testing::ModelBuilder;
using testing::HasSubstr;
using Ints = std::vector<std::int64_t>;
using ModelAttributes = std::vector<graph::testing::Attribute>;

infer::Runtime& runtime() {
  static const auto instance = infer::Runtime::create();
  return **instance;
}

/// How inputs are drawn. Kinks and ties need room: differences must not step over them.
enum class Values : std::uint8_t {
  kSmooth,  ///< Anything between low and high.
  kApart,   ///< All different by a fixed distance, none near 0.
};

struct Case {
  std::string name;
  std::vector<Shape> inputs;                 ///< "x0", "x1", ... float32
  std::function<void(ModelBuilder&)> build;  ///< Makes "y".
  Values values = Values::kSmooth;
  double low = -1, high = 1;
  std::int64_t opset = 18;
  /// Which of the inputs are differentiated; the others have no gradient. All if empty.
  std::vector<int> wanted;
  bool may_vanish = false;  ///< An input may cancel out of y.
};

void PrintTo(const Case& c, std::ostream* out) {
  *out << c.name;
}

Tensor draw(const Case& c, const Shape& shape, std::mt19937_64& random) {
  auto tensor = Tensor::create(DataType::kFloat32, shape).value();
  const auto values = tensor.as<float>();
  if (c.values == Values::kSmooth) {
    std::uniform_real_distribution<double> distribution(c.low, c.high);
    for (auto& value : values) value = static_cast<float>(distribution(random));
    return tensor;
  }
  const auto count = static_cast<double>(values.size());
  for (std::size_t i = 0; i < values.size(); ++i)
    values[i] =
        static_cast<float>(c.low + (c.high - c.low) * (static_cast<double>(i) + 0.5) / count);
  std::ranges::shuffle(values, random);
  for (auto& value : values)
    if (std::abs(value) < 0.02f) value = 0.02f;
  return tensor;
}

/// A model with y and the gradients of sum(y * weights) as outputs.
class Differentiated {
 public:
  static Result<std::unique_ptr<Differentiated>> create(const graph::Model& model,
                                                        std::span<const std::string> wanted,
                                                        bool own_operators) {
    SELVAGE_TRY(auto prepared, prepare(runtime(), model, {}));
    if (own_operators) use_own_operators(prepared, {wanted.begin(), wanted.end()});
    auto result = std::make_unique<Differentiated>();
    auto& proto = prepared.model.proto();
    GraphBuilder builder(*proto.mutable_graph(), prepared.types);
    builder.allow_own_operators(own_operators);
    const auto y = builder.value("y");
    SELVAGE_TRY(result->weights, Tensor::create(DataType::kFloat32, y.shape()));
    std::mt19937_64 random(7);
    std::uniform_real_distribution<float> distribution(0.5f, 1.5f);
    for (auto& weight : result->weights.as<float>())
      weight = (random() & 1) != 0 ? distribution(random) : -distribution(random);
    const auto loss = sum_all(y * builder.constant(result->weights));
    SELVAGE_TRY(const auto gradients, add_gradients(builder, loss, wanted));
    for (std::size_t i = 0; i < wanted.size(); ++i)
      builder.graph().add_output()->set_name(
          builder.named(gradients[i], "gradient of " + wanted[i]).name());
    SELVAGE_TRY(const auto bytes, prepared.model.serialise());
    infer::SessionOptions options;
    options.optimization = infer::Optimization::kExtended;
    options.threads = 1;
    const auto operators = training_operators();
    options.operators.assign(operators.begin(), operators.end());
    SELVAGE_TRY(result->session, infer::Session::load(runtime(), bytes, options));
    return result;
  }
  /// The weighted sum of y, in double precision.
  double loss(std::span<const infer::Value> inputs) const {
    const auto outputs = session->run(inputs);
    if (!outputs) ADD_FAILURE() << outputs.error().message;
    if (!outputs) return 0;
    const auto y = std::get<Tensor>(outputs->front()).as<float>();
    const auto w = weights.as<float>();
    double total = 0;
    for (std::size_t i = 0; i < y.size(); ++i)
      total += static_cast<double>(y[i]) * static_cast<double>(w[i]);
    return total;
  }

  /// What float32 cannot hold of y is about this much of the weighted sum.
  double rounding(const Tensor& y) const {
    double squares = 0;
    for (std::size_t i = 0; i < weights.as<float>().size(); ++i)
      squares += std::pow(static_cast<double>(y.as<float>()[i] * weights.as<float>()[i]), 2);
    return std::sqrt(squares) * static_cast<double>(std::numeric_limits<float>::epsilon());
  }

  std::unique_ptr<infer::Session> session;
  Tensor weights;
};

/// Of the largest gradient of an input: what the fourth order leaves out, and rounding in the
/// gradient itself. With the rounding of y, an error of 1e-3 shows.
constexpr double kTolerance = 2e-4, kNoiseMax = 5e-4;

/// Fourth order: the error falls with h^4, so that h can be large enough for float32.
double slope(const Differentiated& model, std::vector<infer::Value>& inputs, std::size_t which,
             std::size_t element, double h) {
  auto& value = std::get<Tensor>(inputs[which]).as<float>()[element];
  const float centre = value;
  const auto at = [&](double offset) {
    value = static_cast<float>(static_cast<double>(centre) + offset);
    // The step as float32 can hold it.
    const double actual = static_cast<double>(value) - static_cast<double>(centre);
    return std::pair(model.loss(inputs), actual);
  };
  const auto [p1, a1] = at(h);
  const auto [m1, b1] = at(-h);
  const auto [p2, a2] = at(2 * h);
  const auto [m2, b2] = at(-2 * h);
  value = centre;
  const double near = (p1 - m1) / (a1 - b1), far = (p2 - m2) / (a2 - b2);
  return (4 * near - far) / 3;
}

void check(const Case& c, bool own_operators) {
  ModelBuilder builder;
  builder.proto().mutable_opset_import(0)->set_version(c.opset);
  std::vector<std::string> wanted;
  for (std::size_t i = 0; i < c.inputs.size(); ++i) {
    const auto name = "x" + std::to_string(i);
    builder.input(name, DataType::kFloat32, c.inputs[i]);
    if (c.wanted.empty() || std::ranges::count(c.wanted, static_cast<int>(i)) > 0)
      wanted.push_back(name);
  }
  c.build(builder);
  builder.proto().mutable_graph()->add_output()->set_name("y");
  const auto model = Differentiated::create(builder.build(), wanted, own_operators);
  ASSERT_TRUE(model) << model.error().message;
  std::mt19937_64 random(11);
  std::vector<infer::Value> inputs;
  for (const auto& shape : c.inputs) inputs.emplace_back(draw(c, shape, random));
  const auto outputs = (*model)->session->run(inputs);
  ASSERT_TRUE(outputs) << outputs.error().message;
  const double h = c.values == Values::kApart ? 0.008 : 0.04 * (c.high - c.low) / 2;
  const double noise = (*model)->rounding(std::get<Tensor>(outputs->front())) / h;
  for (std::size_t k = 0; k < wanted.size(); ++k) {
    SCOPED_TRACE(wanted[k]);
    const auto& gradient = std::get<Tensor>((*outputs)[k + 1]);
    const auto which = static_cast<std::size_t>(std::stoi(wanted[k].substr(1)));
    ASSERT_EQ(gradient.shape(), c.inputs[which]);
    double largest = 0, worst = 0;
    // Some elements of a large input stand for the rest.
    const auto stride = std::max<std::size_t>(1, gradient.as<float>().size() / 60);
    for (std::size_t i = 0; i < gradient.as<float>().size(); i += stride) {
      const double expected = slope(**model, inputs, which, i, h);
      const double got = gradient.as<float>()[i];
      ASSERT_TRUE(std::isfinite(got));
      largest = std::max(largest, std::abs(expected));
      worst = std::max(worst, std::abs(got - expected));
    }
    // Each input by its own largest gradient: a bias must not hide behind a picture.
    EXPECT_LE(worst, kTolerance * largest + noise) << "largest gradient " << largest;
    if (!c.may_vanish) {
      EXPECT_LE(noise, kNoiseMax * largest) << "differences say too little";
    }
  }
}

class GradientTest : public testing::TestWithParam<Case> {};
TEST_P(GradientTest, EqualsCentralDifferences) {
  check(GetParam(), false);
}
/// With our own kernels where they fit.
class OwnOperatorTest : public testing::TestWithParam<Case> {};
TEST_P(OwnOperatorTest, EqualsCentralDifferences) {
  check(GetParam(), true);
}

/// y and the gradients of all inputs.
std::vector<infer::Value> differentiated(const Case& c, bool own_operators) {
  ModelBuilder builder;
  std::vector<std::string> wanted;
  std::vector<infer::Value> inputs;
  std::mt19937_64 random(11);
  for (std::size_t i = 0; i < c.inputs.size(); ++i) {
    wanted.push_back("x" + std::to_string(i));
    builder.input(wanted.back(), DataType::kFloat32, c.inputs[i]);
    inputs.emplace_back(draw(c, c.inputs[i], random));
  }
  c.build(builder);
  builder.proto().mutable_graph()->add_output()->set_name("y");
  const auto model = Differentiated::create(builder.build(), wanted, own_operators);
  EXPECT_TRUE(model) << model.error().message;
  auto outputs = model ? (*model)->session->run(inputs) : std::unexpected(model.error());
  EXPECT_TRUE(outputs) << outputs.error().message;
  return outputs ? *std::move(outputs) : std::vector<infer::Value>();
}

/// In every form of them that this machine can run.
class OwnKernelTest : public testing::TestWithParam<Case> {};
TEST_P(OwnKernelTest, EqualsTheStandardOperators) {
  const auto expected = differentiated(GetParam(), false);
  for (const auto form : known_instructions()) {
    SCOPED_TRACE(static_cast<int>(form));
    const WithInstructions with(form);
    const auto outputs = differentiated(GetParam(), true);
    ASSERT_EQ(outputs.size(), expected.size());
    for (std::size_t k = 0; k < outputs.size(); ++k) {
      const auto want = std::get<Tensor>(expected[k]).as<float>();
      const auto got = std::get<Tensor>(outputs[k]).as<float>();
      ASSERT_EQ(got.size(), want.size());
      const float largest = std::abs(
          *std::ranges::max_element(want, {}, [](float value) { return std::abs(value); }));
      for (std::size_t i = 0; i < got.size(); ++i)
        ASSERT_NEAR(got[i], want[i], 2e-5F * (largest + 0.1F)) << "output " << k << ", " << i;
    }
  }
}

std::string name_of(const testing::TestParamInfo<Case>& info) {
  return info.param.name;
}

/// y = op(x0, x1, ...)
std::function<void(ModelBuilder&)> plain(std::string op, int inputs = 1,
                                         ModelAttributes attributes = {}) {
  return [=](ModelBuilder& b) {
    std::vector<std::string> names;
    for (int i = 0; i < inputs; ++i) names.push_back("x" + std::to_string(i));
    b.node(op, names, {"y"}, attributes);
  };
}

Case unary_case(std::string op, double low, double high, ModelAttributes attributes = {},
                std::int64_t opset = 18) {
  return {.name = op + (attributes.empty() ? "" : "With" + attributes[0].first),
          .inputs = {{2, 3, 4}},
          .build = plain(op, 1, attributes),
          .low = low,
          .high = high,
          .opset = opset};
}

std::vector<Case> smooth_functions() {
  return {
      unary_case("Neg", -1, 1),
      unary_case("Exp", -1, 1),
      unary_case("Log", 0.5, 2),
      unary_case("Sqrt", 0.5, 2),
      unary_case("Reciprocal", 0.5, 2),
      unary_case("Sin", -2, 2),
      unary_case("Cos", -2, 2),
      unary_case("Tan", -1, 1),
      unary_case("Asin", -0.7, 0.7),
      unary_case("Acos", -0.7, 0.7),
      unary_case("Atan", -2, 2),
      unary_case("Sinh", -1, 1),
      unary_case("Cosh", 0.3, 1),
      unary_case("Asinh", -2, 2),
      unary_case("Acosh", 1.5, 3),
      unary_case("Atanh", -0.7, 0.7),
      unary_case("Erf", -1, 1),
      unary_case("Sigmoid", -2, 2),
      unary_case("Tanh", -1, 1),
      unary_case("Softplus", -2, 2),
      unary_case("Softsign", 0.3, 2),
      unary_case("Mish", -2, 2),
      unary_case("Gelu", -2, 2, {}, 20),
      unary_case("Gelu", -2, 2, {{"approximate", std::string("tanh")}}, 20),
      unary_case("Identity", -1, 1),
      unary_case("Softmax", -1, 1, {{"axis", std::int64_t{1}}}),
      unary_case("Softmax", -1, 1),
      unary_case("LogSoftmax", -1, 1, {{"axis", std::int64_t{0}}}),
      unary_case("LpNormalization", 0.3, 1),
  };
}
INSTANTIATE_TEST_SUITE_P(Smooth, GradientTest, testing::ValuesIn(smooth_functions()), name_of);

Case kinked(std::string op, ModelAttributes attributes = {}) {
  return {.name = op,
          .inputs = {{3, 5}},
          .build = plain(op, 1, std::move(attributes)),
          .values = Values::kApart,
          .low = -4,
          .high = 4};
}
std::vector<Case> kinked_functions() {
  return {
      kinked("Relu"),
      kinked("Abs"),
      kinked("LeakyRelu", {{"alpha", 0.1f}}),
      kinked("Elu", {{"alpha", 0.7f}}),
      kinked("Selu"),
      kinked("Celu", {{"alpha", 1.5f}}),
      kinked("HardSigmoid", {{"alpha", 0.3f}}),
      kinked("HardSwish"),
      kinked("ThresholdedRelu", {{"alpha", 0.5f}}),
      {.name = "Clip",
       .inputs = {{4, 5}},
       .build =
           [](ModelBuilder& b) {
             const float low[] = {-1.5f}, high[] = {1.5f};
             b.initialiser("low", {}, low).initialiser("high", {}, high);
             b.node("Clip", {"x0", "low", "high"}, {"y"});
           },
       .values = Values::kApart,
       .low = -3,
       .high = 3},
      {.name = "PRelu",
       .inputs = {{2, 3, 4}, {3, 1}},
       .build = plain("PRelu", 2),
       .values = Values::kApart},
      {.name = "MaxOfThree",
       .inputs = {{3, 4}, {4}, {3, 1}},
       .build = plain("Max", 3),
       .values = Values::kApart},
      {.name = "Min",
       .inputs = {{3, 4}, {3, 4}},
       .build = plain("Min", 2),
       .values = Values::kApart},
  };
}
INSTANTIATE_TEST_SUITE_P(Kinked, GradientTest, testing::ValuesIn(kinked_functions()), name_of);

std::vector<Case> binary_functions() {
  std::vector<Case> cases;
  const std::vector<std::pair<std::string, std::vector<Shape>>> shapes = {
      {"Same", {{2, 3}, {2, 3}}},
      {"Row", {{2, 3}, {3}}},
      {"Column", {{2, 3}, {2, 1}}},
      {"Scalar", {{2, 3}, {}}},
      {"Both", {{2, 1, 3}, {4, 1}}},
      {"Larger", {{3}, {2, 4, 3}}},
      {"Channel", {{2, 3, 4, 5}, {3, 1, 1}}},
  };
  for (const auto* op : {"Add", "Sub", "Mul", "Div", "Pow"})
    for (const auto& [name, inputs] : shapes)
      cases.push_back({.name = std::string(op) + name,
                       .inputs = inputs,
                       .build = plain(op, 2),
                       .low = 0.5,
                       .high = 2});
  cases.push_back({.name = "Square", .inputs = {{5}}, .build = [](ModelBuilder& b) {
                     const float two[] = {2};
                     b.initialiser("two", {}, two).node("Pow", {"x0", "two"}, {"y"});
                   }});
  cases.push_back({.name = "Sum", .inputs = {{2, 3}, {3}, {2, 1}}, .build = plain("Sum", 3)});
  cases.push_back({.name = "Mean", .inputs = {{2, 3}, {3}}, .build = plain("Mean", 2)});
  cases.push_back({.name = "SameTwice", .inputs = {{4}}, .build = [](ModelBuilder& b) {
                     b.node("Mul", {"x0", "x0"}, {"y"});
                   }});
  cases.push_back({.name = "Where",
                   .inputs = {{3, 4}, {4}},
                   .build =
                       [](ModelBuilder& b) {
                         const float limit[] = {0};
                         b.initialiser("limit", {}, limit);
                         b.node("Greater", {"x0", "limit"}, {"c"});
                         b.node("Where", {"c", "x0", "x1"}, {"y"});
                       },
                   .values = Values::kApart});
  cases.push_back({.name = "Cast", .inputs = {{5}}, .build = [](ModelBuilder& b) {
                     b.node("Cast", {"x0"}, {"d"}, {{"to", std::int64_t{11}}});
                     b.node("Mul", {"d", "d"}, {"e"});
                     b.node("Cast", {"e"}, {"y"}, {{"to", std::int64_t{1}}});
                   }});
  return cases;
}
INSTANTIATE_TEST_SUITE_P(Binary, GradientTest, testing::ValuesIn(binary_functions()), name_of);

Case product(std::string name, std::vector<Shape> inputs, std::string op = "MatMul",
             ModelAttributes attributes = {}) {
  const auto count = static_cast<int>(inputs.size());
  return {.name = std::move(name),
          .inputs = std::move(inputs),
          .build = plain(std::move(op), count, std::move(attributes))};
}
std::vector<Case> products() {
  const auto gemm = [](std::string name, std::vector<Shape> inputs, std::int64_t a,
                       std::int64_t b) {
    return product(std::move(name), std::move(inputs), "Gemm",
                   {{"transA", a}, {"transB", b}, {"alpha", 0.5f}, {"beta", 2.0f}});
  };
  const auto einsum = [](std::string name, std::vector<Shape> inputs, std::string equation) {
    return product(std::move(name), std::move(inputs), "Einsum",
                   {{"equation", std::move(equation)}});
  };
  return {
      product("MatMul", {{3, 4}, {4, 5}}),
      product("MatMulBatch", {{2, 3, 4}, {2, 4, 5}}),
      product("MatMulSharedWeight", {{2, 3, 4}, {4, 5}}),
      product("MatMulBroadcast", {{2, 1, 3, 4}, {5, 4, 2}}),
      product("MatMulSharedLeft", {{3, 4}, {2, 4, 5}}),
      product("MatMulVectorRight", {{2, 3, 4}, {4}}),
      product("MatMulVectorLeft", {{4}, {2, 4, 3}}),
      product("MatMulVectors", {{4}, {4}}),
      gemm("Gemm", {{3, 4}, {4, 5}, {5}}, 0, 0),
      gemm("GemmTransA", {{4, 3}, {4, 5}, {3, 5}}, 1, 0),
      gemm("GemmTransB", {{3, 4}, {5, 4}, {3, 1}}, 0, 1),
      gemm("GemmTransBoth", {{4, 3}, {5, 4}, {1}}, 1, 1),
      gemm("GemmWithoutBias", {{3, 4}, {4, 5}}, 0, 0),
      einsum("EinsumProduct", {{3, 4}, {4, 5}}, "ij,jk->ik"),
      einsum("EinsumHeads", {{2, 3, 2, 4}, {2, 5, 2, 4}}, "bqhd,bkhd->bhqk"),
      einsum("EinsumImplicit", {{3, 4}, {4, 5}}, "ij,jk"),
      einsum("EinsumTranspose", {{3, 4}}, "ij->ji"),
      einsum("EinsumSummedAlone", {{3, 4}, {3}}, "ij,i->i"),
      einsum("EinsumThree", {{2, 3}, {3, 4}, {4, 2}}, "ab,bc,cd->ad"),
  };
}
INSTANTIATE_TEST_SUITE_P(Products, GradientTest, testing::ValuesIn(products()), name_of);

Case conv(std::string name, Shape x, Shape w, ModelAttributes attributes, bool bias = true,
          std::string op = "Conv") {
  std::vector<Shape> inputs{std::move(x), w};
  const auto group = std::ranges::find(attributes, "group", &graph::testing::Attribute::first);
  const auto groups = group == attributes.end() ? 1 : std::get<std::int64_t>(group->second);
  if (bias) inputs.push_back({op == "Conv" ? w[0] : w[1] * groups});
  return product(std::move(name), std::move(inputs), std::move(op), std::move(attributes));
}
std::vector<Case> convolutions() {
  const auto g = [](std::int64_t groups) { return graph::testing::Attribute{"group", groups}; };
  return {
      conv("Conv", {2, 3, 6, 5}, {4, 3, 3, 3}, {}),
      conv("ConvSame", {2, 3, 6, 5}, {4, 3, 3, 3}, {{"pads", Ints{1, 1, 1, 1}}}),
      conv("ConvWithoutBias", {1, 2, 5, 5}, {3, 2, 3, 3}, {}, false),
      conv("ConvEvenKernel", {2, 2, 6, 6}, {3, 2, 2, 4}, {{"pads", Ints{0, 1, 1, 2}}}),
      conv("ConvStride2", {2, 3, 7, 6}, {4, 3, 3, 3},
           {{"strides", Ints{2, 2}}, {"pads", Ints{1, 1, 1, 1}}}),
      conv("ConvStride3Rest", {1, 2, 9, 8}, {2, 2, 2, 2}, {{"strides", Ints{3, 3}}}),
      conv("ConvAsymmetric", {2, 2, 7, 8}, {3, 2, 3, 2},
           {{"strides", Ints{2, 1}}, {"pads", Ints{0, 1, 2, 0}}, {"dilations", Ints{1, 2}}}),
      conv("ConvDilated", {2, 2, 8, 8}, {3, 2, 3, 3},
           {{"dilations", Ints{2, 2}}, {"pads", Ints{2, 2, 2, 2}}}),
      conv("ConvGroups", {2, 4, 5, 5}, {6, 2, 3, 3}, {g(2), {"pads", Ints{1, 1, 1, 1}}}),
      conv("ConvDepthwise", {2, 4, 5, 6}, {4, 1, 3, 3}, {g(4), {"pads", Ints{1, 1, 1, 1}}}),
      conv("ConvDepthwiseStride", {2, 4, 6, 6}, {4, 1, 3, 3},
           {g(4), {"strides", Ints{2, 2}}, {"pads", Ints{1, 1, 1, 1}}}),
      conv("ConvMultiplier", {2, 3, 5, 5}, {6, 1, 3, 3}, {g(3)}),
      conv("ConvStride2Rest", {2, 3, 8, 9}, {5, 3, 3, 2},
           {{"strides", Ints{2, 3}}, {"pads", Ints{1, 0, 0, 1}}}),
      conv("ConvStrideBeyondWindow", {2, 2, 9, 8}, {9, 2, 2, 1}, {{"strides", Ints{3, 2}}}),
      conv("ConvPoint", {2, 3, 4, 5}, {4, 3, 1, 1}, {}),
      conv("ConvPointStride", {2, 3, 5, 5}, {4, 3, 1, 1}, {{"strides", Ints{2, 2}}}),
      conv("ConvManyChannels", {2, 16, 5, 6}, {17, 16, 3, 3}, {{"pads", Ints{1, 1, 1, 1}}}),
      conv("ConvManyChannelsWide", {1, 16, 7, 6}, {16, 16, 5, 5}, {{"pads", Ints{2, 2, 2, 2}}}),
      conv("ConvManyChannelsValid", {2, 16, 5, 5}, {16, 16, 3, 3}, {}),
      conv("ConvSameUpper", {1, 2, 5, 5}, {2, 2, 2, 2},
           {{"auto_pad", std::string("SAME_UPPER")}, {"strides", Ints{2, 2}}}),
      conv("ConvSameLower", {1, 2, 5, 5}, {2, 2, 2, 2}, {{"auto_pad", std::string("SAME_LOWER")}}),
      conv("Conv1d", {2, 3, 9}, {4, 3, 3}, {{"pads", Ints{1, 1}}}),
      conv("Conv1dStride", {2, 3, 9}, {4, 3, 4}, {{"strides", Ints{2}}, {"pads", Ints{1, 2}}}),
      conv("Conv1dPoint", {2, 3, 9}, {4, 3, 1}, {}),
      conv("Conv3d", {1, 2, 4, 5, 4}, {3, 2, 3, 2, 2}, {{"pads", Ints{1, 0, 1, 1, 1, 0}}}),
      conv("Conv3dStride", {1, 2, 5, 5, 4}, {3, 2, 3, 2, 2}, {{"strides", Ints{2, 1, 2}}}),
      conv("ConvTranspose", {2, 3, 4, 5}, {3, 2, 3, 3}, {}, true, "ConvTranspose"),
      conv("ConvTransposeStride", {2, 3, 4, 3}, {3, 2, 3, 3},
           {{"strides", Ints{2, 2}}, {"pads", Ints{1, 1, 1, 1}}, {"output_padding", Ints{1, 1}}},
           true, "ConvTranspose"),
      conv("ConvTransposeGroups", {2, 4, 4, 3}, {4, 1, 2, 2}, {g(2), {"strides", Ints{2, 2}}}, true,
           "ConvTranspose"),
      conv("ConvTranspose1d", {2, 3, 5}, {3, 2, 4}, {{"strides", Ints{2}}, {"dilations", Ints{2}}},
           true, "ConvTranspose"),
  };
}
INSTANTIATE_TEST_SUITE_P(Convolutions, GradientTest, testing::ValuesIn(convolutions()), name_of);
INSTANTIATE_TEST_SUITE_P(Convolutions, OwnOperatorTest, testing::ValuesIn(convolutions()), name_of);
INSTANTIATE_TEST_SUITE_P(Convolutions, OwnKernelTest, testing::ValuesIn(convolutions()), name_of);

Case pool(std::string name, std::string op, Shape x, ModelAttributes attributes,
          std::int64_t opset = 19) {
  return {.name = std::move(name),
          .inputs = {std::move(x)},
          .build = plain(std::move(op), 1, std::move(attributes)),
          .values = Values::kApart,
          .low = -2,
          .high = 2,
          .opset = opset};
}
std::vector<Case> pools() {
  const auto kernel = [](Ints size) {
    return graph::testing::Attribute{"kernel_shape", std::move(size)};
  };
  const auto strides = [](Ints size) {
    return graph::testing::Attribute{"strides", std::move(size)};
  };
  const auto pads = [](Ints size) { return graph::testing::Attribute{"pads", std::move(size)}; };
  const std::int64_t one = 1;
  return {
      pool("MaxPool", "MaxPool", {2, 3, 4, 6}, {kernel({2, 2}), strides({2, 2})}),
      pool("MaxPoolThrees", "MaxPool", {1, 2, 6, 6}, {kernel({3, 3}), strides({3, 3})}),
      pool("MaxPoolRest", "MaxPool", {1, 2, 5, 7}, {kernel({2, 2}), strides({2, 2})}),
      pool("MaxPoolOverlap", "MaxPool", {1, 2, 6, 7},
           {kernel({3, 3}), strides({2, 2}), pads({1, 1, 1, 1})}),
      pool("MaxPoolDilated", "MaxPool", {1, 2, 6, 7}, {kernel({2, 2}), {"dilations", Ints{2, 2}}}),
      pool("MaxPoolCeil", "MaxPool", {1, 2, 5, 7},
           {kernel({2, 2}), strides({2, 2}), {"ceil_mode", one}}),
      pool("MaxPool1d", "MaxPool", {2, 3, 8}, {kernel({2}), strides({2})}),
      pool("MaxPool3d", "MaxPool", {1, 1, 4, 4, 4}, {kernel({2, 2, 2}), strides({2, 2, 2})}),
      pool("AveragePool", "AveragePool", {2, 3, 4, 6}, {kernel({2, 2}), strides({2, 2})}),
      pool("AveragePoolOverlap", "AveragePool", {1, 2, 6, 7},
           {kernel({3, 3}), strides({2, 2}), pads({1, 1, 1, 1})}),
      pool("AveragePoolCounted", "AveragePool", {1, 2, 6, 7},
           {kernel({3, 3}), pads({1, 1, 1, 1}), {"count_include_pad", one}}),
      pool("AveragePoolCeil", "AveragePool", {1, 2, 5, 7},
           {kernel({2, 2}), strides({2, 2}), {"ceil_mode", one}}),
      pool("AveragePool1d", "AveragePool", {2, 3, 9}, {kernel({4}), strides({2})}),
      pool("GlobalAveragePool", "GlobalAveragePool", {2, 3, 4, 5}, {}),
      pool("GlobalMaxPool", "GlobalMaxPool", {2, 3, 4, 5}, {}),
  };
}
INSTANTIATE_TEST_SUITE_P(Pools, GradientTest, testing::ValuesIn(pools()), name_of);
INSTANTIATE_TEST_SUITE_P(Pools, OwnOperatorTest, testing::ValuesIn(pools()), name_of);

std::vector<Case> normalisations() {
  const auto batch_norm = [](std::string name, Shape x, bool training) {
    const Shape c{x[1]};
    return Case{.name = std::move(name), .inputs = {x, c, c}, .build = [=](ModelBuilder& b) {
                  std::vector<float> mean(static_cast<std::size_t>(c[0]), 0.2f),
                      var(mean.size(), 1.5f);
                  b.initialiser("mean", c, mean).initialiser("var", c, var);
                  const std::vector<std::string> ins{"x0", "x1", "x2", "mean", "var"};
                  if (training) {
                    b.node("BatchNormalization", ins, {"y", "m", "v"},
                           {{"training_mode", std::int64_t{1}}, {"momentum", 0.0f}});
                  } else {
                    b.node("BatchNormalization", ins, {"y"});
                  }
                }};
  };
  return {
      batch_norm("BatchNormInference", {2, 3, 4, 5}, false),
      batch_norm("BatchNormTraining", {4, 3, 3, 5}, true),
      batch_norm("BatchNormTraining1d", {4, 3, 5}, true),
      batch_norm("BatchNormTrainingFlat", {6, 3}, true),
      {.name = "LayerNorm",
       .inputs = {{3, 4, 6}, {6}, {6}},
       .build = plain("LayerNormalization", 3)},
      {.name = "LayerNormWithoutBias",
       .inputs = {{3, 4, 6}, {6}},
       .build = plain("LayerNormalization", 2)},
      {.name = "LayerNormTwoAxes",
       .inputs = {{3, 4, 6}, {4, 6}, {4, 6}},
       .build = plain("LayerNormalization", 3, {{"axis", std::int64_t{1}}})},
      {.name = "RmsNorm",
       .inputs = {{3, 4, 6}, {6}},
       .build = plain("SimplifiedLayerNormalization", 2)},
      {.name = "InstanceNorm",
       .inputs = {{2, 3, 4, 5}, {3}, {3}},
       .build = plain("InstanceNormalization", 3)},
      {.name = "GroupNormByGroup",
       .inputs = {{2, 6, 4, 3}, {2}, {2}},
       .build = plain("GroupNormalization", 3, {{"num_groups", std::int64_t{2}}})},
      {.name = "GroupNormByChannel",
       .inputs = {{2, 6, 4, 3}, {6}, {6}},
       .build = plain("GroupNormalization", 3, {{"num_groups", std::int64_t{2}}}),
       .opset = 21},
  };
}
INSTANTIATE_TEST_SUITE_P(Normalisations, GradientTest, testing::ValuesIn(normalisations()),
                         name_of);

/// What our BatchNorm takes in: by the batch, then perhaps an addition, then perhaps a limit. Odd
/// sizes, so that no run of floats is a whole number of vectors.
std::vector<Case> limited_norms() {
  const auto chain = [](std::string name, Shape x, bool adds, std::string limit) {
    const Shape c{x[1]};
    std::vector<Shape> inputs{x, c, c};
    if (adds) inputs.push_back(x);
    return Case{
        .name = std::move(name), .inputs = std::move(inputs), .build = [=](ModelBuilder& b) {
          // The runtime writes into them, and merges equal ones, with its own constants too.
          const std::vector<float> mean(static_cast<std::size_t>(c[0]), 0.2f);
          const std::vector<float> var(mean.size(), 1.5f);
          b.initialiser("mean", c, mean).initialiser("var", c, var);
          const std::string norm = adds || !limit.empty() ? "normalised" : "y";
          b.node("BatchNormalization", {"x0", "x1", "x2", "mean", "var"}, {norm, "m", "v"},
                 {{"training_mode", std::int64_t{1}}, {"momentum", 0.0f}});
          const std::string sum = limit.empty() ? "y" : "sum";
          if (adds) b.node("Add", {"x3", norm}, {sum});
          const auto& last = adds ? sum : norm;
          if (limit == "Relu") b.node("Relu", {last}, {"y"});
          if (limit == "Clip") {
            const float low[] = {-0.3f}, high[] = {0.4f};
            b.initialiser("low", {}, low).initialiser("high", {}, high);
            b.node("Clip", {last, "low", "high"}, {"y"});
          }
        }};
  };
  return {
      chain("Alone", {3, 2, 5, 7}, false, ""),    chain("Flat", {9, 3}, false, ""),
      chain("Relu", {2, 3, 9, 9}, false, "Relu"), chain("Clip", {2, 3, 9, 9}, false, "Clip"),
      chain("Add", {2, 3, 5, 5}, true, ""),       chain("AddRelu", {2, 3, 9, 9}, true, "Relu"),
  };
}
INSTANTIATE_TEST_SUITE_P(LimitedNorms, OwnKernelTest, testing::ValuesIn(limited_norms()), name_of);

std::vector<Case> reductions() {
  std::vector<Case> cases;
  for (const auto* op :
       {"ReduceSum", "ReduceMean", "ReduceMax", "ReduceMin", "ReduceL1", "ReduceL2",
        "ReduceSumSquare", "ReduceLogSum", "ReduceLogSumExp", "ReduceProd"}) {
    const bool is_extremum =
        std::string_view(op) == "ReduceMax" || std::string_view(op) == "ReduceMin";
    // Its gradients are small beside it, and it is smooth enough for large steps.
    const bool is_flat = std::string_view(op) == "ReduceLogSumExp";
    for (const auto& [name, axes] : std::vector<std::pair<std::string, Ints>>{
             {"All", {}}, {"First", {0}}, {"TwoAxes", {-1, 1}}})
      for (const std::int64_t keep : {0, 1})
        cases.push_back({.name = op + name + (keep != 0 ? "Keep" : ""),
                         .inputs = {{2, 3, 4}},
                         .build =
                             [=](ModelBuilder& b) {
                               std::vector<std::string> inputs{"x0"};
                               if (!axes.empty()) {
                                 b.initialiser("axes", {std::ssize(axes)}, axes);
                                 inputs.push_back("axes");
                               }
                               b.node(op, inputs, {"y"}, {{"keepdims", keep}});
                             },
                         .values = is_extremum ? Values::kApart : Values::kSmooth,
                         .low = is_flat ? -2 : 0.5,
                         .high = is_flat ? 2 : 1.5});
  }
  for (const std::int64_t exclusive : {0, 1})
    for (const std::int64_t reverse : {0, 1})
      cases.push_back({.name = "CumSum" + std::to_string(exclusive) + std::to_string(reverse),
                       .inputs = {{3, 4}},
                       .build = [=](ModelBuilder& b) {
                         const std::int64_t axis[] = {1};
                         b.initialiser("axis", {}, axis);
                         b.node("CumSum", {"x0", "axis"}, {"y"},
                                {{"exclusive", exclusive}, {"reverse", reverse}});
                       }});
  return cases;
}
INSTANTIATE_TEST_SUITE_P(Reductions, GradientTest, testing::ValuesIn(reductions()), name_of);

/// y = op(x0, integers...)
std::function<void(ModelBuilder&)> with_integers(std::string op, std::vector<Ints> integers,
                                                 ModelAttributes attributes = {}) {
  return [=](ModelBuilder& b) {
    std::vector<std::string> inputs{"x0"};
    for (const auto& values : integers) {
      inputs.push_back("i" + std::to_string(inputs.size()));
      b.initialiser(inputs.back(), {std::ssize(values)}, values);
    }
    b.node(op, inputs, {"y"}, attributes);
  };
}
std::vector<Case> shape_operators() {
  const auto c = [](std::string name, Shape x, std::function<void(ModelBuilder&)> build,
                    std::int64_t opset = 19) {
    return Case{.name = std::move(name),
                .inputs = {std::move(x)},
                .build = std::move(build),
                .opset = opset};
  };
  const auto pad_mode = [](std::string mode) {
    return with_integers("Pad", {{0, 2, 1, 1}}, {{"mode", std::move(mode)}});
  };
  return {
      c("Reshape", {2, 6}, with_integers("Reshape", {{3, -1}})),
      c("Flatten", {2, 3, 4}, plain("Flatten", 1)),
      c("Squeeze", {2, 1, 4}, with_integers("Squeeze", {{1}})),
      c("Unsqueeze", {2, 4}, with_integers("Unsqueeze", {{0, 2}})),
      c("Transpose", {2, 3, 4}, plain("Transpose", 1, {{"perm", Ints{2, 0, 1}}})),
      c("TransposeReverse", {2, 3, 4}, plain("Transpose", 1)),
      c("Expand", {3, 1}, with_integers("Expand", {{2, 3, 4}})),
      c("Tile", {2, 3}, with_integers("Tile", {{2, 3}})),
      c("SliceStep", {7, 5}, with_integers("Slice", {{1, 0}, {6, 5}, {0, 1}, {2, 3}})),
      c("SliceNegative", {7, 5}, with_integers("Slice", {{-2, -1}, {-100, -4}, {0, 1}, {-2, -1}})),
      c("SlicePlain", {4, 5}, with_integers("Slice", {{1}, {1000}, {1}})),
      c("SliceLeadingAxes", {4, 5}, with_integers("Slice", {{1, 2}, {3, -1}})),
      c("Pad", {3, 4}, with_integers("Pad", {{1, 0, 0, 2}})),
      c("PadNegative", {4, 4}, with_integers("Pad", {{-1, 1, 0, -2}})),
      c("PadReflect", {3, 4}, pad_mode("reflect")),
      c("PadEdge", {3, 4}, pad_mode("edge")),
      c("PadWrap", {3, 4}, pad_mode("wrap")),
      c("DepthToSpace", {1, 8, 2, 3}, plain("DepthToSpace", 1, {{"blocksize", std::int64_t{2}}})),
      c("DepthToSpaceCrd", {1, 8, 2, 3},
        plain("DepthToSpace", 1, {{"blocksize", std::int64_t{2}}, {"mode", std::string("CRD")}})),
      c("SpaceToDepth", {1, 2, 4, 6}, plain("SpaceToDepth", 1, {{"blocksize", std::int64_t{2}}})),
      c("Trilu", {2, 4, 4}, plain("Trilu", 1, {{"upper", std::int64_t{0}}})),
      {.name = "Concat",
       .inputs = {{2, 3}, {2, 1}, {2, 2}},
       .build = plain("Concat", 3, {{"axis", std::int64_t{-1}}})},
      {.name = "ConcatOne",
       .inputs = {{2, 3}},
       .build = plain("Concat", 1, {{"axis", std::int64_t{0}}})},
      {.name = "SplitOneUsed",
       .inputs = {{2, 6}},
       .build =
           [](ModelBuilder& b) {
             const Ints sizes{1, 3, 2};
             b.initialiser("sizes", {3}, sizes);
             b.node("Split", {"x0", "sizes"}, {"a", "b", "c"}, {{"axis", std::int64_t{1}}});
             b.node("Exp", {"b"}, {"y"});
           }},
      {.name = "SplitEven",
       .inputs = {{4, 3}},
       .build =
           [](ModelBuilder& b) {
             b.node("Split", {"x0"}, {"a", "b"}, {{"num_outputs", std::int64_t{2}}});
             b.node("Mul", {"a", "b"}, {"y"});
           }},
  };
}
INSTANTIATE_TEST_SUITE_P(Shapes, GradientTest, testing::ValuesIn(shape_operators()), name_of);

std::vector<Case> index_operators() {
  const auto add_ints = [](ModelBuilder& b, std::string_view name, const Shape& shape,
                           const Ints& values) { b.initialiser(name, shape, values); };
  const auto gather = [=](std::string name, std::string op, Shape x, Shape shape, Ints indices,
                          ModelAttributes attributes) {
    return Case{.name = std::move(name), .inputs = {std::move(x)}, .build = [=](ModelBuilder& b) {
                  add_ints(b, "at", shape, indices);
                  b.node(op, {"x0", "at"}, {"y"}, attributes);
                }};
  };
  const auto scatter = [=](std::string name, std::string op, Shape x, Shape shape, Ints indices,
                           Shape updates, ModelAttributes attributes) {
    return Case{.name = std::move(name),
                .inputs = {std::move(x), std::move(updates)},
                .build = [=](ModelBuilder& b) {
                  add_ints(b, "at", shape, indices);
                  b.node(op, {"x0", "at", "x1"}, {"y"}, attributes);
                }};
  };
  const auto axis = [](std::int64_t value) { return graph::testing::Attribute{"axis", value}; };
  const graph::testing::Attribute add{"reduction", std::string("add")};
  return {
      gather("GatherRows", "Gather", {4, 3}, {2, 2}, {0, 2, 2, -1}, {}),
      gather("GatherMiddle", "Gather", {2, 5, 3}, {3}, {4, 0, 4}, {axis(1)}),
      gather("GatherMiddleMatrix", "Gather", {2, 5, 3}, {2, 2}, {4, 0, 4, 1}, {axis(1)}),
      gather("GatherLastScalar", "Gather", {2, 5}, {}, {3}, {axis(-1)}),
      gather("GatherElements", "GatherElements", {3, 4}, {2, 4}, {0, 1, 2, 0, 2, 1, 2, 0},
             {axis(0)}),
      gather("GatherNd", "GatherND", {3, 4, 2}, {3, 2}, {0, 1, 2, 3, 0, 1}, {}),
      gather("GatherNdBatch", "GatherND", {2, 4, 3}, {2, 3, 1}, {0, 1, 1, 3, 2, 3},
             {{"batch_dims", std::int64_t{1}}}),
      scatter("ScatterElements", "ScatterElements", {3, 4}, {2, 2}, {0, 3, 1, 2}, {2, 2},
              {axis(1)}),
      scatter("ScatterElementsAdd", "ScatterElements", {3, 4}, {1, 4}, {0, 0, 2, 2}, {1, 4},
              {axis(0), add}),
      scatter("ScatterNd", "ScatterND", {4, 3}, {2, 1}, {3, 0}, {2, 3}, {}),
      scatter("ScatterNdAdd", "ScatterND", {4, 3}, {2, 1}, {3, 3}, {2, 3}, {add}),
      {.name = "TopK",
       .inputs = {{3, 6}},
       .build =
           [=](ModelBuilder& b) {
             add_ints(b, "k", {1}, {2});
             b.node("TopK", {"x0", "k"}, {"y", "i"});
           },
       .values = Values::kApart},
      {.name = "TopKSmallestOfColumns",
       .inputs = {{5, 3}},
       .build =
           [=](ModelBuilder& b) {
             add_ints(b, "k", {1}, {3});
             b.node("TopK", {"x0", "k"}, {"y", "i"}, {axis(0), {"largest", std::int64_t{0}}});
           },
       .values = Values::kApart},
  };
}
INSTANTIATE_TEST_SUITE_P(Indices, GradientTest, testing::ValuesIn(index_operators()), name_of);

Case resized(std::string name, Shape x, std::vector<float> scales, Ints sizes,
             ModelAttributes attributes) {
  return {.name = std::move(name), .inputs = {std::move(x)}, .build = [=](ModelBuilder& b) {
            if (!scales.empty()) b.initialiser("scales", {std::ssize(scales)}, scales);
            if (!sizes.empty()) b.initialiser("sizes", {std::ssize(sizes)}, sizes);
            if (sizes.empty()) {
              b.node("Resize", {"x0", "", "scales"}, {"y"}, attributes);
            } else {
              b.node("Resize", {"x0", "", "", "sizes"}, {"y"}, attributes);
            }
          }};
}
std::vector<Case> resizes() {
  const auto text = [](const char* name, const char* value) {
    return graph::testing::Attribute{name, std::string(value)};
  };
  const auto mode = [=](const char* value) { return text("mode", value); };
  const auto at = [=](const char* value) { return text("coordinate_transformation_mode", value); };
  return {
      resized("ResizeDouble", {1, 2, 3, 4}, {1, 1, 2, 2}, {},
              {mode("nearest"), at("asymmetric"), text("nearest_mode", "floor")}),
      resized("ResizeTripleDefault", {1, 2, 3, 4}, {1, 1, 3, 2}, {}, {mode("nearest")}),
      resized("ResizeNearestOdd", {1, 2, 3, 4}, {}, {1, 2, 5, 7}, {mode("nearest")}),
      resized("ResizeNearestSmaller", {1, 2, 5, 6}, {}, {1, 2, 3, 4}, {mode("nearest")}),
      resized("ResizeLinear", {1, 2, 3, 4}, {1, 1, 2, 2}, {}, {mode("linear")}),
      resized("ResizeLinearOdd", {1, 2, 3, 4}, {}, {1, 2, 5, 7}, {mode("linear")}),
      resized("ResizeAlignCorners", {1, 2, 3, 4}, {}, {1, 2, 5, 7},
              {mode("linear"), at("align_corners")}),
      resized("ResizePytorch", {1, 2, 5, 4}, {}, {1, 2, 3, 7},
              {mode("linear"), at("pytorch_half_pixel")}),
      resized("ResizeScaled", {1, 1, 4, 4}, {1, 1, 1.7f, 0.6f}, {}, {mode("linear")}),
  };
}
INSTANTIATE_TEST_SUITE_P(Resizes, GradientTest, testing::ValuesIn(resizes()), name_of);

Case recurrent(std::string name, std::string op, std::int64_t gates, ModelAttributes attributes,
               std::int64_t directions = 1, bool peepholes = false) {
  const std::int64_t hidden = 3, inputs = 2, batch = 2, steps = 4;
  std::vector<Shape> shapes{{steps, batch, inputs},
                            {directions, gates * hidden, inputs},
                            {directions, gates * hidden, hidden},
                            {directions, 2 * gates * hidden},
                            {directions, batch, hidden}};
  if (op == "LSTM") shapes.push_back({directions, batch, hidden});
  if (peepholes) shapes.push_back({directions, 3 * hidden});
  attributes.emplace_back("hidden_size", hidden);
  return {.name = std::move(name), .inputs = shapes, .build = [=](ModelBuilder& b) {
            std::vector<std::string> names{"x0", "x1", "x2", "x3", ""};
            for (std::size_t i = 4; i < shapes.size(); ++i)
              names.push_back("x" + std::to_string(i));
            b.node(op, names, {"all", "last"}, attributes);
            b.node("ReduceSum", {"all"}, {"total"}, {{"keepdims", std::int64_t{0}}});
            b.node("Mul", {"last", "total"}, {"y"});
          }};
}
std::vector<Case> recurrences() {
  const auto way = [](const char* value) {
    return graph::testing::Attribute{"direction", std::string(value)};
  };
  const graph::testing::Attribute after{"linear_before_reset", std::int64_t{1}};
  return {
      recurrent("Lstm", "LSTM", 4, {}),
      recurrent("LstmBothWays", "LSTM", 4, {way("bidirectional")}, 2),
      recurrent("LstmPeepholes", "LSTM", 4, {way("reverse")}, 1, true),
      recurrent("Gru", "GRU", 3, {}),
      recurrent("GruResetAfter", "GRU", 3, {after, way("bidirectional")}, 2),
      recurrent("Rnn", "RNN", 1, {way("reverse")}),
  };
}
INSTANTIATE_TEST_SUITE_P(Recurrences, GradientTest, testing::ValuesIn(recurrences()), name_of);

// --- Whole graphs
// ---------------------------------------------------------------------------------

/// A random graph of smooth operators over values of one shape; every value is used at least once.
std::function<void(ModelBuilder&)> random_graph(std::uint64_t seed) {
  return [=](ModelBuilder& b) {
    std::mt19937_64 random(seed);
    const std::vector<std::string> one{"Tanh", "Sigmoid", "Sin", "Softplus", "Erf", "Neg"};
    const std::vector<std::string> two{"Add", "Sub", "Mul"};
    std::vector<std::string> values{"x0", "x1"}, unused = values;
    const auto pick = [&](const auto& list) { return list[random() % list.size()]; };
    for (int i = 0; i < 14; ++i) {
      const auto name = "v" + std::to_string(i);
      const auto first = unused.empty() ? pick(values) : unused.back();
      if (!unused.empty()) unused.pop_back();
      if (random() % 3 == 0) {
        b.node(pick(one), {first}, {name});
      } else {
        const auto second = pick(values);  // Compilers differ in which argument they draw first.
        b.node(pick(two), {first, second}, {name});
      }
      values.push_back(name);
      unused.insert(unused.begin(), name);
    }
    b.node("Sum", unused, {"y"});
  };
}
std::vector<Case> random_graphs() {
  std::vector<Case> cases;
  for (std::uint64_t seed = 1; seed <= 24; ++seed)
    cases.push_back({.name = "Seed" + std::to_string(seed),
                     .inputs = {{2, 3}, {3}},
                     .build = random_graph(seed),
                     .low = -0.7,
                     .high = 0.7,
                     .wanted = {},
                     .may_vanish = true});
  return cases;
}
INSTANTIATE_TEST_SUITE_P(RandomGraphs, GradientTest, testing::ValuesIn(random_graphs()), name_of);

/// Gradients of a graph's values, run once.
std::vector<Tensor> run_gradients(PreparedModel& prepared, GraphBuilder& builder, Expression loss,
                                  std::span<const std::string> wanted,
                                  std::span<const infer::Value> inputs) {
  const auto gradients = add_gradients(builder, loss, wanted);
  if (!gradients) ADD_FAILURE() << gradients.error().message;
  if (!gradients) return {};
  builder.graph().clear_output();
  for (std::size_t i = 0; i < wanted.size(); ++i)
    builder.graph().add_output()->set_name(
        builder.named((*gradients)[i], "gradient of " + wanted[i]).name());
  const auto session = infer::Session::load(runtime(), prepared.model.serialise().value());
  if (!session) ADD_FAILURE() << session.error().message;
  if (!session) return {};
  const auto outputs = (*session)->run(inputs);
  if (!outputs) ADD_FAILURE() << outputs.error().message;
  std::vector<Tensor> tensors;
  if (outputs)
    for (const auto& output : *outputs) tensors.push_back(std::get<Tensor>(output));
  return tensors;
}

ModelBuilder two_branches() {
  return std::move(ModelBuilder()
                       .input("x0", DataType::kFloat32, {2, 3})
                       .input("x1", DataType::kFloat32, {2, 3})
                       .node("Sin", {"x0"}, {"a"})
                       .node("Mul", {"x0", "x1"}, {"b"})
                       .node("Exp", {"x1"}, {"dead"})
                       .output("a", DataType::kFloat32, {2, 3})
                       .output("b", DataType::kFloat32, {2, 3})
                       .output("dead", DataType::kFloat32, {2, 3}));
}

std::vector<infer::Value> two_inputs() {
  std::mt19937_64 random(5);
  const Case like{.name = "", .inputs = {}, .build = {}};
  std::vector<infer::Value> inputs;
  for (int i = 0; i < 2; ++i) inputs.emplace_back(draw(like, {2, 3}, random));
  return inputs;
}

/// d(s * sum a + t * sum b) / dx0
std::vector<float> slope_of_sum(double s, double t, std::span<const infer::Value> inputs) {
  auto prepared = prepare(runtime(), two_branches().build(), {}).value();
  auto& proto = prepared.model.proto();
  GraphBuilder builder(*proto.mutable_graph(), prepared.types);
  const auto loss = sum_all(builder.value("a")) * s + sum_all(builder.value("b")) * t;
  const std::string wanted[] = {"x0"};
  const auto tensors = run_gradients(prepared, builder, loss, wanted, inputs);
  if (tensors.empty()) return {};
  const auto values = tensors[0].as<float>();
  return {values.begin(), values.end()};
}

TEST(AddGradients, IsLinearInTheLoss) {
  const auto inputs = two_inputs();
  const auto first = slope_of_sum(1, 0, inputs), second = slope_of_sum(0, 1, inputs);
  const auto both = slope_of_sum(2, -3, inputs);
  ASSERT_EQ(both.size(), 6);
  for (std::size_t i = 0; i < both.size(); ++i)
    EXPECT_NEAR(both[i], 2 * first[i] - 3 * second[i], 1e-5);
}

TEST(AddGradients, GivesZerosToWhatTheLossDoesNotSee) {
  auto prepared = prepare(runtime(), two_branches().build(), {}).value();
  auto& proto = prepared.model.proto();
  GraphBuilder builder(*proto.mutable_graph(), prepared.types);
  const std::string wanted[] = {"x0", "x1", "b"};
  const auto tensors =
      run_gradients(prepared, builder, sum_all(builder.value("a")), wanted, two_inputs());
  ASSERT_EQ(tensors.size(), 3);
  EXPECT_THAT(tensors[0].as<float>(), testing::Each(testing::Ne(0)));
  EXPECT_THAT(tensors[1].as<float>(), testing::Each(0));
  EXPECT_THAT(tensors[2].as<float>(), testing::Each(0));
}

/// Of sum(y) by the initialiser w.
Result<std::vector<Expression>> gradients_of(ModelBuilder model) {
  SELVAGE_TRY(auto prepared, prepare(runtime(), model.build(), {}));
  auto& proto = prepared.model.proto();
  GraphBuilder builder(*proto.mutable_graph(), prepared.types);
  const std::string wanted[] = {"w"};
  return add_gradients(builder, sum_all(builder.value("y")), wanted);
}

TEST(AddGradients, NamesAnOperatorWithoutGradientAndThePath) {
  const float w[] = {1, 2, 3, 4};
  const auto result =
      gradients_of(std::move(ModelBuilder()
                                 .input("x", DataType::kFloat32, {1, 4, 1, 1})
                                 .initialiser("w", {4, 1, 1}, w)
                                 .node("Mul", {"x", "w"}, {"a"})
                                 .node("LRN", {"a"}, {"b"}, {{"size", std::int64_t{3}}})
                                 .node("Exp", {"b"}, {"y"})
                                 .output("y", DataType::kFloat32, {1, 4, 1, 1})));
  ASSERT_FALSE(result);
  EXPECT_EQ(result.error().code, ErrorCode::kUnimplemented);
  EXPECT_THAT(result.error().message,
              HasSubstr("LRN 'b' has no gradient and lies between a trained parameter and the "
                        "loss: w -> Mul 'a' -> LRN 'b' -> Exp 'y' -> "));
}

TEST(AddGradients, NamesAChoiceThatDependsOnTheData) {
  const float w[] = {1, 2, 3, 4};
  auto builder = std::move(ModelBuilder()
                               .input("x", DataType::kFloat32, {1, 4})
                               .input("c", DataType::kBool, {1})
                               .initialiser("w", {4}, w)
                               .node("Mul", {"x", "w"}, {"a"})
                               .node("If", {"c"}, {"b"})
                               .node("Exp", {"b"}, {"y"})
                               .output("y", DataType::kFloat32, {1, 4}));
  auto model = builder.build();
  auto& choice = *model.proto().mutable_graph()->mutable_node(1);
  for (const auto* name : {"then_branch", "else_branch"}) {
    auto& attribute = *choice.add_attribute();
    attribute.set_name(name);
    attribute.set_type(onnx::AttributeProto::GRAPH);
    auto& branch = *attribute.mutable_g();
    branch.set_name(name);
    auto& node = *branch.add_node();
    node.set_op_type("Relu");
    node.add_input("a");
    node.add_output(std::string(name) + "_out");
    branch.add_output()->set_name(node.output(0));
  }
  auto prepared = prepare(runtime(), model, {});
  ASSERT_TRUE(prepared) << prepared.error().message;
  GraphBuilder graph(*prepared->model.proto().mutable_graph(), prepared->types);
  const std::string wanted[] = {"w"};
  const auto result = add_gradients(graph, sum_all(graph.value("y")), wanted);
  ASSERT_FALSE(result);
  EXPECT_EQ(result.error().code, ErrorCode::kUnimplemented);
  EXPECT_THAT(result.error().message,
              HasSubstr("If 'b' has no gradient and lies between a trained parameter and the "
                        "loss: w -> Mul 'a' -> If 'b' -> Exp 'y' -> "));
}

TEST(AddGradients, StopsAtWhatIsConstantAlmostEverywhere) {
  const float w[] = {1.5, 2.5, -3.5, 4.5};
  auto model = ModelBuilder();
  model.input("x", DataType::kFloat32, {1, 4})
      .initialiser("w", {4}, w)
      .node("Floor", {"w"}, {"f"})
      .node("Mul", {"f", "x"}, {"y"})
      .output("y", DataType::kFloat32, {1, 4});
  auto prepared = prepare(runtime(), model.build(), {}).value();
  auto& proto = prepared.model.proto();
  GraphBuilder builder(*proto.mutable_graph(), prepared.types);
  const std::string wanted[] = {"w"};
  const infer::Value input = Tensor::from<float>({1, 4}, w).value();
  const auto tensors =
      run_gradients(prepared, builder, sum_all(builder.value("y")), wanted, {&input, 1});
  ASSERT_EQ(tensors.size(), 1);
  EXPECT_THAT(tensors[0].as<float>(), testing::Each(0));
}

TEST(AddGradients, GoesStraightThroughQuantisation) {
  const float w[] = {0.26f, -0.5f, 200.0f, 3.1f}, scale[] = {0.5f};
  auto model = ModelBuilder();
  model.proto().mutable_opset_import(0)->set_version(19);
  auto& zero = *model.proto().mutable_graph()->add_initializer();
  zero.set_name("zero");
  zero.set_data_type(onnx::TensorProto::INT8);
  zero.set_raw_data(std::string(1, '\0'));
  model.input("x", DataType::kFloat32, {4})
      .initialiser("w", {4}, w)
      .initialiser("scale", {}, scale)
      .node("QuantizeLinear", {"w", "scale", "zero"}, {"q"})
      .node("DequantizeLinear", {"q", "scale", "zero"}, {"d"})
      .node("Mul", {"d", "x"}, {"y"})
      .output("y", DataType::kFloat32, {4});
  auto prepared = prepare(runtime(), model.build(), {}).value();
  auto& proto = prepared.model.proto();
  GraphBuilder builder(*proto.mutable_graph(), prepared.types);
  const std::string wanted[] = {"w"};
  const float x[] = {1, 2, 3, 4};
  const infer::Value input = Tensor::from<float>({4}, x).value();
  const auto tensors =
      run_gradients(prepared, builder, sum_all(builder.value("y")), wanted, {&input, 1});
  ASSERT_EQ(tensors.size(), 1);
  EXPECT_THAT(tensors[0].as<float>(), testing::ElementsAre(1, 2, 0, 4));  // 200 is clipped.
}

}  // namespace
}  // namespace selvage::learn
