#include "compress/optimize_machine.h"

#include <algorithm>
#include <thread>

#include "base/file.h"
#include "base/json_writer.h"
#include "base/random.h"
#include "compress/differences.h"
#include "compress/evaluate.h"
#include "compress/optimize_timing.h"
#include "compress/quantization.h"
#include "compress/samples.h"
#include "crypto/digest.h"

namespace selvage::compress {
namespace {

namespace fs = std::filesystem;
using std::chrono::nanoseconds;
using std::chrono::steady_clock;

/// Changes when the same settings would give other results.
constexpr int kJournalVersion = 2;
constexpr std::size_t kErrorSamples = 16;
constexpr std::size_t kTimedSamples = 4;
constexpr std::string_view kError = "mean absolute error, negated";

/// Adds the time until its end to a sum.
class Stopwatch {
 public:
  explicit Stopwatch(nanoseconds& sum) : sum_(sum) {}
  ~Stopwatch() { sum_ += steady_clock::now() - begin_; }
  Stopwatch(const Stopwatch&) = delete;
  Stopwatch& operator=(const Stopwatch&) = delete;

 private:
  nanoseconds& sum_;
  steady_clock::time_point begin_ = steady_clock::now();
};

/// External data lie beside the model: <file>.<digest>.data.
std::uint64_t bytes_of(const fs::path& file) {
  std::error_code ignored;
  std::uint64_t bytes = fs::file_size(file, ignored);
  const auto prefix = file.filename().string() + ".";
  for (const auto& entry : fs::directory_iterator(file.parent_path(), ignored))
    if (const auto name = entry.path().filename().string();
        name.starts_with(prefix) && name.ends_with(".data"))
      bytes += entry.file_size(ignored);
  return bytes;
}

/// Of all float32 outputs.
using Outputs = std::vector<std::vector<float>>;

Result<Outputs> outputs_for(infer::Binding& binding, const std::vector<Tensor>& inputs) {
  for (std::size_t i = 0; i < inputs.size(); ++i)
    SELVAGE_RETURN_IF_ERROR(binding.bind_input(i, inputs[i].view()));
  SELVAGE_RETURN_IF_ERROR(binding.run());
  Outputs outputs;
  for (std::size_t i = 0; i < binding.output_count(); ++i) {
    const auto output = binding.output(i);
    if (output.type != DataType::kFloat32) continue;
    const auto values = output.as<float>();
    outputs.emplace_back(values.begin(), values.end());
  }
  return outputs;
}

/// What the squares of outputs and of their errors add up to.
struct ErrorSums {
  std::vector<Differences> outputs;

  void add(const Outputs& found, const Outputs& expected) {
    outputs.resize(expected.size());
    // Outputs whose shape depends on the values are compared as far as both go.
    for (std::size_t k = 0; k < expected.size(); ++k) outputs[k].add(found[k], expected[k]);
  }
  [[nodiscard]] double mean() const {
    double sum = 0;
    for (const auto& output : outputs)
      sum += output.signal > 0 ? output.noise / output.signal : output.noise;
    return outputs.empty() ? 0 : sum / static_cast<double>(outputs.size());
  }
};

}  // namespace

struct Machine::State {
  infer::Runtime& runtime;
  fs::path path;
  const infer::Dataset& calibration;
  const infer::Dataset& evaluation;
  MachineOptions options;
  infer::ModelOptions candidate_options = {};
  SampleParts parts = {};
  Samples samples = {};
  std::unique_ptr<infer::Model> original = {};
  std::unique_ptr<CandidateBuilder> builder = {};
  std::string quality_name = "agreement with the original";
  bool is_labelled = false;
  std::unique_ptr<TimedModel> timed_original = {};
  std::vector<Outputs> expected = {};  ///< Of the original, for output_error().
  WorkTimes times = {};
  nanoseconds calibrating{};  ///< Inside of the builder.

