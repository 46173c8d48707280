#include <algorithm>
#include <cstring>

#include "infer/dataset_source.h"
#include "infer/elements.h"
#include "infer/preprocess.h"
#include "media/sound.h"

namespace selvage::infer {
namespace {

std::unexpected<Error> invalid(const std::string& problem) {
  return fail(ErrorCode::kInvalidArgument, problem);
}

/// A declared shape, taken apart: a first dimension that is open or 1 counts samples.
struct Declared {
  std::span<const std::int64_t> sample;
  bool has_batch = false;

  explicit Declared(const ValueInfo& info) : sample(info.shape) {
    has_batch = !sample.empty() && (sample[0] == -1 || (sample[0] == 1 && sample.size() > 1));
    if (has_batch) sample = sample.subspan(1);
  }
  [[nodiscard]] Shape with_batch(Shape shape) const {
    if (has_batch) shape.insert(shape.begin(), 1);
    return shape;
  }
};

constexpr float kByteMax = 255;

ImageInput plain_image() {
  ImageInput image;
  image.transform.value_scale = 1 / kByteMax;
  return image;
}

bool is_integer(DataType type) {
  switch (type) {
    case DataType::kBool:
    case DataType::kUint8:
    case DataType::kInt8:
    case DataType::kUint16:
    case DataType::kInt16:
    case DataType::kUint32:
    case DataType::kInt32:
    case DataType::kInt64: return true;
    default: return false;
  }
}

bool is_float(DataType type) {
  return type == DataType::kFloat32 || type == DataType::kFloat64 || type == DataType::kFloat16 ||
         type == DataType::kBfloat16;
}

template <typename From>
void widen(std::span<const std::byte> from, std::span<double> to) {
  for (std::size_t i = 0; i < to.size(); ++i) {
    From value;
    std::memcpy(&value, from.data() + i * sizeof(From), sizeof value);
    to[i] = static_cast<double>(value);
  }
}

Result<void> widen(const TensorView& from, std::span<double> to) {
  switch (from.type) {
    case DataType::kBool:
    case DataType::kUint8: widen<std::uint8_t>(from.bytes, to); return {};
    case DataType::kInt8: widen<std::int8_t>(from.bytes, to); return {};
    case DataType::kUint16: widen<std::uint16_t>(from.bytes, to); return {};
    case DataType::kInt16: widen<std::int16_t>(from.bytes, to); return {};
    case DataType::kUint32: widen<std::uint32_t>(from.bytes, to); return {};
    case DataType::kInt32: widen<std::int32_t>(from.bytes, to); return {};
    case DataType::kInt64: widen<std::int64_t>(from.bytes, to); return {};
    case DataType::kFloat64: widen<double>(from.bytes, to); return {};
    default: break;
  }
  std::vector<float> scratch;
  SELVAGE_TRY(const auto floats, as_floats(from, scratch));
  std::ranges::copy(floats, to.begin());
  return {};
}

/// The elements as `type`: bytes for floats are scaled to [0, 1] where `scale_bytes` says so.
Result<void> convert(const TensorView& from, DataType type, bool scale_bytes,
                     std::span<std::byte> to) {
  if (from.type == type) {
    std::ranges::copy(from.bytes, to.begin());
    return {};
  }
  const bool scaled = scale_bytes && from.type == DataType::kUint8 && is_float(type);
  if (scaled && type == DataType::kFloat32) {
    auto* elements = reinterpret_cast<float*>(to.data());
    for (std::size_t i = 0; i < from.bytes.size(); ++i)
      elements[i] = static_cast<float>(std::to_integer<std::uint8_t>(from.bytes[i])) / kByteMax;
    return {};
  }
  const auto elements = to.size() * 8 / bits_of(type);
  std::vector<double> wide(elements);
  SELVAGE_RETURN_IF_ERROR(widen(from, wide));
  if (scaled)
    for (auto& value : wide) value /= static_cast<double>(kByteMax);
  return write_elements(wide, type, to);
}

/// What becomes of a sample of tensors.
struct TensorKind {
  std::vector<Shape> shapes;  ///< Of a batch of one.
  bool scale_bytes = false;
};
struct PictureKind {
  ImagePreprocessor image;
};
struct SoundKind {
  std::size_t context = 0;
  std::size_t window = 0;   ///< 0: as long as the sound.
  std::optional<int> rate;  ///< Empty: whatever the file has.
};
struct RowKind {
  std::optional<TableEncoder> encoder;  ///< Empty: the values as they are.
};

}  // namespace

std::optional<Shape> fit_shape(std::span<const std::int64_t> declared,
                               std::span<const std::int64_t> shape) {
  const auto fits = [&](std::span<const std::int64_t> sizes) {
    return std::ranges::equal(
        declared, sizes, [](auto wanted, auto size) { return wanted == size || wanted == -1; });
  };
  Shape sizes(shape.begin(), shape.end());
  while (sizes.size() < declared.size()) sizes.insert(sizes.begin(), 1);
  while (sizes.size() > declared.size() && !sizes.empty() && sizes.front() == 1)
    sizes.erase(sizes.begin());
  if (fits(sizes)) return sizes;
  if (std::ranges::find(declared, -1) != declared.end()) return std::nullopt;

  Shape fixed(declared.begin(), declared.end());
  if (element_count(declared) != element_count(shape)) return std::nullopt;
  if (declared.size() == 1) return fixed;
  Shape plain(shape.begin(), shape.end());
  std::erase(plain, 1);
  std::erase(fixed, 1);
  if (plain != fixed) return std::nullopt;
  return Shape(declared.begin(), declared.end());
}

struct SampleEncoder::State {
  std::span<const GivenInput> given;
  std::vector<DatasetInput> inputs;
  std::variant<std::monostate, TensorKind, PictureKind, SoundKind, RowKind> kind;

