#include "infer/ensemble.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include "base/file.h"
#include "graph/testing.h"

namespace selvage::infer {
namespace {

namespace fs = std::filesystem;
using graph::testing::ModelBuilder;
using testing::HasSubstr;

std::string error_of(std::string_view yaml) {
  const auto card = parse_ensemble_card(yaml);
  return card ? "" : card.error().message;
}

TEST(EnsembleCard, PutsTheDetectorFirst) {
  const auto card = parse_ensemble_card(
      "name: x\nsteps:\n  read: {model: b, input: crops of find}\n  find: {model: a}\n");
  ASSERT_TRUE(card) << card.error().message;
  ASSERT_EQ(card->steps.size(), 2u);
  EXPECT_EQ(card->steps[0].name, "find");
  EXPECT_EQ(card->steps[0].crops_of, "");
  EXPECT_EQ(card->steps[1].crops_of, "find");
  EXPECT_EQ(card->steps[1].model, "b");
}

TEST(EnsembleCard, ErrorsNameTheStep) {
  const std::pair<std::string, const char*> cases[] = {
      {"name: x", "needs named steps"},
      {"steps: [a]", "needs named steps"},
      {"steps:\n  a: {input: picture}", "steps.a.model: every step needs a model"},
      {"steps:\n  a: {model: m, inptu: picture}",
       "line 2: steps.a.inptu: unknown field; did you mean 'input'?"},
      {"steps:\n  a: {model: m, input: sound}", "must be 'picture' or 'crops of STEP'"},
      {"steps:\n  find: {model: m}\n  b: {model: m, input: crops of fnd}",
       "line 3: steps.b: there is no step 'fnd'; did you mean 'find'?"},
      {"steps:\n  a: {model: m, input: crops of a}", "steps.a: its input depends on itself"},
      {"steps:\n  a: {model: m, input: crops of b}\n  b: {model: m, input: crops of a}\n  c: "
       "{model: m}",
       "depends on itself"},
      {"steps:\n  a: {model: m}\n  b: {model: m, input: crops of a}\n  c: {model: m, input: crops "
       "of b}",
       "steps.c: crops of crops are not supported: take crops of 'a'"},
      {"steps:\n  a: {model: m}\n  b: {model: m}", "exactly one step must take the picture"},
  };
  for (const auto& [yaml, message] : cases) EXPECT_THAT(error_of(yaml), HasSubstr(message)) << yaml;
  std::string many = "steps:\n  s: {model: m}\n";
  for (int i = 0; i < 20; ++i)
    many += "  s" + std::to_string(i) + ": {model: m, input: crops of s}\n";
  EXPECT_THAT(error_of(many), HasSubstr("more than 16 steps"));
}

class EnsembleTest : public testing::Test {
 protected:
  ~EnsembleTest() override { fs::remove_all(folder_); }
  void write(const std::string& name, ModelBuilder builder, std::string_view card) {
    fs::create_directories(folder_ / name);
    ASSERT_TRUE(write_atomically(folder_ / name / "model.onnx", builder.bytes()));
    ASSERT_TRUE(write_atomically(folder_ / name / "model.yaml", card));
  }
  Result<std::unique_ptr<Ensemble>> load(std::string_view card) {
    static const auto runtime = Runtime::create();
    EXPECT_TRUE(write_atomically(folder_ / "ensemble.yaml", card));
    return Ensemble::load(**runtime, folder_);
  }
  fs::path folder_ = fs::temp_directory_path() / ("selvage-ensemble-" + std::to_string(::getpid()));
};

/// Finds, in whatever picture, the left half (class 0), the right half (class 1), and a sliver.
ModelBuilder halves_detector() {
  const std::vector<float> rows{0, 0,    1, 2, 0.9f, 0,    1,    0,    2,
                                2, 0.8f, 1, 0, 0,    0.1f, 0.1f, 0.7f, 0};
  const std::vector<float> zero{0};
  return std::move(ModelBuilder()
                       .input("x", DataType::kFloat32, {1, 3, 2, 2})
                       .initialiser("rows", {1, 3, 6}, rows)
                       .initialiser("zero", {1}, zero)
                       .node("ReduceMax", {"x"}, {"most"}, {{"keepdims", std::int64_t{0}}})
                       .node("Mul", {"most", "zero"}, {"nothing"})
                       .node("Add", {"rows", "nothing"}, {"boxes"})
                       .output("boxes", DataType::kFloat32, {1, 3, 6}));
}

constexpr std::string_view kDetectorCard =
    "input: {kind: image}\noutput: {kind: boxes, threshold: 0.5}\n";
constexpr std::string_view kColourCard =
    "input: {kind: image}\noutput: {kind: classification, labels: [red, green, blue]}\n";
constexpr std::string_view kSteps =
    "steps:\n  find: {model: find}\n  colour: {model: colour, input: crops of find}\n";

TEST_F(EnsembleTest, LooksIntoEveryBox) {
  write("find", halves_detector(), kDetectorCard);
  write("colour", graph::testing::identity_model(DataType::kFloat32, {1, 3, 1, 1}), kColourCard);
  const auto ensemble = load(kSteps);
  ASSERT_TRUE(ensemble) << ensemble.error().message;
  auto predictor = EnsemblePredictor::create(**ensemble);
  ASSERT_TRUE(predictor) << predictor.error().message;
  std::vector<std::uint8_t> pixels;  // 20 x 10: green, then blue.
  for (int y = 0; y < 10; ++y)
    for (int x = 0; x < 20; ++x) {
      pixels.push_back(0);
      pixels.push_back(x < 10 ? 200 : 0);
      pixels.push_back(x < 10 ? 0 : 200);
    }
  const auto view = *media::view_pixels(media::PixelFormat::kRgb24, 20, 10, pixels);
  for (int round = 0; round < 2; ++round) {
    const auto found = (*predictor)->predict(view);
    ASSERT_TRUE(found) << found.error().message;
    const auto& boxes = std::get<Boxes>(*found).boxes;
    ASSERT_EQ(boxes.size(), 2u) << "the sliver is no crop";
    EXPECT_FLOAT_EQ(boxes[0].right, 10);
    ASSERT_EQ(boxes[0].details.size(), 1u);
    EXPECT_EQ(boxes[0].details[0].step, "colour");
    EXPECT_EQ(boxes[0].details[0].found.label, "green");
    EXPECT_EQ(boxes[1].details[0].found.label, "blue");
  }
  EXPECT_EQ((*ensemble)->steps()[1].model->times(Stage::kTotal).snapshot().count, 4u);
}

TEST_F(EnsembleTest, ModelsMustFitTheirPlace) {
  write("find", halves_detector(), kColourCard);
  write("colour", graph::testing::identity_model(DataType::kFloat32, {1, 3, 1, 1}), kColourCard);
  EXPECT_THAT(load(kSteps).error().message,
              HasSubstr("step 'find': its model's card must say boxes"));
  write("find", halves_detector(), kDetectorCard);
  write("colour", halves_detector(), kDetectorCard);
  EXPECT_THAT(load(kSteps).error().message,
              HasSubstr("step 'colour': its model's card must say classification"));
  fs::remove_all(folder_ / "colour");
  EXPECT_THAT(load(kSteps).error().message, HasSubstr("step 'colour'"));
  EXPECT_THAT(load("steps: 1").error().message, HasSubstr("ensemble.yaml: line 1"));
}

}  // namespace
}  // namespace selvage::infer
