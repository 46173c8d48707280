#include "learn/importance.h"

#include <cmath>
#include <numeric>

#include <gmock/gmock.h>
#include <unistd.h>

#include "base/file.h"
#include "base/random.h"
#include "graph/testing.h"
#include "learn/architecture.h"
#include "learn/training_graph.h"
#include "media/array.h"

namespace selvage::learn {
namespace {

namespace fs = std::filesystem;

/// A network on points of four numbers, of which only the first says the class.
class ImportanceTest : public testing::Test {
 protected:
  void SetUp() override {
    fs::create_directories(folder_);
    runtime_ = infer::Runtime::create().value();
    model_ = make_architecture("mlp", {{4}, 3, 1}).value();
    ASSERT_TRUE(model_.save(folder_ / "model.onnx"));
    loaded_ = infer::Model::load(*runtime_, folder_ / "model.onnx").value();
    Random random(5);
    std::vector<float> x;
    std::vector<std::int64_t> y;
    for (std::int64_t i = 0; i < 64; ++i) {
      y.push_back(i % 3);
      for (int d = 0; d < 4; ++d) x.push_back(d == 3 ? 0 : static_cast<float>(random.normal()));
    }
    write("x.npy", media::ArrayElement::kFloat32, {64, 4}, std::as_bytes(std::span(x)));
    write("y.npy", media::ArrayElement::kInt64, {64}, std::as_bytes(std::span(y)));
    data_ = infer::Dataset::open(folder_, *loaded_).value();
  }
  void TearDown() override { fs::remove_all(folder_); }
  void write(const std::string& name, media::ArrayElement element, Shape shape,
             std::span<const std::byte> bytes) {
    const media::Array array{
        .element = element, .shape = std::move(shape), .bytes = {bytes.begin(), bytes.end()}};
    ASSERT_TRUE(write_atomically(folder_ / name, *media::write_npy(array)));
  }

  const fs::path folder_ =
      fs::temp_directory_path() / ("selvage-importance-" + std::to_string(::getpid()));
  std::unique_ptr<infer::Runtime> runtime_;
  graph::Model model_;
  std::unique_ptr<infer::Model> loaded_;
  std::unique_ptr<infer::Dataset> data_;
};

TEST_F(ImportanceTest, EveryParameterIsScored) {
  const auto scores = taylor_importance(*runtime_, *loaded_, model_, *data_, {.batch = 16});
  ASSERT_TRUE(scores) << scores.error().message;
  for (const auto& name : trainable_parameters(model_)) {
    const auto found = scores->find(name);
    ASSERT_NE(found, scores->end()) << name;
    EXPECT_GT(std::accumulate(found->second.begin(), found->second.end(), 0.0f), 0) << name;
    for (const float score : found->second) EXPECT_TRUE(std::isfinite(score) && score >= 0);
  }
}

TEST_F(ImportanceTest, AnInputThatIsAlwaysZeroIsWorthNothing) {
  const auto scores = taylor_importance(*runtime_, *loaded_, model_, *data_);
  ASSERT_TRUE(scores) << scores.error().message;
  const auto& first = scores->at("fc1.weight");  // [200, 4]
  for (std::size_t i = 0; i < first.size(); ++i) EXPECT_TRUE(i % 4 != 3 || first[i] == 0) << i;
}

TEST_F(ImportanceTest, AClosedBatchIsRefusedWithAWayOut) {
  const float w[] = {1, 0, 0, 1, 1, 1, 0, 0, 1, 0, 1, 0};
  model_ = graph::testing::ModelBuilder()
               .input("points", DataType::kFloat32, {1, 4})
               .initialiser("w", {4, 3}, w)
               .node("MatMul", {"points", "w"}, {"y"})
               .output("y", DataType::kFloat32, {1, 3})
               .build();
  ASSERT_TRUE(model_.save(folder_ / "model.onnx"));
  loaded_ = infer::Model::load(*runtime_, folder_ / "model.onnx").value();
  data_ = infer::Dataset::open(folder_, *loaded_).value();
  const auto scores = taylor_importance(*runtime_, *loaded_, model_, *data_);
  ASSERT_FALSE(scores);
  EXPECT_THAT(scores.error().message, testing::HasSubstr("input 'points' has shape [1,4]"));
  EXPECT_THAT(scores.error().message, testing::HasSubstr("leave the first dimension open"));
}

TEST_F(ImportanceTest, CanBeStopped) {
  const auto scores =
      taylor_importance(*runtime_, *loaded_, model_, *data_, {.stop = [] { return true; }});
  ASSERT_FALSE(scores);
  EXPECT_EQ(scores.error().code, ErrorCode::kCancelled);
}

}  // namespace
}  // namespace selvage::learn
