#include "serve/infer_message.h"

#include <random>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "serve/infer_call.h"
#include "serve/infer_message_testing.h"

namespace selvage::serve {
namespace {

using inference::ModelInferRequest;
using serve::testing::cut;
using serve::testing::reads_as_protobuf_does;

class InferMessageTest : public ::testing::Test {
 protected:
  ~InferMessageTest() override { EXPECT_EQ(budget_.used(), 0u); }
  BodyBudget budget_{64u << 20};
  std::mt19937 random_{1};

  std::size_t upto(std::size_t max) {
    return std::uniform_int_distribution<std::size_t>(0, max)(random_);
  }
  std::string noise(std::size_t max) {
    std::string text(upto(max), '\0');
    for (char& c : text) c = static_cast<char>(upto(255));
    return text;
  }
  std::string name() { return std::string(upto(20), 'n'); }
  /// A message with any of its fields, tensors of a few bytes up to some slices.
  ModelInferRequest message() {
    ModelInferRequest made;
    if (upto(1) == 1) made.set_model_name(name());
    if (upto(1) == 1) made.set_id(name());
    for (std::size_t i = upto(2); i > 0; --i)
      (*made.mutable_parameters())[name()].set_int64_param(
          static_cast<std::int64_t>(upto(1u << 30)));
    for (std::size_t i = upto(3); i > 0; --i) {
      auto& input = *made.add_inputs();
      input.set_name(name());
      for (std::size_t k = upto(3); k > 0; --k)
        input.add_shape(static_cast<std::int64_t>(upto(1'000)));
      for (std::size_t k = upto(4); k > 0; --k) input.mutable_contents()->add_fp32_contents(0.5f);
      made.add_raw_input_contents(noise(300));
    }
    for (std::size_t i = upto(2); i > 0; --i) made.add_outputs()->set_name(name());
    return made;
  }
};

TEST_F(InferMessageTest, RandomMessagesInAnySlices) {
  for (int i = 0; i < 2'000; ++i) {
    const auto bytes = message().SerializeAsString();
    EXPECT_TRUE(reads_as_protobuf_does(bytes, upto(100) + 1, budget_));
  }
}

TEST_F(InferMessageTest, FieldsInAnyOrder) {
  for (int i = 0; i < 500; ++i) {
    std::string bytes;
    for (std::size_t k = upto(4); k > 0; --k) bytes += message().SerializeAsString();
    EXPECT_TRUE(reads_as_protobuf_does(bytes, upto(50) + 1, budget_));
  }
}

TEST_F(InferMessageTest, TruncatedAndSpoiltMessages) {
  for (int i = 0; i < 5'000; ++i) {
    auto bytes = message().SerializeAsString();
    if (bytes.empty()) continue;
    if (upto(1) == 1) bytes.resize(upto(bytes.size()));
    for (std::size_t k = upto(3); k > 0 && !bytes.empty(); --k)
      bytes[upto(bytes.size() - 1)] = static_cast<char>(upto(255));
    EXPECT_TRUE(reads_as_protobuf_does(bytes, upto(100) + 1, budget_));
  }
  for (int i = 0; i < 5'000; ++i)
    EXPECT_TRUE(reads_as_protobuf_does(noise(40), upto(10) + 1, budget_));
}

TEST_F(InferMessageTest, OdditiesOfTheWireFormat) {
  const std::string_view cases[] = {
      {"", 0},
      {"\x3A\x00", 2},                       // An empty tensor.
      {"\x3A\x81\x80\x80\x80\x00x", 7},      // A length of five bytes.
      {"\x3A\x81\x80\x80\x80\x80\x00x", 8},  // Of six: too long.
      {"\xBA\x80\x80\x80\x00\x01x", 7},      // A tag of five bytes.
      {"\xBA\x80\x80\x80\x10\x01x", 7},      // With bits that no tag has.
      {"\x3A\xFF\xFF\xFF\xFF\x07x", 7},      // Two gigabytes.
      {"\x3A\xFF\xFF\xFF\xFF\xFF\xFF\xFF\xFF\xFF\x01", 11},
      {"\x38\x01", 2},               // The tensor's field as a number.
      {"\x3D....", 5},               // As fixed 32 bits.
      {"\x39........", 9},           // As fixed 64 bits.
      {"\x3B\x3A\x01x\x3C", 5},      // As a group with a tensor's field in it.
      {"\x0B\x0C", 2},               // Another group.
      {"\x3C", 1},                   // The end of a group that has not begun.
      {"\x02\x00", 2},               // Field 0.
      {"\x3E", 1},                   // Wire type 6.
      {"\xA0\x06\x01\x3A\x01y", 6},  // An unknown field before a tensor.
      {"\x0A\x01\xFF", 3},           // A name that is not UTF-8.
  };
  for (const auto bytes : cases)
    for (const std::size_t size : {1u, 2u, 100u})
      EXPECT_TRUE(reads_as_protobuf_does(bytes, size, budget_)) << ::testing::PrintToString(bytes);
}

TEST_F(InferMessageTest, CopiesOnlyWhatCameInPieces) {
  ModelInferRequest made;
  made.add_raw_input_contents(std::string(10'000, 'a'));
  made.add_raw_input_contents(std::string(100'000, 'b'));
  auto buffer = cut(made.SerializeAsString(), 20'000);
  const auto found = read_infer_message(buffer, budget_);
  ASSERT_TRUE(found) << found.error().message;
  const auto& message = **found;
  ASSERT_EQ(message.raw.size(), 2u);
  EXPECT_EQ(message.gathered.size(), 1u);
  const auto* in_slice = reinterpret_cast<const std::uint8_t*>(message.raw[0].data());
  EXPECT_TRUE(in_slice >= message.slices[0].begin() && in_slice < message.slices[0].end());
  EXPECT_EQ(message.raw[1].size(), 100'000u);
  EXPECT_GE(budget_.used(), 100'000u);
}

TEST_F(InferMessageTest, NumbersAndMemoryAreBounded) {
  ModelInferRequest many;
  for (std::size_t i = 0; i <= kTensorsMax; ++i) many.add_raw_input_contents("x");
  EXPECT_TRUE(reads_as_protobuf_does(many.SerializeAsString(), 100, budget_));
  ModelInferRequest typed;
  auto& contents = *typed.add_inputs()->mutable_contents();
  for (int i = 0; i < 40'000; ++i) contents.add_fp32_contents(static_cast<float>(i));
  EXPECT_TRUE(reads_as_protobuf_does(typed.SerializeAsString(), 9'000, budget_));

  // Two bytes of the message are a string object.
  ModelInferRequest strings;
  auto& texts = *strings.add_inputs()->mutable_contents();
  for (int i = 0; i < 50'000; ++i) texts.add_bytes_contents("");
  auto many_strings = cut(strings.SerializeAsString(), 9'000);
  BodyBudget megabyte(1u << 20);
  EXPECT_EQ(read_infer_message(many_strings, megabyte).error().code, ErrorCode::kResourceExhausted);
  EXPECT_EQ(megabyte.used(), 0u);

  ModelInferRequest large;
  large.add_raw_input_contents(std::string(2'000, 'x'));
  auto buffer = cut(large.SerializeAsString(), 500);
  BodyBudget little(1'000);
  const auto refused = read_infer_message(buffer, little);
  ASSERT_FALSE(refused);
  EXPECT_EQ(refused.error().code, ErrorCode::kResourceExhausted);
}

TEST(BodyBudget, KeepsMemoryForTheNextBody) {
  BodyBudget budget(100u << 20);
  const auto fill = [&](std::size_t size) {
    Body body(budget);
    const auto room = body.prepare(size);
    EXPECT_TRUE(room);
    return std::pair(room->data(), room->size());
  };
  EXPECT_EQ(fill(1u << 20).second, 64u << 10) << "a promise takes little";
  std::byte* first = nullptr;
  {
    Body body(budget);
    ASSERT_TRUE(body.reserve(1u << 20));
    first = body.prepare(1)->data();
    EXPECT_GE(budget.used(), 1u << 20);
  }
  EXPECT_EQ(budget.used(), 0u);
  EXPECT_EQ(fill(1u << 20), std::pair(first, std::size_t{1u << 20})) << "unless it is there";
  EXPECT_NE(fill(100).first, first);
  {
    Body one(budget), two(budget);
    ASSERT_TRUE(one.reserve(BodyBudget::kKeptBytesMax + 1));
    ASSERT_TRUE(two.reserve(60u << 20));
    Body three(budget);
    EXPECT_EQ(three.reserve(60u << 20).error().code, ErrorCode::kResourceExhausted);
  }
  EXPECT_EQ(budget.used(), 0u);
}

}  // namespace
}  // namespace selvage::serve
