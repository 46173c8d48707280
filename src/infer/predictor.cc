#include <algorithm>
#include <chrono>
#include <cmath>
#include <optional>
#include <string>

#include "base/clock.h"
#include "infer/activity.h"
#include "infer/elements.h"
#include "infer/model.h"
#include "infer/postprocess.h"
#include "infer/preprocess.h"
#include "media/sound.h"

namespace selvage::infer {
namespace {

/// Bindings kept for a model whose image size varies; the least recently used one makes room.
constexpr std::size_t kBindingsMax = 16;

std::unexpected<Error> invalid(const std::string& problem) {
  return fail(ErrorCode::kInvalidArgument, problem);
}

/// Times the stages of one prediction into the model's histograms. A prediction that fails midway
/// leaves no total.
class StageClock {
 public:
  explicit StageClock(const Model& model, SteadyTime begin = std::chrono::steady_clock::now())
      : model_(model), begin_(begin) {}
  void finish(Stage stage) {
    const auto now = std::chrono::steady_clock::now();
    model_.times(stage).record(now - last_);
    last_ = now;
    if (stage == Stage::kPostprocess) model_.times(Stage::kTotal).record(now - begin_);
  }

 private:
  const Model& model_;
  SteadyTime begin_;
  SteadyTime last_ = begin_;
};

/// An input whose memory is filled by us and never changes.
struct Constant {
  std::size_t input = 0;
  Shape shape;
  std::vector<double> elements;
};

/// A recurrent state: which output feeds which input, and the buffer that, besides the binding's
/// own, takes turns in holding it.
struct StateLoop {
  std::size_t input = 0;
  std::size_t output = 0;
  Tensor buffer;
};

struct BoundSize {
  TensorSize size;
  std::unique_ptr<Binding> binding;
  std::uint64_t last_use = 0;
};

/// Unfinished audio: the samples already in the input tensor, after the context.
struct AudioWindow {
  std::size_t context = 0;
  std::size_t window = 0;
  std::size_t filled = 0;
};

/// Tensors as they come, for these inputs.
struct RawInputs {
  std::vector<std::size_t> indices;
};

using Encoder = std::variant<RawInputs, ImagePreprocessor, AudioWindow, TableEncoder>;

/// The windows' classes, each with its best score; the most anomalous window; else the last window.
void keep_best(Prediction& kept, Prediction&& next, std::size_t top) {
  if (const auto* worst = std::get_if<Anomaly>(&kept)) {
    const auto& anomaly = std::get<Anomaly>(next);
    if (!(anomaly.score <= worst->score) && !std::isnan(worst->score)) kept = std::move(next);
    return;
  }
  auto* before = std::get_if<Classification>(&kept);
  auto* after = std::get_if<Classification>(&next);
  if (!before || !after) {
    kept = std::move(next);
    return;
  }
  for (auto& found : after->classes) {
    const auto same = std::ranges::find(before->classes, found.index, &Class::index);
    if (same == before->classes.end())
      before->classes.push_back(std::move(found));
    else
      same->score = std::max(same->score, found.score);
  }
  std::ranges::stable_sort(before->classes, std::ranges::greater(), &Class::score);
  if (before->classes.size() > top) before->classes.resize(top);
}

}  // namespace

struct Predictor::State {
  explicit State(const Model& owner) : model(owner) {}

  const Model& model;
  Encoder encoder;
  std::unique_ptr<Postprocessor> postprocessor;  // Of everything but activity.
  std::optional<ScoreReader> score_reader;       // Of activity.
  std::size_t input = 0;                         // The tensor that the encoder fills.
  Shape input_shape;                             // Of audio and tables.
  std::vector<Constant> constants;
  std::vector<StateLoop> loops;
  std::vector<BoundSize> bound;
  std::uint64_t uses = 0;
  std::vector<TensorView> outputs;
  std::vector<float> scores;  // Of push().

