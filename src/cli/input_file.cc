#include "cli/input_file.h"

#include <algorithm>
#include <array>
#include <cstring>

#include "base/file.h"
#include "cli/input_source.h"
#include "cli/scratch_folder.h"
#include "cli/text.h"
#include "infer/dataset_source.h"
#include "media/array.h"
#include "media/picture.h"
#include "media/sound.h"
#include "media/table.h"
#include "media/video.h"

namespace selvage::cli {
namespace {

using std::chrono::steady_clock;

class Stopwatch {
 public:
  [[nodiscard]] std::chrono::nanoseconds elapsed() const { return steady_clock::now() - start_; }

 private:
  steady_clock::time_point start_ = steady_clock::now();
};

std::unexpected<Error> in_file(Error error, const std::filesystem::path& path) {
  return std::unexpected(std::move(error).with_context(path.string()));
}

/// A file that is one sample: decoded at next(), so that its time is known.
template <typename Decoded>
class OneSampleFile : public InputFile {
 public:
  explicit OneSampleFile(InputSource source) : source_(std::move(source)) {}

  Result<std::optional<Sample>> next() override {
    if (done_) return std::nullopt;
    done_ = true;
    const Stopwatch watch;
    SELVAGE_TRY(const auto bytes, source_.read());
    auto decoded = decode(bytes);
    if (!decoded) return in_file(std::move(decoded).error(), source_.path());
    decoded_ = *std::move(decoded);
    auto sample = sample_of(decoded_);
    if (!sample) return in_file(std::move(sample).error(), source_.path());
    sample->decode_time = watch.elapsed();
    return sample;
  }

 protected:
  [[nodiscard]] virtual Result<Decoded> decode(std::span<const std::byte> bytes) = 0;
  [[nodiscard]] virtual Result<Sample> sample_of(const Decoded& decoded) = 0;

 private:
  InputSource source_;
  Decoded decoded_;
  bool done_ = false;
};

std::string pixels(int width, int height) {
  return std::to_string(width) + " x " + std::to_string(height) + " pixels";
}

class PictureFile final : public OneSampleFile<media::Picture> {
 public:
  using OneSampleFile::OneSampleFile;
  [[nodiscard]] InputKind kind() const override { return InputKind::kPicture; }

 private:
  Result<media::Picture> decode(std::span<const std::byte> bytes) override {
    return media::decode_picture(bytes);
  }
  Result<Sample> sample_of(const media::Picture& picture) override {
    return Sample{.input = picture.view(), .shown = pixels(picture.width(), picture.height())};
  }
};

class SoundFile final : public OneSampleFile<media::Sound> {
 public:
  using OneSampleFile::OneSampleFile;
  [[nodiscard]] InputKind kind() const override { return InputKind::kSound; }

 private:
  Result<media::Sound> decode(std::span<const std::byte> bytes) override {
    return media::decode_wav(bytes);
  }
  Result<Sample> sample_of(const media::Sound& sound) override {
    if (sound.samples.empty()) return fail(ErrorCode::kInvalidArgument, "the file has no samples");
    return Sample{
        .input = infer::SoundView{sound.samples, static_cast<std::uint32_t>(sound.sample_rate)},
        .shown =
            fixed(sound.seconds(), 1) + " s at " + shortest(sound.sample_rate / 1000.0) + " kHz"};
  }
};

// --- Arrays
// ---------------------------------------------------------------------------------------

/// The array as the input's type. NumPy's default, float64, becomes float32 where that is asked.
Result<Tensor> tensor_for(const infer::ValueInfo& input, const media::Array& array) {
  const auto type = infer::tensor_type(array.element);
  const bool narrow = type == DataType::kFloat64 && input.type == DataType::kFloat32;
  if (type != input.type && !narrow)
    return fail(ErrorCode::kInvalidArgument, "input '" + input.name + "' is " +
                                                 std::string(to_string(input.type)) +
                                                 ", the array is " + std::string(to_string(type)) +
                                                 ": convert it with NumPy's astype('" +
                                                 std::string(to_string(input.type)) + "')");
  SELVAGE_TRY(auto tensor, Tensor::create(input.type, array.shape));
  if (!narrow) {
    std::ranges::copy(array.bytes, tensor.bytes().begin());
    return tensor;
  }
  std::vector<double> wide(array.bytes.size() / sizeof(double));
  std::memcpy(wide.data(), array.bytes.data(), wide.size() * sizeof(double));
  std::ranges::transform(wide, tensor.as<float>().begin(),
                         [](double value) { return static_cast<float>(value); });
  return tensor;
}

/// The session's inputs that a caller gives: neither state nor constants.
std::vector<const infer::ValueInfo*> given_inputs(const infer::Model& model) {
  const auto& card = model.card().input;
  std::vector<const infer::ValueInfo*> given;
  for (const auto& input : model.session().inputs()) {
    const bool state =
        std::ranges::find(card.state, input.name, &infer::StatePair::input) != card.state.end();
    const bool constant = std::ranges::find(card.constants, input.name,
                                            &infer::ConstantInput::tensor) != card.constants.end();
    if (!state && !constant) given.push_back(&input);
  }
  return given;
}

constexpr std::size_t kNamesShown = 10;

class ArraysFile final : public OneSampleFile<std::vector<media::NamedArray>> {
 public:
  ArraysFile(InputSource source, const infer::Model& model)
      : OneSampleFile(std::move(source)), inputs_(given_inputs(model)) {}
  [[nodiscard]] InputKind kind() const override { return InputKind::kArrays; }

