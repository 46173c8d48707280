#include "infer/model_card.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include "base/file.h"

namespace selvage::infer {
namespace {

namespace fs = std::filesystem;
using testing::ElementsAre;
using testing::HasSubstr;
using testing::Pair;

ModelCard parse(std::string_view yaml) {
  auto card = parse_model_card(yaml, {});
  if (!card) ADD_FAILURE() << card.error().message;
  return card ? *std::move(card) : ModelCard{};
}

std::string error_of(std::string_view yaml, const fs::path& folder = {}) {
  const auto card = parse_model_card(yaml, folder);
  return card ? "" : card.error().message;
}

TEST(ModelCard, AnEmptyCardTakesAndGivesRawTensors) {
  const auto card = parse("");
  EXPECT_TRUE(std::holds_alternative<RawInput>(card.input.kind));
  EXPECT_TRUE(std::holds_alternative<RawOutput>(card.output));
}

TEST(ModelCard, ReadsSessionSettings) {
  const auto card = parse(R"(
session:
  threads: 2
  power: low-power
  spin_us: 0
  arena: none
  optimization: basic
  providers: [xnnpack]
  flush_denormals: false
  dimensions: {batch: 4}
  config: {session.dynamic_block_base: "4"}
)");
  SessionOptions options;
  options.dimensions = {{"time", 3}};
  card.session.apply_to(options);
  EXPECT_EQ(options.threads, 2);
  EXPECT_EQ(options.power, PowerProfile::kLowPower);
  EXPECT_EQ(options.spin_us, 0u);
  EXPECT_EQ(options.arena, Arena::kNone);
  EXPECT_EQ(options.optimization, Optimization::kBasic);
  EXPECT_THAT(options.providers, ElementsAre("xnnpack"));
  EXPECT_FALSE(options.flush_denormals);
  EXPECT_THAT(options.dimensions, ElementsAre(Pair("time", 3), Pair("batch", 4)));
  EXPECT_THAT(options.config, ElementsAre(Pair("session.dynamic_block_base", "4")));
}

TEST(ModelCard, WhatTheSessionDoesNotSayStays) {
  SessionOptions options;
  options.threads = 3;
  parse("session: {power: latency}").session.apply_to(options);
  EXPECT_EQ(options.threads, 3);
  EXPECT_EQ(options.power, PowerProfile::kLatency);
}

TEST(ModelCard, ReadsImages) {
  const auto card = parse(R"(
input:
  kind: image
  tensor: x
  height: 48
  min_width: 320
  multiple_of: 32
  fit: letterbox-top-left
  filter: antialias
  colours: bgr
  layout: nhwc
  pad_value: 127.5
  scale: 1/255
  mean: [0.1, 0.2, 0.3]
  std: 0.5
  fourth_channel: 1
  state: {h: hn}
  constants: {sr: 16000, sizes: [1, 2]}
)");
  const auto& image = std::get<ImageInput>(card.input.kind);
  EXPECT_EQ(image.tensor, "x");
  EXPECT_EQ(image.width, std::nullopt);
  EXPECT_EQ(image.height, 48);
  EXPECT_EQ(image.min_width, 320);
  EXPECT_EQ(image.multiple_of, 32);
  EXPECT_EQ(image.transform.fit, media::Fit::kLetterboxTopLeft);
  EXPECT_EQ(image.transform.filter, media::Filter::kAntialias);
  EXPECT_EQ(image.transform.colour, media::ColourOrder::kBgr);
  EXPECT_EQ(image.layout, media::Layout::kNhwc);
  EXPECT_FLOAT_EQ(image.transform.value_scale, 1 / 255.0f);
  EXPECT_THAT(image.transform.mean, ElementsAre(0.1f, 0.2f, 0.3f));
  EXPECT_THAT(image.transform.deviation, ElementsAre(0.5f, 0.5f, 0.5f));
  EXPECT_EQ(image.fourth_channel, 1);
  ASSERT_EQ(card.input.state.size(), 1u);
  EXPECT_EQ(card.input.state[0].output, "hn");
  ASSERT_EQ(card.input.constants.size(), 2u);
  EXPECT_THAT(card.input.constants[1].values, ElementsAre(1, 2));
}

TEST(ModelCard, ReadsTables) {
  const auto card = parse(R"(
input:
  kind: table
  columns:
    - {name: age, mean: 40, std: 10}
    - {name: weight, min: 50, max: 150}
    - {name: sex, categories: [f, m], one_hot: true}
)");
  const auto& columns = std::get<TableInput>(card.input.kind).columns;
  ASSERT_EQ(columns.size(), 3u);
  EXPECT_EQ(columns[0].deviation, 10);
  EXPECT_EQ(columns[1].mean, 50);
  EXPECT_EQ(columns[1].deviation, 100);
  EXPECT_THAT(columns[2].categories, ElementsAre("f", "m"));
  EXPECT_TRUE(columns[2].one_hot);
}

TEST(ModelCard, ReadsBoxes) {
  const auto ssd = std::get<BoxesOutput>(parse(R"(
output:
  kind: boxes
  decoder: ssd-anchors
  boxes: [b0, b1]
  scores: [s0, s1]
  anchors:
    - {columns: 2, rows: 2, per_cell: 2}
    - {columns: 1, rows: 1, sizes: [[0.5, 1], [1, 0.5]]}
  xy_scale: 10
  wh_scale: 5
  size: exponential
  order: yx
  activation: sigmoid
  background_class: 0
  nms: {mode: weighted, iou: 0.3, per_class: false}
)")
                                             .output);
  EXPECT_EQ(ssd.decoder, BoxDecoder::kSsdAnchors);
  EXPECT_THAT(ssd.boxes, ElementsAre("b0", "b1"));
  EXPECT_EQ(ssd.anchors[0].sizes.size(), 2u);
  EXPECT_EQ(ssd.anchors[1].sizes[0][0], 0.5f);
  EXPECT_TRUE(ssd.exponential_size);
  EXPECT_TRUE(ssd.y_first);
  EXPECT_EQ(ssd.background_class, 0);
  EXPECT_EQ(ssd.suppression, Suppression::kWeighted);
  EXPECT_FALSE(ssd.per_class);

  const auto yolo = std::get<BoxesOutput>(
      parse("output: {kind: boxes, decoder: yolo, layout: columns, units: fractions}").output);
  EXPECT_EQ(yolo.transposed, true);
  EXPECT_FALSE(yolo.in_pixels);
  EXPECT_EQ(yolo.suppression, Suppression::kHard);
  EXPECT_EQ(std::get<BoxesOutput>(parse("output: {kind: boxes}").output).suppression,
            Suppression::kNone);
}

TEST(ModelCard, ErrorsNameLineFieldAndWayOut) {
  const std::pair<const char*, const char*> cases[] = {
      {"inptu: {}", "line 1: inptu: unknown field; did you mean 'input'?"},
      {"input:\n  kind: image\n  widht: 3",
       "line 3: input.widht: unknown field; did you mean 'width'?"},
      {"input:\n  kind: image\n  rate: 3", "line 3: input.rate: unknown field"},
      {"input: {kind: picture}", "input.kind: must be one of: raw, image, audio, table"},
      {"input: {kind: image, mean: [1, 2]}", "input.mean: must be one number or three"},
      {"input: {kind: image, std: 0}", "input.std"},
      {"input: {kind: image, width: 100000}", "input.width: must be a whole number from 1 to 8192"},
      {"input: {kind: image, min_width: 9, max_width: 8}", "input.min_width: is above max_width"},
      {"input: {state: {h: }}", "input.state.h: must name the output"},
      {"input: {constants: {sr: fast}}", "input.constants.sr: must be a number"},
      {"input: {kind: table, columns: [{mean: 1}]}", "every column needs a name"},
      {"input: {kind: table, columns: [{name: a}, {name: a}]}", "'a' stands here twice"},
      {"input: {kind: table, columns: [{name: a, min: 1}]}", "needs a max above it"},
      {"input: {kind: table, columns: [{name: a, min: 1, max: 2, std: 3}]}",
       "either min and max or"},
      {"input: {kind: table, columns: [{name: a, one_hot: true}]}", "needs categories"},
      {"output: {kind: boxes, decoder: ssd-anchors, boxes: [a]}", "as many `boxes` tensors"},
      {"output: {kind: boxes, decoder: ssd-anchors, boxes: a, scores: b}", "output.anchors"},
      {"output: {kind: boxes, decoder: ssd-anchors, boxes: a, scores: b, anchors: "
       "[{columns: 8000, rows: 8000}]}",
       "more than 1048576 anchors"},
      {"output: {kind: boxes, decoder: ssd-anchors, boxes: a, scores: b, anchors: "
       "[{columns: 1, rows: 1, sizes: [[1]]}]}",
       "must be [width, height] pairs"},
      {"output: {kind: boxes, decoder: yolo, activation: softmax}",
       "must be one of: none, sigmoid"},
      {"output: {kind: boxes, nms: {iuo: 1}}",
       "output.nms.iuo: unknown field; did you mean 'iou'?"},
      {"output: {kind: ctc-text}", "ctc-text needs them"},
      {"output: {kind: lines}", "lines needs the tensors"},
      {"output: {kind: activity, threshold: 0.3, end_threshold: 0.4}", "is above threshold"},
      {"output: {kind: classification, labels: /etc/passwd}", "must lie in the model's folder"},
      {"output: {kind: classification, labels: ../labels.txt}", "must lie in the model's folder"},
      {"output: {kind: classification, labels: missing.txt}", "missing.txt"},
      {"session: {threads: 1000}", "session.threads: must be a whole number from 0 to 256"},
      {"session: {dimensions: {batch: 0}}", "session.dimensions.batch"},
  };
  for (const auto& [yaml, message] : cases) EXPECT_THAT(error_of(yaml), HasSubstr(message)) << yaml;
}

class ModelCardFiles : public testing::Test {
 protected:
  ModelCardFiles() { fs::create_directories(folder_); }
  ~ModelCardFiles() override { fs::remove_all(folder_); }
  fs::path folder_ =
      fs::temp_directory_path() / ("selvage-card-test-" + std::to_string(::getpid()));
};

TEST(ModelCard, ItsSizesGiveWayToThoseThatAreThereAlready) {
  SessionSettings card, caller;
  card.dimensions = {{"batch", 2}, {"width", 8}};
  caller.dimensions = {{"batch", 1}, {"batch", 4}};
  SessionOptions options;
  card.apply_to(options);
  caller.apply_to(options);
  EXPECT_THAT(options.dimensions,
              ElementsAre(testing::Pair("batch", 4), testing::Pair("width", 8)));
}

TEST_F(ModelCardFiles, LabelsComeFromAFileBesideTheCard) {
  ASSERT_TRUE(write_atomically(folder_ / "names.txt", std::string_view("cat\r\ndog\n\nÄ\n")));
  const auto card = parse_model_card("output: {kind: classification, labels: names.txt}", folder_);
  ASSERT_TRUE(card) << card.error().message;
  EXPECT_THAT(std::get<ClassificationOutput>(card->output).labels,
              ElementsAre("cat", "dog", "", "Ä"));
  fs::create_symlink("/etc/hostname", folder_ / "elsewhere.txt");
  EXPECT_THAT(error_of("output: {kind: classification, labels: elsewhere.txt}", folder_),
              HasSubstr("a link out of the model's folder"));
  ASSERT_TRUE(write_atomically(folder_ / "names.txt", std::string_view("\xff\n")));
  EXPECT_THAT(error_of("output: {kind: classification, labels: names.txt}", folder_),
              HasSubstr("not UTF-8"));
}

TEST_F(ModelCardFiles, ACardLiesBesideItsModel) {
  const auto none = load_model_card(folder_ / "model.onnx");
  ASSERT_TRUE(none) << none.error().message;
  EXPECT_EQ(none->name, "");
  ASSERT_TRUE(write_atomically(folder_ / "model.yaml", std::string_view("name: shared")));
  ASSERT_TRUE(write_atomically(folder_ / "other.yaml", std::string_view("name: own")));
  EXPECT_EQ(load_model_card(folder_ / "model.onnx")->name, "shared");
  EXPECT_EQ(load_model_card(folder_ / "other.onnx")->name, "own");
  EXPECT_EQ(load_model_card(folder_ / "only.onnx")->name, "shared");
  ASSERT_TRUE(write_atomically(folder_ / "model.yaml", std::string_view("nmae: x")));
  const auto wrong = load_model_card(folder_ / "model.onnx");
  ASSERT_FALSE(wrong);
  EXPECT_THAT(wrong.error().message, HasSubstr("model.yaml: line 1: nmae"));
}

TEST_F(ModelCardFiles, TheCardOfAnotherModelIsNotTaken) {
  ASSERT_TRUE(write_atomically(folder_ / "model.yaml", std::string_view("name: shared")));
  for (const auto* name : {"model.onnx", "bar.onnx"})
    ASSERT_TRUE(write_atomically(folder_ / name, std::string_view("x")));
  EXPECT_EQ(load_model_card(folder_ / "model.onnx")->name, "shared");
  EXPECT_EQ(load_model_card(folder_ / "bar.onnx")->name, "");
  fs::remove(folder_ / "model.onnx");
  EXPECT_EQ(load_model_card(folder_ / "bar.onnx")->name, "shared") << "now the only model";
}

TEST(ModelCard, EveryExampleIsValid) {
  std::size_t cards = 0;
  for (const auto& entry :
       fs::recursive_directory_iterator(fs::path(SELVAGE_SOURCE_DIR) / "examples" / "models")) {
    if (entry.path().filename() != "model.yaml") continue;
    ++cards;
    const auto text = read_text(entry.path());
    ASSERT_TRUE(text) << text.error().message;
    // Labels that are fetched with their model lie elsewhere.
    const auto deps = fs::path(SELVAGE_DEPS_DIR) / "models" / entry.path().parent_path().filename();
    if (text->find("labels: labels.txt") != std::string::npos && !fs::exists(deps)) continue;
    const auto card = parse_model_card(*text, deps);
    EXPECT_TRUE(card) << entry.path() << ": " << card.error().message;
    if (!card) continue;
    EXPECT_EQ(card->name, entry.path().parent_path().filename().string());
    EXPECT_NE(card->licence, "");
    EXPECT_NE(card->source, "");
  }
  EXPECT_GE(cards, 7u);
}

}  // namespace
}  // namespace selvage::infer
