#include "infer/dataset.h"

#include <algorithm>
#include <array>
#include <atomic>
#include <cstring>
#include <mutex>
#include <numeric>

#include <sys/stat.h>

#include "base/random.h"
#include "infer/dataset_source.h"

namespace selvage::infer {
namespace {

namespace fs = std::filesystem;

std::vector<GivenInput> given_inputs(std::span<const ValueInfo> inputs, const ModelCard& card) {
  std::vector<GivenInput> given;
  for (std::size_t i = 0; i < inputs.size(); ++i) {
    const auto& name = inputs[i].name;
    if (std::ranges::find(card.input.state, name, &StatePair::input) != card.input.state.end() ||
        std::ranges::find(card.input.constants, name, &ConstantInput::tensor) !=
            card.input.constants.end())
      continue;
    given.push_back({i, inputs[i]});
  }
  return given;
}

/// A folder below `folder` for the part that is asked for, where there is one for each.
std::optional<fs::path> part_folder(const fs::path& folder, Part part) {
  std::error_code error;
  const auto is_folder = [&](const char* name) { return fs::is_directory(folder / name, error); };
  if (!is_folder("train")) return std::nullopt;
  for (const auto* name : {"test", "val", "validation"})
    if (is_folder(name)) return folder / (part == Part::kTrain ? "train" : name);
  return std::nullopt;
}

/// The images' IDX file in a folder, for the part that is asked for; the only one where there is
/// just one.
std::optional<fs::path> idx_images(const fs::path& folder, Part part) {
  std::vector<fs::path> found;
  std::error_code error;
  for (fs::directory_iterator at(folder, error);
       !error && at != fs::directory_iterator() && found.size() < 16; at.increment(error)) {
    const auto name = at->path().filename().string();
    const auto word = name.find("images");
    if (word != std::string::npos && name.find("idx", word) != std::string::npos)
      found.push_back(at->path());
  }
  std::ranges::sort(found);
  if (found.size() == 1) return found.front();
  for (const auto& path : found)
    if (path.filename().string().starts_with("train") == (part == Part::kTrain)) return path;
  return std::nullopt;
}

Result<std::unique_ptr<SampleSource>> open_folder(const fs::path& folder,
                                                  const SourceRequest& request) {
  std::error_code error;
  if (const auto part = part_folder(folder, request.options.part))
    return open_source(*part, request);
  if (const auto images = idx_images(folder, request.options.part))
    return open_idx(*images, request);
  if (fs::exists(folder / "test_data_set_0", error)) return open_test_data(folder, request);
  const std::string part = request.options.part == Part::kTrain ? "train" : "test";
  for (const auto& name : {std::string("x"), "x_" + part})
    if (fs::exists(folder / (name + ".npy"), error))
      return open_npy(folder / (name + ".npy"), request);
  for (const auto& name : {part + ".csv", part + ".npz"})
    if (fs::exists(folder / name, error)) return open_source(folder / name, request);
  return open_files(folder, request);
}

}  // namespace

Result<FileStamp> FileStamp::take(const fs::path& path) {
  struct stat status{};
  if (::stat(path.c_str(), &status) != 0)
    return fail(ErrorCode::kNotFound, "cannot find '" + path.string() + "'");
  if (!S_ISREG(status.st_mode))
    return fail(ErrorCode::kInvalidArgument, "'" + path.string() + "' is not a file");
  constexpr std::int64_t kNanosecondsPerSecond = 1'000'000'000;
  return FileStamp{
      .path = path,
      .bytes = static_cast<std::uint64_t>(status.st_size),
      .changed_ns = status.st_mtim.tv_sec * kNanosecondsPerSecond + status.st_mtim.tv_nsec};
}

Result<void> FileStamp::check() const {
  const auto now = take(path);
  if (now && now->bytes == bytes && now->changed_ns == changed_ns) return {};
  return fail(ErrorCode::kFailedPrecondition,
              "'" + path.string() + "' has " + (now ? "changed" : "gone") +
                  " since the data set was opened: start again once it stays as it is");
}

Result<std::unique_ptr<SampleSource>> open_source(const fs::path& path,
                                                  const SourceRequest& request) {
  std::error_code error;
  if (!fs::exists(path, error))
    return fail(ErrorCode::kNotFound, "no data at '" + path.string() + "'");
  if (fs::is_directory(path, error)) return open_folder(path, request);
  const auto name = path.filename().string();
  if (name.ends_with(".csv") || name.ends_with(".data")) return open_csv(path, request);
  if (name.ends_with(".npz")) return open_npz(path, request);
  if (name.ends_with(".npy")) return open_npy(path, request);
  if (name.find("idx") != std::string::npos) return open_idx(path, request);
  return fail(ErrorCode::kInvalidArgument,
              "'" + path.string() +
                  "' is none of: a folder of pictures, sounds or arrays, .csv, .npz, .npy, or IDX "
                  "(name-images-idx3-ubyte)");
}

struct Dataset::State {
  ModelCard card;
  DatasetOptions options;
  std::vector<GivenInput> given;
  std::unique_ptr<SampleSource> source;
  std::vector<DatasetInput> inputs;
  std::size_t sample_bytes = 0;  // Of all inputs; 0 where samples differ.
  bool batches = false;
  crypto::Digest fingerprint;