 private:
  Result<std::vector<media::NamedArray>> decode(std::span<const std::byte> bytes) override {
    if (bytes[0] == std::byte{'P'}) return media::read_npz(bytes);
    SELVAGE_TRY(auto array, media::read_npy(bytes));
    std::vector<media::NamedArray> one;
    one.push_back({"", std::move(array)});
    return one;
  }

  Result<Sample> sample_of(const std::vector<media::NamedArray>& arrays) override {
    Sample sample;
    for (const auto* input : inputs_) {
      SELVAGE_TRY(const auto* array, array_for(*input, arrays));
      SELVAGE_TRY(auto tensor, tensor_for(*input, *array));
      sample.shown += (sample.shown.empty() ? "" : ", ") + std::string(to_string(tensor.type())) +
                      " " + selvage::to_string(tensor.shape());
      tensors_.push_back(std::move(tensor));
    }
    for (const auto& tensor : tensors_) views_.push_back(tensor.view());
    sample.input = infer::TensorsView{views_};
    return sample;
  }

  [[nodiscard]] Result<const media::Array*> array_for(
      const infer::ValueInfo& input, const std::vector<media::NamedArray>& arrays) const {
    if (inputs_.size() == 1 && arrays.size() == 1) return &arrays.front().array;
    std::string names;
    for (std::size_t i = 0; i < arrays.size(); ++i) {
      if (arrays[i].name == input.name) return &arrays[i].array;
      if (i < kNamesShown) names += (i == 0 ? "" : ", ") + arrays[i].name;
      if (i == kNamesShown) names += ", ...";
    }
    return fail(ErrorCode::kInvalidArgument,
                "no array for input '" + input.name + "'; the model takes " +
                    format_plural(inputs_.size(), "input") +
                    ": give an .npz whose arrays have the inputs' names" +
                    (names.empty() ? "" : " (this one holds " + names + ")"));
  }

