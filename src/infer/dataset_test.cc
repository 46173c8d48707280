#include "infer/dataset.h"

#include <cstring>
#include <fstream>
#include <thread>

#include <gmock/gmock.h>
#include <unistd.h>

#include "base/file.h"
#include "infer/dataset_source.h"
#include "media/array.h"
#include "media/picture.h"
#include "media/sound.h"

namespace selvage::infer {
namespace {

namespace fs = std::filesystem;
using testing::ElementsAre;
using testing::HasSubstr;

ValueInfo declared(Shape shape, DataType type = DataType::kFloat32, std::string name = "x") {
  return {.name = std::move(name),
          .kind = ValueKind::kTensor,
          .type = type,
          .shape = shape,
          .symbols = std::vector<std::string>(shape.size())};
}

class DatasetTest : public testing::Test {
 protected:
  void SetUp() override { fs::create_directories(folder_); }
  void TearDown() override { fs::remove_all(folder_); }

  fs::path write(const std::string& name, std::string_view text) {
    const auto path = folder_ / name;
    fs::create_directories(path.parent_path());
    EXPECT_TRUE(write_atomically(path, text).has_value());
    return path;
  }
  fs::path write(const std::string& name, std::span<const std::byte> bytes) {
    return write(name, std::string_view(reinterpret_cast<const char*>(bytes.data()), bytes.size()));
  }
  /// A picture of one colour.
  fs::path write_picture(const std::string& name, int width, int height, std::uint8_t red) {
    media::Picture picture(width, height);
    for (int y = 0; y < height; ++y)
      for (int x = 0; x < width; ++x) {
        picture.row(y)[3 * x] = red;
        picture.row(y)[3 * x + 1] = 0;
        picture.row(y)[3 * x + 2] = 0;
      }
    return write(name, *media::encode_png(picture.view()));
  }
  template <typename T>
  fs::path write_npy(const std::string& name, media::ArrayElement element,
                     std::vector<std::int64_t> shape, const std::vector<T>& values) {
    media::Array array{.element = element, .shape = std::move(shape), .bytes = {}};
    const auto bytes = std::as_bytes(std::span(values));
    array.bytes.assign(bytes.begin(), bytes.end());
    return write(name, *media::write_npy(array));
  }

  std::unique_ptr<Dataset> open(const fs::path& path, const ValueInfo& input,
                                const ModelCard& card = {}, const DatasetOptions& options = {}) {
    auto data = Dataset::open(path, {&input, 1}, card, options);
    if (!data) ADD_FAILURE() << data.error().message;
    return data ? *std::move(data) : nullptr;
  }
  std::string error_of(const fs::path& path, const ValueInfo& input, const ModelCard& card = {},
                       const DatasetOptions& options = {}) {
    const auto data = Dataset::open(path, {&input, 1}, card, options);
    EXPECT_FALSE(data.has_value());
    return data ? "" : data.error().message;
  }

  static std::vector<float> read(const Dataset& data, const std::vector<std::size_t>& indices) {
    std::vector<float> tensor(data.inputs()[0].bytes / sizeof(float) * indices.size());
    const auto bytes = std::as_writable_bytes(std::span(tensor));
    const auto done = data.read(indices, {&bytes, 1});
    if (!done) ADD_FAILURE() << done.error().message;
    return tensor;
  }

