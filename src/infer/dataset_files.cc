// Samples that are files: pictures, sounds, arrays, tensors, in one folder or in a folder a class.
#include <algorithm>
#include <array>
#include <map>

#include "base/file.h"
#include "graph/tensor_file.h"
#include "infer/dataset_source.h"
#include "media/array.h"
#include "media/picture.h"
#include "media/sound.h"

namespace selvage::infer {
namespace {

namespace fs = std::filesystem;

enum class FileKind : std::uint8_t { kPicture, kSound, kNpy, kNpz, kTensor, kRaw };

std::optional<FileKind> kind_of(const fs::path& path) {
  static const std::map<std::string, FileKind> kinds{
      {".jpg", FileKind::kPicture}, {".jpeg", FileKind::kPicture}, {".png", FileKind::kPicture},
      {".pgm", FileKind::kPicture}, {".ppm", FileKind::kPicture},  {".wav", FileKind::kSound},
      {".npy", FileKind::kNpy},     {".npz", FileKind::kNpz},      {".pb", FileKind::kTensor},
      {".bin", FileKind::kRaw},     {".raw", FileKind::kRaw}};
  auto extension = path.extension().string();
  std::ranges::transform(extension, extension.begin(), [](unsigned char c) {
    return static_cast<char>(c >= 'A' && c <= 'Z' ? c - 'A' + 'a' : c);
  });
  const auto found = kinds.find(extension);
  if (found == kinds.end()) return std::nullopt;
  return found->second;
}

/// The inputs of a sample, as they are in the model: what raw bytes are read as.
struct RawLayout {
  DataType type = DataType::kUndefined;
  Shape shape;
  std::string name;
};

Result<Tensor> read_raw(std::span<const std::byte> bytes, const RawLayout& layout) {
  const auto wanted = byte_size(layout.type, layout.shape);
  if (!wanted || *wanted != bytes.size())
    return fail(ErrorCode::kInvalidArgument, std::to_string(bytes.size()) +
                                                 " bytes do not make an input '" + layout.name +
                                                 "' of " + std::string(to_string(layout.type)) +
                                                 " " + selvage::to_string(layout.shape));
  SELVAGE_TRY(auto tensor, Tensor::create(layout.type, layout.shape));
  std::ranges::copy(bytes, tensor.bytes().begin());
  return tensor;
}

Result<Tensor> tensor_of(const media::Array& array) {
  SELVAGE_TRY(auto tensor, Tensor::create(tensor_type(array.element), array.shape));
  std::ranges::copy(array.bytes, tensor.bytes().begin());
  return tensor;
}

/// A sample of one or several files; several are one tensor each (test_data_set_0/input_*.pb).
struct Entry {
  std::string shown;      // Below the data set's path.
  std::size_t first = 0;  // Among files.
  std::size_t count = 1;
};

class FileSource final : public SampleSource {
 public:
  explicit FileSource(const SourceRequest& request) {
    for (const auto& input : request.inputs) {
      Shape shape = input.info.shape;
      std::ranges::replace(shape, -1, 1);
      layouts_.push_back({input.info.type, std::move(shape), input.info.name});
    }
  }
  [[nodiscard]] Result<void> add(std::span<const fs::path> paths, std::string shown) {
    entries_.push_back({std::move(shown), files.size(), paths.size()});
    for (const auto& path : paths) {
      SELVAGE_TRY(auto stamp, FileStamp::take(path));
      files.push_back(std::move(stamp));
    }
    if (files.size() > kDatasetFilesMax)
      return fail(ErrorCode::kOutOfRange, "more than " + std::to_string(kDatasetFilesMax) +
                                              " files: split the data set, or use one NPZ file");
    return {};
  }

  [[nodiscard]] std::size_t size() const override { return entries_.size(); }
  [[nodiscard]] std::string place(std::size_t index) const override {
    return entries_[index].shown;
  }
  [[nodiscard]] bool decodes() const override { return true; }
  [[nodiscard]] bool is_uniform() const override { return false; }

