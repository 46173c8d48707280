#include "learn/training_session.h"

#include <cmath>
#include <fstream>
#include <limits>
#include <numeric>

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <nlohmann/json.hpp>
#include <selvage/onnx.pb.h>

#include "graph/opset.h"
#include "graph/testing.h"
#include "infer/session.h"
#include "learn/architecture.h"
#include "learn/random.h"
#include "learn/training_graph.h"

namespace selvage::learn {
namespace {

using graph::testing::ModelBuilder;
using testing::ElementsAre;
using testing::HasSubstr;
using Json = nlohmann::json;

infer::Runtime& runtime() {
  static const auto instance = infer::Runtime::create();
  return **instance;
}

Json golden(const std::string& name) {
  std::ifstream file(std::string(SELVAGE_SOURCE_DIR) + "/tests/golden/learn/" + name);
  return Json::parse(file);
}

Tensor floats(const Shape& shape, const std::vector<float>& values) {
  return Tensor::from<float>(shape, values).value();
}

/// A session and its graph's checks in one step.
Result<std::unique_ptr<TrainingSession>> session_of(const graph::Model& model,
                                                    const TrainingGraphOptions& options,
                                                    int threads = 1) {
  SELVAGE_TRY(auto graph, build_training_graph(runtime(), model, options));
  return TrainingSession::create(runtime(), std::move(graph), {.threads = threads});
}

const Tensor& find(const std::vector<NamedTensor>& tensors, const std::string& name) {
  const auto found = std::ranges::find(tensors, name, &NamedTensor::name);
  EXPECT_NE(found, tensors.end()) << name;
  return found->value;
}

// --- Loss functions: value and gradient as PyTorch gives them
// --------------------------------------

LossTerm loss_term(const Json& c) {
  static const std::map<std::string, LossKind> kinds = {{"cross-entropy", LossKind::kCrossEntropy},
                                                        {"binary", LossKind::kBinaryCrossEntropy},
                                                        {"mean-squared", LossKind::kMeanSquared},
                                                        {"absolute", LossKind::kAbsolute},
                                                        {"huber", LossKind::kHuber},
                                                        {"distillation", LossKind::kDistillation},
                                                        {"cosine", LossKind::kCosine},
                                                        {"contrastive", LossKind::kContrastive},
                                                        {"ctc", LossKind::kCtc}};
  LossTerm term{.kind = kinds.at(c["kind"]), .output = "y"};
  term.soft_targets = c.value("soft_targets", false);
  term.class_weights = c.value("class_weights", std::vector<float>{});
  term.label_smoothing = c.value("label_smoothing", 0.0f);
  if (c.contains("ignore_index")) term.ignore_index = c["ignore_index"].get<std::int64_t>();
  term.huber_delta = c.value("huber_delta", 1.0f);
  term.temperature = c.value("temperature", 1.0f);
  if (term.kind == LossKind::kCtc) term.target_length = c["target_shape"][1];
  return term;
}

/// y = x + w with w = 0, so that one step of plain descent shows the gradient.
graph::Model shifted(const Shape& shape) {
  const std::vector<float> zeros(static_cast<std::size_t>(element_count(shape).value()));
  auto builder = ModelBuilder();
  builder.input("x", DataType::kFloat32, shape).initialiser("w", shape, zeros);
  builder.node("PRelu", {"x", "one"}, {"p"}).node("Add", {"p", "w"}, {"y"});
  const float one[] = {1};
  builder.initialiser("one", Shape(shape.size(), 1), one).output("y", DataType::kFloat32, shape);
  return builder.build();
}

TEST(Losses, EqualPyTorch) {
  for (const auto& c : golden("losses.json")) {
    SCOPED_TRACE(c["kind"].get<std::string>() + c.value("class_weights", Json()).dump());
    const auto shape = c["shape"].get<Shape>();
    TrainingGraphOptions options{.batch = shape[0], .losses = {loss_term(c)}, .train = {"w"}};
    const auto session = session_of(shifted(shape), options);
    ASSERT_TRUE(session) << session.error().message;
    auto x = Tensor::create(DataType::kFloat32, shape).value();
    const auto start = stream_start(7, 0);
    for (std::size_t i = 0; i < x.as<float>().size(); ++i)
      x.as<float>()[i] = 4 * (static_cast<float>(mix(start + i) >> 40) * 0x1p-24f) - 2;
    const auto target_shape = c["target_shape"].get<Shape>();
    const auto target =
        c["target_type"] == "int64"
            ? Tensor::from<std::int64_t>(target_shape, c["target"].get<std::vector<std::int64_t>>())
            : Tensor::from<float>(target_shape, c["target"].get<std::vector<float>>());
    const TensorView batch[] = {x.view(), target->view()};
    const auto loss = (*session)->step(batch, 1);
    ASSERT_TRUE(loss) << loss.error().message;
    EXPECT_NEAR(*loss, c["loss"].get<float>(), 2e-6 * std::max(1.0f, *loss));
    const auto trained = (*session)->parameters();
    const auto w = find(*trained, "w").as<float>();
    const auto expected = c["gradient"].get<std::vector<float>>();
    ASSERT_EQ(w.size(), expected.size());
    for (std::size_t i = 0; i < w.size(); ++i) EXPECT_NEAR(-w[i], expected[i], 2e-6) << i;
  }
}

TEST(Losses, AddUpByWeight) {
  TrainingGraphOptions options{.batch = 2, .train = {"w"}};
  options.losses = {{.kind = LossKind::kMeanSquared, .output = "y", .weight = 2},
                    {.kind = LossKind::kAbsolute, .output = "p", .weight = 0.5f}};
  const auto session = session_of(shifted({2, 3}), options);
  ASSERT_TRUE(session) << session.error().message;
  const auto x = floats({2, 3}, {1, 2, 3, 4, 5, 6}), target = floats({2, 3}, {0, 0, 0, 0, 0, 0});
  const TensorView batch[] = {x.view(), target.view()};
  EXPECT_EQ((*session)->graph().batch.size(), 2);  // One target for both.
  const float loss = (*session)->step(batch, 0).value();
  EXPECT_FLOAT_EQ((*session)->loss(0), 91.0f / 6);
  EXPECT_FLOAT_EQ((*session)->loss(1), 3.5f);
  EXPECT_FLOAT_EQ(loss, 2 * 91.0f / 6 + 0.5f * 3.5f);
}

TEST(Losses, ReadTheLogitsBehindASoftmax) {
  const float w[] = {1, 0, 0, 1};
  auto builder = ModelBuilder();
  builder.input("x", DataType::kFloat32, {-1, 2}).initialiser("w", {2, 2}, w);
  builder.node("MatMul", {"x", "w"}, {"logits"}).node("Softmax", {"logits"}, {"y"});
  builder.output("y", DataType::kFloat32, {-1, 2});
  TrainingGraphOptions options{.batch = 1, .losses = {{.output = "y"}}};
  const auto session = session_of(builder.build(), options);
  ASSERT_TRUE(session) << session.error().message;
  const auto x = floats({1, 2}, {30, -30});
  const std::int64_t label[] = {1};
  const auto target = Tensor::from<std::int64_t>({1}, label).value();
  const TensorView batch[] = {x.view(), target.view()};
  EXPECT_FLOAT_EQ((*session)->step(batch, 0).value(), 60);  // Of probabilities it would be inf.
}

// --- Whole networks: the losses of 20 steps as PyTorch gives them
// ---------------------------------

struct Batch {
  Tensor data, target;
  [[nodiscard]] std::vector<TensorView> views() const { return {data.view(), target.view()}; }
};

Batch draw(const TrainingGraph& graph, std::uint64_t step, std::int64_t classes) {
  Batch batch{Tensor::create(graph.batch[0].type, graph.batch[0].shape).value(),
              Tensor::create(graph.batch[1].type, graph.batch[1].shape).value()};
  const auto start = stream_start(42, step), labels = stream_start(43, step);
  for (std::size_t i = 0; i < batch.data.as<float>().size(); ++i)
    batch.data.as<float>()[i] = static_cast<float>(mix(start + i) >> 40) * 0x1p-24f;
  if (batch.target.type() == DataType::kFloat32) {
    batch.target = batch.data;
  } else {
    for (std::size_t i = 0; i < batch.target.as<std::int64_t>().size(); ++i)
      batch.target.as<std::int64_t>()[i] =
          static_cast<std::int64_t>(mix(labels + i) % static_cast<std::uint64_t>(classes));
  }
  return batch;
}

struct Network {
  graph::Model model;
  TrainingGraphOptions options;
  std::int64_t classes = 10;
};

Network network(const std::string& name, const Shape& input, std::int64_t classes,
                std::int64_t batch) {
  Network network{
      .model = make_architecture(name, {.input = input, .classes = classes, .seed = 1}).value(),
      .options = {.batch = batch},
      .classes = classes};
  network.options.optimizer = {.momentum = 0.9f};
  network.options.losses = {
      {.kind = name == "autoencoder" ? LossKind::kMeanSquared : LossKind::kCrossEntropy,
       .output = "output"}};
  return network;
}

class NetworksTest : public testing::TestWithParam<bool> {};

/// Rounding differs and grows: close at first, near later.
double tolerance_of(std::size_t step) {
  return step < 20 ? 1e-4 : 1e-2;
}

TEST_P(NetworksTest, FollowPyTorch) {
  const auto networks = golden("networks.json");
  ASSERT_EQ(networks.size(), 8);
  for (const auto& c : networks) {
    const auto name = c["model"].get<std::string>();
    SCOPED_TRACE(name);
    auto [model, options, classes] =
        network(name, c["input"].get<Shape>(), c["classes"], c["batch"]);
    options.optimizer.momentum = c["momentum"];
    options.standard_operators = GetParam();
    const auto session = session_of(model, options);
    ASSERT_TRUE(session) << session.error().message;
    const auto losses = c["losses"].get<std::vector<float>>();
    // As many as PyTorch agrees with itself for, across thread counts.
    for (std::size_t i = 0; i < losses.size(); ++i) {
      const auto batch = draw((*session)->graph(), i, classes);
      const auto loss = (*session)->step(batch.views(), c["learning_rate"]);
      ASSERT_TRUE(loss) << loss.error().message;
      EXPECT_NEAR(*loss, losses[i], tolerance_of(i) * losses[i]) << "step " << i;
    }
  }
}

/// BlazeFace's backbone and the head of PP-OCR's recogniser, drawn towards random numbers.
TEST_P(NetworksTest, FollowPyTorchFromPublishedWeights) {
  for (const auto& c : golden("published.json")) {
    const auto name = c["model"].get<std::string>();
    SCOPED_TRACE(name);
    const auto model =
        graph::Model::load(std::string(SELVAGE_DEPS_DIR) + "/models/" + name + "/model.onnx");
    ASSERT_TRUE(model) << model.error().message;
    const auto shape = c["input"].get<Shape>();
    TrainingGraphOptions options{.batch = shape[0]};
    options.input_shapes = {{model->proto().graph().input(0).name(), shape}};
    options.losses = {{.kind = LossKind::kMeanSquared, .output = c["value"]}};
    options.optimizer = {.momentum = c["momentum"]};
    for (const auto& prefix : c["train"]) options.train.push_back(prefix.get<std::string>() + "*");
    options.freeze_statistics = true;
    options.standard_operators = GetParam();
    const auto session = session_of(*model, options);
    ASSERT_TRUE(session) << session.error().message;
    const auto losses = c["losses"].get<std::vector<float>>();
    for (std::size_t i = 0; i < losses.size(); ++i) {
      auto batch = draw((*session)->graph(), i, 1);
      batch.target = Tensor::create(DataType::kFloat32, (*session)->graph().batch[1].shape).value();
      const auto start = stream_start(43, i);
      for (std::size_t k = 0; k < batch.target.as<float>().size(); ++k)
        batch.target.as<float>()[k] = static_cast<float>(mix(start + k) >> 40) * 0x1p-24f;
      const auto loss = (*session)->step(batch.views(), c["learning_rate"]);
      ASSERT_TRUE(loss) << loss.error().message;
      EXPECT_NEAR(*loss, losses[i], tolerance_of(i) * losses[i]) << "step " << i;
    }
  }
}

INSTANTIATE_TEST_SUITE_P(Operators, NetworksTest, testing::Bool(),
                         [](const auto& c) { return c.param ? "Standard" : "Own"; });

Network small_lenet() {
  return network("lenet5", {1, 28, 28}, 10, 4);
}

TEST(TrainingSession, RepeatsBitForBitAndContinuesWhereItWasSaved) {
  const auto [model, options, classes] = small_lenet();
  const auto first = session_of(model, options, 2), second = session_of(model, options, 2);
  ASSERT_TRUE(first && second);
  std::vector<std::byte> saved;
  for (std::uint64_t i = 0; i < 6; ++i) {
    if (i == 3) saved = (*first)->save();
    const auto batch = draw((*first)->graph(), i, classes);
    const auto a = (*first)->step(batch.views(), 0.05f), b = (*second)->step(batch.views(), 0.05f);
    EXPECT_EQ(*a, *b);
  }
  EXPECT_EQ((*first)->save(), (*second)->save());
  const auto resumed = session_of(model, options, 2);
  ASSERT_TRUE((*resumed)->restore(saved));
  EXPECT_EQ((*resumed)->steps(), 3);
  for (std::uint64_t i = 3; i < 6; ++i)
    ASSERT_TRUE((*resumed)->step(draw((*first)->graph(), i, classes).views(), 0.05f));
  EXPECT_EQ((*resumed)->save(), (*first)->save());
}

/// Activations that are computed anew for the backward pass are the same as those kept.
TEST(TrainingSession, RecomputesToTheSameBits) {
  auto [model, options, classes] = network("mobilenet-small", {1, 12, 12}, 10, 4);
  options.recompute = false;
  const auto keeping = session_of(model, options);
  options.recompute = true;
  const auto graph = build_training_graph(runtime(), model, options);
  ASSERT_TRUE(graph) << graph.error().message;
  EXPECT_GT(std::ranges::count(graph->model.proto().graph().node(), "BatchNormReplay",
                               &onnx::NodeProto::op_type),
            0);
  const auto recomputing = session_of(model, options);
  ASSERT_TRUE(keeping && recomputing);
  for (std::uint64_t i = 0; i < 3; ++i) {
    const auto batch = draw((*keeping)->graph(), i, classes);
    EXPECT_EQ((*keeping)->step(batch.views(), 0.05f).value(),
              (*recomputing)->step(batch.views(), 0.05f).value());
  }
  EXPECT_EQ((*keeping)->save(), (*recomputing)->save());
}

TEST(TrainingGraph, KnowsWhatAStepKeeps) {
  const auto graph_of = [](std::int64_t batch, bool recompute) {
    auto [model, options, classes] = network("resnet20", {1, 28, 28}, 10, batch);
    options.recompute = recompute;
    return build_training_graph(runtime(), model, options).value();
  };
  // Per sample 16 x 28 x 28 floats in the first stage: seven convolutions and normalisations each,
  // then half and a quarter of that.
  const double stage = 14 * 16 * 28 * 28 * sizeof(float), expected = stage * (1 + 0.5 + 0.25);
  const auto eight = graph_of(8, false);
  EXPECT_NEAR(static_cast<double>(eight.activation_bytes), 8 * expected, 0.1 * 8 * expected);
  EXPECT_NEAR(static_cast<double>(graph_of(16, false).activation_bytes),
              2.0 * static_cast<double>(eight.activation_bytes), 0.02 * 8 * expected);
  EXPECT_LT(graph_of(8, true).activation_bytes, eight.activation_bytes * 8 / 10);
  EXPECT_GT(eight.memory_bytes(), eight.activation_bytes);
}

TEST(TrainingSession, RefusesForeignState) {
  const auto [model, options, classes] = small_lenet();
  const auto session = session_of(model, options);
  auto other_options = options;
  other_options.optimizer.kind = OptimizerKind::kAdam;
  const auto other = session_of(model, other_options);
  const auto before = (*session)->save();
  EXPECT_EQ((*session)->restore((*other)->save()).error().code, ErrorCode::kInvalidArgument);
  for (const std::size_t length :
       {std::size_t{0}, std::size_t{10}, before.size() / 2, before.size() - 1}) {
    const auto cut = (*session)->restore(std::span(before).first(length));
    ASSERT_FALSE(cut);
  }
  auto longer = before;
  longer.push_back({});
  EXPECT_FALSE((*session)->restore(longer));
  EXPECT_EQ((*session)->save(), before);
}

TEST(TrainingSession, TakesParametersByName) {
  const auto [model, options, classes] = small_lenet();
  const auto session = session_of(model, options);
  auto values = (*session)->parameters().value();
  ASSERT_EQ(values.size(), 10);
  for (auto& value : values[0].value.as<float>()) value = 0.125f;
  ASSERT_TRUE((*session)->set_parameters(values));
  EXPECT_THAT(find((*session)->parameters().value(), values[0].name).as<float>(),
              testing::Each(0.125f));
  values[1].value = floats({1}, {1});
  EXPECT_EQ((*session)->set_parameters(values).error().code, ErrorCode::kInvalidArgument);
  values[1].name = "nobody";
  EXPECT_EQ((*session)->set_parameters(values).error().code, ErrorCode::kNotFound);
}

TEST(TrainingSession, NamesTheInputThatDoesNotFit) {
  const auto [model, options, classes] = small_lenet();
  const auto session = session_of(model, options);
  auto batch = draw((*session)->graph(), 0, classes);
  const auto wrong = floats({2}, {1, 2});
  const TensorView views[] = {wrong.view(), batch.target.view()};
  const auto result = (*session)->step(views, 0.1f);
  ASSERT_FALSE(result);
  EXPECT_EQ(result.error().code, ErrorCode::kInvalidArgument);
  EXPECT_THAT(result.error().message, HasSubstr("'input'"));
  EXPECT_FALSE((*session)->step({}, 0.1f));
}

TEST(TrainingSession, KeepsItsStateWhenTheLossIsNotFiniteAndSaysWhere) {
  const float w[] = {1, 0, 0, 1};
  auto builder = ModelBuilder();
  builder.input("x", DataType::kFloat32, {-1, 2}).initialiser("w", {2, 2}, w);
  builder.node("MatMul", {"x", "w"}, {"scaled"}).node("Sqrt", {"scaled"}, {"root"});
  builder.node("MatMul", {"root", "w"}, {"y"}).output("y", DataType::kFloat32, {-1, 2});
  TrainingGraphOptions options{.batch = 1,
                               .losses = {{.kind = LossKind::kMeanSquared, .output = "y"}}};
  const auto session = session_of(builder.build(), options);
  ASSERT_TRUE(session) << session.error().message;
  const auto good = floats({1, 2}, {1, 4}), bad = floats({1, 2}, {1, -4}),
             target = floats({1, 2}, {0, 0});
  const TensorView first[] = {good.view(), target.view()}, second[] = {bad.view(), target.view()};
  ASSERT_TRUE(std::isfinite((*session)->step(first, 0.01f).value()));
  EXPECT_FALSE((*session)->first_non_finite(first, 0.01f).value());
  const auto before = (*session)->save();
  EXPECT_FALSE(std::isfinite((*session)->step(second, 0.01f).value()));
  EXPECT_EQ((*session)->save(), before);
  EXPECT_THAT((*session)->first_non_finite(second, 0.01f).value().value_or(""),
              HasSubstr("'root', made by Sqrt"));
  const float nan = std::numeric_limits<float>::quiet_NaN();
  const auto broken = floats({1, 2}, {nan, 0});
  const TensorView third[] = {broken.view(), target.view()};
  EXPECT_EQ((*session)->first_non_finite(third, 0.01f).value(), "the batch's 'x'");
}

// --- Optimisers against their formulas, in double precision
// ---------------------------------------

/// y = x * w with loss mean((y - t)^2): the gradient is 2 x (x w - t) / n.
graph::Model scaled_model(const std::vector<float>& w) {
  auto builder = ModelBuilder();
  const auto size = std::ssize(w);
  builder.input("x", DataType::kFloat32, {1, size}).initialiser("layer.weight", {size}, w);
  const float one[] = {1};
  builder.initialiser("slope", {1}, one).node("PRelu", {"x", "slope"}, {"p"});
  builder.node("Mul", {"p", "layer.weight"}, {"y"}).output("y", DataType::kFloat32, {1, size});
  return builder.build();
}

/// One element of the parameter and its state, as torch.optim describes each method.
struct Reference {
  OptimizerOptions o;
  double m = 0, v = 0;
  int t = 0;

