// Channels leave real and random models: what is left computes what zeros would.
#include "compress/channels.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <selvage/onnx.pb.h>

#include "base/random.h"
#include "graph/pass.h"
#include "graph/sort.h"
#include "graph/testing.h"
#include "infer/graph_runtime.h"
#include "infer/shapes.h"

namespace selvage::compress {
namespace {

using graph::Model;
using graph::testing::ModelBuilder;
using ::testing::HasSubstr;
using Ints = std::vector<std::int64_t>;

infer::Runtime& runtime() {
  static const auto made = infer::Runtime::create().value();
  return *made;
}

Result<void> clean(Model& model) {
  SELVAGE_RETURN_IF_ERROR(graph::run_passes(model, graph::standard_passes(),
                                            {.context = infer::graph_context(runtime())}));
  return {};
}

Result<Channels> analyse(const Model& model) {
  SELVAGE_TRY(const auto shapes, infer::resolve_shapes(runtime(), model));
  return Channels::analyse(model, shapes);
}

/// Every channel with the same probability, at least one of a group staying.
Removal random_removal(const Channels& channels, std::uint64_t seed, double part) {
  Random random(seed);
  auto removal = channels.none();
  for (auto& group : removal) {
    for (std::size_t i = 0; i < group.size(); ++i) group[i] = random.uniform() < part;
    group[random.below(group.size())] = false;
  }
  return removal;
}

std::size_t count(const Removal& removal) {
  std::size_t removed = 0;
  for (const auto& group : removal)
    removed += static_cast<std::size_t>(std::ranges::count(group, true));
  return removed;
}

/// Removes and masks the same channels, and compares what the two compute.
void expect_removal_equals_mask(const Model& model, const Channels& channels,
                                const Removal& removal) {
  auto pruned = model.copy(), masked = model.copy();
  ASSERT_TRUE(channels.mask(masked, removal));
  const auto removed = channels.remove(pruned, removal);
  ASSERT_TRUE(removed) << removed.error().message;
  const auto valid = graph::check(pruned);
  ASSERT_TRUE(valid) << valid.error().message;
  const auto same = infer::compare_outputs(runtime(), masked, pruned);
  EXPECT_TRUE(same) << same.error().message;
}

TEST(Channels, OfRandomModelsLeaveWhatZerosWouldLeave) {
  std::size_t models_with_channels = 0, removed = 0;
  for (std::uint64_t seed = 0; seed < 150; ++seed) {
    SCOPED_TRACE(seed);
    auto model = graph::testing::random_model(seed, {.is_convolutional = seed % 3 != 0});
    const auto cleaned = clean(model);
    ASSERT_TRUE(cleaned) << cleaned.error().message;
    const auto channels = analyse(model);
    ASSERT_TRUE(channels) << channels.error().message;
    if (channels->groups().empty()) continue;
    ++models_with_channels;
    const auto removal = random_removal(*channels, seed, 0.4);
    removed += count(removal);
    expect_removal_equals_mask(model, *channels, removal);
    if (HasFatalFailure()) return;
  }
  EXPECT_GT(models_with_channels, 100u);
  EXPECT_GT(removed, 1000u);
}

// --- Known structures
// ----------------------------------------------------------------------------------

/// Adds the weights as it goes; their values do not matter here.
class Layers {
 public:
  Layers& input(const Shape& shape) {
    builder_.input("x", DataType::kFloat32, shape);
    return *this;
  }
  Layers& weight(const char* name, const Shape& shape) {
    Random random(++seed_);
    std::vector<float> values(static_cast<std::size_t>(*element_count(shape)));
    for (auto& value : values) value = static_cast<float>(random.uniform(-0.5, 0.5));
    builder_.initialiser(name, shape, values);
    return *this;
  }
  Layers& integers(const char* name, const Ints& values) {
    builder_.initialiser(name, {static_cast<std::int64_t>(values.size())},
                         std::span<const std::int64_t>(values));
    return *this;
  }
  Layers& node(std::string_view type, const std::vector<std::string>& inputs,
               const std::vector<std::string>& outputs,
               const std::vector<graph::testing::Attribute>& attributes = {}) {
    builder_.node(type, inputs, outputs, attributes);
    return *this;
  }
  Model output(const Shape& shape) {
    builder_.output("y", DataType::kFloat32, shape);
    return builder_.build();
  }