  [[nodiscard]] Result<void> read(std::size_t index, DecodedSample& to) const override {
    const auto& entry = entries_[index];
    to.tensors.clear();
    for (std::size_t f = entry.first; f < entry.first + entry.count; ++f) {
      SELVAGE_RETURN_IF_ERROR(files[f].check());
      auto decoded = decode(files[f].path, to);
      if (!decoded)
        return std::unexpected(std::move(decoded).error().with_context(files[f].path.string()));
    }
    if (to.tensors.empty()) return {};
    to.views.clear();
    for (const auto& tensor : to.tensors) to.views.push_back(tensor.view());
    to.input = TensorsView{to.views};
    return {};
  }

 private:
  [[nodiscard]] Result<void> decode(const fs::path& path, DecodedSample& to) const {
    SELVAGE_TRY(const auto bytes, read_bytes(path, kDatasetFileBytesMax));
    switch (*kind_of(path)) {
      case FileKind::kPicture: {
        SELVAGE_TRY(to.picture, media::decode_picture(bytes));
        to.input = to.picture.view();
        return {};
      }
      case FileKind::kSound: {
        SELVAGE_TRY(to.sound, media::decode_wav(bytes));
        to.input = SoundView{to.sound.samples, static_cast<std::uint32_t>(to.sound.sample_rate)};
        return {};
      }
      case FileKind::kNpy: {
        SELVAGE_TRY(const auto array, media::read_npy(bytes));
        SELVAGE_TRY(auto tensor, tensor_of(array));
        to.tensors.push_back(std::move(tensor));
        return {};
      }
      case FileKind::kNpz: return decode_npz(bytes, to);
      case FileKind::kTensor: {
        SELVAGE_TRY(auto file, graph::parse_tensor(bytes));
        to.tensors.push_back(std::move(file.tensor));
        return {};
      }
      case FileKind::kRaw: {
        SELVAGE_TRY(auto tensor, read_raw(bytes, layouts_.front()));
        to.tensors.push_back(std::move(tensor));
        return {};
      }
    }
    return fail(ErrorCode::kInternal, "a kind of file that nothing reads");
  }

  [[nodiscard]] Result<void> decode_npz(std::span<const std::byte> bytes, DecodedSample& to) const {
    SELVAGE_TRY(const auto arrays, media::read_npz(bytes));
    for (const auto& layout : layouts_) {
      auto found = std::ranges::find(arrays, layout.name, &media::NamedArray::name);
      if (found == arrays.end() && layouts_.size() == 1 && arrays.size() == 1)
        found = arrays.begin();
      if (found == arrays.end())
        return fail(ErrorCode::kInvalidArgument, "no array for input '" + layout.name + "'");
      SELVAGE_TRY(auto tensor, tensor_of(found->array));
      to.tensors.push_back(std::move(tensor));
    }
    return {};
  }