  [[nodiscard]] bool keeps_going() const { return !options.keep_going || options.keep_going(); }
  [[nodiscard]] std::size_t spread(std::size_t i, std::size_t count) const {
    return i * samples.count / count;
  }
  [[nodiscard]] Result<std::unique_ptr<infer::Model>> load(const fs::path& file);
  [[nodiscard]] Result<double> quality_of(const infer::Model& model);
  [[nodiscard]] Result<void> find_metric();
  [[nodiscard]] Result<std::unique_ptr<TimedModel>> timed(const fs::path& file);
  [[nodiscard]] Result<void> expect_outputs();
  [[nodiscard]] Result<graph::Model> make(const Recipe& recipe);
};

Result<std::unique_ptr<infer::Model>> Machine::State::load(const fs::path& file) {
  const Stopwatch watch(times.loading);
  return infer::Model::load(runtime, file, candidate_options);
}

Result<double> Machine::State::quality_of(const infer::Model& model) {
  const Stopwatch watch(times.runs);
  const EvaluateOptions evaluate_options{.samples = parts.evaluation,
                                         .progress = [this](std::size_t) { return keeps_going(); }};
  if (is_labelled) {
    SELVAGE_TRY(const auto found, evaluate(model, evaluation, evaluate_options));
    return found.quality();
  }
  SELVAGE_TRY(const auto found, compare(model, *original, evaluation, evaluate_options));
  return found.agreement;
}

Result<void> Machine::State::find_metric() {
  if (evaluation.target_kind() == infer::TargetKind::kNone) return {};
  // One sample shows what the labels can be used for.
  const auto found = evaluate(*original, evaluation, {.samples = {parts.evaluation.front()}});
  if (!found && found.error().code == ErrorCode::kUnimplemented) return {};
  if (!found) return std::unexpected(found.error());
  is_labelled = true;
  switch (found->task) {
    case Task::kClassification: quality_name = "accuracy"; break;
    case Task::kRegression: quality_name = kError; break;
    default: quality_name = "AUROC";
  }
  return {};
}

Result<std::unique_ptr<TimedModel>> Machine::State::timed(const fs::path& file) {
  const auto resident_before = resident_bytes_trimmed();
  SELVAGE_TRY(auto model, load(file));
  const Stopwatch watch(times.runs);
  std::vector<std::vector<Tensor>> inputs;
  const auto count = std::min(kTimedSamples, samples.count);
  for (std::size_t i = 0; i < count; ++i) {
    SELVAGE_TRY(auto tensors, samples.get(spread(i, count)));
    inputs.push_back(std::move(tensors));
  }
  return TimedModel::create(std::move(model), std::move(inputs), resident_before);
}

Result<graph::Model> Machine::State::make(const Recipe& recipe) {
  const Stopwatch watch(times.graphs);
  const auto before = calibrating;
  auto model = builder->build(recipe);
  const auto runs = calibrating - before;
  times.runs += runs;
  times.graphs -= runs;
  return model;
}

Result<void> Machine::State::expect_outputs() {
  if (!expected.empty()) return {};
  SELVAGE_TRY(const auto binding, infer::Binding::create(original->session()));
  const auto count = std::min(kErrorSamples, samples.count);
  for (std::size_t i = 0; i < count; ++i) {
    SELVAGE_TRY(const auto inputs, samples.get(spread(i, count)));
    SELVAGE_TRY(auto outputs, outputs_for(*binding, inputs));
    if (outputs.empty())
      return fail(ErrorCode::kFailedPrecondition, "the model has no float32 output");
    expected.push_back(std::move(outputs));
  }
  return {};
}

SampleParts divide_samples(const infer::Dataset& calibration, const infer::Dataset& evaluation,
                           std::size_t calibration_max, std::size_t evaluation_max,
                           std::uint64_t seed) {
  SampleParts parts;
  const auto size = evaluation.size();
  const bool is_one = calibration.fingerprint() == evaluation.fingerprint();
  parts.calibration_count = std::min(calibration_max, calibration.size());
  if (is_one)
    parts.calibration_count = std::min(calibration_max, std::max<std::size_t>(1, size / 2));
  std::vector<bool> is_taken(size, false);
  if (is_one && size > 1)
    for (std::size_t i = 0; i < parts.calibration_count; ++i)
      is_taken[i * size / parts.calibration_count] = true;
  for (std::size_t i = 0; i < size; ++i)
    if (!is_taken[i]) parts.evaluation.push_back(i);
  if (parts.evaluation.size() <= evaluation_max) return parts;
  Random random(seed);
  random.shuffle(std::span(parts.evaluation));
  parts.evaluation.resize(evaluation_max);
  std::ranges::sort(parts.evaluation);
  return parts;
}

Result<std::unique_ptr<Machine>> Machine::create(infer::Runtime& runtime, const fs::path& path,
                                                 const infer::Dataset& calibration,
                                                 const infer::Dataset& evaluation,
                                                 const MachineOptions& options) {
  auto state = std::unique_ptr<State>(new State{.runtime = runtime,
                                                .path = path,
                                                .calibration = calibration,
                                                .evaluation = evaluation,
                                                .options = options});
  auto& own = *state;
  SELVAGE_TRY(own.original, infer::Model::load(runtime, path, options.model));
  own.candidate_options = options.model;
  own.candidate_options.card_beside = path;
  // Equal conditions: as many threads for each, and nothing in the cache that nobody will run.
  own.candidate_options.overrides.threads = own.original->session().options().threads;
  own.candidate_options.session.cache_folder.clear();
  own.parts = divide_samples(calibration, evaluation, options.calibration_max,
                             options.evaluation_max, options.seed);
  SELVAGE_TRY(own.samples,
              calibration_samples(*own.original, calibration, own.parts.calibration_count));
  SELVAGE_RETURN_IF_ERROR(own.find_metric());
  BuilderOptions builder{.dimensions = options.model.overrides.dimensions,
                         .keep_going = options.keep_going,
                         .calibrated = [&own](nanoseconds time) { own.calibrating += time; }};
  SELVAGE_TRY(auto made, CandidateBuilder::create(runtime, path, *own.original, own.samples,
                                                  std::move(builder)));
  own.builder = std::make_unique<CandidateBuilder>(std::move(made));
  return std::unique_ptr<Machine>(new Machine(std::move(state)));
}

Machine::Machine(std::unique_ptr<State> state) : state_(std::move(state)) {}
Machine::~Machine() = default;

const graph::Model& Machine::folded() const {
  return state_->builder->folded();
}
const SampleParts& Machine::samples() const {
  return state_->parts;
}
bool Machine::is_labelled() const {
  return state_->is_labelled;
}
const std::string& Machine::quality_name() const {
  return state_->quality_name;
}
bool Machine::is_part() const {
  return state_->quality_name != kError;
}
const WorkTimes& Machine::times() const {
  return state_->times;
}

Result<std::vector<LayerDifference>> Machine::compare_layers(const Recipe& recipe) {
  SELVAGE_TRY(const auto model, state_->make(recipe));
  const Stopwatch watch(state_->times.runs);
  const auto count = std::min(kErrorSamples, state_->samples.count);
  const Samples some{.count = count, .get = [this, count](std::size_t index) {
                       return state_->samples.get(state_->spread(index, count));
                     }};
  const CompareLayersOptions options{
      .progress = [this](std::size_t, std::size_t) { return state_->keeps_going(); }};
  return compress::compare_layers(state_->runtime, folded(), model, some, options);
}

crypto::Digest Machine::settings() const {
  JsonWriter json;
  const auto& session = state_->original->session().options();
  const auto model = crypto::sha256_file(state_->path);
  json.begin_object().field("version", kJournalVersion);
  json.field("model", model ? model->hex() : "");
  json.field("calibration", state_->calibration.fingerprint().hex());
  json.field("evaluation", state_->evaluation.fingerprint().hex());
  json.field("calibration_count", state_->parts.calibration_count);
  json.list("evaluation_samples", state_->parts.evaluation);
  json.field("latency_seconds", state_->options.latency_seconds);
  json.field("threads", session.threads).list("providers", session.providers);
  json.field("optimization", static_cast<int>(session.optimization));
  for (const auto& [name, size] : session.dimensions) json.field(name, size);
  for (const auto& [key, value] : session.config) json.field(key, value);
  json.field("cores", std::thread::hardware_concurrency());
  json.field("exact_8_bits", processor_multiplies_8_bits_exactly()).end_object();
  return crypto::sha256(json.text());
}

Result<void> Machine::build(const Recipe& recipe, const fs::path& file) {
  SELVAGE_TRY(auto model, state_->make(recipe));
  const Stopwatch watch(state_->times.graphs);
  return model.save(file);
}

Result<double> Machine::quality(const fs::path& file) {
  SELVAGE_TRY(const auto model, state_->load(file));
  return state_->quality_of(*model);
}

Result<Figures> Machine::measure(const fs::path& file) {
  if (!state_->timed_original) {
    SELVAGE_TRY(state_->timed_original, state_->timed(state_->path));
  }
  SELVAGE_TRY(const auto candidate, state_->timed(file));
  const Stopwatch watch(state_->times.runs);
  Figures figures{.file_bytes = bytes_of(file), .resident_bytes = candidate->resident_bytes()};
  SELVAGE_TRY(figures.latency,
              time_in_turns(*candidate, *state_->timed_original, state_->options.latency_seconds,
                            [this] { return state_->keeps_going(); }));
  return figures;
}

Result<double> Machine::output_error(const Recipe& recipe) {
  SELVAGE_RETURN_IF_ERROR(state_->expect_outputs());
  SELVAGE_TRY(const auto model, state_->make(recipe));
  std::unique_ptr<infer::Session> session;
  {
    const Stopwatch watch(state_->times.loading);
    SELVAGE_TRY(const auto bytes, model.serialise());
    SELVAGE_TRY(session,
                infer::Session::load(state_->runtime, bytes,
                                     {.threads = state_->original->session().options().threads}));
  }
  const Stopwatch watch(state_->times.runs);
  SELVAGE_TRY(const auto binding, infer::Binding::create(*session));
  ErrorSums sums;
  for (std::size_t i = 0; i < state_->expected.size(); ++i) {
    if (!state_->keeps_going()) return fail(ErrorCode::kCancelled, "interrupted");
    SELVAGE_TRY(const auto inputs, state_->samples.get(state_->spread(i, state_->expected.size())));
    SELVAGE_TRY(const auto outputs, outputs_for(*binding, inputs));
    sums.add(outputs, state_->expected[i]);
  }
  return sums.mean();
}

Result<std::vector<std::vector<std::string>>> Machine::groups(const Recipe& recipe) {
  return state_->builder->groups(recipe);
}

}  // namespace selvage::compress
