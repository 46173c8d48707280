#include <cmath>
#include <limits>

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <nlohmann/json.hpp>
#include <unistd.h>

#include "base/file.h"
#include "graph/testing.h"
#include "infer/ensemble.h"
#include "infer/model.h"
#include "media/sound.h"

namespace selvage::infer {
namespace {

namespace fs = std::filesystem;
using graph::testing::ModelBuilder;
using nlohmann::json;
using testing::ElementsAre;
using testing::HasSubstr;

Runtime& runtime() {
  static const auto instance = Runtime::create();
  return **instance;
}

// --- Models made for the test -------------------------------------------------------------------

class PredictorTest : public testing::Test {
 protected:
  PredictorTest() { fs::create_directories(folder_); }
  ~PredictorTest() override { fs::remove_all(folder_); }

  /// A model with its card, loaded.
  Model& load(ModelBuilder builder, std::string_view card) {
    EXPECT_TRUE(write_atomically(folder_ / "model.onnx", builder.bytes()));
    EXPECT_TRUE(write_atomically(folder_ / "model.yaml", card));
    auto model = Model::load(runtime(), folder_);
    if (!model) throw std::runtime_error(model.error().message);
    models_.push_back(*std::move(model));
    return *models_.back();
  }
  Predictor& predictor(ModelBuilder builder, std::string_view card) {
    auto made = Predictor::create(load(std::move(builder), card));
    if (!made) throw std::runtime_error(made.error().message);
    predictors_.push_back(*std::move(made));
    return *predictors_.back();
  }
  std::string create_error(ModelBuilder builder, std::string_view card) {
    const auto made = Predictor::create(load(std::move(builder), card));
    return made ? "" : made.error().message;
  }