  std::vector<const infer::ValueInfo*> inputs_;
  std::vector<Tensor> tensors_;
  std::vector<TensorView> views_;
};

// --- Tables
// ---------------------------------------------------------------------------------------

/// A column's values: numbers, or the index of each cell in the card's categories.
Result<std::vector<double>> column_values(const media::Table& table, std::size_t column,
                                          const infer::Column* card) {
  if (!card || card->categories.empty()) return table.numbers(column);
  std::vector<double> values;
  for (std::size_t row = 0; row < table.rows(); ++row) {
    const auto cell = table.cell(row, column);
    const auto found = std::ranges::find(card->categories, cell);
    if (found == card->categories.end())
      return fail(ErrorCode::kInvalidArgument,
                  "row " + std::to_string(row + 1) + ", column '" + card->name +
                      "': the model card has no category '" + std::string(cell) + "'");
    values.push_back(static_cast<double>(found - card->categories.begin()));
  }
  return values;
}

class TableFile final : public InputFile {
 public:
  /// With `card` the rows go through it, else each becomes the model's only tensor.
  static Result<std::unique_ptr<InputFile>> open(InputSource source, const infer::TableInput* card,
                                                 const infer::Model& model) {
    auto file = std::make_unique<TableFile>();
    const Stopwatch watch;
    SELVAGE_TRY(const auto bytes, source.read());
    auto read = file->read(bytes, card);
    if (!read) return in_file(std::move(read).error(), source.path());
    if (!card) {
      const auto inputs = given_inputs(model);
      if (inputs.size() != 1 || inputs.front()->type != DataType::kFloat32)
        return fail(ErrorCode::kInvalidArgument,
                    source.path().string() +
                        ": without a model card a CSV row can only become one float32 input; give "
                        "an .npz, or describe the table in model.yaml (docs/model-card.md)");
      file->raw_ = true;
    }
    file->decode_time_ = watch.elapsed();
    return file;
  }

  [[nodiscard]] InputKind kind() const override { return InputKind::kTable; }

  Result<std::optional<Sample>> next() override {
    if (columns_.empty() || row_ == columns_.front().size()) return std::nullopt;
    values_.clear();
    for (const auto& column : columns_) values_.push_back(column[row_]);
    Sample sample{.input = infer::RowView{values_},
                  .place = "row " + std::to_string(++row_),
                  .shown = format_plural(values_.size(), "column"),
                  .decode_time = std::exchange(decode_time_, {})};
    if (raw_) {
      const std::vector<float> narrow(values_.begin(), values_.end());
      SELVAGE_TRY(tensor_,
                  Tensor::from<float>({1, static_cast<std::int64_t>(narrow.size())}, narrow));
      view_ = tensor_.view();
      sample.input = infer::TensorsView{{&view_, 1}};
    }
    return sample;
  }

 private:
  Result<void> read(std::span<const std::byte> bytes, const infer::TableInput* card) {
    SELVAGE_TRY(const auto table, media::parse_csv(bytes));
    const std::size_t count =
        card && !card->columns.empty() ? card->columns.size() : table.columns();
    for (std::size_t c = 0; c < count; ++c) {
      const auto* column = card && !card->columns.empty() ? &card->columns[c] : nullptr;
      std::size_t index = c;
      if (column) {
        SELVAGE_TRY(index, table.column(column->name));
      }
      SELVAGE_TRY(auto values, column_values(table, index, column));
      columns_.push_back(std::move(values));
    }
    if (table.rows() == 0)
      return fail(ErrorCode::kInvalidArgument, "the table has no rows below its header");
    return {};
  }

  std::vector<std::vector<double>> columns_;
  std::vector<double> values_;
  std::size_t row_ = 0;
  bool raw_ = false;
  Tensor tensor_;
  TensorView view_;
  std::chrono::nanoseconds decode_time_{};
};

// --- Video
// ----------------------------------------------------------------------------------------

class VideoFile final : public InputFile {
 public:
  static Result<std::unique_ptr<InputFile>> open(InputSource source) {
    std::optional<ScratchFolder> scratch;
    auto path = source.file();
    if (source.is_pipe()) {  // FFmpeg seeks in what it reads: a pipe's bytes become a file.
      SELVAGE_TRY(const auto bytes, source.read());
      SELVAGE_TRY(auto folder, ScratchFolder::create());
      path = scratch.emplace(std::move(folder)).path() / "video";
      SELVAGE_RETURN_IF_ERROR(write_atomically(path, bytes));
    }
    auto reader = media::VideoReader::open(path.string());
    if (!reader && reader.error().code == ErrorCode::kInvalidArgument)
      return fail(ErrorCode::kInvalidArgument,
                  "'" + source.path().string() +
                      "' is neither a picture (JPEG, PNG, PNM), a WAV file, an "
                      "array file (NPY, NPZ), a table (.csv) nor a video");
    if (!reader) return std::unexpected(std::move(reader).error());
    return std::make_unique<VideoFile>(*std::move(reader), std::move(scratch));
  }

  VideoFile(media::VideoReader reader, std::optional<ScratchFolder> scratch)
      : scratch_(std::move(scratch)), reader_(std::move(reader)) {}
  [[nodiscard]] InputKind kind() const override { return InputKind::kVideo; }

