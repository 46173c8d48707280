#include "cli/workload.h"

#include <algorithm>

#include "cli/random_input.h"
#include "cli/text.h"
#include "media/sound.h"

namespace selvage::cli {

struct Workload::State {
  explicit State(Subject loaded) : subject(std::move(loaded)) {}

  Subject subject;
  std::unique_ptr<InputFile> file;  // Owns what `sample` views.
  std::optional<Sample> sample;
  std::optional<media::Sound> stream;  // What callers push; else they predict on `sample`.
  std::vector<std::unique_ptr<infer::Binding>> bindings;
  std::vector<SubjectPredictor> predictors;
  std::vector<std::function<Result<void>()>> callers;
  std::string unit = "prediction";
  std::string input;

  Result<void> add_random_callers(const WorkloadOptions& options);
  Result<void> add_callers(const WorkloadOptions& options);
  [[nodiscard]] std::function<Result<void>()> caller(SubjectPredictor& predictor);
};

namespace {

/// Pushes a sound window by window, over and over, as a microphone would deliver it.
class Stream {
 public:
  Stream(infer::Predictor& predictor, std::span<const float> samples, std::size_t window)
      : predictor_(predictor), samples_(samples), window_(window) {}

  Result<void> operator()() {
    if (at_ + window_ > samples_.size()) {
      at_ = 0;
      predictor_.reset();
    }
    const auto pushed = predictor_.push(samples_.subspan(at_, window_));
    at_ += window_;
    if (!pushed) return std::unexpected(pushed.error());
    return {};
  }

 private:
  infer::Predictor& predictor_;
  std::span<const float> samples_;
  std::size_t window_;
  std::size_t at_ = 0;
};

/// The sound at the model's rate, where the model listens to a stream; else nothing.
Result<std::optional<media::Sound>> streamed(const infer::ModelCard& card, const Sample& sample) {
  const auto* view = std::get_if<infer::SoundView>(&sample.input);
  const auto* audio = std::get_if<infer::AudioInput>(&card.input.kind);
  if (!view || !audio || !std::holds_alternative<infer::ActivityOutput>(card.output))
    return std::nullopt;
  media::Sound sound{static_cast<int>(view->sample_rate),
                     {view->samples.begin(), view->samples.end()}};
  if (sound.sample_rate != audio->rate) {
    SELVAGE_TRY(sound, media::resample(sound, audio->rate));
  }
  if (sound.samples.size() < static_cast<std::size_t>(audio->window)) return std::nullopt;
  return sound;
}

}  // namespace

std::function<Result<void>()> Workload::State::caller(SubjectPredictor& predictor) {
  if (stream) {
    const auto& audio = std::get<infer::AudioInput>(subject.first_model().card().input.kind);
    unit = "window of " + shortest(1000.0 * audio.window / audio.rate) + " ms";
    return Stream(*predictor.single(), stream->samples, static_cast<std::size_t>(audio.window));
  }
  return [&predictor, this]() -> Result<void> {
    const auto found = predictor.predict(sample->input);
    if (!found) return std::unexpected(found.error());
    return {};
  };
}

Result<void> Workload::State::add_callers(const WorkloadOptions& options) {
  SELVAGE_TRY(file, InputFile::open(options.input, subject.first_model()));
  SELVAGE_TRY(sample, file->next());
  if (!sample)
    return fail(ErrorCode::kInvalidArgument, "'" + options.input.string() + "' holds no sample");
  input = options.input.filename().string() + " (" + sample->shown + ")";
  SELVAGE_TRY(stream, streamed(subject.first_model().card(), *sample));
  predictors.reserve(static_cast<std::size_t>(options.callers));  // Callers refer to them.
  for (int i = 0; i < options.callers; ++i) {
    SELVAGE_TRY(auto predictor, SubjectPredictor::create(subject));
    predictors.push_back(std::move(predictor));
    callers.push_back(caller(predictors.back()));
  }
  return {};
}

Result<void> Workload::State::add_random_callers(const WorkloadOptions& options) {
  if (subject.is_ensemble())
    return fail(ErrorCode::kInvalidArgument,
                "an ensemble is measured on a real picture: add --input FILE");
  const auto& session = subject.first_model().session();
  SELVAGE_TRY(const auto shapes, input_shapes(session, options.shapes, options.batch));
  for (std::size_t i = 0; i < shapes.size(); ++i)
    input += (i == 0 ? "random " : ", ") + session.inputs()[i].name + " " +
             selvage::to_string(shapes[i]);
  unit = "run";
  for (int i = 0; i < options.callers; ++i) {
    SELVAGE_TRY(auto binding, bind_random_inputs(session, options.shapes, options.batch));
    bindings.push_back(std::move(binding));
    callers.emplace_back(
        [one = bindings.back().get(), &session, typed = options.shapes]() -> Result<void> {
          auto done = one->run();
          if (done) return done;
          return std::unexpected(explain_failed_run(session, typed, std::move(done).error()));
        });
  }
  return {};
}

Result<Workload> Workload::create(infer::Runtime& runtime, const WorkloadOptions& options,
                                  const infer::ModelOptions& model_options) {
  SELVAGE_TRY(auto subject, Subject::load(runtime, options.model, model_options));
  auto state = std::make_unique<State>(std::move(subject));
  if (options.input.empty()) {
    SELVAGE_RETURN_IF_ERROR(state->add_random_callers(options));
  } else {
    SELVAGE_RETURN_IF_ERROR(state->add_callers(options));
  }
  return Workload(std::move(state));
}

Workload::Workload(std::unique_ptr<State> state) : state_(std::move(state)) {}
Workload::~Workload() = default;
Workload::Workload(Workload&&) noexcept = default;
Workload& Workload::operator=(Workload&&) noexcept = default;

std::vector<std::function<Result<void>()>>& Workload::callers() {
  return state_->callers;
}
const Subject& Workload::subject() const {
  return state_->subject;
}
const std::string& Workload::unit() const {
  return state_->unit;
}
bool Workload::whole_path() const {
  return !state_->predictors.empty();
}
const std::string& Workload::input() const {
  return state_->input;
}

}  // namespace selvage::cli
