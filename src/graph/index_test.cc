#include "graph/index.h"

#include <cmath>
#include <filesystem>
#include <limits>
#include <utility>

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <selvage/onnx.pb.h>
#include <unistd.h>

#include "base/file.h"
#include "graph/attributes.h"
#include "graph/testing.h"
#include "graph/values.h"

namespace selvage::graph {
namespace {

using ::testing::ElementsAre;
using testing::ModelBuilder;

TEST(Index, KnowsMakersAndReaders) {
  auto model = std::move(testing::matmul_model()
                             .node("Add", {"y", "y"}, {"z"})
                             .output("z", DataType::kFloat32, {-1, 2}))
                   .build();
  const Index index(model.proto().graph());
  EXPECT_EQ(index.producer("y"), 0);
  EXPECT_EQ(index.producer("x"), Index::kNone);
  ASSERT_EQ(index.uses("y").size(), 2u);
  EXPECT_EQ(index.uses("y")[1].node, 1);
  EXPECT_EQ(index.uses("y")[1].input, 1);
  EXPECT_TRUE(index.is_input("x") && index.is_output("y") && index.is_output("z"));
  EXPECT_EQ(index.constant("w"), 0);
  EXPECT_FALSE(index.has_one_reader("y"));
  EXPECT_TRUE(index.has_one_reader("w"));
}

TEST(Index, CountsWhatSubgraphsRead) {
  ModelBuilder builder;
  builder.input("x", DataType::kFloat32, {1}).node("If", {"x"}, {"y"});
  auto& attribute = *builder.proto().mutable_graph()->mutable_node(0)->add_attribute();
  auto& graph = *attribute.mutable_g();
  attribute.set_name("then_branch");
  auto& node = *graph.add_node();
  node.set_op_type("Add");
  node.add_input("inner");
  node.add_input("outer");
  node.add_output("sum");
  graph.add_initializer()->set_name("inner");
  graph.add_output()->set_name("sum");
  const auto model = builder.build();
  EXPECT_THAT(captures(model.proto().graph().node(0)), ElementsAre("outer"));
  Index index(model.proto().graph());
  ASSERT_EQ(index.uses("outer").size(), 1u);
  EXPECT_EQ(index.uses("outer")[0].input, Use::kCapture);
  EXPECT_EQ(index.fresh_name("sum"), "sum_1");
  EXPECT_EQ(index.fresh_name("sum"), "sum_2");
  EXPECT_EQ(index.fresh_name("new"), "new");
}

TEST(Index, TakesAnInitialiserThatIsAnInputForADefault) {
  const auto model =
      std::move(testing::matmul_model().input("w", DataType::kFloat32, {4, 2})).build();
  const Index index(model.proto().graph());
  EXPECT_EQ(index.initialiser("w"), 0);
  EXPECT_EQ(index.constant("w"), Index::kNone);
}

TEST(Attributes, AreReadWithDefaultsAndReplaced) {
  onnx::NodeProto node;
  EXPECT_EQ(int_attribute(node, "axis", 7), 7);
  set_attribute(node, "axis", std::int64_t{2});
  set_attribute(node, "axis", std::int64_t{3});
  set_attribute(node, "pads", Shape{1, 2});
  set_attribute(node, "mode", "linear");
  EXPECT_EQ(node.attribute_size(), 3);
  EXPECT_EQ(int_attribute(node, "axis", 7), 3);
  EXPECT_THAT(ints_attribute(node, "pads"), ElementsAre(1, 2));
  EXPECT_EQ(string_attribute(node, "mode", ""), "linear");
  remove_attribute(node, "axis");
  EXPECT_EQ(find_attribute(node, "axis"), nullptr);
}

TEST(Values, OfEveryFloatTypeSurvive) {
  // Halves: the smallest denormal, the largest number, ties to even, infinity.
  const std::vector<float> numbers{0, -0.0f, 1, -2.5f, 0x1p-24f, 65504, INFINITY, 0.333251953125f};
  for (const auto type : {DataType::kFloat32, DataType::kFloat64, DataType::kFloat16}) {
    onnx::TensorProto tensor;
    store_floats(tensor, type, {8}, numbers);
    EXPECT_EQ(type_of(tensor), type);
    EXPECT_EQ(read_floats(tensor, {}).value(), numbers);
  }
  onnx::TensorProto tensor;
  const std::vector<float> ties{1 + 0x1p-11f, 1 + 0x3p-11f, 65519.9f, 65520, 0x1p-25f};
  store_floats(tensor, DataType::kFloat16, {5}, ties);
  EXPECT_THAT(read_floats(tensor, {}).value(), ElementsAre(1, 1 + 0x1p-9f, 65504, INFINITY, 0));
  store_floats(tensor, DataType::kBfloat16, {2}, std::vector<float>{1 + 0x1p-8f, 1 + 0x3p-8f});
  EXPECT_THAT(read_floats(tensor, {}).value(), ElementsAre(1, 1 + 0x1p-6f));
}

TEST(Values, AreSeenWhereTheyLieOrConverted) {
  const std::vector<float> numbers{0, -0.5f, 3};
  const auto shown = [](const onnx::TensorProto& tensor, const std::filesystem::path& folder = {}) {
    const auto floats = Floats::view(tensor, folder);
    EXPECT_TRUE(floats);
    const std::span<const float> span = *floats;
    return std::vector(span.begin(), span.end());
  };
  onnx::TensorProto tensor;
  store_floats(tensor, DataType::kFloat16, {3}, numbers);
  EXPECT_EQ(shown(tensor), numbers);
  store_floats(tensor, DataType::kFloat32, {3}, numbers);
  EXPECT_EQ(shown(tensor), numbers);
  const std::span<const float> span = *Floats::view(tensor, {});
  EXPECT_EQ(static_cast<const void*>(span.data()), tensor.raw_data().data());

  // Beside the model, at an odd place.
  const auto folder = std::filesystem::path(::testing::TempDir());
  const auto file = "floats_" + std::to_string(::getpid());
  ASSERT_TRUE(write_atomically(folder / file, "x" + tensor.raw_data()));
  tensor.clear_raw_data();
  tensor.set_data_location(onnx::TensorProto::EXTERNAL);
  for (const auto& [key, value] : {std::pair("location", file.c_str()), {"offset", "1"}}) {
    auto& entry = *tensor.add_external_data();
    entry.set_key(key);
    entry.set_value(value);
  }
  EXPECT_EQ(shown(tensor, folder), numbers);
  std::filesystem::remove(folder / file);
}

TEST(Values, AreFiniteUnlessOneIsNot) {
  for (std::size_t length = 0; length < 40; ++length) {
    std::vector<float> values(length, std::numeric_limits<float>::max());
    EXPECT_TRUE(all_finite(values));
    for (auto& value : values)
      for (const float bad : {NAN, INFINITY, -INFINITY}) {
        const float before = std::exchange(value, bad);
        EXPECT_FALSE(all_finite(values));
        value = before;
      }
  }
}

TEST(Values, AreEditedInPlaceWhateverHoldsThem) {
  onnx::TensorProto tensor;
  tensor.set_name("w");
  tensor.set_data_type(onnx::TensorProto::FLOAT);
  tensor.add_dims(2);
  tensor.add_float_data(1);
  tensor.add_float_data(2);
  const auto bytes = edit_bytes(tensor, {});
  ASSERT_TRUE(bytes);
  EXPECT_EQ(tensor.float_data_size(), 0);
  std::ranges::fill(bytes->first(4), std::byte{0});
  EXPECT_THAT(read_floats(tensor, {}).value(), ElementsAre(0, 2));
  EXPECT_EQ(edit_bytes(tensor, {})->data(), bytes->data());
}

TEST(Values, IntegersOf4BitsAreReadOneByOne) {
  onnx::TensorProto tensor;
  const std::byte packed[] = {std::byte{0x8F}, std::byte{0x07}};  // 15, 8, 7: the low half first.
  store(tensor, {DataType::kUint4, Shape{3}, packed, {}});
  EXPECT_THAT(read_integers(tensor, {}).value(), ElementsAre(15, 8, 7));
  store(tensor, {DataType::kInt4, Shape{3}, packed, {}});
  EXPECT_THAT(read_integers(tensor, {}).value(), ElementsAre(-1, -8, 7));
}

TEST(Values, OfOtherTypesAreRefused) {
  onnx::TensorProto tensor;
  tensor.set_name("w");
  store(tensor, {DataType::kInt8, Shape{1}, std::as_bytes(std::span("a", 1)), {}});
  EXPECT_EQ(read_floats(tensor, {}).error().code, ErrorCode::kInvalidArgument);
  EXPECT_THAT(read_integers(tensor, {}).value(), ElementsAre('a'));
  store(tensor, {DataType::kInt8, Shape{2}, std::as_bytes(std::span("ab", 2)), {}});
  EXPECT_EQ(read_integers(tensor, {}, 1).error().code, ErrorCode::kOutOfRange);
}

}  // namespace
}  // namespace selvage::graph