  Result<std::optional<Sample>> next() override {
    const Stopwatch watch;
    SELVAGE_TRY(const auto frame, reader_.next());
    if (!frame) return std::nullopt;
    const double time_s = std::chrono::duration<double>(frame->time).count();
    return Sample{.input = frame->picture,
                  .place = fixed(time_s, 3) + " s",
                  .shown = pixels(frame->picture.width, frame->picture.height),
                  .time_s = time_s,
                  .decode_time = watch.elapsed()};
  }

 private:
  std::optional<ScratchFolder> scratch_;  // Where the reader's file lies, if it was a pipe.
  media::VideoReader reader_;
};

// --- What a file is
// -------------------------------------------------------------------------------

InputKind kind_of(const InputSource& source, const infer::Model& model) {
  const std::string_view head = source.head();
  if (head.starts_with("\x93NUMPY") || head.starts_with("PK\x03\x04")) return InputKind::kArrays;
  if (head.starts_with("RIFF") && head.size() >= 12 && head.substr(8, 4) == "WAVE")
    return InputKind::kSound;
  if (head.starts_with("\xFF\xD8\xFF") || head.starts_with("\x89PNG") || head.starts_with("P5") ||
      head.starts_with("P6"))
    return InputKind::kPicture;
  const auto extension = source.path().extension();
  if (extension == ".csv" || extension == ".txt") return InputKind::kTable;
  if (std::holds_alternative<infer::TableInput>(model.card().input.kind)) return InputKind::kTable;
  return InputKind::kVideo;
}

/// What the card's input takes, in words.
std::string_view taken_by(const infer::InputCard& card) {
  constexpr std::array<std::string_view, 4> kTaken{"arrays (.npy, .npz) or CSV rows of numbers",
                                                   "pictures or video", "sound (WAV)",
                                                   "tables (CSV)"};
  return kTaken[card.kind.index()];
}

std::unexpected<Error> wrong_kind(const std::filesystem::path& path, InputKind kind,
                                  const infer::Model& model) {
  const bool bare = std::holds_alternative<infer::RawInput>(model.card().input.kind);
  return fail(ErrorCode::kInvalidArgument,
              "'" + path.string() + "' is " + std::string(to_string(kind)) + ", but model '" +
                  model.name() + "' takes " + std::string(taken_by(model.card().input)) +
                  (bare ? ": its model card (model.yaml, see docs/model-card.md) does not say what "
                          "else may become its input"
                        : ""));
}

}  // namespace

std::string_view to_string(InputKind kind) {
  switch (kind) {
    case InputKind::kPicture: return "a picture";
    case InputKind::kSound: return "a sound";
    case InputKind::kTable: return "a table";
    case InputKind::kArrays: return "an array file";
    case InputKind::kVideo: return "a video";
  }
  return "";
}

Result<std::unique_ptr<InputFile>> InputFile::open(const std::filesystem::path& path,
                                                   const infer::Model& model) {
  SELVAGE_TRY(auto source, InputSource::open(path));
  const auto kind = kind_of(source, model);
  const auto& card = model.card().input.kind;
  const bool takes_image = std::holds_alternative<infer::ImageInput>(card);
  const bool takes_raw = std::holds_alternative<infer::RawInput>(card);
  const auto* table = std::get_if<infer::TableInput>(&card);
  switch (kind) {
    case InputKind::kPicture:
      if (takes_image) return std::make_unique<PictureFile>(std::move(source));
      break;
    case InputKind::kSound:
      if (std::holds_alternative<infer::AudioInput>(card))
        return std::make_unique<SoundFile>(std::move(source));
      break;
    case InputKind::kArrays:
      if (takes_raw) return std::make_unique<ArraysFile>(std::move(source), model);
      break;
    case InputKind::kTable:
      if (table || takes_raw) return TableFile::open(std::move(source), table, model);
      break;
    case InputKind::kVideo: {
      SELVAGE_TRY(auto video, VideoFile::open(std::move(source)));
      if (takes_image) return video;
      break;
    }
  }
  return wrong_kind(path, kind, model);
}

}  // namespace selvage::cli
