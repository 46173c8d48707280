#include "learn/checkpoint.h"

#include <gmock/gmock.h>

#include "base/file.h"

namespace selvage::learn {
namespace {

using testing::HasSubstr;

Checkpoint example() {
  Checkpoint checkpoint{.settings = "batch=64\nseed=1\n",
                        .epoch = 2,
                        .step = 7,
                        .loss_sum = 1.25,
                        .correct = 9,
                        .best_epoch = 1,
                        .best_score = 0.5};
  checkpoint.history = {{.epoch = 1, .train_loss = 2, .validation_accuracy = 0.5},
                        {.epoch = 2, .train_loss = 1}};
  checkpoint.state = {std::byte{1}, std::byte{2}};
  checkpoint.best.push_back({"w", *Tensor::from<float>({2, 1}, std::vector<float>{1.5f, -2.0f})});
  return checkpoint;
}

TEST(Checkpoint, ComesBackAsItWas) {
  const auto bytes = serialise(example());
  const auto again = parse_checkpoint(bytes);
  ASSERT_TRUE(again) << again.error().message;
  EXPECT_EQ(serialise(*again), bytes);
  EXPECT_EQ(again->history[0].validation_accuracy, 0.5);
  EXPECT_EQ(again->history[1].validation_accuracy, std::nullopt);
  EXPECT_EQ(again->best[0].value.as<float>()[1], -2.0f);
}

TEST(Checkpoint, EveryCutAndEveryWrongByteIsNoticed) {
  const auto bytes = serialise(example());
  for (std::size_t size = 0; size < bytes.size(); ++size)
    EXPECT_FALSE(parse_checkpoint(std::span(bytes).first(size))) << "cut to " << size;
  for (std::size_t at = 0; at < bytes.size(); ++at) {
    auto wrong = bytes;
    wrong[at] ^= std::byte{1};
    const auto parsed = parse_checkpoint(wrong);
    ASSERT_FALSE(parsed) << "byte " << at;
    EXPECT_EQ(parsed.error().code, ErrorCode::kDataLoss);
  }
}

TEST(Checkpoint, AMissingFileIsNoError) {
  const auto path = std::filesystem::path(testing::TempDir()) / "selvage_checkpoint_test";
  std::filesystem::remove(path);
  EXPECT_EQ(load_checkpoint(path)->has_value(), false);
  ASSERT_TRUE(save_checkpoint(example(), path));
  EXPECT_EQ(serialise(**load_checkpoint(path)), serialise(example()));
  ASSERT_TRUE(write_atomically(path, "nonsense"));
  EXPECT_THAT(load_checkpoint(path).error().message, HasSubstr(path.string()));
  std::filesystem::remove(path);
}

TEST(Checkpoint, TheFirstDifferenceIsNamed) {
  EXPECT_EQ(first_difference("a=1\nb=2\n", "a=1\nb=2\n"), "");
  EXPECT_EQ(first_difference("a=1\nb=2\n", "a=1\nb=3\n"), "b was 2, now is 3");
}

}  // namespace
}  // namespace selvage::learn
