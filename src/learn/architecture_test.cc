#include "learn/architecture.h"

#include <cmath>
#include <set>

#include <gmock/gmock.h>
#include <selvage/onnx.pb.h>

#include "graph/tensor.h"
#include "infer/session.h"

namespace selvage::learn {
namespace {

using testing::HasSubstr;

graph::Model make(std::string_view name, Shape input, std::int64_t classes = 10,
                  std::uint64_t seed = 0) {
  auto model = make_architecture(name, {std::move(input), classes, seed});
  if (!model) ADD_FAILURE() << name << ": " << model.error().message;
  return model ? *std::move(model) : graph::Model();
}

std::map<std::string, std::vector<float>> parameters(const graph::Model& model) {
  std::map<std::string, std::vector<float>> found;
  for (const auto& tensor : model.proto().graph().initializer()) {
    if (tensor.data_type() != onnx::TensorProto::FLOAT) continue;
    std::vector<float> values(tensor.raw_data().size() / sizeof(float));
    std::memcpy(values.data(), tensor.raw_data().data(), tensor.raw_data().size());
    found[tensor.name()] = std::move(values);
  }
  return found;
}

/// As PyTorch counts them: without running statistics.
std::size_t parameter_count(const graph::Model& model) {
  std::size_t count = 0;
  for (const auto& [name, values] : parameters(model))
    if (name.find("running_") == std::string::npos) count += values.size();
  return count;
}

TEST(Architecture, KnownParameterCounts) {
  EXPECT_EQ(parameter_count(make("mlp", {1, 28, 28})), 199'210u);
  EXPECT_EQ(parameter_count(make("lenet5", {1, 28, 28})), 61'706u);
  EXPECT_EQ(parameter_count(make("resnet20", {3, 32, 32})), 272'474u);
  EXPECT_EQ(parameter_count(make("resnet20", {1, 28, 28})), 272'186u);
  EXPECT_EQ(parameter_count(make("vit-tiny", {3, 224, 224}, 1000)), 5'717'416u);
}

TEST(Architecture, NamesAreThoseOfPyTorchsModules) {
  const auto lenet = parameters(make("lenet5", {1, 28, 28}));
  EXPECT_TRUE(lenet.contains("conv1.weight") && lenet.contains("fc3.bias"));
  const auto resnet = parameters(make("resnet20", {3, 32, 32}));
  EXPECT_TRUE(resnet.contains("layer2.0.downsample.1.running_var"));
  EXPECT_EQ(make("resnet20", {3, 32, 32}).proto().graph().node(0).name(), "/conv1/Conv");
  const auto vit = parameters(make("vit-tiny", {1, 28, 28}));
  EXPECT_TRUE(vit.contains("blocks.11.attn.qkv.weight") && vit.contains("cls_token"));
  const auto mobile = parameters(make("mobilenet-small", {3, 32, 32}));
  EXPECT_TRUE(mobile.contains("features.2.conv.1.0.weight") &&
              mobile.contains("classifier.1.bias"));
}

TEST(Architecture, EveryOneRunsOnBatches) {
  auto runtime = infer::Runtime::create();
  ASSERT_TRUE(runtime);
  const std::map<std::string_view, Shape> inputs{
      {"mlp", {6}},       {"lenet5", {3, 28, 28}},          {"resnet20", {3, 32, 32}},
      {"cnn1d", {2, 90}}, {"mobilenet-small", {3, 96, 96}}, {"vit-tiny", {1, 16, 16}},
      {"gru", {12, 4}},   {"autoencoder", {1, 8, 8}}};
  for (const auto& info : architectures()) {
    const auto& input = inputs.at(info.name);
    const auto model = make(info.name, input, 7);
    auto session = infer::Session::load(**runtime, model.serialise().value());
    ASSERT_TRUE(session) << info.name << ": " << session.error().message;
    Shape shape = input;
    shape.insert(shape.begin(), 3);
    auto binding = infer::Binding::create(**session, std::vector<Shape>{shape});
    ASSERT_TRUE(binding) << info.name;
    std::ranges::fill((*binding)->input<float>(0), 0.5f);
    const auto done = (*binding)->run();
    ASSERT_TRUE(done) << info.name << ": " << done.error().message;
    const auto output = (*binding)->output(0);
    const Shape found(output.shape.begin(), output.shape.end());
    EXPECT_EQ(found, info.name == "autoencoder" ? shape : (Shape{3, 7})) << info.name;
    for (const float value : output.as<float>()) EXPECT_TRUE(std::isfinite(value)) << info.name;
    EXPECT_EQ((*session)->outputs()[0].shape.front(), -1) << info.name;
  }
}

TEST(Architecture, WeightsFillTheRangeOfKaimingUniform) {
  const auto values = parameters(make("mlp", {784})).at("fc1.weight");
  const double bound = 1 / std::sqrt(784.0);
  const auto [least, most] = std::ranges::minmax(values);
  EXPECT_LE(most, bound);
  EXPECT_GE(least, -bound);
  EXPECT_GT(most, 0.99 * bound);
  double squares = 0;
  for (const float value : values) squares += static_cast<double>(value) * value;
  EXPECT_NEAR(squares / static_cast<double>(values.size()), bound * bound / 3, 1e-6);
}

TEST(Architecture, TheSeedDecides) {
  const auto bytes = [](std::uint64_t seed) {
    return make("lenet5", {1, 28, 28}, 10, seed).serialise().value();
  };
  EXPECT_EQ(bytes(1), bytes(1));
  EXPECT_NE(bytes(1), bytes(2));
}

TEST(Architecture, RefusesWhatDoesNotFit) {
  const auto error = [](std::string_view name, Shape input, std::int64_t classes = 10) {
    const auto model = make_architecture(name, {std::move(input), classes, 0});
    return model ? "" : model.error().message;
  };
  EXPECT_THAT(error("lenet", {1, 28, 28}), HasSubstr("there are mlp, lenet5"));
  EXPECT_THAT(error("lenet5", {28, 28}), HasSubstr("CxHxW"));
  EXPECT_THAT(error("lenet5", {1, 8, 8}), HasSubstr("at least 12"));
  EXPECT_THAT(error("vit-tiny", {1, 30, 30}), HasSubstr("multiples of 4"));
  EXPECT_THAT(error("mlp", {65'536, 65'536}), HasSubstr("elements"));
  EXPECT_THAT(error("mlp", {4}, 0), HasSubstr("classes"));
}

}  // namespace
}  // namespace selvage::learn
