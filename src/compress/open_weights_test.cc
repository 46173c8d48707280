#include "compress/open_weights.h"

#include <selvage/onnx.pb.h>

#include "compress/quantize_testing.h"
#include "graph/values.h"

namespace selvage::compress {
namespace {

using namespace testing;  // NOLINT(google-build-using-namespace): of the tests only.

graph::Model quantized_network(const graph::Model& floats, const StaticOptions& options) {
  auto model = floats.copy();
  const auto report = quantize(model, options);
  EXPECT_TRUE(report) << report.error().message;
  return model;
}

/// The stored tensors of a type, by name.
std::map<std::string, std::string> stored(const graph::Model& model, DataType type) {
  std::map<std::string, std::string> found;
  for (const auto& tensor : model.proto().graph().initializer())
    if (graph::type_of(tensor) == type) found[tensor.name()] = tensor.raw_data();
  return found;
}

TEST(OpenWeights, RoundsTheSameWhenClosedAgain) {
  const auto floats = small_network().build();
  for (const auto type : {DataType::kInt8, DataType::kUint8, DataType::kInt4, DataType::kUint4})
    for (const bool per_channel : {false, true}) {
      SCOPED_TRACE(std::string(to_string(type)) + (per_channel ? " per channel" : ""));
      const auto quantized = quantized_network(floats, {.activations = DataType::kUint8,
                                                        .weights = type,
                                                        .per_channel = per_channel,
                                                        .quantize_bias = false});
      auto model = quantized.copy();
      const auto opened = open_weights(model, floats);
      ASSERT_TRUE(opened) << opened.error().message;
      EXPECT_EQ(*opened, 3u);
      // Open, it computes the same: with the runtime's rounding in place of ours.
      EXPECT_GT(sqnr(quantized, model), 60);
      const auto closed = close_weights(model);
      ASSERT_TRUE(closed) << closed.error().message;
      EXPECT_EQ(*closed, 3u);
      EXPECT_EQ(stored(model, type), stored(quantized, type));
      EXPECT_EQ(model.proto().graph().node_size(), quantized.proto().graph().node_size());
    }
}

TEST(OpenWeights, NothingToOpenIsAnError) {
  const auto floats = small_network().build();
  auto model = floats.copy();
  const auto opened = open_weights(model, floats);
  ASSERT_FALSE(opened);
  EXPECT_EQ(opened.error().code, ErrorCode::kFailedPrecondition);
}

TEST(OpenWeights, AWeightThatIsNoNumberIsNamed) {
  const auto floats = small_network().build();
  auto model = quantized_network(floats, {.quantize_bias = false});
  ASSERT_TRUE(open_weights(model, floats));
  for (auto& tensor : *model.proto().mutable_graph()->mutable_initializer())
    if (tensor.name() == "w1") {
      auto values = graph::read_floats(tensor, {}).value();
      values[0] = std::numeric_limits<float>::quiet_NaN();
      graph::store_floats(tensor, DataType::kFloat32, graph::shape_of(tensor), values);
    }
  const auto closed = close_weights(model);
  ASSERT_FALSE(closed);
  EXPECT_NE(closed.error().message.find("'w1'"), std::string::npos) << closed.error().message;
}

}  // namespace
}  // namespace selvage::compress