  [[nodiscard]] Result<void> prepare(const ModelCard& card, const Input& first);
  [[nodiscard]] Result<void> describe(const Input& first, bool uniform);
  [[nodiscard]] Result<const ValueInfo*> only_input(std::string_view what) const;

  [[nodiscard]] Result<void> prepare_tensors(const ModelCard& card, const TensorsView& first);
  [[nodiscard]] Result<void> prepare_picture(const ModelCard& card);
  [[nodiscard]] Result<void> prepare_sound(const ModelCard& card);
  [[nodiscard]] Result<void> prepare_row(const ModelCard& card);

  [[nodiscard]] Result<std::vector<Shape>> shapes(const Input& sample) const;
  [[nodiscard]] Result<void> encode_sound(const SoundKind& sound, const SoundView& sample,
                                          std::span<std::byte> tensor);
};

Result<const ValueInfo*> SampleEncoder::State::only_input(std::string_view what) const {
  if (given.size() == 1) return &given.front().info;
  return invalid("the model takes " + std::to_string(given.size()) + " inputs, but " +
                 std::string(what) +
                 " fills one: list the others in the model card under state or constants, or give "
                 ".npz files whose arrays have the inputs' names");
}

Result<void> SampleEncoder::State::prepare_tensors(const ModelCard& card,
                                                   const TensorsView& first) {
  TensorKind tensors{.shapes = {},
                     .scale_bytes = std::holds_alternative<RawInput>(card.input.kind)};
  if (first.tensors.size() != given.size())
    return invalid("the model takes " + std::to_string(given.size()) + " inputs, the sample has " +
                   std::to_string(first.tensors.size()));
  for (std::size_t i = 0; i < given.size(); ++i) {
    const auto& info = given[i].info;
    const auto& view = first.tensors[i];
    const Declared declared(info);
    auto shape = fit_shape(declared.sample, view.shape);
    const auto whole = declared.has_batch ? fit_shape(info.shape, view.shape) : std::nullopt;
    if (!shape && !whole)
      return invalid("input '" + info.name + "' of shape " + selvage::to_string(info.shape) +
                     " does not take a sample of shape " + selvage::to_string(view.shape));
    const bool known = (is_float(view.type) || is_integer(view.type)) && is_float(info.type);
    if (view.type != info.type && !known && !(is_integer(view.type) && is_integer(info.type)))
      return invalid("input '" + info.name + "' takes " + std::string(to_string(info.type)) +
                     ", the sample has " + std::string(to_string(view.type)));
    tensors.shapes.push_back(shape ? declared.with_batch(*std::move(shape)) : *whole);
  }
  kind = std::move(tensors);
  return {};
}

Result<void> SampleEncoder::State::prepare_picture(const ModelCard& card) {
  SELVAGE_TRY(const auto* info, only_input("a picture"));
  const auto* image = std::get_if<ImageInput>(&card.input.kind);
  if (!image && !std::holds_alternative<RawInput>(card.input.kind))
    return invalid("the model card takes no pictures");
  SELVAGE_TRY(auto preprocessor, ImagePreprocessor::create(image ? *image : plain_image(), *info));
  kind.emplace<PictureKind>(std::move(preprocessor));
  return {};
}

Result<void> SampleEncoder::State::prepare_sound(const ModelCard& card) {
  SELVAGE_TRY(const auto* info, only_input("a sound"));
  if (info->type != DataType::kFloat32)
    return fail(ErrorCode::kUnimplemented, "sounds become float32, but input '" + info->name +
                                               "' takes " + std::string(to_string(info->type)));
  SoundKind sound;
  if (const auto* audio = std::get_if<AudioInput>(&card.input.kind)) {
    sound = {.context = static_cast<std::size_t>(audio->context),
             .window = static_cast<std::size_t>(audio->window),
             .rate = audio->rate};
  } else if (!std::holds_alternative<RawInput>(card.input.kind)) {
    return invalid("the model card takes no sounds");
  } else if (const auto count = element_count(Declared(*info).sample)) {
    if (*count < 1 || *count > kWindowSamplesMax)
      return invalid("input '" + info->name + "' of shape " + selvage::to_string(info->shape) +
                     " does not take a sound");
    sound.window = static_cast<std::size_t>(*count);
  }
  kind = sound;
  return {};
}

Result<void> SampleEncoder::State::prepare_row(const ModelCard& card) {
  SELVAGE_TRY(const auto* info, only_input("a row"));
  const auto* table = std::get_if<TableInput>(&card.input.kind);
  if (!table && !std::holds_alternative<RawInput>(card.input.kind))
    return invalid("the model card takes no tables");
  RowKind row;
  if (table) {
    SELVAGE_TRY(auto encoder, TableEncoder::create(*table, *info));
    row.encoder.emplace(std::move(encoder));
  }
  kind.emplace<RowKind>(std::move(row));
  return {};
}

Result<void> SampleEncoder::State::prepare(const ModelCard& card, const Input& first) {
  if (const auto* tensors = std::get_if<TensorsView>(&first))
    return prepare_tensors(card, *tensors);
  if (std::holds_alternative<media::PictureView>(first)) return prepare_picture(card);
  if (std::holds_alternative<SoundView>(first)) return prepare_sound(card);
  return prepare_row(card);
}

Result<std::vector<Shape>> SampleEncoder::State::shapes(const Input& sample) const {
  if (const auto* tensors = std::get_if<TensorKind>(&kind)) {
    const auto* views = std::get_if<TensorsView>(&sample);
    if (!views || views->tensors.size() != given.size())
      return invalid("the samples are not all of the same kind");
    std::vector<Shape> found;
    for (std::size_t i = 0; i < given.size(); ++i) {
      const auto elements = element_count(views->tensors[i].shape);
      if (elements == element_count(tensors->shapes[i])) {
        found.push_back(tensors->shapes[i]);
        continue;
      }
      const Declared declared(given[i].info);
      auto shape = fit_shape(declared.sample, views->tensors[i].shape);
      if (!shape)
        return invalid("input '" + given[i].info.name + "' does not take a sample of shape " +
                       selvage::to_string(views->tensors[i].shape));
      found.push_back(declared.with_batch(*std::move(shape)));
    }
    return found;
  }
  const auto& info = given.front().info;
  if (const auto* picture = std::get_if<PictureKind>(&kind)) {
    const auto* view = std::get_if<media::PictureView>(&sample);
    if (!view) return invalid("the samples are not all pictures");
    return std::vector<Shape>{
        picture->image.shape_for(picture->image.size_for(view->width, view->height))};
  }
  if (const auto* sound = std::get_if<SoundKind>(&kind)) {
    const auto* view = std::get_if<SoundView>(&sample);
    if (!view) return invalid("the samples are not all sounds");
    const auto count = sound->window > 0 ? sound->context + sound->window : view->samples.size();
    SELVAGE_TRY(auto shape, shape_holding(info, static_cast<std::int64_t>(count)));
    return std::vector<Shape>{std::move(shape)};
  }
  const auto* row = std::get_if<RowView>(&sample);
  if (!row) return invalid("the samples are not all rows");
  const auto& encoder = std::get<RowKind>(kind).encoder;
  if (encoder) return std::vector<Shape>{encoder->shape()};
  SELVAGE_TRY(auto shape, shape_holding(info, static_cast<std::int64_t>(row->values.size())));
  return std::vector<Shape>{std::move(shape)};
}

Result<void> SampleEncoder::State::describe(const Input& first, bool uniform) {
  SELVAGE_TRY(const auto found, shapes(first));
  const auto* picture = std::get_if<PictureKind>(&kind);
  const auto* sound = std::get_if<SoundKind>(&kind);
  const bool fixed = picture ? uniform || picture->image.size_is_fixed()
                     : sound ? uniform || sound->window > 0
                             : uniform;
  for (std::size_t i = 0; i < given.size(); ++i) {
    const auto& info = given[i].info;
    const bool has_batch = Declared(info).has_batch && !found[i].empty() && found[i][0] == 1;
    DatasetInput input{.index = given[i].index,
                       .name = info.name,
                       .type = info.type,
                       .shape = found[i],
                       .batched = has_batch && info.shape[0] == -1};
    if (has_batch) input.shape.erase(input.shape.begin());
    const auto bytes = byte_size(info.type, input.shape);
    if (!bytes || *bytes == 0)
      return invalid("input '" + info.name + "' of shape " + selvage::to_string(info.shape) +
                     " cannot be filled from this data set");
    if (fixed)
      input.bytes = *bytes;
    else
      for (std::size_t d = 0; d < input.shape.size(); ++d)
        if (info.shape[d + (has_batch ? 1 : 0)] == -1) input.shape[d] = -1;
    inputs.push_back(std::move(input));
  }
  return {};
}

Result<void> SampleEncoder::State::encode_sound(const SoundKind& sound, const SoundView& sample,
                                                std::span<std::byte> tensor) {
  auto samples = sample.samples;
  media::Sound resampled;
  if (sound.rate && static_cast<std::uint32_t>(*sound.rate) != sample.sample_rate) {
    const media::Sound original{.sample_rate = static_cast<int>(sample.sample_rate),
                                .samples = {samples.begin(), samples.end()}};
    SELVAGE_TRY(resampled, media::resample(original, *sound.rate));
    samples = resampled.samples;
  }
  const std::span to(reinterpret_cast<float*>(tensor.data()), tensor.size() / sizeof(float));
  std::ranges::fill(to, 0.0f);
  const auto count = std::min(samples.size(), to.size() - sound.context);
  std::ranges::copy(samples.first(count), to.begin() + static_cast<std::ptrdiff_t>(sound.context));
  return {};
}

SampleEncoder::SampleEncoder(std::unique_ptr<State> state) : state_(std::move(state)) {}
SampleEncoder::~SampleEncoder() = default;

Result<std::unique_ptr<SampleEncoder>> SampleEncoder::create(std::span<const GivenInput> inputs,
                                                             const ModelCard& card,
                                                             const Input& first, bool uniform) {
  auto state = std::make_unique<State>();
  state->given = inputs;
  SELVAGE_RETURN_IF_ERROR(state->prepare(card, first));
  SELVAGE_RETURN_IF_ERROR(state->describe(first, uniform));
  return std::unique_ptr<SampleEncoder>(new SampleEncoder(std::move(state)));
}

std::span<const DatasetInput> SampleEncoder::inputs() const {
  return state_->inputs;
}

Result<std::vector<Shape>> SampleEncoder::shapes(const Input& sample) const {
  return state_->shapes(sample);
}

Result<void> SampleEncoder::encode(const Input& sample,
                                   std::span<const std::span<std::byte>> tensors) {
  auto& kind = state_->kind;
  if (auto* picture = std::get_if<PictureKind>(&kind)) {
    const auto& view = std::get<media::PictureView>(sample);
    SELVAGE_TRY(
        [[maybe_unused]] const auto frame,
        picture->image.fill(view, picture->image.size_for(view.width, view.height), tensors[0]));
    return {};
  }
  if (const auto* sound = std::get_if<SoundKind>(&kind))
    return state_->encode_sound(*sound, std::get<SoundView>(sample), tensors[0]);
  if (auto* row = std::get_if<RowKind>(&kind)) {
    const auto& values = std::get<RowView>(sample).values;
    return row->encoder ? row->encoder->fill(values, tensors[0])
                        : write_elements(values, state_->inputs[0].type, tensors[0]);
  }
  const auto& views = std::get<TensorsView>(sample).tensors;
  for (std::size_t i = 0; i < views.size(); ++i)
    SELVAGE_RETURN_IF_ERROR(convert(views[i], state_->inputs[i].type,
                                    std::get<TensorKind>(kind).scale_bytes, tensors[i]));
  return {};
}

}  // namespace selvage::infer
