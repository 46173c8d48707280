// Samples that are rows of arrays in memory: IDX, NPY, NPZ.
#include <algorithm>
#include <array>
#include <cstring>

#include "base/file.h"
#include "infer/dataset_source.h"
#include "infer/preprocess.h"
#include "media/array.h"
#include "media/idx.h"

namespace selvage::infer {
namespace {

namespace fs = std::filesystem;
constexpr media::ArrayLimits kLimits{.bytes_max = kDatasetFileBytesMax};

std::unexpected<Error> bad_file(const fs::path& path, const std::string& problem) {
  return fail(ErrorCode::kInvalidArgument, path.string() + ": " + problem);
}

template <typename T>
double number_at(const media::Array& array, std::size_t index) {
  T value;
  std::memcpy(&value, array.bytes.data() + index * sizeof(T), sizeof value);
  return static_cast<double>(value);
}

/// Empty for half and complex numbers.
std::optional<std::vector<double>> numbers_of(const media::Array& array) {
  using media::ArrayElement;
  double (*at)(const media::Array&, std::size_t) = nullptr;
  switch (array.element) {
    case ArrayElement::kBool:
    case ArrayElement::kUint8: at = number_at<std::uint8_t>; break;
    case ArrayElement::kInt8: at = number_at<std::int8_t>; break;
    case ArrayElement::kUint16: at = number_at<std::uint16_t>; break;
    case ArrayElement::kInt16: at = number_at<std::int16_t>; break;
    case ArrayElement::kUint32: at = number_at<std::uint32_t>; break;
    case ArrayElement::kInt32: at = number_at<std::int32_t>; break;
    case ArrayElement::kUint64: at = number_at<std::uint64_t>; break;
    case ArrayElement::kInt64: at = number_at<std::int64_t>; break;
    case ArrayElement::kFloat32: at = number_at<float>; break;
    case ArrayElement::kFloat64: at = number_at<double>; break;
    default: return std::nullopt;
  }
  std::vector<double> numbers(array.bytes.size() / media::element_bytes(array.element));
  for (std::size_t i = 0; i < numbers.size(); ++i) numbers[i] = at(array, i);
  return numbers;
}

Result<Targets> targets_of(const media::Array& labels, std::size_t samples, const fs::path& path,
                           const ModelCard& card) {
  const auto count = labels.shape.empty() ? 0 : static_cast<std::size_t>(labels.shape[0]);
  if (count != samples)
    return bad_file(path,
                    std::to_string(count) + " labels for " + std::to_string(samples) + " samples");
  const auto numbers = numbers_of(labels);
  if (!numbers)
    return bad_file(path, "labels of type " + std::string(to_string(labels.element)) +
                              " are not read: convert them to int64 or float32");
  const bool whole = labels.element != media::ArrayElement::kFloat32 &&
                     labels.element != media::ArrayElement::kFloat64;
  auto targets = targets_of_numbers(*numbers, numbers->size() / std::max<std::size_t>(1, samples),
                                    whole, card);
  if (!targets) return std::unexpected(std::move(targets).error().with_context(path.string()));
  return targets;
}

/// Rows of one array an input.
class ArraySource final : public SampleSource {
 public:
  static Result<std::unique_ptr<ArraySource>> create(std::vector<media::Array> arrays,
                                                     const fs::path& path,
                                                     const SourceRequest& request) {
    auto source = std::make_unique<ArraySource>();
    source->name_ = path.filename().string();
    for (auto& array : arrays) {
      if (array.shape.empty() || array.shape[0] < 1)
        return bad_file(
            path, "an array of shape " + selvage::to_string(array.shape) + " holds no samples");
      Rows rows{.array = std::move(array), .shape = {}, .bytes = 0};
      rows.shape.assign(rows.array.shape.begin() + 1, rows.array.shape.end());
      const auto samples = static_cast<std::size_t>(rows.array.shape[0]);
      if (source->size_ != 0 && samples != source->size_)
        return bad_file(path, "the inputs' arrays disagree: " + std::to_string(source->size_) +
                                  " samples and " + std::to_string(samples));
      source->size_ = samples;
      rows.bytes = rows.array.bytes.size() / samples;
      source->rows_.push_back(std::move(rows));
    }
    source->as_ = kind_for(source->rows_, request);
    return source;
  }

  [[nodiscard]] std::size_t size() const override { return size_; }
  [[nodiscard]] std::string place(std::size_t index) const override {
    return name_ + ", sample " + std::to_string(index);
  }