  [[nodiscard]] const ModelCard& card() const { return model.card(); }
  [[nodiscard]] Result<void> prepare();
  [[nodiscard]] Result<void> prepare_loops();
  [[nodiscard]] Result<void> prepare_constants();
  [[nodiscard]] Result<void> prepare_encoder();
  [[nodiscard]] Result<std::size_t> main_input(const std::string& name) const;
  [[nodiscard]] bool is_described(std::size_t index) const;
  [[nodiscard]] Result<void> warm_up();

  [[nodiscard]] Result<Binding*> bind(TensorSize size);
  [[nodiscard]] Result<std::unique_ptr<Binding>> make_binding(TensorSize size);
  void clear_state();
  /// Runs and calls `decode` with the outputs.
  template <typename Decode>
  [[nodiscard]] Result<void> run(Binding& binding, StageClock& clock, Decode&& decode);
  [[nodiscard]] Result<Prediction> run_once(Binding& binding, StageClock& clock,
                                            const Frame& frame);

  [[nodiscard]] Result<Prediction> predict(const media::PictureView& picture);
  [[nodiscard]] Result<Prediction> predict(const SoundView& sound);
  [[nodiscard]] Result<Prediction> predict(const RowView& row);
  [[nodiscard]] Result<Prediction> predict(const TensorsView& tensors);