  fs::path folder_ = fs::temp_directory_path() / ("selvage-dataset-" + std::to_string(::getpid()));
};

std::string idx(std::vector<unsigned char> head, std::vector<unsigned char> values) {
  head.insert(head.end(), values.begin(), values.end());
  return {head.begin(), head.end()};
}

TEST_F(DatasetTest, IdxBytesAreScaledAndLabelsLieBeside) {
  write("train-images-idx3-ubyte",
        idx({0, 0, 8, 3, 0, 0, 0, 3, 0, 0, 0, 1, 0, 0, 0, 2}, {0, 51, 255, 102, 5, 10}));
  write("train-labels-idx1-ubyte", idx({0, 0, 8, 1, 0, 0, 0, 3}, {2, 0, 1}));
  const auto data = open(folder_, declared({-1, 1, 1, 2}));
  ASSERT_TRUE(data);
  ASSERT_EQ(data->size(), 3u);
  EXPECT_TRUE(data->takes_batches());
  EXPECT_EQ(data->target_kind(), TargetKind::kClass);
  EXPECT_THAT(data->classes(), ElementsAre("0", "1", "2"));
  EXPECT_EQ(data->label(0), 2);
  EXPECT_EQ(data->place(1), "train-images-idx3-ubyte, sample 1");
  EXPECT_THAT(data->inputs()[0].shape, ElementsAre(1, 1, 2));
  EXPECT_THAT(read(*data, {1, 0}), ElementsAre(1.0f, 0.4f, 0.0f, 0.2f));
}

TEST_F(DatasetTest, AFlatInputTakesPicturesInARow) {
  write("train-images-idx3-ubyte",
        idx({0, 0, 8, 3, 0, 0, 0, 1, 0, 0, 0, 2, 0, 0, 0, 2}, {0, 51, 102, 255}));
  const auto data = open(folder_, declared({-1, 4}));
  ASSERT_TRUE(data);
  EXPECT_EQ(data->target_kind(), TargetKind::kNone);
  EXPECT_THAT(read(*data, {0}), ElementsAre(0, 0.2f, 0.4f, 1));
}

TEST_F(DatasetTest, TheCardDecidesHowBytesAreSeen) {
  write("train-images-idx3-ubyte", idx({0, 0, 8, 3, 0, 0, 0, 1, 0, 0, 0, 1, 0, 0, 0, 1}, {100}));
  ModelCard card;
  ImageInput image;
  image.transform.mean = {50, 0, 0};
  image.transform.deviation = {25, 1, 1};
  card.input.kind = image;
  const auto data = open(folder_, declared({-1, 1, 1, 1}), card);
  ASSERT_TRUE(data);
  EXPECT_FLOAT_EQ(read(*data, {0})[0], 2);
}

TEST_F(DatasetTest, FoldersAreClasses) {
  write_picture("dog/a.png", 4, 4, 255);
  write_picture("cat/b.png", 8, 2, 0);
  write_picture("cat/a.png", 2, 2, 51);
  write("cat/notes.txt", "not a sample");
  const auto data = open(folder_, declared({-1, 3, 2, 2}));
  ASSERT_TRUE(data);
  ASSERT_EQ(data->size(), 3u);
  EXPECT_THAT(data->classes(), ElementsAre("cat", "dog"));
  EXPECT_EQ(data->place(0), "cat/a.png");
  EXPECT_EQ(data->label(0), 0);
  EXPECT_EQ(data->label(2), 1);
  const auto tensor = read(*data, {2, 0});
  EXPECT_FLOAT_EQ(tensor[0], 1);
  EXPECT_FLOAT_EQ(tensor[12], 0.2f);
  // A second read comes from the cache.
  EXPECT_EQ(read(*data, {2, 0}), tensor);
}

TEST_F(DatasetTest, TheCardsLabelsNumberTheFolders) {
  write_picture("cat/a.png", 2, 2, 1);
  write_picture("dog/a.png", 2, 2, 1);
  ModelCard card;
  card.output = ClassificationOutput{.labels = {"dog", "bird", "cat"}};
  const auto data = open(folder_, declared({-1, 3, 2, 2}), card);
  ASSERT_TRUE(data);
  EXPECT_EQ(data->label(0), 2);
  EXPECT_EQ(data->label(1), 0);
  write_picture("fish/a.png", 2, 2, 1);
  EXPECT_THAT(error_of(folder_, declared({-1, 3, 2, 2}), card), HasSubstr("no label 'fish'"));
}

TEST_F(DatasetTest, NumberedFoldersAreTheirNumbers) {
  write_picture("10/a.png", 2, 2, 1);
  write_picture("2/a.png", 2, 2, 1);
  const auto data = open(folder_, declared({-1, 3, 2, 2}));
  ASSERT_TRUE(data);
  EXPECT_EQ(data->label(0), 10);
  EXPECT_EQ(data->classes().size(), 11u);
}

TEST_F(DatasetTest, OpenSidesFollowEachPicture) {
  write_picture("a.png", 4, 2, 10);
  write_picture("b.png", 6, 2, 10);
  const auto data = open(folder_, declared({-1, 3, -1, -1}));
  ASSERT_TRUE(data);
  EXPECT_FALSE(data->takes_batches());
  EXPECT_EQ(data->inputs()[0].bytes, 0u);
  EXPECT_THAT(data->inputs()[0].shape, ElementsAre(3, -1, -1));
  EXPECT_THAT(data->sample(1)->front().shape(), ElementsAre(1, 3, 2, 6));
}

TEST_F(DatasetTest, TrainAndTestFolders) {
  write_picture("train/cat/a.png", 2, 2, 1);
  write_picture("train/cat/b.png", 2, 2, 1);
  write_picture("test/cat/a.png", 2, 2, 1);
  EXPECT_EQ(open(folder_, declared({-1, 3, 2, 2}))->size(), 2u);
  EXPECT_EQ(open(folder_, declared({-1, 3, 2, 2}), {}, {.part = Part::kTest})->size(), 1u);
}

TEST_F(DatasetTest, CsvWithNamedClasses) {
  const auto path = write("iris.csv", "a,b,label\n1,2,rose\n3,4,lily\n5,6,rose\n");
  const auto data = open(path, declared({-1, 2}));
  ASSERT_TRUE(data);
  EXPECT_THAT(data->classes(), ElementsAre("lily", "rose"));
  EXPECT_EQ(data->label(0), 1);
  EXPECT_EQ(data->place(2), "iris.csv, row 3");
  EXPECT_THAT(read(*data, {2, 1}), ElementsAre(5, 6, 3, 4));
}

TEST_F(DatasetTest, CsvThroughTheCard) {
  const auto path = write("t.csv", "unused,colour,size,class\n9,red,10,1\n9,blue,20,0\n");
  ModelCard card;
  card.input.kind =
      TableInput{.columns = {{.name = "size", .mean = 10, .deviation = 5},
                             {.name = "colour", .categories = {"blue", "red"}, .one_hot = true}}};
  const auto data = open(path, declared({-1, 3}), card);
  ASSERT_TRUE(data);
  EXPECT_THAT(read(*data, {0, 1}), ElementsAre(0, 0, 1, 2, 1, 0));
  EXPECT_EQ(data->label(0), 1);
}

TEST_F(DatasetTest, CsvErrorsNameFileAndRow) {
  EXPECT_THAT(error_of(write("a.csv", "a,label\n1,0\nx,1\n"), declared({-1, 1})),
              testing::AllOf(HasSubstr("a.csv"), HasSubstr("row 2"), HasSubstr("'x'")));
  EXPECT_THAT(error_of(write("b.csv", "a,label\n1,0\n,1\n"), declared({-1, 1})),
              testing::AllOf(HasSubstr("row 2"), HasSubstr("not a finite number")));
  EXPECT_THAT(error_of(write("c.csv", "a,label\n1,0\n1,-1\n"), declared({-1, 1})),
              HasSubstr("label of sample 1 is -1"));
  EXPECT_THAT(error_of(write("d.csv", "a,b\n1,0\n"), declared({-1, 1}), {}, {.label = "z"}),
              HasSubstr("'z'"));
  EXPECT_THAT(error_of(write("e.csv", "a,b,label\n1,2,0\n"), declared({-1, 3})),
              HasSubstr("does not hold 2 values"));
}

TEST_F(DatasetTest, ALabelMeansSomethingToNamedColumnsOnly) {
  write_picture("a/1.png", 2, 2, 10);
  write_picture("b/1.png", 2, 2, 200);
  EXPECT_TRUE(open(folder_, declared({-1, 3, 2, 2})));
  EXPECT_THAT(error_of(folder_, declared({-1, 3, 2, 2}), {}, {.label = "kind"}),
              HasSubstr("'kind' could be the label"));
}

TEST_F(DatasetTest, FractionsAreValues) {
  const auto data = open(write("r.csv", "a,target\n1,0.5\n2,1\n"), declared({-1, 1}));
  ASSERT_TRUE(data);
  ASSERT_EQ(data->target_kind(), TargetKind::kValues);
  EXPECT_THAT(data->values(0), ElementsAre(0.5f));
}

TEST_F(DatasetTest, NpyPair) {
  write_npy<float>("x.npy", media::ArrayElement::kFloat32, {2, 3}, {1, 2, 3, 4, 5, 6});
  write_npy<std::int64_t>("y.npy", media::ArrayElement::kInt64, {2}, {4, 0});
  const auto data = open(folder_, declared({-1, 3}));
  ASSERT_TRUE(data);
  EXPECT_THAT(read(*data, {1}), ElementsAre(4, 5, 6));
  EXPECT_EQ(data->label(0), 4);
  write_npy<std::int64_t>("y.npy", media::ArrayElement::kInt64, {3}, {4, 0, 0});
  EXPECT_THAT(error_of(folder_, declared({-1, 3})), HasSubstr("3 labels for 2 samples"));
}

TEST_F(DatasetTest, ShapesThatDoNotFitAreNamed) {
  write_npy<float>("x.npy", media::ArrayElement::kFloat32, {2, 3}, {1, 2, 3, 4, 5, 6});
  EXPECT_THAT(error_of(folder_, declared({-1, 4})),
              testing::AllOf(HasSubstr("input 'x'"), HasSubstr("[?,4]"), HasSubstr("[3]")));
}

TEST_F(DatasetTest, SoundsAreCutAndFilled) {
  const media::Sound loud{.sample_rate = 8'000, .samples = {0.5f, 0.5f, 0.5f, 0.5f, 0.5f}};
  const media::Sound brief{.sample_rate = 8'000, .samples = {0.5f, 0.5f}};
  write("yes/a.wav", *media::encode_wav16(loud));
  write("no/a.wav", *media::encode_wav16(brief));
  const auto data = open(folder_, declared({-1, 1, 4}));
  ASSERT_TRUE(data);
  const auto tensor = read(*data, {0, 1});
  EXPECT_NEAR(tensor[1], 0.5f, 1e-3f);
  EXPECT_EQ(tensor[2], 0);
  EXPECT_NEAR(tensor[7], 0.5f, 1e-3f);
}

TEST_F(DatasetTest, AChangedFileIsNoticed) {
  write_picture("a.png", 2, 2, 1);
  const auto second = write_picture("b.png", 2, 2, 1);
  const auto data = open(folder_, declared({-1, 3, 2, 2}));
  ASSERT_TRUE(data);
  EXPECT_TRUE(data->check_unchanged().has_value());
  write_picture("b.png", 9, 9, 2);
  const auto changed = data->check_unchanged();
  ASSERT_FALSE(changed.has_value());
  EXPECT_EQ(changed.error().code, ErrorCode::kFailedPrecondition);
  EXPECT_THAT(changed.error().message, HasSubstr(second.string()));
  EXPECT_FALSE(data->sample(1).has_value());
}

TEST_F(DatasetTest, EmptyAndMissing) {
  EXPECT_THAT(error_of(folder_, declared({-1, 4})), HasSubstr("holds no samples"));
  EXPECT_THAT(error_of(folder_ / "none", declared({-1, 4})), HasSubstr("no data at"));
}

TEST_F(DatasetTest, DamagedFilesAreNamed) {
  write_picture("a.png", 2, 2, 1);
  write("b.png", "not a picture");
  const auto data = open(folder_, declared({-1, 3, 2, 2}));
  ASSERT_TRUE(data);
  const auto sample = data->sample(1);
  ASSERT_FALSE(sample.has_value());
  EXPECT_THAT(sample.error().message, HasSubstr("b.png"));
}

TEST_F(DatasetTest, ThreadsReadTheSame) {
  for (int i = 0; i < 8; ++i)
    write_picture(std::to_string(i) + ".png", 8, 8, static_cast<std::uint8_t>(20 * i));
  const auto data = open(folder_, declared({-1, 3, 4, 4}));
  ASSERT_TRUE(data);
  const std::vector<std::size_t> all{0, 1, 2, 3, 4, 5, 6, 7};
  std::vector<std::vector<float>> found(4);
  {
    std::vector<std::jthread> threads;
    for (auto& tensor : found) threads.emplace_back([&] { tensor = read(*data, all); });
  }
  for (const auto& tensor : found) EXPECT_EQ(tensor, found[0]);
}

TEST_F(DatasetTest, TheSplitTakesFromEachClassAndIsTheSameForASeed) {
  std::string rows = "a,label\n";
  for (int i = 0; i < 100; ++i) rows += std::to_string(i) + "," + (i < 90 ? "0" : "1") + "\n";
  const auto data = open(write("t.csv", rows), declared({-1, 1}));
  ASSERT_TRUE(data);
  const auto parts = split(*data, 0.2, 5);
  EXPECT_EQ(parts.validation.size(), 20u);
  EXPECT_EQ(parts.train.size(), 80u);
  EXPECT_EQ(std::ranges::count_if(parts.validation, [](auto i) { return i >= 90; }), 2);
  EXPECT_EQ(split(*data, 0.2, 5).validation, parts.validation);
  EXPECT_NE(split(*data, 0.2, 6).validation, parts.validation);
  EXPECT_TRUE(split(*data, 0, 5).validation.empty());
  EXPECT_TRUE(split(*data, 1, 5).train.empty());
}

TEST(FitShape, OnesComeAndGo) {
  const auto fit = [](Shape declared, Shape shape) { return fit_shape(declared, shape); };
  EXPECT_EQ(fit({1, 28, 28}, {28, 28}), (Shape{1, 28, 28}));
  EXPECT_EQ(fit({28, 28, 1}, {28, 28}), (Shape{28, 28, 1}));
  EXPECT_EQ(fit({784}, {28, 28}), (Shape{784}));
  EXPECT_EQ(fit({-1, 4}, {9, 4}), (Shape{9, 4}));
  EXPECT_EQ(fit({1, -1, -1}, {5, 6}), (Shape{1, 5, 6}));
  EXPECT_EQ(fit({3, 32, 32}, {32, 32, 3}), std::nullopt);
  EXPECT_EQ(fit({4}, {5}), std::nullopt);
}

}  // namespace
}  // namespace selvage::infer