  [[nodiscard]] Result<void> read(std::size_t index, DecodedSample& to) const override {
    const auto& first = rows_.front();
    const auto bytes = std::span(first.array.bytes).subspan(index * first.bytes, first.bytes);
    if (as_ == Kind::kPicture) {
      const bool gray = first.shape.size() == 2 || first.shape[2] == 1;
      SELVAGE_TRY(
          to.input,
          media::view_pixels(gray ? media::PixelFormat::kGray8 : media::PixelFormat::kRgb24,
                             static_cast<int>(first.shape[1]), static_cast<int>(first.shape[0]),
                             {reinterpret_cast<const std::uint8_t*>(bytes.data()), bytes.size()}));
      return {};
    }
    if (as_ == Kind::kRow) {
      const media::Array row{.element = first.array.element,
                             .shape = first.shape,
                             .bytes = {bytes.begin(), bytes.end()}};
      auto numbers = numbers_of(row);
      if (!numbers)
        return fail(ErrorCode::kInvalidArgument,
                    "a table's row cannot be of type " + std::string(to_string(row.element)));
      to.row = *std::move(numbers);
      to.input = RowView{to.row};
      return {};
    }
    to.views.clear();
    for (const auto& rows : rows_)
      to.views.push_back(
          {.type = tensor_type(rows.array.element),
           .shape = rows.shape,
           .bytes = std::span(rows.array.bytes).subspan(index * rows.bytes, rows.bytes),
           .strings = {}});
    to.input = TensorsView{to.views};
    return {};
  }

 private:
  enum class Kind : std::uint8_t { kTensors, kPicture, kRow };
  struct Rows {
    media::Array array;
    Shape shape;  // Of one.
    std::size_t bytes = 0;
  };

  /// Bytes that look like pictures are such where the card says so, or where a model without a card
  /// takes pictures of another size or layout.
  static Kind kind_for(const std::vector<Rows>& rows, const SourceRequest& request) {
    if (rows.size() != 1 || request.inputs.size() != 1) return Kind::kTensors;
    const auto& shape = rows.front().shape;
    const auto& input = request.card.input.kind;
    if (std::holds_alternative<TableInput>(input) && shape.size() == 1) return Kind::kRow;
    const bool pixels =
        rows.front().array.element == media::ArrayElement::kUint8 &&
        (shape.size() == 2 || (shape.size() == 3 && (shape[2] == 1 || shape[2] == 3))) &&
        shape[0] > 0 && shape[1] > 0 && shape[0] <= media::Transform::kSideMax &&
        shape[1] <= media::Transform::kSideMax;
    if (!pixels) return Kind::kTensors;
    if (std::holds_alternative<ImageInput>(input)) return Kind::kPicture;
    const auto& info = request.inputs.front().info;
    const bool looks_like_image = info.shape.size() == 4;
    const auto declared = std::span(info.shape).subspan(looks_like_image ? 1 : 0);
    return looks_like_image && !fit_shape(declared, shape) ? Kind::kPicture : Kind::kTensors;
  }