  /// Runs on each window that `samples` complete and calls `decode` with its outputs; with `last`,
  /// what is left is filled with zeros to a window. What has happened since `begin`, resampling for
  /// one, is part of the first window's preprocessing.
  template <typename Decode>
  [[nodiscard]] Result<void> slide(std::span<const float> samples, bool last, SteadyTime begin,
                                   Decode&& decode);
  [[nodiscard]] Result<void> slide_scores(std::span<const float> samples, bool last,
                                          SteadyTime begin, std::vector<float>& to);
  [[nodiscard]] Result<Prediction> predict_activity(std::span<const float> samples,
                                                    SteadyTime begin);
  [[nodiscard]] Result<Prediction> predict_windows(std::span<const float> samples,
                                                   SteadyTime begin);
};

Result<void> Predictor::State::prepare() {
  SELVAGE_RETURN_IF_ERROR(prepare_loops());
  SELVAGE_RETURN_IF_ERROR(prepare_constants());
  SELVAGE_RETURN_IF_ERROR(prepare_encoder());
  const OutputNames names(model.session().outputs(), card().input.state);
  const auto* activity = std::get_if<ActivityOutput>(&card().output);
  if (activity && std::holds_alternative<AudioWindow>(encoder)) {
    SELVAGE_TRY(const auto tensor, names.index_of(activity->tensor));
    score_reader.emplace(tensor);
  } else {
    SELVAGE_TRY(postprocessor, Postprocessor::create(card().output, names));
  }
  if (names_places(card().output) && !std::holds_alternative<ImagePreprocessor>(encoder))
    return invalid("the card's output names places in a picture, but its input is not an image");
  return warm_up();
}

Result<void> Predictor::State::prepare_loops() {
  const auto& session = model.session();
  const OutputNames names(session.outputs(), {});
  for (const auto& pair : card().input.state) {
    const auto input_index = session.input_index(pair.input);
    if (!input_index)
      return invalid("the card's state names input '" + pair.input + "', which the model lacks");
    SELVAGE_TRY(const auto output_index, names.index_of(pair.output));
    const auto& declared = session.inputs()[*input_index];
    if (session.outputs()[output_index].type != declared.type)
      return invalid("state '" + pair.input + "' and '" + pair.output + "' differ in type");
    SELVAGE_TRY(auto buffer, Tensor::create(declared.type, smallest_shape(declared)));
    loops.push_back({.input = *input_index, .output = output_index, .buffer = std::move(buffer)});
  }
  return {};
}

Result<void> Predictor::State::prepare_constants() {
  const auto& session = model.session();
  for (const auto& described : card().input.constants) {
    const auto index = session.input_index(described.tensor);
    if (!index)
      return invalid("the card's constants name input '" + described.tensor +
                     "', which the model lacks");
    const auto& declared = session.inputs()[*index];
    Constant constant{.input = *index, .shape = {}, .elements = described.values};
    if (described.values.size() == 1) {
      constant.shape = smallest_shape(declared);
      const auto count = element_count(constant.shape);
      if (!count || *count > kWindowSamplesMax)
        return invalid("constant '" + declared.name + "' of shape " +
                       selvage::to_string(declared.shape) + " is too large");
      constant.elements.assign(static_cast<std::size_t>(*count), described.values[0]);
    } else {
      SELVAGE_TRY(constant.shape,
                  shape_holding(declared, static_cast<std::int64_t>(described.values.size())));
    }
    constants.push_back(std::move(constant));
  }
  return {};
}

bool Predictor::State::is_described(std::size_t index) const {
  return std::ranges::find(loops, index, &StateLoop::input) != loops.end() ||
         std::ranges::find(constants, index, &Constant::input) != constants.end();
}

/// The input that a card of one tensor means; every other one must be state or a constant.
Result<std::size_t> Predictor::State::main_input(const std::string& name) const {
  const auto inputs = model.session().inputs();
  std::optional<std::size_t> found;
  for (std::size_t i = 0; i < inputs.size(); ++i) {
    if (is_described(i)) continue;
    if (found ? name.empty() || inputs[*found].name == name
              : !name.empty() && inputs[i].name != name)
      return invalid("the model card does not describe input '" + inputs[i].name +
                     "': list it under state or constants, or name it as the tensor");
    found = i;
  }
  if (!found) return invalid("the model card leaves no input to fill");
  return *found;
}

Result<void> Predictor::State::prepare_encoder() {
  const auto inputs = model.session().inputs();
  const auto& kind = card().input.kind;
  if (std::holds_alternative<RawInput>(kind)) {
    RawInputs raw;
    for (std::size_t i = 0; i < inputs.size(); ++i)
      if (!is_described(i)) raw.indices.push_back(i);
    encoder.emplace<RawInputs>(std::move(raw));
  } else if (const auto* image = std::get_if<ImageInput>(&kind)) {
    SELVAGE_TRY(input, main_input(image->tensor));
    SELVAGE_TRY(auto preprocessor, ImagePreprocessor::create(*image, inputs[input]));
    if (!preprocessor.size_is_fixed() && !loops.empty())
      return fail(ErrorCode::kUnimplemented,
                  "a model with state needs an image of fixed size: set width and height");
    encoder.emplace<ImagePreprocessor>(std::move(preprocessor));
  } else if (const auto* audio = std::get_if<AudioInput>(&kind)) {
    SELVAGE_TRY(input, main_input(audio->tensor));
    if (inputs[input].type != DataType::kFloat32)
      return fail(ErrorCode::kUnimplemented, "sounds become float32, but input '" +
                                                 inputs[input].name + "' takes " +
                                                 std::string(to_string(inputs[input].type)));
    SELVAGE_TRY(input_shape,
                shape_holding(inputs[input], std::int64_t{audio->window} + audio->context));
    encoder.emplace<AudioWindow>(AudioWindow{.context = static_cast<std::size_t>(audio->context),
                                             .window = static_cast<std::size_t>(audio->window)});
  } else if (const auto* table = std::get_if<TableInput>(&kind)) {
    SELVAGE_TRY(input, main_input(table->tensor));
    SELVAGE_TRY(auto rows, TableEncoder::create(*table, inputs[input]));
    input_shape = rows.shape();
    encoder.emplace<TableEncoder>(std::move(rows));
  }
  return {};
}

/// A first run pays for memory and code that later ones find ready.
Result<void> Predictor::State::warm_up() {
  const auto* image = std::get_if<ImagePreprocessor>(&encoder);
  SELVAGE_TRY(auto* binding, bind(image ? image->usual_size() : TensorSize{}));
  const auto done = binding->run();
  // Zeros of the smallest shapes need not make sense to a model that no card describes.
  if (!done && !std::holds_alternative<RawInputs>(encoder)) return done;
  clear_state();
  return {};
}

Result<Binding*> Predictor::State::bind(TensorSize size) {
  auto found = std::ranges::find(bound, size, &BoundSize::size);
  if (found == bound.end()) {
    SELVAGE_TRY(auto binding, make_binding(size));
    if (bound.size() == kBindingsMax)
      bound.erase(std::ranges::min_element(bound, {}, &BoundSize::last_use));
    bound.push_back({.size = size, .binding = std::move(binding)});
    found = bound.end() - 1;
  }
  found->last_use = ++uses;
  return found->binding.get();
}

Result<std::unique_ptr<Binding>> Predictor::State::make_binding(TensorSize size) {
  const auto inputs = model.session().inputs();
  std::vector<Shape> shapes;
  for (const auto& declared : inputs) shapes.push_back(smallest_shape(declared));
  if (const auto* image = std::get_if<ImagePreprocessor>(&encoder))
    shapes[input] = image->shape_for(size);
  else if (!std::holds_alternative<RawInputs>(encoder))
    shapes[input] = input_shape;
  for (const auto& constant : constants) shapes[constant.input] = constant.shape;
  SELVAGE_TRY(auto binding, Binding::create(model.session(), shapes));
  for (const auto& constant : constants)
    SELVAGE_RETURN_IF_ERROR(write_elements(constant.elements, inputs[constant.input].type,
                                           binding->input_bytes(constant.input)));
  for (auto& loop : loops)
    SELVAGE_RETURN_IF_ERROR(
        binding->bind_output(loop.output, loop.buffer.shape(), loop.buffer.bytes()));
  outputs.reserve(binding->output_count());
  return binding;
}

void Predictor::State::clear_state() {
  auto* audio = std::get_if<AudioWindow>(&encoder);
  if (audio) audio->filled = 0;
  for (auto& entry : bound) {
    for (const auto& loop : loops)
      std::ranges::fill(entry.binding->input_bytes(loop.input), std::byte{0});
    if (audio) std::ranges::fill(entry.binding->input_bytes(input), std::byte{0});
  }
}

template <typename Decode>
Result<void> Predictor::State::run(Binding& binding, StageClock& clock, Decode&& decode) {
  SELVAGE_RETURN_IF_ERROR(binding.run());
  clock.finish(Stage::kRun);
  outputs.clear();
  for (std::size_t i = 0; i < binding.output_count(); ++i) outputs.push_back(binding.output(i));
  SELVAGE_RETURN_IF_ERROR(decode(std::span<const TensorView>(outputs)));
  for (const auto& loop : loops)
    SELVAGE_RETURN_IF_ERROR(binding.feed_back(loop.output, loop.input));
  clock.finish(Stage::kPostprocess);
  return {};
}

Result<Prediction> Predictor::State::run_once(Binding& binding, StageClock& clock,
                                              const Frame& frame) {
  std::optional<Prediction> made;
  SELVAGE_RETURN_IF_ERROR(run(binding, clock, [&](auto given) -> Result<void> {
    SELVAGE_TRY(made, postprocessor->decode(given, frame));
    return {};
  }));
  return *std::move(made);
}

Result<Prediction> Predictor::State::predict(const media::PictureView& picture) {
  auto* image = std::get_if<ImagePreprocessor>(&encoder);
  if (!image)
    return invalid("model '" + model.name() +
                   "' has no card with `input: {kind: image}`, so it cannot take a picture");
  StageClock clock(model);
  const auto size = image->size_for(picture.width, picture.height);
  SELVAGE_TRY(auto* binding, bind(size));
  SELVAGE_TRY(const auto frame, image->fill(picture, size, binding->input_bytes(input)));
  clock.finish(Stage::kPreprocess);
  return run_once(*binding, clock, frame);
}

Result<Prediction> Predictor::State::predict(const RowView& row) {
  auto* table = std::get_if<TableEncoder>(&encoder);
  if (!table)
    return invalid("model '" + model.name() +
                   "' has no card with `input: {kind: table}`, so it cannot take a row");
  StageClock clock(model);
  SELVAGE_TRY(auto* binding, bind({}));
  SELVAGE_RETURN_IF_ERROR(table->fill(row.values, binding->input_bytes(input)));
  clock.finish(Stage::kPreprocess);
  return run_once(*binding, clock, {});
}

Result<Prediction> Predictor::State::predict(const TensorsView& tensors) {
  const auto* raw = std::get_if<RawInputs>(&encoder);
  if (!raw)
    return invalid("the card of model '" + model.name() +
                   "' describes its input: give it that instead of tensors");
  if (tensors.tensors.size() != raw->indices.size())
    return invalid("model '" + model.name() + "' takes " + std::to_string(raw->indices.size()) +
                   " tensors, not " + std::to_string(tensors.tensors.size()));
  StageClock clock(model);
  SELVAGE_TRY(auto* binding, bind({}));
  for (std::size_t i = 0; i < raw->indices.size(); ++i)
    SELVAGE_RETURN_IF_ERROR(binding->bind_input(raw->indices[i], tensors.tensors[i]));
  clock.finish(Stage::kPreprocess);
  return run_once(*binding, clock, {});
}

template <typename Decode>
Result<void> Predictor::State::slide(std::span<const float> samples, bool last, SteadyTime begin,
                                     Decode&& decode) {
  auto& audio = std::get<AudioWindow>(encoder);
  SELVAGE_TRY(auto* binding, bind({}));
  while (!samples.empty() || (last && audio.filled > 0)) {
    StageClock clock(model, begin);
    const auto tensor = binding->input<float>(input);
    const auto window = tensor.subspan(audio.context);
    const auto count = std::min(samples.size(), audio.window - audio.filled);
    std::ranges::copy(samples.first(count), window.subspan(audio.filled).begin());
    samples = samples.subspan(count);
    audio.filled += count;
    if (audio.filled < audio.window) {
      if (!last) break;
      std::ranges::fill(window.subspan(audio.filled), 0.0f);
    }
    clock.finish(Stage::kPreprocess);
    audio.filled = 0;
    SELVAGE_RETURN_IF_ERROR(run(*binding, clock, decode));
    std::ranges::copy(tensor.last(audio.context), tensor.begin());
    begin = std::chrono::steady_clock::now();
  }
  return {};
}

Result<void> Predictor::State::slide_scores(std::span<const float> samples, bool last,
                                            SteadyTime begin, std::vector<float>& to) {
  return slide(samples, last, begin, [&](auto given) -> Result<void> {
    SELVAGE_TRY(const float score, score_reader->read(given));
    to.push_back(score);
    return {};
  });
}

Result<Prediction> Predictor::State::predict_activity(std::span<const float> samples,
                                                      SteadyTime begin) {
  const auto& audio = std::get<AudioInput>(card().input.kind);
  Activity activity;
  activity.frame_s = static_cast<double>(audio.window) / audio.rate;
  activity.scores.reserve(samples.size() / static_cast<std::size_t>(audio.window) + 1);
  SELVAGE_RETURN_IF_ERROR(slide_scores(samples, true, begin, activity.scores));
  activity.segments = find_segments(activity.scores,
                                    {.rate = audio.rate,
                                     .window = audio.window,
                                     .samples_total = static_cast<std::int64_t>(samples.size())},
                                    std::get<ActivityOutput>(card().output));
  return activity;
}

Result<Prediction> Predictor::State::predict_windows(std::span<const float> samples,
                                                     SteadyTime begin) {
  const auto* classes = std::get_if<ClassificationOutput>(&card().output);
  const auto top = classes ? static_cast<std::size_t>(classes->top) : 0;
  std::optional<Prediction> kept;
  SELVAGE_RETURN_IF_ERROR(slide(samples, true, begin, [&](auto given) -> Result<void> {
    SELVAGE_TRY(auto next, postprocessor->decode(given, {}));
    if (kept)
      keep_best(*kept, std::move(next), top);
    else
      kept = std::move(next);
    return {};
  }));
  return *std::move(kept);
}

Result<Prediction> Predictor::State::predict(const SoundView& sound) {
  if (!std::holds_alternative<AudioWindow>(encoder))
    return invalid("model '" + model.name() +
                   "' has no card with `input: {kind: audio}`, so it cannot take a sound");
  if (sound.samples.empty()) return invalid("the sound has no samples");
  const auto begin = std::chrono::steady_clock::now();
  const auto rate = std::get<AudioInput>(card().input.kind).rate;
  auto samples = sound.samples;
  media::Sound resampled;
  if (static_cast<int>(sound.sample_rate) != rate) {
    if (sound.sample_rate < 1 || sound.sample_rate > media::kSampleRateMax)
      return invalid("a sample rate of " + std::to_string(sound.sample_rate) + " Hz");
    const media::Sound original{.sample_rate = static_cast<int>(sound.sample_rate),
                                .samples = {samples.begin(), samples.end()}};
    SELVAGE_TRY(resampled, media::resample(original, rate));
    samples = resampled.samples;
  }
  clear_state();
  // Resampled to nothing: the sound is shorter than half a sample at the model's rate.
  if (samples.empty()) return invalid("the sound has no samples at the model's rate");
  auto prediction =
      score_reader ? predict_activity(samples, begin) : predict_windows(samples, begin);
  clear_state();
  return prediction;
}

Predictor::Predictor(std::unique_ptr<State> state) : state_(std::move(state)) {}
Predictor::~Predictor() = default;

Result<std::unique_ptr<Predictor>> Predictor::create(const Model& model) {
  auto state = std::make_unique<State>(model);
  if (auto ready = state->prepare(); !ready)
    return std::unexpected(std::move(ready).error().with_context("model '" + model.name() + "'"));
  return std::unique_ptr<Predictor>(new Predictor(std::move(state)));
}

Result<Prediction> Predictor::predict(const Input& input) {
  return std::visit([this](const auto& given) { return state_->predict(given); }, input);
}

Result<std::vector<Prediction>> Predictor::predict_crops(const media::PictureView& picture,
                                                         std::span<const media::Quad> crops) {
  auto& state = *state_;
  auto* image = std::get_if<ImagePreprocessor>(&state.encoder);
  if (!image || names_places(state.card().output))
    return invalid("model '" + state.model.name() +
                   "' cannot look at crops: it needs an image input and an output without places");
  if (crops.size() > static_cast<std::size_t>(kBoxesMax))
    return fail(ErrorCode::kOutOfRange, "more than " + std::to_string(kBoxesMax) + " crops");
  std::vector<Prediction> predictions;
  predictions.reserve(crops.size());
  for (const auto& crop : crops) {
    StageClock clock(state.model);
    const auto [width, height] = media::size_of(crop);
    const auto size = image->size_for(width, height);
    SELVAGE_TRY(auto* binding, state.bind(size));
    SELVAGE_RETURN_IF_ERROR(
        image->fill_crop(picture, crop, size, binding->input_bytes(state.input)));
    clock.finish(Stage::kPreprocess);
    SELVAGE_TRY(auto prediction, state.run_once(*binding, clock, {}));
    predictions.push_back(std::move(prediction));
  }
  return predictions;
}

Result<std::span<const float>> Predictor::push(std::span<const float> samples) {
  auto& state = *state_;
  if (!state.score_reader)
    return invalid("model '" + state.model.name() +
                   "' is no stream: its card needs audio input and activity output");
  state.scores.clear();
  SELVAGE_RETURN_IF_ERROR(
      state.slide_scores(samples, false, std::chrono::steady_clock::now(), state.scores));
  return std::span<const float>(state.scores);
}

void Predictor::reset() {
  state_->clear_state();
}

std::span<const TensorView> Predictor::outputs() const {
  return state_->outputs;
}

}  // namespace selvage::infer