  double step(double p, double g, double rate) {
    const double decay = o.weight_decay;
    const bool decoupled = o.kind == OptimizerKind::kAdamW || o.kind == OptimizerKind::kLion;
    if (o.clip_value > 0) g = std::clamp<double>(g, -o.clip_value, o.clip_value);
    if (decoupled) p *= 1 - rate * decay;
    if (!decoupled) g += decay * p;
    const double b1 = o.beta1, b2 = o.beta2, e = o.epsilon;
    switch (o.kind) {
      case OptimizerKind::kSgd:
        m = o.momentum * m + g;
        return p - rate * (o.nesterov ? g + o.momentum * m : m);
      case OptimizerKind::kAdam:
      case OptimizerKind::kAdamW:
        ++t;
        m = b1 * m + (1 - b1) * g;
        v = b2 * v + (1 - b2) * g * g;
        return p - rate * (m / (1 - std::pow(b1, t))) / (std::sqrt(v / (1 - std::pow(b2, t))) + e);
      case OptimizerKind::kRmsProp:
        v = o.alpha * v + (1 - o.alpha) * g * g;
        m = o.momentum * m + g / (std::sqrt(v) + e);
        return p - rate * m;
      case OptimizerKind::kAdagrad: v += g * g; return p - rate * g / (std::sqrt(v) + e);
      case OptimizerKind::kLion: {
        const double direction = b1 * m + (1 - b1) * g;
        m = b2 * m + (1 - b2) * g;
        return p - rate * (direction > 0 ? 1 : direction < 0 ? -1 : 0);
      }
    }
    return p;
  }
};

struct OptimizerCase {
  std::string name;
  OptimizerOptions options;
};
class OptimizerTest : public testing::TestWithParam<OptimizerCase> {};

TEST_P(OptimizerTest, FollowsItsFormula) {
  const std::vector<float> start{0.5f, -1, 2, 0.1f}, x{1, -0.5f, 2, 0.7f}, t{1, 1, -3, 0};
  TrainingGraphOptions options{.batch = 1,
                               .losses = {{.kind = LossKind::kMeanSquared, .output = "y"}},
                               .optimizer = GetParam().options,
                               .train = {"layer.weight"}};
  const auto session = session_of(scaled_model(start), options);
  ASSERT_TRUE(session) << session.error().message;
  std::vector<double> w(start.begin(), start.end());
  std::vector<Reference> references(w.size(), Reference{GetParam().options});
  const auto data = floats({1, 4}, x), target = floats({1, 4}, t);
  const TensorView batch[] = {data.view(), target.view()};
  for (int step = 0; step < 8; ++step) {
    const double rate = step < 4 ? 0.1 : 0.03;
    ASSERT_TRUE((*session)->step(batch, static_cast<float>(rate)));
    for (std::size_t i = 0; i < w.size(); ++i) {
      const double xi = x[i], ti = t[i];
      w[i] = references[i].step(w[i], 2 * xi * (xi * w[i] - ti) / 4, rate);
    }
  }
  const auto trained = (*session)->parameters().value();
  const auto values = find(trained, "layer.weight").as<float>();
  for (std::size_t i = 0; i < w.size(); ++i) EXPECT_NEAR(values[i], w[i], 3e-6) << i;
}
INSTANTIATE_TEST_SUITE_P(
    All, OptimizerTest,
    testing::Values(
        OptimizerCase{"Sgd", {}}, OptimizerCase{"SgdDecay", {.weight_decay = 0.1f}},
        OptimizerCase{"Momentum", {.momentum = 0.9f, .weight_decay = 0.01f}},
        OptimizerCase{"Nesterov", {.momentum = 0.9f, .nesterov = true}},
        OptimizerCase{"ClipValue", {.momentum = 0.5f, .clip_value = 0.3f}},
        OptimizerCase{"Adam", {.kind = OptimizerKind::kAdam}},
        OptimizerCase{"AdamDecay", {.kind = OptimizerKind::kAdam, .weight_decay = 0.1f}},
        OptimizerCase{"AdamW", {.kind = OptimizerKind::kAdamW, .weight_decay = 0.1f}},
        OptimizerCase{"RmsProp", {.kind = OptimizerKind::kRmsProp}},
        OptimizerCase{"RmsPropMomentum", {.kind = OptimizerKind::kRmsProp, .momentum = 0.9f}},
        OptimizerCase{"Adagrad", {.kind = OptimizerKind::kAdagrad, .epsilon = 1e-10f}},
        OptimizerCase{"Lion",
                      {.kind = OptimizerKind::kLion, .beta2 = 0.99f, .weight_decay = 0.1f}}),
    [](const auto& c) { return c.param.name; });

/// The parameter after one step of the model above.
Result<std::vector<float>> after_one_step(const OptimizerOptions& optimizer) {
  TrainingGraphOptions options{.batch = 1,
                               .losses = {{.kind = LossKind::kMeanSquared, .output = "y"}},
                               .optimizer = optimizer,
                               .train = {"layer.weight"}};
  SELVAGE_TRY(const auto session, session_of(scaled_model({1, 1}), options));
  const auto x = floats({1, 2}, {1, 1}), t = floats({1, 2}, {-2, -3});  // The gradient is 3, 4.
  const TensorView batch[] = {x.view(), t.view()};
  SELVAGE_RETURN_IF_ERROR(session->step(batch, 0.1f));
  SELVAGE_TRY(const auto trained, session->parameters(optimizer.average_decay > 0));
  const auto values = trained[0].value.as<float>();
  return std::vector<float>(values.begin(), values.end());
}

TEST(Optimizers, ClipByTheNormOfAllGradients) {
  const auto w = after_one_step({.clip_norm = 1}).value();
  EXPECT_NEAR(w[0], 1 - 0.1 * 3 / 5, 1e-6);
  EXPECT_NEAR(w[1], 1 - 0.1 * 4 / 5, 1e-6);
  EXPECT_NEAR(after_one_step({.clip_norm = 100}).value()[1], 0.6, 1e-6);
}

TEST(Optimizers, TreatGroupsApart) {
  const OptimizerOptions options{
      .weight_decay = 0.5f,
      .groups = {{.pattern = "*.weight", .weight_decay = 0, .learning_rate_scale = 0.5f}}};
  EXPECT_THAT(after_one_step(options).value(),
              ElementsAre(testing::FloatNear(0.85f, 1e-6f), testing::FloatNear(0.8f, 1e-6f)));
}

TEST(Optimizers, KeepAMovingAverage) {
  const auto w = after_one_step({.average_decay = 0.9f}).value();
  EXPECT_NEAR(w[0], 0.9 * 1 + 0.1 * 0.7, 1e-6);
}

TEST(Optimizers, RefuseNonsense) {
  EXPECT_EQ(after_one_step({.momentum = 1}).error().code, ErrorCode::kInvalidArgument);
  EXPECT_FALSE(after_one_step({.nesterov = true}));
  EXPECT_FALSE(after_one_step({.epsilon = 0}));
  EXPECT_FALSE(after_one_step({.clip_norm = -1}));
}

// --- What the graph does with the model
// -----------------------------------------------------------

TEST(TrainingGraph, AccumulatesGradientsToThoseOfALargeBatch) {
  auto small = small_lenet(), large = small_lenet();
  small.options.batch = 2;
  small.options.accumulate = 2;
  const auto two = session_of(small.model, small.options);
  const auto one = session_of(large.model, large.options);
  for (std::uint64_t step = 0; step < 3; ++step) {
    const auto batch = draw((*one)->graph(), step, 10);
    ASSERT_TRUE((*one)->step(batch.views(), 0.1f));
    for (std::size_t half = 0; half < 2; ++half) {
      const Shape shape{2, 1, 28, 28}, labels{2};
      const TensorView views[] = {
          {DataType::kFloat32,
           shape,
           batch.data.bytes().subspan(half * 2 * 784 * 4, 2 * 784 * 4),
           {}},
          {DataType::kInt64, labels, batch.target.bytes().subspan(half * 16, 16), {}}};
      ASSERT_TRUE((*two)->step(views, 0.1f));
    }
  }
  const auto a = (*one)->parameters().value(), b = (*two)->parameters().value();
  for (std::size_t i = 0; i < a.size(); ++i)
    for (std::size_t k = 0; k < a[i].value.as<float>().size(); ++k)
      ASSERT_NEAR(a[i].value.as<float>()[k], b[i].value.as<float>()[k], 2e-6) << a[i].name;
}

TEST(TrainingGraph, TrainsOnlyWhatThePatternsSay) {
  auto [model, options, classes] = small_lenet();
  const auto all = trainable_parameters(model);
  ASSERT_EQ(all.size(), 10);
  options.freeze = {"conv*"};
  const auto frozen = session_of(model, options);
  ASSERT_TRUE(frozen) << frozen.error().message;
  const auto frozen_values = (*frozen)->parameters().value();
  for (const auto& [name, value] : frozen_values) EXPECT_FALSE(name.starts_with("conv")) << name;
  EXPECT_EQ((*frozen)->parameters().value().size(), 6);
  options.freeze = {"*"};
  EXPECT_EQ(session_of(model, options).error().code, ErrorCode::kFailedPrecondition);
  for (auto* patterns : {&options.freeze, &options.train}) {
    options.freeze = options.train = {};
    *patterns = {"conv*", "convv*"};
    const auto mistyped = session_of(model, options);
    ASSERT_FALSE(mistyped);
    EXPECT_EQ(mistyped.error().code, ErrorCode::kInvalidArgument);
    EXPECT_NE(mistyped.error().message.find("'convv*'"), std::string::npos);
  }
}

std::vector<float> run(const graph::Model& model, const Tensor& input) {
  const auto session = infer::Session::load(runtime(), model.serialise().value());
  EXPECT_TRUE(session) << session.error().message;
  const infer::Value value = input;
  const auto outputs = (*session)->run({&value, 1});
  EXPECT_TRUE(outputs) << outputs.error().message;
  const auto values = std::get<Tensor>(outputs->front()).as<float>();
  return {values.begin(), values.end()};
}

TEST(TrainingGraph, AdaptersBeginWithNothingAndMergeIntoTheWeights) {
  for (const auto* name : {"lenet5", "gru"}) {
    SCOPED_TRACE(name);
    auto [model, options, classes] =
        network(name, std::string_view(name) == "gru" ? Shape{5, 6} : Shape{1, 28, 28}, 10, 4);
    options.lora = {.rank = 2, .scale = 4};
    options.optimizer.momentum = 0;
    const auto session = session_of(model, options);
    ASSERT_TRUE(session) << session.error().message;
    const auto batch = draw((*session)->graph(), 0, classes);
    const auto expected = run(model, batch.data);
    ASSERT_TRUE((*session)->step(batch.views(), 0.5f));
    const auto first = (*session)->output(0).as<float>();
    for (std::size_t i = 0; i < expected.size(); ++i) EXPECT_NEAR(first[i], expected[i], 1e-5);
    // Trained, the adapters give what the merged model gives.
    const auto merged = export_model(model, (*session)->parameters().value());
    ASSERT_TRUE(merged) << merged.error().message;
    const auto after = run(*merged, batch.data);
    ASSERT_TRUE((*session)->step(batch.views(), 0.5f));
    const auto second = (*session)->output(0).as<float>();
    double moved = 0;
    for (std::size_t i = 0; i < after.size(); ++i) {
      EXPECT_NEAR(second[i], after[i], 1e-4);
      moved = std::max<double>(moved, std::abs(after[i] - expected[i]));
    }
    EXPECT_GT(moved, 1e-3);
  }
}

graph::Model with_dropout(float ratio) {
  const float ratios[] = {ratio};
  std::vector<float> ones(1000, 1);
  auto builder = ModelBuilder();
  builder.input("x", DataType::kFloat32, {-1, 1000}).initialiser("ratio", {}, ratios);
  builder.initialiser("w", {1000}, ones).node("Gemm", {"x", "eye", "w"}, {"a"});
  builder.node("Dropout", {"a", "ratio"}, {"y"}).output("y", DataType::kFloat32, {-1, 1000});
  builder.initialiser("eye", {1000, 1000}, std::vector<float>(1'000'000));
  return builder.build();
}

TEST(TrainingGraph, DropsByTheSeedAndTheStep) {
  TrainingGraphOptions options{.batch = 4,
                               .losses = {{.kind = LossKind::kMeanSquared, .output = "y"}},
                               .train = {"w"},
                               .seed = 3};
  const auto model = with_dropout(0.25f);
  const auto a = session_of(model, options), b = session_of(model, options);
  ASSERT_TRUE(a) << a.error().message;
  const auto x = Tensor::create(DataType::kFloat32, {4, 1000}).value();
  const TensorView batch[] = {x.view(), x.view()};
  std::vector<float> before;
  for (int step = 0; step < 2; ++step) {
    ASSERT_TRUE((*a)->step(batch, 0) && (*b)->step(batch, 0));
    const auto y = (*a)->output(0).as<float>();
    EXPECT_TRUE(std::ranges::equal(y, (*b)->output(0).as<float>()));
    const auto dropped = std::ranges::count(y, 0.0f);
    EXPECT_NEAR(static_cast<double>(dropped), 1000, 120);
    for (const float value : y) EXPECT_TRUE(value == 0 || std::abs(value - 4.0f / 3) < 1e-6f);
    EXPECT_FALSE(std::ranges::equal(y, before));
    before.assign(y.begin(), y.end());
  }
}

/// x [N,2,3,3] -> BatchNormalization -> y
graph::Model normalised_model() {
  const float scale[] = {1, 2}, bias[] = {0.5f, -0.5f}, mean[] = {0.1f, 0.2f}, var[] = {1, 4};
  auto builder = ModelBuilder();
  builder.input("x", DataType::kFloat32, {-1, 2, 3, 3}).initialiser("scale", {2}, scale);
  builder.initialiser("bias", {2}, bias)
      .initialiser("mean", {2}, mean)
      .initialiser("var", {2}, var);
  builder.node("BatchNormalization", {"x", "scale", "bias", "mean", "var"}, {"y"},
               {{"momentum", 0.8f}});
  builder.output("y", DataType::kFloat32, {-1, 2, 3, 3});
  return builder.build();
}

TEST(TrainingGraph, KeepsRunningStatisticsAsPyTorchDoes) {
  TrainingGraphOptions options{.batch = 2,
                               .losses = {{.kind = LossKind::kMeanSquared, .output = "y"}}};
  const auto session = session_of(normalised_model(), options);
  ASSERT_TRUE(session) << session.error().message;
  auto x = Tensor::create(DataType::kFloat32, {2, 2, 3, 3}).value();
  for (std::size_t i = 0; i < 36; ++i)
    x.as<float>()[i] = static_cast<float>(mix(i) >> 40) * 0x1p-22f;
  const TensorView batch[] = {x.view(), x.view()};
  ASSERT_TRUE((*session)->step(batch, 0));
  const auto trained = (*session)->parameters().value();
  for (std::size_t c = 0; c < 2; ++c) {
    double sum = 0, squares = 0;
    for (std::size_t n = 0; n < 2; ++n)
      for (std::size_t i = 0; i < 9; ++i) sum += x.as<float>()[(n * 2 + c) * 9 + i];
    const double mean = sum / 18;
    for (std::size_t n = 0; n < 2; ++n)
      for (std::size_t i = 0; i < 9; ++i)
        squares += std::pow(x.as<float>()[(n * 2 + c) * 9 + i] - mean, 2);
    EXPECT_NEAR(find(trained, "mean").as<float>()[c], 0.8 * (c == 0 ? 0.1 : 0.2) + 0.2 * mean,
                1e-6);
    EXPECT_NEAR(find(trained, "var").as<float>()[c], 0.8 * (c == 0 ? 1 : 4) + 0.2 * squares / 17,
                1e-6);
  }
  options.freeze_statistics = true;
  const auto fixed = session_of(normalised_model(), options);
  ASSERT_TRUE((*fixed)->step(batch, 0));
  const auto fixed_values = (*fixed)->parameters().value();
  for (const auto& [name, value] : fixed_values)
    EXPECT_TRUE(name == "scale" || name == "bias") << name;
}

TEST(TrainingGraph, ExportChangesNothingButTheValues) {
  auto [model, options, classes] = small_lenet();
  model.proto().add_metadata_props()->set_key("author");
  const auto session = session_of(model, options);
  ASSERT_TRUE((*session)->step(draw((*session)->graph(), 0, classes).views(), 0.1f));
  auto trained = export_model(model, (*session)->parameters().value());
  ASSERT_TRUE(trained) << trained.error().message;
  EXPECT_EQ(graph::opset_of(*trained), graph::opset_of(model));
  EXPECT_NE(trained->proto().SerializeAsString(), model.proto().SerializeAsString());
  // With the old values back, the file is the same.
  auto& old = *trained->proto().mutable_graph()->mutable_initializer();
  for (int i = 0; i < old.size(); ++i) old[i] = model.proto().graph().initializer(i);
  EXPECT_EQ(trained->proto().SerializeAsString(), model.proto().SerializeAsString());
  const NamedTensor nobody[] = {{"nobody", floats({1}, {1})}};
  EXPECT_EQ(export_model(model, nobody).error().code, ErrorCode::kNotFound);
}

TEST(TrainingGraph, ExplainsWhatDoesNotFit) {
  const auto [model, options, classes] = small_lenet();
  const auto message = [&](auto change) {
    auto changed = options;
    change(changed);
    const auto graph = build_training_graph(runtime(), model, changed);
    return graph ? std::string() : graph.error().message;
  };
  EXPECT_THAT(message([](auto& o) { o.losses.clear(); }), HasSubstr("no loss"));
  EXPECT_THAT(message([](auto& o) { o.losses[0].output = "nobody"; }), HasSubstr("'nobody'"));
  EXPECT_THAT(message([](auto& o) { o.losses[0].target = "input"; }), HasSubstr("'input'"));
  EXPECT_THAT(message([](auto& o) { o.losses[0].class_weights = {1}; }),
              HasSubstr("class weights"));
  EXPECT_THAT(message([](auto& o) { o.batch = 0; }), HasSubstr("batch"));
  EXPECT_THAT(message([](auto& o) { o.input_shapes = {{"nobody", {1}}}; }), HasSubstr("'nobody'"));
  EXPECT_THAT(message([](auto& o) { o.losses[0].kind = LossKind::kContrastive; }),
              testing::IsEmpty());
}

TEST(TrainingGraph, DecidesShapesAndConditionsBeforehand) {
  // y = Reshape(x, [Shape(x)[0], -1]) . w through an If whose condition is "rank of x is 3".
  const std::int64_t zero[] = {0}, rest[] = {-1}, three[] = {3};
  const std::vector<float> w(12, 0.5f);
  auto builder = ModelBuilder();
  builder.input("x", DataType::kFloat32, {-1, 3, 4}).initialiser("w", {12, 1}, w);
  builder.initialiser("zero", {1}, zero)
      .initialiser("rest", {1}, rest)
      .initialiser("three", {1}, three);
  builder.node("Shape", {"x"}, {"shape"}).node("Gather", {"shape", "zero"}, {"count"});
  builder.node("Concat", {"count", "rest"}, {"flat_shape"}, {{"axis", std::int64_t{0}}});
  builder.node("Reshape", {"x", "flat_shape"}, {"flat"}).node("Shape", {"shape"}, {"rank"});
  builder.node("Equal", {"rank", "three"}, {"condition"});
  auto& choice = *builder.proto().mutable_graph()->add_node();
  choice.set_op_type("If");
  choice.add_input("condition");
  choice.add_output("y");
  for (const auto* branch : {"then_branch", "else_branch"}) {
    auto& attribute = *choice.add_attribute();
    attribute.set_name(branch);
    attribute.set_type(onnx::AttributeProto::GRAPH);
    auto& graph = *attribute.mutable_g();
    graph.set_name(branch);
    auto& node = *graph.add_node();
    node.set_op_type(std::string_view(branch) == "then_branch" ? "MatMul" : "Gemm");
    node.add_input("flat");
    node.add_input("w");
    node.add_output(std::string(branch) + "_y");
    graph.add_output()->set_name(std::string(branch) + "_y");
    graph.mutable_output(0)->mutable_type()->mutable_tensor_type()->set_elem_type(1);
  }
  builder.output("y", DataType::kFloat32, {-1, -1});
  TrainingGraphOptions options{.batch = 2,
                               .losses = {{.kind = LossKind::kMeanSquared, .output = "y"}}};
  options.train = {"w"};
  const auto graph = build_training_graph(runtime(), builder.build(), options);
  ASSERT_TRUE(graph) << graph.error().message;
  for (const auto& node : graph->model.proto().graph().node())
    EXPECT_TRUE(node.op_type() != "If" && node.op_type() != "Shape") << node.op_type();
}

/// PP-OCR's recogniser counts on it.
TEST(TrainingGraph, DecidesShapesOfValuesWhoseRankIsUnknownAtFirst) {
  const std::int64_t zero[] = {0}, rest[] = {-1};
  const std::vector<float> w(12, 0.5f);
  auto builder = ModelBuilder();
  builder.input("x", DataType::kFloat32, {-1, 3, 4}).initialiser("w", {12, 1}, w);
  builder.initialiser("zero", {1}, zero).initialiser("rest", {1}, rest);
  // No inference looks through the casts.
  builder.node("Shape", {"x"}, {"shape"});
  builder.node("Cast", {"shape"}, {"narrow"}, {{"to", std::int64_t{onnx::TensorProto::INT32}}});
  builder.node("Cast", {"narrow"}, {"wide"}, {{"to", std::int64_t{onnx::TensorProto::INT64}}});
  builder.node("Reshape", {"x", "wide"}, {"same"}).node("Shape", {"same"}, {"same_shape"});
  builder.node("Gather", {"same_shape", "zero"}, {"count"});
  builder.node("Concat", {"count", "rest"}, {"flat_shape"}, {{"axis", std::int64_t{0}}});
  builder.node("Reshape", {"same", "flat_shape"}, {"flat"}).node("MatMul", {"flat", "w"}, {"y"});
  builder.output("y", DataType::kFloat32, {-1, -1});
  TrainingGraphOptions options{.batch = 2,
                               .losses = {{.kind = LossKind::kMeanSquared, .output = "y"}}};
  const auto graph = build_training_graph(runtime(), builder.build(), options);
  ASSERT_TRUE(graph) << graph.error().message;
  EXPECT_EQ(graph->batch.at(1).shape, (Shape{2, 1}));
}

TEST(TrainingGraph, UsesStandardOperatorsOnlyIfAsked) {
  for (const auto* name : {"lenet5", "resnet20", "vit-tiny", "gru"}) {
    auto [model, options, classes] =
        network(name, std::string_view(name) == "gru" ? Shape{5, 6} : Shape{3, 16, 16}, 10, 2);
    options.standard_operators = true;
    const auto graph = build_training_graph(runtime(), model, options);
    ASSERT_TRUE(graph) << graph.error().message;
    for (const auto& node : graph->model.proto().graph().node())
      EXPECT_TRUE(node.domain().empty()) << node.domain();
  }
}

TEST(EvaluationGraph, GivesTheLossInInferenceMode) {
  const auto [model, options, classes] = small_lenet();
  const auto evaluation = build_evaluation_graph(runtime(), model, options);
  ASSERT_TRUE(evaluation) << evaluation.error().message;
  const auto training = session_of(model, options);
  const auto batch = draw((*training)->graph(), 0, classes);
  const auto session = infer::Session::load(runtime(), evaluation->model.serialise().value());
  ASSERT_TRUE(session) << session.error().message;
  const infer::Value inputs[] = {batch.data, batch.target};
  const auto outputs = (*session)->run(inputs);
  ASSERT_TRUE(outputs) << outputs.error().message;
  const auto index = (*session)->output_index(evaluation->loss);
  EXPECT_NEAR(std::get<Tensor>((*outputs)[index.value()]).as<float>()[0],
              (*training)->step(batch.views(), 0.1f).value(), 1e-5);
}

}  // namespace
}  // namespace selvage::learn