  std::string name_;
  std::size_t size_ = 0;
  std::vector<Rows> rows_;
  Kind as_ = Kind::kTensors;
};

Result<std::unique_ptr<SampleSource>> finish(std::vector<media::Array> inputs,
                                             const media::Array* labels, const fs::path& path,
                                             const fs::path& labels_path,
                                             const SourceRequest& request) {
  SELVAGE_TRY(auto source, ArraySource::create(std::move(inputs), path, request));
  if (labels) {
    SELVAGE_TRY(source->targets, targets_of(*labels, source->size(), labels_path, request.card));
  }
  SELVAGE_TRY(auto stamp, FileStamp::take(path));
  source->files.push_back(std::move(stamp));
  if (labels && labels_path != path) {
    SELVAGE_TRY(auto second, FileStamp::take(labels_path));
    source->files.push_back(std::move(second));
  }
  return std::unique_ptr<SampleSource>(std::move(source));
}

template <typename Read>
auto read_file(const fs::path& path, Read read)
    -> decltype(read(std::span<const std::byte>(), kLimits)) {
  SELVAGE_TRY(const auto file, MappedFile::open(path));
  auto content = read(file.bytes(), kLimits);
  if (!content) return std::unexpected(std::move(content).error().with_context(path.string()));
  return content;
}

/// "train-images-idx3-ubyte.gz" -> "train-labels-idx1-ubyte", with or without ".gz".
std::optional<fs::path> labels_beside(const fs::path& images) {
  auto name = images.filename().string();
  if (name.ends_with(".gz")) name.resize(name.size() - 3);
  const auto word = name.rfind("images");
  if (word == std::string::npos) return std::nullopt;
  name.replace(word, 6, "labels");
  if (const auto rank = name.find("idx", word); rank != std::string::npos && rank + 3 < name.size())
    name[rank + 3] = '1';
  std::error_code ignored;
  for (const auto* suffix : {"", ".gz"})
    if (auto path = images.parent_path() / (name + suffix); fs::exists(path, ignored)) return path;
  return std::nullopt;
}

const media::Array* find_array(const std::vector<media::NamedArray>& arrays,
                               std::span<const std::string> names) {
  for (const auto& name : names)
    for (const auto& array : arrays)
      if (array.name == name) return &array.array;
  return nullptr;
}

std::string names_of(const std::vector<media::NamedArray>& arrays) {
  std::string names;
  for (const auto& array : arrays) names += (names.empty() ? "" : ", ") + array.name;
  return names;
}

}  // namespace

DataType tensor_type(media::ArrayElement element) {
  switch (element) {
    case media::ArrayElement::kBool: return DataType::kBool;
    case media::ArrayElement::kInt8: return DataType::kInt8;
    case media::ArrayElement::kInt16: return DataType::kInt16;
    case media::ArrayElement::kInt32: return DataType::kInt32;
    case media::ArrayElement::kInt64: return DataType::kInt64;
    case media::ArrayElement::kUint8: return DataType::kUint8;
    case media::ArrayElement::kUint16: return DataType::kUint16;
    case media::ArrayElement::kUint32: return DataType::kUint32;
    case media::ArrayElement::kUint64: return DataType::kUint64;
    case media::ArrayElement::kFloat16: return DataType::kFloat16;
    case media::ArrayElement::kFloat32: return DataType::kFloat32;
    case media::ArrayElement::kFloat64: return DataType::kFloat64;
    case media::ArrayElement::kComplex64: return DataType::kComplex64;
    case media::ArrayElement::kComplex128: return DataType::kComplex128;
  }
  return DataType::kUndefined;
}

Result<std::unique_ptr<SampleSource>> open_idx(const fs::path& images,
                                               const SourceRequest& request) {
  SELVAGE_TRY(auto pixels, read_file(images, media::read_idx));
  std::vector<media::Array> inputs;
  inputs.push_back(std::move(pixels));
  const auto labels_path = labels_beside(images);
  if (!labels_path) return finish(std::move(inputs), nullptr, images, {}, request);
  SELVAGE_TRY(const auto labels, read_file(*labels_path, media::read_idx));
  return finish(std::move(inputs), &labels, images, *labels_path, request);
}

Result<std::unique_ptr<SampleSource>> open_npy(const fs::path& file, const SourceRequest& request) {
  SELVAGE_TRY(auto array, read_file(file, media::read_npy));
  std::vector<media::Array> inputs;
  inputs.push_back(std::move(array));
  auto name = file.filename().string();
  if (name[0] != 'x' && name[0] != 'X')
    return finish(std::move(inputs), nullptr, file, {}, request);
  name[0] = name[0] == 'x' ? 'y' : 'Y';
  const auto labels_path = file.parent_path() / name;
  std::error_code ignored;
  if (!fs::exists(labels_path, ignored))
    return finish(std::move(inputs), nullptr, file, {}, request);
  SELVAGE_TRY(const auto labels, read_file(labels_path, media::read_npy));
  return finish(std::move(inputs), &labels, file, labels_path, request);
}

Result<std::unique_ptr<SampleSource>> open_npz(const fs::path& file, const SourceRequest& request) {
  SELVAGE_TRY(const auto arrays, read_file(file, media::read_npz));
  const std::string part = request.options.part == Part::kTrain ? "train" : "test";
  std::vector<media::Array> inputs;
  for (const auto& input : request.inputs) {
    std::vector<std::string> names{input.info.name};
    if (request.inputs.size() == 1)
      names.insert(names.end(),
                   {"x", "X", "x_" + part, "X_" + part, part + "_x", "images", "data"});
    const auto* array = find_array(arrays, names);
    if (!array)
      return bad_file(file, "no array for input '" + input.info.name +
                                "': name it so, or x; the "
                                "file holds " +
                                names_of(arrays));
    inputs.push_back(*array);
  }
  const auto& wanted = request.options.label;
  const auto* labels =
      wanted.empty()
          ? find_array(arrays, std::array<std::string, 8>{"y", "Y", "y_" + part, "Y_" + part,
                                                          part + "_y", "label", "labels", "target"})
          : find_array(arrays, {&wanted, 1});
  if (!labels && !wanted.empty())
    return bad_file(file, "no array '" + wanted + "'; the file holds " + names_of(arrays));
  SELVAGE_TRY(auto source, finish(std::move(inputs), labels, file, file, request));
  source->takes_label = true;
  return source;
}

}  // namespace selvage::infer