 private:
  ModelBuilder builder_;
  std::uint64_t seed_ = 0;
};

std::vector<std::size_t> sizes(const Channels& channels) {
  std::vector<std::size_t> found;
  for (const auto& group : channels.groups()) found.push_back(group.channels.size());
  return found;
}

/// The groups' sizes, and that whatever leaves is what zeros would be.
void expect_groups(const Model& model, const std::vector<std::size_t>& expected,
                   std::string_view frozen_reason = "") {
  const auto channels = analyse(model);
  ASSERT_TRUE(channels) << channels.error().message;
  EXPECT_EQ(sizes(*channels), expected);
  if (!frozen_reason.empty()) {
    std::string reasons;
    for (const auto& frozen : channels->frozen()) reasons += frozen.reason + "\n";
    EXPECT_THAT(reasons, HasSubstr(std::string(frozen_reason)));
  }
  if (!expected.empty())
    expect_removal_equals_mask(model, *channels, random_removal(*channels, 3, 0.5));
}

TEST(Channels, OfAResidualGoTogether) {
  const auto model = Layers()
                         .input({1, 3, 4, 4})
                         .weight("a", {8, 3, 1, 1})
                         .weight("b", {8, 8, 1, 1})
                         .weight("c", {2, 8, 1, 1})
                         .node("Conv", {"x", "a"}, {"p"})
                         .node("Conv", {"p", "b"}, {"q"})
                         .node("Add", {"p", "q"}, {"r"})
                         .node("Conv", {"r", "c"}, {"y"})
                         .output({1, 2, 4, 4});
  expect_groups(model, {8}, "reaches the output 'y'");
}

TEST(Channels, OfGroupedConvolutionsGoInStep) {
  const auto model =
      Layers()
          .input({1, 4, 4, 4})
          .weight("a", {12, 2, 1, 1})
          .weight("b", {4, 4, 1, 1})
          .weight("d", {8, 1, 3, 3})
          .weight("c", {2, 8, 1, 1})
          .node("Conv", {"x", "a"}, {"p"}, {{"group", std::int64_t{2}}})
          .node("Slice", {"p", "from", "to", "axis"}, {"s"})
          .integers("from", {0})
          .integers("to", {8})
          .integers("axis", {1})
          .node("Conv", {"s", "d"}, {"q"}, {{"group", std::int64_t{8}}, {"pads", Ints{1, 1, 1, 1}}})
          .node("Conv", {"q", "c"}, {"y"})
          .output({1, 2, 4, 4});
  const auto channels = analyse(model);
  ASSERT_TRUE(channels);
  for (const auto& group : channels->groups()) EXPECT_EQ(group.width, 2);
  expect_removal_equals_mask(model, *channels, random_removal(*channels, 1, 0.5));
}

/// q, k and v in one weight, as GPT has them, or in three, as BERT has them: 3 heads of 4.
Model attention(bool is_fused) {
  Layers layers;
  layers.input({1, 5, 6}).weight("o", {12, 6}).integers("back", {0, 0, 12});
  if (is_fused) {
    layers.weight("qkv", {6, 36})
        .node("MatMul", {"x", "qkv"}, {"p"})
        .integers("heads", {1, 5, 3, 3, 4})
        .node("Reshape", {"p", "heads"}, {"h"})
        .node("Transpose", {"h"}, {"t"}, {{"perm", Ints{2, 0, 3, 1, 4}}})
        .integers("axes", {0})
        .node("Split", {"t"}, {"q1", "k1", "v1"}, {{"axis", std::int64_t{0}}});
    for (const std::string name : {"q", "k", "v"})
      layers.node("Squeeze", {name + "1", "axes"}, {name + "2"});
  } else {
    layers.integers("heads", {0, 0, 3, 4});
    for (const std::string name : {"q", "k", "v"}) {
      layers.weight(("w" + name).c_str(), {6, 12})
          .node("MatMul", {"x", "w" + name}, {name + "0"})
          .node("Reshape", {name + "0", "heads"}, {name + "1"})
          .node("Transpose", {name + "1"}, {name + "2"}, {{"perm", Ints{0, 2, 1, 3}}});
    }
  }
  return layers.node("Transpose", {"k2"}, {"kt"}, {{"perm", Ints{0, 1, 3, 2}}})
      .node("MatMul", {"q2", "kt"}, {"scores"})
      .node("Softmax", {"scores"}, {"weights"}, {{"axis", std::int64_t{-1}}})
      .node("MatMul", {"weights", "v2"}, {"mixed"})
      .node("Transpose", {"mixed"}, {"rows"}, {{"perm", Ints{0, 2, 1, 3}}})
      .node("Reshape", {"rows", "back"}, {"joined"})
      .node("MatMul", {"joined", "o"}, {"z"})
      .node("Add", {"z", "x"}, {"y"})
      .output({1, 5, 6});
}

TEST(Channels, OfAttentionAreWholeHeads) {
  for (const bool is_fused : {false, true}) {
    SCOPED_TRACE(is_fused);
    const auto model = attention(is_fused);
    const auto channels = analyse(model);
    ASSERT_TRUE(channels);
    ASSERT_EQ(sizes(*channels), std::vector<std::size_t>{3});
    auto removal = channels->none();
    removal[0][1] = true;
    auto pruned = model.copy();
    ASSERT_TRUE(channels->remove(pruned, removal));
    const auto& weights = pruned.proto().graph().initializer();
    const auto projection = std::ranges::find(weights, "o", &onnx::TensorProto::name);
    EXPECT_EQ(projection->dims(0), 8);
    // Zeros in the output's projection alone say that a head is silent.
    expect_removal_equals_mask(model, *channels, removal);
  }
}

TEST(Channels, UnderALayerNormStay) {
  const auto model = Layers()
                         .input({1, 3})
                         .weight("a", {3, 8})
                         .weight("b", {8, 2})
                         .weight("s", {8})
                         .node("MatMul", {"x", "a"}, {"p"})
                         .node("LayerNormalization", {"p", "s"}, {"q"})
                         .node("MatMul", {"q", "b"}, {"y"})
                         .output({1, 2});
  expect_groups(model, {}, "normalises over it");
}

TEST(Channels, ThatNobodyUnderstandsStay) {
  const auto model = Layers()
                         .input({1, 3, 4, 4})
                         .weight("a", {8, 3, 1, 1})
                         .weight("b", {2, 8, 1, 1})
                         .node("Conv", {"x", "a"}, {"p"})
                         .node("LRN", {"p"}, {"q"}, {{"size", std::int64_t{3}}})
                         .node("Conv", {"q", "b"}, {"y"})
                         .output({1, 2, 4, 4});
  expect_groups(model, {}, "(LRN) is not understood");
}

TEST(Channels, OfTiedWeightsGoTogether) {
  const auto model = Layers()
                         .input({1, 3})
                         .weight("in", {3, 8})
                         .weight("w", {8, 8})
                         .weight("out", {8, 2})
                         .node("MatMul", {"x", "in"}, {"a"})
                         .node("MatMul", {"a", "w"}, {"b"})
                         .node("Relu", {"b"}, {"c"})
                         .node("MatMul", {"c", "w"}, {"d"})
                         .node("MatMul", {"d", "out"}, {"y"})
                         .output({1, 2});
  expect_groups(model, {8});
}

TEST(Channels, CannotAllLeave) {
  auto model = Layers()
                   .input({1, 3})
                   .weight("a", {3, 8})
                   .weight("b", {8, 2})
                   .node("MatMul", {"x", "a"}, {"p"})
                   .node("MatMul", {"p", "b"}, {"y"})
                   .output({1, 2});
  const auto channels = analyse(model);
  ASSERT_TRUE(channels);
  Removal all{std::vector<bool>(8, true)};
  const auto before = model.serialise().value();
  EXPECT_EQ(channels->remove(model, all).error().code, ErrorCode::kInvalidArgument);
  EXPECT_EQ(channels->remove(model, {}).error().code, ErrorCode::kInvalidArgument);
  EXPECT_EQ(model.serialise().value(), before);
}

class RealModel : public ::testing::TestWithParam<const char*> {};

TEST_P(RealModel, LeavesWhatZerosWouldLeave) {
  const auto path = std::filesystem::path(SELVAGE_DEPS_DIR) / "models" / GetParam() / "model.onnx";
  auto model = graph::load_checked(path);
  ASSERT_TRUE(model) << model.error().message;
  const auto cleaned = clean(*model);
  ASSERT_TRUE(cleaned) << cleaned.error().message;
  const auto channels = analyse(*model);
  ASSERT_TRUE(channels) << channels.error().message;
  ASSERT_FALSE(channels->groups().empty());
  expect_removal_equals_mask(*model, *channels, random_removal(*channels, 1, 0.3));
}

INSTANTIATE_TEST_SUITE_P(Models, RealModel,
                         ::testing::Values("ppocr-cls", "ppocr-det", "ppocr-rec", "blazeface-front",
                                           "blazeface-back", "mlsd-tiny"));

}  // namespace
}  // namespace selvage::compress