  fs::path folder_ =
      fs::temp_directory_path() / ("selvage-predictor-" + std::to_string(::getpid()));
  std::vector<std::unique_ptr<Model>> models_;
  std::vector<std::unique_ptr<Predictor>> predictors_;
};

/// sum = x + state; out = the sum's elements; state' = sum. One recurrent model for all kinds.
ModelBuilder running_sum(std::int64_t width) {
  const Shape shape{1, width};
  return std::move(ModelBuilder()
                       .input("x", DataType::kFloat32, shape)
                       .input("h", DataType::kFloat32, shape)
                       .node("Add", {"x", "h"}, {"out"})
                       .node("Identity", {"out"}, {"hn"})
                       .output("out", DataType::kFloat32, shape)
                       .output("hn", DataType::kFloat32, shape));
}

std::vector<float> floats_of(const Result<Prediction>& prediction) {
  if (!prediction) ADD_FAILURE() << prediction.error().message;
  return prediction ? std::get<Regression>(*prediction).values : std::vector<float>();
}

TEST_F(PredictorTest, WithoutACardGivesEveryOutputByName) {
  auto& plain = predictor(graph::testing::add_model({1, 2}), "");
  const std::vector<float> a{1, 2}, b{10, 20};
  const Shape shape{1, 2};
  const TensorView inputs[] = {{DataType::kFloat32, shape, std::as_bytes(std::span(a)), {}},
                               {DataType::kFloat32, shape, std::as_bytes(std::span(b)), {}}};
  const auto prediction = plain.predict(TensorsView{inputs});
  ASSERT_TRUE(prediction) << prediction.error().message;
  const auto& raw = std::get<RawTensors>(*prediction);
  EXPECT_THAT(raw.names, ElementsAre("y"));
  EXPECT_THAT(raw.tensors[0].as<float>(), ElementsAre(11, 22));
  EXPECT_THAT(plain.predict(TensorsView{std::span(inputs).first(1)}).error().message,
              HasSubstr("takes 2 tensors, not 1"));
  EXPECT_THAT(plain.predict(RowView{}).error().message, HasSubstr("kind: table"));
  EXPECT_THAT(plain.predict(SoundView{}).error().message, HasSubstr("kind: audio"));
  EXPECT_THAT(plain.predict(media::PictureView{}).error().message, HasSubstr("kind: image"));
  EXPECT_THAT(plain.push(a).error().message, HasSubstr("is no stream"));
}

TEST_F(PredictorTest, ARowGoesThroughTheCard) {
  auto& rows = predictor(graph::testing::identity_model(DataType::kFloat32, {1, 2}),
                         "input: {kind: table, columns: [{name: a, mean: 1, std: 2}, {name: b}]}\n"
                         "output: {kind: regression, names: [u, v], scale: 10, offset: 1}\n");
  EXPECT_THAT(floats_of(rows.predict(RowView{std::vector<double>{5, 3}})), ElementsAre(21, 31));
}

TEST_F(PredictorTest, StateIsCarriedUntilReset) {
  auto& sums =
      predictor(running_sum(2),
                "input: {kind: table, tensor: x, state: {h: hn}}\noutput: {kind: regression}\n");
  const std::vector<double> row{1, 10};
  EXPECT_THAT(floats_of(sums.predict(RowView{row})), ElementsAre(1, 10));
  EXPECT_THAT(floats_of(sums.predict(RowView{row})), ElementsAre(2, 20));
  EXPECT_THAT(floats_of(sums.predict(RowView{row})), ElementsAre(3, 30));
  sums.reset();
  EXPECT_THAT(floats_of(sums.predict(RowView{row})), ElementsAre(1, 10));
}

TEST_F(PredictorTest, EveryPredictorHasItsOwnState) {
  auto& model =
      load(running_sum(1), "input: {kind: table, state: {h: hn}}\noutput: {kind: regression}\n");
  auto first = Predictor::create(model), second = Predictor::create(model);
  ASSERT_TRUE(first && second);
  const std::vector<double> one{1};
  EXPECT_THAT(floats_of((*first)->predict(RowView{one})), ElementsAre(1));
  EXPECT_THAT(floats_of((*first)->predict(RowView{one})), ElementsAre(2));
  EXPECT_THAT(floats_of((*second)->predict(RowView{one})), ElementsAre(1));
}

constexpr std::string_view kActivityCard =
    "input: {kind: audio, rate: 1000, window: 4, context: 1, state: {h: hn}}\n"
    "output: {kind: activity, threshold: 0.5}\n";

TEST_F(PredictorTest, SoundsSlideWithTheirContext) {
  auto& sound = predictor(graph::testing::identity_model(DataType::kFloat32, {1, 5}),
                          "input: {kind: audio, rate: 8000, window: 3, context: 2}\n"
                          "output: {kind: regression}\n");
  const std::vector<float> samples{1, 2, 3, 4, 5, 6, 7};
  EXPECT_THAT(floats_of(sound.predict(SoundView{samples, 8000})), ElementsAre(5, 6, 7, 0, 0))
      << "the last window, filled up with silence";
  EXPECT_THAT(floats_of(sound.predict(SoundView{std::span(samples).first(3), 8000})),
              ElementsAre(0, 0, 1, 2, 3));
  EXPECT_FALSE(sound.predict(SoundView{{}, 8000}));
  EXPECT_FALSE(sound.predict(SoundView{samples, 0}));
}

TEST_F(PredictorTest, SoundsOfOtherRatesAreResampled) {
  auto& sound =
      predictor(graph::testing::identity_model(DataType::kFloat32, {1, 64}),
                "input: {kind: audio, rate: 8000, window: 64}\noutput: {kind: regression}\n");
  const std::vector<float> samples(128, 0.5f);
  const auto values = floats_of(sound.predict(SoundView{samples, 16'000}));
  ASSERT_EQ(values.size(), 64u);
  EXPECT_NEAR(values[32], 0.5f, 0.01f);
}

TEST_F(PredictorTest, ResamplingIsPartOfPreprocessing) {
  auto& model = load(graph::testing::identity_model(DataType::kFloat32, {1, 8000}),
                     "input: {kind: audio, rate: 8000, window: 8000}\n"
                     "output: {kind: activity, threshold: 0.5}\n");
  auto listener = Predictor::create(model);
  ASSERT_TRUE(listener) << listener.error().message;
  for (std::size_t s = 0; s < kStageCount; ++s) model.times(static_cast<Stage>(s)).reset();
  const std::vector<float> samples(20 * 44'100, 0.25f);
  const auto start = std::chrono::steady_clock::now();
  ASSERT_TRUE((*listener)->predict(SoundView{samples, 44'100}));
  const auto wall_ns = static_cast<double>((std::chrono::steady_clock::now() - start).count());
  const auto preprocess = model.times(Stage::kPreprocess).snapshot();
  EXPECT_EQ(preprocess.count, 20u) << "one for each window";
  EXPECT_GT(static_cast<double>(preprocess.sum_ns), 0.8 * wall_ns);
  EXPECT_GT(static_cast<double>(model.times(Stage::kTotal).snapshot().sum_ns), 0.8 * wall_ns);
}

TEST_F(PredictorTest, ASoundWithoutSamplesIsNotSilence) {
  auto& listener = predictor(running_sum(5), kActivityCard);
  const auto nothing = listener.predict(SoundView{{}, 1000});
  ASSERT_FALSE(nothing);
  EXPECT_THAT(nothing.error().message, HasSubstr("no samples"));
  const std::vector<float> one(1);
  EXPECT_FALSE(listener.predict(SoundView{one, 48'000})) << "less than a sample at this rate";
}

TEST_F(PredictorTest, AStreamIsWhatTheWholeSoundIs) {
  auto& stream = predictor(running_sum(5), kActivityCard);
  std::vector<float> samples;
  for (int i = 0; i < 21; ++i) samples.push_back(0.01f * static_cast<float>(i));
  const auto whole = stream.predict(SoundView{samples, 1000});
  ASSERT_TRUE(whole) << whole.error().message;
  const auto& scores = std::get<Activity>(*whole).scores;
  ASSERT_EQ(scores.size(), 6u);
  for (const std::size_t chunk : {1u, 3u, 4u, 7u, 21u}) {
    stream.reset();
    std::vector<float> streamed;
    for (std::size_t at = 0; at < samples.size(); at += chunk) {
      const auto more =
          stream.push(std::span(samples).subspan(at, std::min(chunk, samples.size() - at)));
      ASSERT_TRUE(more) << more.error().message;
      streamed.insert(streamed.end(), more->begin(), more->end());
    }
    EXPECT_THAT(streamed, testing::ElementsAreArray(std::span(scores).first(5))) << chunk;
  }
}

TEST_F(PredictorTest, TimesEveryStage) {
  auto& model = load(graph::testing::identity_model(DataType::kFloat32, {1, 2}),
                     "input: {kind: table}\noutput: {kind: regression}\n");
  auto rows = Predictor::create(model);
  ASSERT_TRUE(rows);
  const std::vector<double> row{1, 2};
  for (int i = 0; i < 3; ++i) ASSERT_TRUE((*rows)->predict(RowView{row}));
  for (const auto stage : {Stage::kPreprocess, Stage::kRun, Stage::kPostprocess, Stage::kTotal})
    EXPECT_EQ(model.times(stage).snapshot().count, 3u) << to_string(stage);
  EXPECT_GE(model.times(Stage::kTotal).snapshot().sum_ns,
            model.times(Stage::kRun).snapshot().sum_ns);
}

TEST_F(PredictorTest, PicturesOfManySizesKeepAFewBindings) {
  auto& image = predictor(graph::testing::identity_model(DataType::kFloat32, {-1, 3, -1, -1}),
                          "input: {kind: image, max_side: 64}\noutput: {kind: embedding}\n");
  const std::vector<std::uint8_t> pixels(64 * 64 * 3, 7);
  for (int round = 0; round < 2; ++round)
    for (int side = 1; side <= 40; ++side) {
      const auto view =
          *media::view_pixels(media::PixelFormat::kRgb24, side, 1,
                              std::span(pixels).first(static_cast<std::size_t>(side) * 3));
      const auto prediction = image.predict(view);
      ASSERT_TRUE(prediction) << prediction.error().message;
      const auto& values = std::get<Embedding>(*prediction).values;
      EXPECT_EQ(values.size(), static_cast<std::size_t>(side) * 3);
      EXPECT_THAT(values, testing::Each(7));
    }
}

TEST_F(PredictorTest, CropsGoThroughTheModelOneByOne) {
  auto& image = predictor(graph::testing::identity_model(DataType::kFloat32, {1, 3, 1, 1}),
                          "input: {kind: image}\noutput: {kind: classification, top: 1}\n");
  const std::vector<std::uint8_t> pixels{9, 0, 0, 0, 9, 0,
                                         0, 9, 0, 9, 0, 0};  // red green / green red
  const auto view = *media::view_pixels(media::PixelFormat::kRgb24, 2, 2, pixels);
  const auto pixel = [](double x, double y) {
    return media::Quad{media::Point{x, y}, {x + 1, y}, {x + 1, y + 1}, {x, y + 1}};
  };
  const std::vector<media::Quad> crops{pixel(0, 0), pixel(1, 0), pixel(1, 1)};
  const auto found = image.predict_crops(view, crops);
  ASSERT_TRUE(found) << found.error().message;
  std::vector<int> classes;
  for (const auto& prediction : *found)
    classes.push_back(std::get<Classification>(prediction).classes[0].index);
  EXPECT_THAT(classes, ElementsAre(0, 1, 0));
  EXPECT_TRUE(image.predict_crops(view, {})->empty());
}

TEST_F(PredictorTest, NumbersThatAreNoneComeThrough) {
  constexpr double kNan = std::numeric_limits<double>::quiet_NaN();
  const std::vector<double> row{kNan, std::numeric_limits<double>::infinity()};
  const auto on = [&](std::string_view output) {
    auto& rows = predictor(graph::testing::identity_model(DataType::kFloat32, {1, 2}),
                           "input: {kind: table}\noutput: {" + std::string(output) + "}\n");
    auto prediction = rows.predict(RowView{row});
    EXPECT_TRUE(prediction) << output;
    return *std::move(prediction);
  };
  EXPECT_EQ(
      std::get<Classification>(on("kind: classification, activation: softmax")).classes[0].score,
      1);
  EXPECT_TRUE(std::get<Anomaly>(on("kind: anomaly")).anomalous);
  EXPECT_EQ(std::get<Embedding>(on("kind: embedding, normalise: l2")).values.size(), 2u);
  EXPECT_EQ(std::get<Regression>(on("kind: regression")).values.size(), 2u);
}

TEST_F(PredictorTest, CardsThatDoNotFitTheModelSaySo) {
  const auto identity = [] { return graph::testing::identity_model(DataType::kFloat32, {1, 2}); };
  EXPECT_THAT(create_error(identity(), "output: {kind: classification, tensor: z}"),
              HasSubstr("names output 'z', but the model gives: y"));
  EXPECT_THAT(create_error(identity(), "output: {kind: boxes}"),
              HasSubstr("its input is not an image"));
  EXPECT_THAT(create_error(identity(), "output: {kind: activity}"),
              HasSubstr("its input is not audio"));
  EXPECT_THAT(create_error(identity(), "input: {kind: image}"),
              HasSubstr("does not look like an image"));
  EXPECT_THAT(create_error(identity(), "input: {state: {h: y}}"),
              HasSubstr("names input 'h', which the model lacks"));
  EXPECT_THAT(create_error(identity(), "input: {kind: audio, window: 3}"),
              HasSubstr("does not hold 3 values"));
  EXPECT_THAT(create_error(graph::testing::identity_model(DataType::kFloat32, {-1, -1}),
                           "input: {kind: table}"),
              HasSubstr("leaves open how many columns a row has"));
  EXPECT_THAT(create_error(graph::testing::add_model(), "input: {kind: table}"),
              HasSubstr("does not describe input"));
  EXPECT_THAT(create_error(graph::testing::add_model(), "input: {kind: table, tensor: q}"),
              HasSubstr("does not describe input"));
}

// --- The example models, against what their original code makes of the same data
// ------------------

const fs::path kDeps = SELVAGE_DEPS_DIR;

/// Models are fetched by tools/setup: without the folder there is nothing to test with; with it,
/// everything must be there.
class ExampleModels : public testing::Test {
 protected:
  void SetUp() override {
    if (!fs::exists(kDeps / "models")) GTEST_SKIP() << "no " << kDeps / "models";
  }
  static json golden(const std::string& name) {
    return json::parse(*read_text(fs::path(SELVAGE_SOURCE_DIR) / "tests/golden/infer" / name));
  }
  static media::Picture picture(const std::string& name) {
    const auto file = read_bytes(kDeps / "data" / name, 1 << 26);
    if (!file) throw std::runtime_error(file.error().message);
    auto decoded = media::decode_picture(*file);
    if (!decoded) throw std::runtime_error(decoded.error().message);
    return *std::move(decoded);
  }
  Predictor& predictor(const std::string& name) {
    auto model = Model::load(runtime(), kDeps / "models" / name);
    if (!model) throw std::runtime_error(model.error().message);
    models_.push_back(*std::move(model));
    auto made = Predictor::create(*models_.back());
    if (!made) throw std::runtime_error(made.error().message);
    predictors_.push_back(*std::move(made));
    return *predictors_.back();
  }

 private:
  std::vector<std::unique_ptr<Model>> models_;
  std::vector<std::unique_ptr<Predictor>> predictors_;
};

TEST_F(ExampleModels, BlazeFaceFindsTheFaces) {
  for (const auto& wanted : golden("blazeface.json")) {
    auto& faces = predictor(wanted["model"]);
    const auto found = faces.predict(picture(wanted["picture"]).view());
    ASSERT_TRUE(found) << found.error().message;
    const auto& boxes = std::get<Boxes>(*found).boxes;
    ASSERT_EQ(boxes.size(), wanted["faces"].size()) << wanted["picture"];
    for (std::size_t i = 0; i < boxes.size(); ++i) {
      const auto& face = wanted["faces"][i];
      // The original resizes to whole pixels: what comes out differs by a fraction of the face.
      const double room = (face["box"][2].get<double>() - face["box"][0].get<double>()) * 0.03;
      EXPECT_NEAR(boxes[i].best.score, face["score"].get<double>(), 0.02);
      EXPECT_NEAR(boxes[i].left, face["box"][0].get<double>(), room);
      EXPECT_NEAR(boxes[i].top, face["box"][1].get<double>(), room);
      EXPECT_NEAR(boxes[i].right, face["box"][2].get<double>(), room);
      EXPECT_NEAR(boxes[i].bottom, face["box"][3].get<double>(), room);
      ASSERT_EQ(boxes[i].keypoints.size(), 6u);
      for (std::size_t k = 0; k < 6; ++k) {
        EXPECT_NEAR(boxes[i].keypoints[k].x, face["keypoints"][k][0].get<double>(), room);
        EXPECT_NEAR(boxes[i].keypoints[k].y, face["keypoints"][k][1].get<double>(), room);
      }
    }
  }
}

/// But for gaps, which the model often loses, and at most one letter.
bool reads_alike(std::string a, std::string b) {
  std::erase(a, ' ');
  std::erase(b, ' ');
  const auto [x, y] = std::ranges::mismatch(a, b);
  const std::string_view rest_a(x, a.end()), rest_b(y, b.end());
  if (rest_a == rest_b) return true;
  return rest_a.substr(rest_a.empty() ? 0 : 1) == rest_b.substr(rest_b.empty() ? 0 : 1);
}

TEST_F(ExampleModels, PpocrReadsTheSigns) {
  const auto ensemble = Ensemble::load(runtime(), kDeps / "models" / "ppocr");
  ASSERT_TRUE(ensemble) << ensemble.error().message;
  auto reader = EnsemblePredictor::create(**ensemble);
  ASSERT_TRUE(reader) << reader.error().message;
  for (const auto& wanted : golden("ocr.json")) {
    const auto found = (*reader)->predict(picture(wanted["picture"]).view());
    ASSERT_TRUE(found) << found.error().message;
    const auto& regions = std::get<TextRegions>(*found).regions;
    EXPECT_EQ(regions.size(), wanted["regions"].size()) << wanted["picture"];
    for (const auto& line : wanted["regions"]) {
      if (line["confidence"].get<double>() < 0.85) continue;  // The original guesses, too.
      const TextRegion* nearest = nullptr;
      double distance_least = 1e9;
      for (const auto& region : regions) {
        double distance = 0;
        for (std::size_t i = 0; i < 4; ++i)
          distance = std::max(distance, std::hypot(static_cast<double>(region.corners[i].x) -
                                                       line["corners"][i][0].get<double>(),
                                                   static_cast<double>(region.corners[i].y) -
                                                       line["corners"][i][1].get<double>()));
        if (distance < distance_least) distance_least = distance, nearest = &region;
      }
      ASSERT_NE(nearest, nullptr);
      EXPECT_LE(distance_least, 5) << line["text"];
      EXPECT_TRUE(reads_alike(nearest->text, line["text"])) << nearest->text << line["text"];
      EXPECT_NEAR(nearest->confidence, line["confidence"].get<double>(), 0.08) << nearest->text;
      // A row of pixels around the pixel threshold makes this much of a mean over 16 rows.
      EXPECT_NEAR(nearest->score, line["score"].get<double>(), 0.08) << nearest->text;
    }
  }
  const auto sign = (*reader)->predict(picture("opencv/scenetext01.jpg").view());
  ASSERT_TRUE(sign);
  const auto& lines = std::get<TextRegions>(*sign).regions;
  const std::string_view words[] = {"NOTICE", "DOUBLE", "PARKING", "PROHIBITED"};
  for (std::size_t i = 0; i < std::size(words); ++i) {
    EXPECT_EQ(lines[i].text, words[i]);
    EXPECT_GT(lines[i].confidence, 0.9f) << words[i];
  }
  for (const auto& step : (*ensemble)->steps())
    EXPECT_GT(step.model->times(Stage::kTotal).snapshot().count, 0u) << step.name;
}

TEST_F(ExampleModels, PpocrTellsWhichWayUp) {
  auto& way_up = predictor("ppocr-cls");
  const auto sign = picture("opencv/scenetext01.jpg");
  // "PROHIBITED", and the same upside down.
  const media::Quad upright{media::Point{274, 171.7}, {423, 171.7}, {423, 206.2}, {274, 206.2}};
  const media::Quad turned{upright[2], upright[3], upright[0], upright[1]};
  const auto found = way_up.predict_crops(sign.view(), std::vector{upright, turned});
  ASSERT_TRUE(found) << found.error().message;
  EXPECT_EQ(std::get<Classification>((*found)[0]).classes[0].label, "0");
  EXPECT_EQ(std::get<Classification>((*found)[1]).classes[0].label, "180");
}

TEST_F(ExampleModels, SileroHearsSpeech) {
  auto& speech = predictor("silero-vad");
  for (const auto& wanted : golden("speech.json")) {
    const std::string name = wanted["sound"];
    const auto file = read_bytes(kDeps / "data" / name, 1 << 26);
    ASSERT_TRUE(file) << file.error().message;
    const auto sound =
        name.ends_with(".raw") ? media::decode_pcm16(*file, 16'000) : media::decode_wav(*file);
    ASSERT_TRUE(sound) << sound.error().message;
    const auto found = speech.predict(SoundView{sound->samples, 16'000});
    ASSERT_TRUE(found) << found.error().message;
    const auto& activity = std::get<Activity>(*found);
    ASSERT_EQ(activity.scores.size(), wanted["frames"].get<std::size_t>());
    const auto active =
        std::ranges::count_if(activity.scores, [](float score) { return score > 0.5f; });
    EXPECT_NEAR(static_cast<double>(active) / static_cast<double>(activity.scores.size()),
                wanted["active_share"].get<double>(), 1e-3);
    for (std::size_t i = 0; i < wanted["every_tenth_score"].size(); ++i)
      EXPECT_NEAR(activity.scores[10 * i], wanted["every_tenth_score"][i].get<double>(), 2e-3)
          << 10 * i;
    ASSERT_EQ(activity.segments.size(), wanted["segments"].size());
    for (std::size_t i = 0; i < activity.segments.size(); ++i) {
      EXPECT_EQ(std::llround(activity.segments[i].start_s * 16'000),
                wanted["segments"][i][0].get<long>());
      EXPECT_EQ(std::llround(activity.segments[i].end_s * 16'000),
                wanted["segments"][i][1].get<long>());
    }
  }
}

TEST_F(ExampleModels, SileroHearsNoSpeechInNoise) {
  auto& speech = predictor("silero-vad");
  const auto file = read_bytes(kDeps / "data" / "alsa" / "Noise.wav", 1 << 26);
  ASSERT_TRUE(file) << file.error().message;
  const auto sound = media::decode_wav(*file);
  ASSERT_TRUE(sound) << sound.error().message;
  EXPECT_NE(sound->sample_rate, 16'000) << "resampling is part of this test";
  const auto found =
      speech.predict(SoundView{sound->samples, static_cast<std::uint32_t>(sound->sample_rate)});
  ASSERT_TRUE(found) << found.error().message;
  const auto& activity = std::get<Activity>(*found);
  EXPECT_GT(activity.scores.size(), 10u);
  EXPECT_THAT(activity.scores, testing::Each(testing::Le(0.5f)));
  EXPECT_TRUE(activity.segments.empty());
}

TEST_F(ExampleModels, MlsdFindsTheLines) {
  auto& finder = predictor("mlsd-tiny");
  for (const auto& wanted : golden("lines.json")) {
    const auto found = finder.predict(picture(wanted["picture"]).view());
    ASSERT_TRUE(found) << found.error().message;
    const auto& lines = std::get<Lines>(*found).lines;
    EXPECT_NEAR(static_cast<double>(lines.size()), wanted["count"].get<double>(), 2);
    for (const auto& line : wanted["best"]) {
      double nearest = 1e9;
      for (const auto& mine : lines)
        nearest = std::min(
            nearest,
            std::max({std::fabs(static_cast<double>(mine.from.x) - line["ends"][0].get<double>()),
                      std::fabs(static_cast<double>(mine.from.y) - line["ends"][1].get<double>()),
                      std::fabs(static_cast<double>(mine.to.x) - line["ends"][2].get<double>()),
                      std::fabs(static_cast<double>(mine.to.y) - line["ends"][3].get<double>())}));
      EXPECT_LE(nearest, 3) << line.dump();
    }
  }
}

}  // namespace
}  // namespace selvage::infer