  std::mutex encoders_mutex;
  std::vector<std::unique_ptr<SampleEncoder>> encoders;  // Nobody uses just now.

  // Encoded samples; a flag goes from kEmpty over kWriting to kReady.
  enum : std::uint8_t { kEmpty, kWriting, kReady };
  std::unique_ptr<std::byte[]> cache;  // Pages that nobody writes cost nothing.
  std::vector<std::atomic<std::uint8_t>> cached;

  [[nodiscard]] Result<void> prepare(const fs::path& path);
  [[nodiscard]] Result<std::unique_ptr<SampleEncoder>> borrow(const Input& sample);
  void give_back(std::unique_ptr<SampleEncoder> encoder);
  [[nodiscard]] Result<void> encode(std::size_t index,
                                    std::span<const std::span<std::byte>> tensors);
  [[nodiscard]] Result<std::vector<Tensor>> encode_alone(std::size_t index);
  [[nodiscard]] std::unexpected<Error> at(std::size_t index, Error error) const;
  void compute_fingerprint(const fs::path& path);
};

std::unexpected<Error> Dataset::State::at(std::size_t index, Error error) const {
  return std::unexpected(std::move(error).with_context(source->place(index)));
}

void Dataset::State::compute_fingerprint(const fs::path& path) {
  crypto::Sha256 sha;
  const auto add = [&](std::uint64_t number) { sha.update(std::as_bytes(std::span(&number, 1))); };
  for (const auto& file : source->files) {
    const auto name = file.path.lexically_relative(path).generic_string();
    add(name.size());
    sha.update(name);
    add(file.bytes);
    add(static_cast<std::uint64_t>(file.changed_ns));
  }
  sha.update(std::as_bytes(std::span(source->targets.labels)));
  sha.update(std::as_bytes(std::span(source->targets.values)));
  fingerprint = sha.finish();
}

Result<void> Dataset::State::prepare(const fs::path& path) {
  if (given.empty()) return fail(ErrorCode::kInvalidArgument, "the model has no input to fill");
  SELVAGE_TRY(source, open_source(path, {given, card, options}));
  if (source->size() == 0)
    return fail(ErrorCode::kInvalidArgument,
                "'" + path.string() +
                    "' holds no samples: pictures (.jpg, .png, .pgm, .ppm), .wav, .npy, .npz, .pb "
                    "or raw tensors (.bin), or folders of them");
  if (!options.label.empty() && !source->takes_label)
    return fail(ErrorCode::kInvalidArgument,
                "'" + path.string() + "' has no columns or named arrays of which '" +
                    options.label + "' could be the label: only .csv and .npz do");
  DecodedSample first;
  if (auto read = source->read(0, first); !read) return at(0, std::move(read).error());
  auto encoder = SampleEncoder::create(given, card, first.input, source->is_uniform());
  if (!encoder) return at(0, std::move(encoder).error());
  const auto described = (*encoder)->inputs();
  inputs.assign(described.begin(), described.end());
  give_back(*std::move(encoder));

  const bool fixed = std::ranges::all_of(inputs, [](auto& input) { return input.bytes > 0; });
  batches = fixed && std::ranges::all_of(inputs, &DatasetInput::batched);
  if (fixed)
    for (const auto& input : inputs) sample_bytes += input.bytes;
  const auto bytes = static_cast<std::uint64_t>(sample_bytes) * source->size();
  if (source->decodes() && sample_bytes > 0 && bytes <= options.cache_bytes_max) {
    cache = std::make_unique_for_overwrite<std::byte[]>(bytes);
    cached = std::vector<std::atomic<std::uint8_t>>(source->size());
  }
  compute_fingerprint(path);
  return {};
}

Result<std::unique_ptr<SampleEncoder>> Dataset::State::borrow(const Input& sample) {
  {
    const std::scoped_lock lock(encoders_mutex);
    if (!encoders.empty()) {
      auto encoder = std::move(encoders.back());
      encoders.pop_back();
      return encoder;
    }
  }
  return SampleEncoder::create(given, card, sample, source->is_uniform());
}

void Dataset::State::give_back(std::unique_ptr<SampleEncoder> encoder) {
  const std::scoped_lock lock(encoders_mutex);
  encoders.push_back(std::move(encoder));
}

Result<void> Dataset::State::encode(std::size_t index,
                                    std::span<const std::span<std::byte>> tensors) {
  auto* const kept = cache ? cache.get() + index * sample_bytes : nullptr;
  if (kept && cached[index].load(std::memory_order_acquire) == kReady) {
    const auto* from = kept;
    for (const auto tensor : tensors) {
      std::memcpy(tensor.data(), from, tensor.size());
      from += tensor.size();
    }
    return {};
  }
  DecodedSample decoded;
  SELVAGE_RETURN_IF_ERROR(source->read(index, decoded));
  SELVAGE_TRY(auto encoder, borrow(decoded.input));
  SELVAGE_TRY(const auto shapes, encoder->shapes(decoded.input));
  for (std::size_t i = 0; i < tensors.size(); ++i)
    if (byte_size(inputs[i].type, shapes[i]) != tensors[i].size())
      return fail(ErrorCode::kInvalidArgument, "becomes " + selvage::to_string(shapes[i]) +
                                                   ", other samples become " +
                                                   selvage::to_string(inputs[i].shape));
  SELVAGE_RETURN_IF_ERROR(encoder->encode(decoded.input, tensors));
  give_back(std::move(encoder));

  std::uint8_t empty = kEmpty;
  if (!kept || !cached[index].compare_exchange_strong(empty, kWriting)) return {};
  auto* to = kept;
  for (const auto tensor : tensors) {
    std::memcpy(to, tensor.data(), tensor.size());
    to += tensor.size();
  }
  cached[index].store(kReady, std::memory_order_release);
  return {};
}

Result<std::vector<Tensor>> Dataset::State::encode_alone(std::size_t index) {
  DecodedSample decoded;
  SELVAGE_RETURN_IF_ERROR(source->read(index, decoded));
  SELVAGE_TRY(auto encoder, borrow(decoded.input));
  SELVAGE_TRY(const auto shapes, encoder->shapes(decoded.input));
  std::vector<Tensor> tensors;
  std::vector<std::span<std::byte>> bytes;
  for (std::size_t i = 0; i < shapes.size(); ++i) {
    SELVAGE_TRY(auto tensor, Tensor::create(inputs[i].type, shapes[i]));
    tensors.push_back(std::move(tensor));
    bytes.push_back(tensors.back().bytes());
  }
  SELVAGE_RETURN_IF_ERROR(encoder->encode(decoded.input, bytes));
  give_back(std::move(encoder));
  return tensors;
}

Dataset::Dataset(std::unique_ptr<State> state) : state_(std::move(state)) {}
Dataset::~Dataset() = default;

Result<std::unique_ptr<Dataset>> Dataset::open(const fs::path& path,
                                               std::span<const ValueInfo> inputs,
                                               const ModelCard& card,
                                               const DatasetOptions& options) {
  auto state = std::make_unique<State>();
  state->card = card;
  state->options = options;
  state->given = given_inputs(inputs, card);
  SELVAGE_RETURN_IF_ERROR(state->prepare(path));
  return std::unique_ptr<Dataset>(new Dataset(std::move(state)));
}

Result<std::unique_ptr<Dataset>> Dataset::open(const fs::path& path, const Model& model,
                                               const DatasetOptions& options) {
  return open(path, model.session().inputs(), model.card(), options);
}

std::size_t Dataset::size() const {
  return state_->source->size();
}

std::span<const DatasetInput> Dataset::inputs() const {
  return state_->inputs;
}

bool Dataset::takes_batches() const {
  return state_->batches;
}

std::string Dataset::place(std::size_t index) const {
  return state_->source->place(index);
}

TargetKind Dataset::target_kind() const {
  return state_->source->targets.kind;
}

const std::vector<std::string>& Dataset::classes() const {
  return state_->source->targets.classes;
}

std::int64_t Dataset::label(std::size_t index) const {
  return state_->source->targets.labels[index];
}

std::span<const float> Dataset::values(std::size_t index) const {
  const auto& targets = state_->source->targets;
  return std::span(targets.values).subspan(index * targets.width, targets.width);
}

Result<std::vector<Tensor>> Dataset::sample(std::size_t index) const {
  auto tensors = state_->encode_alone(index);
  if (!tensors) return state_->at(index, std::move(tensors).error());
  return tensors;
}

Result<void> Dataset::read(std::span<const std::size_t> indices,
                           std::span<const std::span<std::byte>> tensors) const {
  const auto& inputs = state_->inputs;
  std::vector<std::span<std::byte>> rows(inputs.size());
  for (std::size_t k = 0; k < indices.size(); ++k) {
    for (std::size_t i = 0; i < inputs.size(); ++i)
      rows[i] = tensors[i].subspan(k * inputs[i].bytes, inputs[i].bytes);
    if (auto encoded = state_->encode(indices[k], rows); !encoded)
      return state_->at(indices[k], std::move(encoded).error());
  }
  return {};
}

Result<DecodedSample> Dataset::decode(std::size_t index) const {
  DecodedSample decoded;
  if (std::holds_alternative<RawInput>(state_->card.input.kind)) {
    SELVAGE_TRY(decoded.tensors, sample(index));
    for (const auto& tensor : decoded.tensors) decoded.views.push_back(tensor.view());
    decoded.input = TensorsView{decoded.views};
    return decoded;
  }
  if (auto read = state_->source->read(index, decoded); !read)
    return state_->at(index, std::move(read).error());
  return decoded;
}

Result<void> Dataset::check_unchanged() const {
  for (const auto& file : state_->source->files) SELVAGE_RETURN_IF_ERROR(file.check());
  return {};
}

bool Dataset::reads(const std::filesystem::path& file) const {
  std::error_code ignored;
  if (!std::filesystem::exists(file, ignored)) return false;
  return std::ranges::any_of(state_->source->files, [&](const FileStamp& one) {
    return std::filesystem::equivalent(one.path, file, ignored);
  });
}

const crypto::Digest& Dataset::fingerprint() const {
  return state_->fingerprint;
}

Split split(const Dataset& data, double fraction, std::uint64_t seed) {
  std::vector<std::size_t> order(data.size());
  std::iota(order.begin(), order.end(), std::size_t{0});
  Random random(seed);
  random.shuffle(std::span(order));
  // A class's share is taken from wherever its samples lie in the random order; what rounding
  // leaves over is carried to the next class.
  const bool classes = data.target_kind() == TargetKind::kClass;
  const auto class_of = [&](std::size_t index) {
    return classes ? static_cast<std::size_t>(data.label(index)) : std::size_t{0};
  };
  std::vector<std::size_t> counts(classes ? data.classes().size() : 1);
  for (const auto index : order) ++counts[class_of(index)];
  std::vector<std::size_t> quota(counts.size());
  double owed = 0;
  for (std::size_t c = 0; c < counts.size(); ++c) {
    owed += fraction * static_cast<double>(counts[c]);
    quota[c] = std::min(counts[c], static_cast<std::size_t>(std::max(0.0, owed + 0.5)));
    owed -= static_cast<double>(quota[c]);
  }
  Split split;
  for (const auto index : order) {
    auto& left = quota[class_of(index)];
    (left > 0 ? split.validation : split.train).push_back(index);
    if (left > 0) --left;
  }
  std::ranges::sort(split.train);
  std::ranges::sort(split.validation);
  return split;
}

}  // namespace selvage::infer