  std::vector<Entry> entries_;
  std::vector<RawLayout> layouts_;
};

/// The names in a folder, sorted, without hidden ones.
Result<std::vector<fs::directory_entry>> list(const fs::path& folder) {
  std::error_code error;
  std::vector<fs::directory_entry> entries;
  fs::directory_iterator at(folder, error);
  for (; !error && at != fs::directory_iterator(); at.increment(error)) {
    if (at->path().filename().string().starts_with('.')) continue;
    entries.push_back(*at);
    if (entries.size() > kDatasetFilesMax)
      return fail(ErrorCode::kOutOfRange,
                  folder.string() + ": more than " + std::to_string(kDatasetFilesMax) + " files");
  }
  if (error) return fail(ErrorCode::kIo, folder.string() + ": " + error.message());
  std::ranges::sort(entries);
  return entries;
}

/// A card that takes pictures or sounds leaves other files alone.
bool is_sample(const fs::path& path, const ModelCard& card) {
  const auto kind = kind_of(path);
  if (std::holds_alternative<ImageInput>(card.input.kind)) return kind == FileKind::kPicture;
  if (std::holds_alternative<AudioInput>(card.input.kind)) return kind == FileKind::kSound;
  return kind.has_value();
}

Result<void> add_samples(const fs::path& folder, const std::string& below, const ModelCard& card,
                         FileSource& source, std::size_t& added) {
  SELVAGE_TRY(const auto entries, list(folder));
  for (const auto& entry : entries) {
    std::error_code ignored;
    if (!is_sample(entry.path(), card) || !entry.is_regular_file(ignored)) continue;
    SELVAGE_RETURN_IF_ERROR(
        source.add({&entry.path(), 1}, below + entry.path().filename().string()));
    ++added;
  }
  return {};
}

}  // namespace

Result<std::unique_ptr<SampleSource>> open_files(const fs::path& folder,
                                                 const SourceRequest& request) {
  SELVAGE_TRY(const auto entries, list(folder));
  auto source = std::make_unique<FileSource>(request);
  std::vector<std::string> classes;
  std::vector<std::size_t> counts;
  for (const auto& entry : entries) {
    std::error_code ignored;
    if (!entry.is_directory(ignored)) continue;
    const auto name = entry.path().filename().string();
    std::size_t added = 0;
    SELVAGE_RETURN_IF_ERROR(add_samples(entry.path(), name + "/", request.card, *source, added));
    if (added == 0) continue;
    classes.push_back(name);
    counts.push_back(added);
  }
  std::size_t flat = 0;
  SELVAGE_RETURN_IF_ERROR(add_samples(folder, "", request.card, *source, flat));
  if (flat > 0 && !classes.empty())
    return fail(ErrorCode::kInvalidArgument,
                folder.string() + ": samples lie both in the folder and in '" + classes.front() +
                    "/' below it: use one folder a class, or one folder for all");
  if (classes.empty()) return std::unique_ptr<SampleSource>(std::move(source));

  const std::vector<std::string_view> names(classes.begin(), classes.end());
  auto numbered = number_classes(names, request.card);
  if (!numbered) return std::unexpected(std::move(numbered).error().with_context(folder.string()));
  if (numbered->kind != TargetKind::kClass)
    return fail(ErrorCode::kInvalidArgument,
                folder.string() +
                    ": the card asks for numbers, folders give classes: use CSV or "
                    "NPZ with the values");
  source->targets = {.kind = TargetKind::kClass, .classes = std::move(numbered->classes)};
  for (std::size_t c = 0; c < counts.size(); ++c)
    source->targets.labels.insert(source->targets.labels.end(), counts[c], numbered->labels[c]);
  return std::unique_ptr<SampleSource>(std::move(source));
}

Result<std::unique_ptr<SampleSource>> open_test_data(const fs::path& folder,
                                                     const SourceRequest& request) {
  SELVAGE_TRY(const auto entries, list(folder));
  auto source = std::make_unique<FileSource>(request);
  for (const auto& entry : entries) {
    const auto name = entry.path().filename().string();
    if (!name.starts_with("test_data_set_")) continue;
    std::vector<fs::path> inputs;
    std::error_code ignored;
    for (std::size_t i = 0; i < request.inputs.size(); ++i) {
      auto path = entry.path() / ("input_" + std::to_string(request.inputs[i].index) + ".pb");
      if (!fs::exists(path, ignored))
        return fail(ErrorCode::kNotFound, path.string() + " is missing: the model has input '" +
                                              request.inputs[i].info.name + "'");
      inputs.push_back(std::move(path));
    }
    SELVAGE_RETURN_IF_ERROR(source->add(inputs, name));
  }
  return std::unique_ptr<SampleSource>(std::move(source));
}

}  // namespace selvage::infer
