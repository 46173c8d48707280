#include "learn/trainer.h"

#include <algorithm>
#include <array>
#include <charconv>
#include <chrono>
#include <cmath>
#include <filesystem>
#include <numeric>
#include <utility>

#include "crypto/digest.h"
#include "learn/training_session.h"
#include "learn/validation.h"

namespace selvage::learn {
namespace {

using std::chrono::steady_clock;

/// Names that no model's own input is likely to have.
constexpr const char* kTarget = "training.target";
constexpr const char* kTeacherTarget = "training.teacher";

std::string feature_target(std::size_t index) {
  return "training.feature" + std::to_string(index);
}

constexpr const char* kAgainstDivergence =
    ": a lower learning rate, a warm-up or gradient clipping usually helps";

std::unexpected<Error> invalid(const std::string& problem) {
  return fail(ErrorCode::kInvalidArgument, problem);
}

double seconds_since(steady_clock::time_point start) {
  return std::chrono::duration<double>(steady_clock::now() - start).count();
}

/// Everything that the result depends on, a setting a line.
class Settings {
 public:
  void add(std::string_view name, std::string_view value) {
    text_ += name;
    text_ += "=";
    text_ += value;
    text_ += "\n";
  }
  void add(std::string_view name, double value) {
    std::array<char, 32> buffer{};
    const auto end = std::to_chars(buffer.data(), buffer.data() + buffer.size(), value).ptr;
    add(name, std::string_view(buffer.data(), end));
  }
  void add(std::string_view name, std::span<const std::string> values) {
    std::string joined;
    for (const auto& value : values) joined += (joined.empty() ? "" : ",") + value;
    add(name, joined);
  }
  void add(const OptimizerOptions& optimizer) {
    add("optimizer", static_cast<double>(optimizer.kind));
    for (const auto& [name, value] :
         {std::pair("momentum", optimizer.momentum), std::pair("beta1", optimizer.beta1),
          std::pair("beta2", optimizer.beta2), std::pair("alpha", optimizer.alpha),
          std::pair("epsilon", optimizer.epsilon), std::pair("decay", optimizer.weight_decay),
          std::pair("clip_norm", optimizer.clip_norm),
          std::pair("clip_value", optimizer.clip_value),
          std::pair("average", optimizer.average_decay)})
      add(name, static_cast<double>(value));
    add("nesterov", optimizer.nesterov ? 1 : 0);
    for (const auto& group : optimizer.groups)
      add("group " + group.pattern,
          std::to_string(group.weight_decay) + " " + std::to_string(group.learning_rate_scale));
  }
  [[nodiscard]] const std::string& text() const { return text_; }

 private:
  std::string text_;
};

/// One call of train().
class Run {
 public:
  Run(infer::Runtime& runtime, const infer::Model& loaded, const graph::Model& model,
      const TrainData& data, const TrainOptions& options, const TrainEvents& events)
      : runtime_(runtime),
        loaded_(loaded),
        model_(model),
        data_(data),
        options_(options),
        events_(events) {}

  [[nodiscard]] Result<TrainResult> operator()() {
    SELVAGE_RETURN_IF_ERROR(prepare());
    SELVAGE_RETURN_IF_ERROR(resume());
    while (!at_.finished) SELVAGE_RETURN_IF_ERROR(run_epoch());
    SELVAGE_TRY(result_.model, export_model(model_, at_.best));
    result_.history = at_.history;
    result_.best_epoch = at_.best_epoch;
    result_.stopped_early = at_.epoch < options_.epochs;
    result_.train_samples = plan_->samples.size();
    for (const auto& state : session_->graph().state)
      if (state.role == StateRole::kParameter) result_.trained.push_back(state.name);
    return std::move(result_);
  }

 private:
  [[nodiscard]] Result<void> prepare();
  [[nodiscard]] Result<void> prepare_session();
  [[nodiscard]] std::uint64_t kept_beside(const TrainingGraph& graph) const;
  [[nodiscard]] Result<TrainingGraph> graph_within_memory(
      const TrainingGraphOptions& options) const;
  [[nodiscard]] Result<void> prepare_validation(std::vector<std::size_t> samples);
  [[nodiscard]] TrainingGraphOptions graph_options() const;
  [[nodiscard]] LossTerm objective_term() const;
  [[nodiscard]] std::vector<TeacherTarget> teacher_targets() const;
  [[nodiscard]] Result<std::string> settings() const;

  [[nodiscard]] Result<void> resume();
  [[nodiscard]] Result<void> run_epoch();
  [[nodiscard]] Result<void> take_step(BatchLoader& loader);
  [[nodiscard]] Result<void> check_teachers() const;
  [[nodiscard]] Result<void> end_epoch();
  [[nodiscard]] Result<void> diverged(const Batch& batch, float rate);
  [[nodiscard]] Result<void> stop_broken(const std::string& problem) const;
  [[nodiscard]] std::optional<std::size_t> broken_sample(const Batch& batch) const;
  void judge(const EpochRecord& record, std::vector<NamedTensor> parameters);
  void count(const Batch& batch);
  void report() const;
  [[nodiscard]] float rate() const;
  [[nodiscard]] std::uint64_t steps_done() const {
    return at_.epoch * plan_->steps_per_epoch() + at_.step;
  }
  [[nodiscard]] bool asked_to_stop() const { return events_.stop && events_.stop(); }
  [[nodiscard]] Result<void> stop_here();

  /// A checkpoint that cannot be written is no reason to stop: the old one stays.
  void save();

  infer::Runtime& runtime_;
  const infer::Model& loaded_;
  const graph::Model& model_;
  const TrainData& data_;
  const TrainOptions& options_;
  const TrainEvents& events_;

  Objective objective_;
  std::size_t batch_ = 0;
  std::unique_ptr<TrainingSession> session_;
  std::unique_ptr<Validator> validator_;
  std::optional<BatchPlan> plan_;
  Checkpoint at_;
  steady_clock::time_point last_save_ = steady_clock::now();
  TrainResult result_;
};

LossTerm Run::objective_term() const {
  return {.kind = objective_.loss,
          .output = objective_.output,
          .target = kTarget,
          .label_smoothing = options_.label_smoothing};
}

TrainingGraphOptions Run::graph_options() const {
  TrainingGraphOptions graph{.batch = static_cast<std::int64_t>(batch_),
                             .input_shapes = {},
                             .losses = {objective_term()},
                             .optimizer = options_.optimizer,
                             .train = options_.train,
                             .freeze = options_.freeze,
                             .lora = options_.lora,
                             .freeze_statistics = options_.freeze_statistics,
                             .accumulate = options_.accumulate,
                             .seed = options_.seed};
  for (const auto& input : data_.train.inputs()) {
    auto shape = input.shape;
    shape.insert(shape.begin(), static_cast<std::int64_t>(batch_));
    graph.input_shapes.emplace_back(input.name, std::move(shape));
  }
  return graph;
}

Result<void> Run::prepare() {
  const auto& train = data_.train;
  if (options_.epochs == 0 || options_.batch == 0) return invalid("0 epochs or samples a batch");
  if (!train.takes_batches())
    return invalid(
        "training needs a model whose inputs leave the first dimension, the batch, open and "
        "samples of one shape, but the model's is " +
        selvage::to_string(loaded_.session().inputs()[0].shape));
  if (train.inputs().size() != loaded_.session().inputs().size())
    return invalid(
        "the model has inputs that the data do not fill (state or constants of its card)");
  SELVAGE_TRY(objective_, choose_objective(loaded_, model_, train, options_.loss));
  if (options_.label_smoothing > 0 && objective_.loss != LossKind::kCrossEntropy)
    return invalid("label smoothing is for cross-entropy, which does not fit these labels");
  if (train.inputs()[0].type != DataType::kFloat32 &&
      (options_.augment.changes_samples() || options_.augment.mixup > 0))
    return invalid("augmentation needs a float32 input");
  SELVAGE_RETURN_IF_ERROR(check_augmentation(options_.augment, train.inputs()[0].shape));
  if (options_.augment.mixup > 0 && !teacher_targets().empty())
    return invalid("mixup and a teacher do not go together: the teacher saw the samples unmixed");

  SELVAGE_RETURN_IF_ERROR(check_teachers());

  infer::Split parts;
  if (data_.validation) {
    parts.train.resize(train.size());
    std::iota(parts.train.begin(), parts.train.end(), std::size_t{0});
    parts.validation.resize(data_.validation->size());
    std::iota(parts.validation.begin(), parts.validation.end(), std::size_t{0});
  } else {
    parts = infer::split(train, options_.validation_fraction, options_.seed);
  }
  if (parts.train.empty()) return invalid("no samples are left to train on");
  batch_ = std::min(options_.batch, parts.train.size());
  SELVAGE_RETURN_IF_ERROR(prepare_session());
  plan_.emplace(BatchPlan{.data = train,
                          .objective = objective_,
                          .samples = std::move(parts.train),
                          .inputs = session_->graph().batch,
                          .target = kTarget,
                          .teachers = teacher_targets(),
                          .augment = options_.augment,
                          .seed = options_.seed});
  if (std::cmp_greater(options_.accumulate, plan_->steps_per_epoch()))
    return invalid("an update takes " + std::to_string(options_.accumulate) +
                   " batches, but an epoch has only " + std::to_string(plan_->steps_per_epoch()) +
                   " batches of " + std::to_string(batch_));
  result_.validation_samples = parts.validation.size();
  return parts.validation.empty() ? Result<void>{}
                                  : prepare_validation(std::move(parts.validation));
}

Result<void> Run::prepare_session() {
  auto options = graph_options();
  auto& term = options.losses.front();
  term.soft_targets = options_.augment.mixup > 0 && term.kind == LossKind::kCrossEntropy;
  if (const auto& distillation = data_.distillation; distillation.teacher) {
    term.weight = 1 - distillation.weight;
    options.losses.push_back({.kind = LossKind::kDistillation,
                              .output = objective_.output,
                              .target = kTeacherTarget,
                              .weight = distillation.weight,
                              .temperature = distillation.temperature});
  }
  const auto& features = data_.distillation.features;
  for (std::size_t i = 0; i < features.size(); ++i)
    options.losses.push_back(
        {.kind = LossKind::kSimilarity,
         .output = features[i].student,
         .target = feature_target(i),
         .weight = features[i].weight,
         .target_length = static_cast<std::int64_t>(features[i].teacher->width)});
  SELVAGE_TRY(auto graph, graph_within_memory(options));
  SELVAGE_TRY(session_,
              TrainingSession::create(runtime_, std::move(graph), {.threads = options_.threads}));
  return {};
}

/// The best epoch's parameters and, with a checkpoint, the state that was saved last; both once
/// more as the file that is being written.
std::uint64_t Run::kept_beside(const TrainingGraph& graph) const {
  std::uint64_t state = 0, parameters = 0;
  for (const auto& tensor : graph.state) {
    const auto size = tensor.initial.bytes().size();
    state += size;
    if (tensor.role == StateRole::kParameter || tensor.role == StateRole::kStatistic)
      parameters += size;
  }
  return options_.checkpoint.empty() ? parameters : 2 * (state + parameters);
}

Result<TrainingGraph> Run::graph_within_memory(const TrainingGraphOptions& options) const {
  const auto allowed = options_.memory_bytes_max;
  SELVAGE_TRY(auto graph, build_training_graph(runtime_, model_, options));
  const auto needed = graph.memory_bytes() + kept_beside(graph);
  if (allowed == 0 || needed <= allowed) return graph;
  // The state stays, the activations go by the batch.
  const auto megabytes = [](std::uint64_t bytes) {
    return std::to_string((bytes + 999'999) / 1'000'000) + " MB";
  };
  const auto of_state = needed - graph.activation_bytes * 11 / 10;
  const auto of_batch = [&](std::size_t batch) {
    return of_state + graph.activation_bytes * 11 / 10 * batch / batch_;
  };
  auto fitting = batch_;
  while (fitting > 0 && of_batch(fitting) > allowed) fitting /= 2;
  std::string problem = "a step of " + std::to_string(batch_) + " samples takes about " +
                        megabytes(needed) + ", and " + megabytes(allowed) + " are left for it: ";
  if (fitting == 0)
    problem += "even one sample takes " + megabytes(of_batch(1)) +
               "; train fewer parameters, a smaller model or with an optimiser without state";
  else
    problem += "a batch of " + std::to_string(fitting) + " takes " + megabytes(of_batch(fitting)) +
               ", and " + std::to_string((batch_ + fitting - 1) / fitting) +
               " of them accumulated make as large an update";
  return fail(ErrorCode::kResourceExhausted, std::move(problem));
}

std::vector<TeacherTarget> Run::teacher_targets() const {
  const auto& distillation = data_.distillation;
  std::vector<TeacherTarget> targets;
  if (distillation.teacher) targets.push_back({kTeacherTarget, distillation.teacher});
  for (std::size_t i = 0; i < distillation.features.size(); ++i)
    targets.push_back({feature_target(i), distillation.features[i].teacher});
  return targets;
}

Result<void> Run::prepare_validation(std::vector<std::size_t> samples) {
  const auto& data = data_.validation ? *data_.validation : data_.train;
  const auto inputs = data.inputs();
  for (std::size_t i = 0; i < inputs.size(); ++i)
    if (inputs[i].shape != data_.train.inputs()[i].shape ||
        data.target_kind() != data_.train.target_kind())
      return invalid("the validation data do not look like the training data");
  if (objective_.counts_classes())
    for (const auto sample : samples)
      if (data.label(sample) >= std::max<std::int64_t>(2, objective_.width))
        return invalid(data.place(sample) + ": the model knows no class " +
                       std::to_string(data.label(sample)));
  auto options = graph_options();
  options.accumulate = 1;
  SELVAGE_TRY(validator_, Validator::create(runtime_, model_, options, objective_, data,
                                            std::move(samples), options_.threads));
  return {};
}

Result<std::string> Run::settings() const {
  Settings settings;
  SELVAGE_TRY(const auto bytes, model_.serialise());
  settings.add("model", crypto::sha256(std::span<const std::byte>(bytes)).hex());
  settings.add("data", data_.train.fingerprint().hex());
  if (data_.validation) settings.add("validation data", data_.validation->fingerprint().hex());
  settings.add("validation", options_.validation_fraction);
  settings.add("epochs", static_cast<double>(options_.epochs));
  settings.add("batch", static_cast<double>(batch_));
  settings.add("learning rate", options_.learning_rate);
  settings.add(options_.optimizer);
  settings.add("schedule", to_string(options_.schedule.kind));
  settings.add("warm-up", options_.schedule.warmup_epochs);
  settings.add("schedule patience", options_.schedule.patience);
  settings.add("augmentation", to_text(options_.augment));
  settings.add("loss", options_.loss);
  settings.add("label smoothing", static_cast<double>(options_.label_smoothing));
  settings.add("train", options_.train);
  settings.add("freeze", options_.freeze);
  settings.add("freeze statistics", options_.freeze_statistics ? 1 : 0);
  settings.add("LoRA rank", static_cast<double>(options_.lora.rank));
  settings.add("LoRA scale", static_cast<double>(options_.lora.scale));
  settings.add("accumulate", static_cast<double>(options_.accumulate));
  settings.add("patience", static_cast<double>(options_.patience));
  settings.add("seed", std::to_string(options_.seed));
  settings.add("threads", options_.threads);
  settings.add("runtime", infer::Runtime::version());
  const auto digest = [](const TeacherOutputs& teacher) {
    return crypto::sha256(std::as_bytes(std::span(teacher.values))).hex();
  };
  if (const auto& distillation = data_.distillation; distillation.teacher) {
    settings.add("teacher", digest(*distillation.teacher));
    settings.add("temperature", static_cast<double>(distillation.temperature));
    settings.add("alpha", static_cast<double>(distillation.weight));
  }
  for (const auto& feature : data_.distillation.features)
    settings.add("feature " + feature.student,
                 digest(*feature.teacher) + " " + std::to_string(feature.weight));
  return settings.text();
}

Result<void> Run::check_teachers() const {
  for (const auto& target : teacher_targets()) {
    const auto& outputs = *target.outputs;
    if (outputs.width == 0 || outputs.values.size() != outputs.width * data_.train.size())
      return invalid("the teacher did not answer every sample");
  }
  const auto* teacher = data_.distillation.teacher;
  if (teacher != nullptr && data_.distillation.weight > 0 &&
      objective_.loss != LossKind::kCrossEntropy)
    return invalid("a teacher is followed through the softmax over its classes, but '" +
                   objective_.output + "' and these labels have no classes to choose from");
  if (teacher != nullptr && std::cmp_not_equal(teacher->width, objective_.width))
    return invalid("the teacher answers with " + std::to_string(teacher->width) +
                   " numbers, the student's '" + objective_.output + "' has " +
                   std::to_string(objective_.width));
  return {};
}

Result<void> Run::resume() {
  SELVAGE_TRY(at_.settings, settings());
  if (options_.checkpoint.empty()) return {};
  auto read = load_checkpoint(options_.checkpoint);
  if (!read) return fail(read.error().code, read.error().message + "; remove it to start anew");
  auto found = *std::move(read);
  if (!found) return {};
  if (const auto difference = first_difference(found->settings, at_.settings); !difference.empty())
    return fail(ErrorCode::kFailedPrecondition,
                "'" + options_.checkpoint.string() +
                    "' holds an unfinished run with other settings (" + difference +
                    "): give those again to go on with it, or remove it to start anew");
  if (auto restored = session_->restore(found->state); !restored)
    return std::unexpected(std::move(restored).error().with_context(options_.checkpoint.string()));
  at_ = *std::move(found);
  result_.resumed_step = steps_done();
  return {};
}

float Run::rate() const {
  const auto steps = options_.epochs * plan_->steps_per_epoch();
  return static_cast<float>(options_.learning_rate *
                            schedule_factor(options_.schedule, steps_done(), steps,
                                            plan_->steps_per_epoch(), at_.reductions));
}

void Run::save() {
  last_save_ = steady_clock::now();
  if (options_.checkpoint.empty()) return;
  if (!session_->state_is_finite()) return;  // What was saved before is the last good state.
  at_.state = session_->save();
  const auto saved = save_checkpoint(at_, options_.checkpoint);
  if (!saved && events_.warning)
    events_.warning("the checkpoint could not be written: " + saved.error().message);
}

Result<void> Run::stop_here() {
  save();
  return fail(ErrorCode::kCancelled, "stopped in epoch " + std::to_string(at_.epoch + 1) + " of " +
                                         std::to_string(options_.epochs));
}

Result<void> Run::run_epoch() {
  SELVAGE_RETURN_IF_ERROR(data_.train.check_unchanged());
  if (data_.validation) SELVAGE_RETURN_IF_ERROR(data_.validation->check_unchanged());
  BatchLoader loader(*plan_, at_.epoch + 1, at_.step);
  while (at_.step < plan_->steps_per_epoch()) {
    SELVAGE_RETURN_IF_ERROR(take_step(loader));
    if (asked_to_stop()) return stop_here();
    if (seconds_since(last_save_) >= options_.checkpoint_seconds) save();
  }
  return end_epoch();
}

Result<void> Run::take_step(BatchLoader& loader) {
  const auto start = steady_clock::now();
  SELVAGE_TRY(const auto* batch, loader.next());
  const float learning_rate = rate();
  SELVAGE_TRY(const float loss, session_->step(batch->tensors, learning_rate));
  if (!std::isfinite(loss)) return diverged(*batch, learning_rate);
  at_.loss_sum += static_cast<double>(loss) * static_cast<double>(batch->samples.size());
  if (objective_.counts_classes() && !batch->mixed) count(*batch);
  ++at_.step;
  at_.seconds += seconds_since(start);
  report();
  return {};
}

void Run::count(const Batch& batch) {
  const auto& outputs = session_->graph().outputs;
  const auto index =
      static_cast<std::size_t>(std::ranges::find(outputs, objective_.output) - outputs.begin());
  const auto values = session_->output(index).as<float>();
  const auto width = static_cast<std::size_t>(objective_.width);
  for (std::size_t k = 0; k < batch.samples.size(); ++k)
    if (objective_.is_correct(values.subspan(k * width, width),
                              data_.train.label(batch.samples[k])))
      ++at_.correct;
}

void Run::report() const {
  if (!events_.step) return;
  const auto samples = static_cast<double>(at_.step * batch_);
  TrainProgress progress{.epoch = at_.epoch + 1,
                         .epochs = options_.epochs,
                         .step = steps_done(),
                         .steps = options_.epochs * plan_->steps_per_epoch(),
                         .loss = at_.loss_sum / samples,
                         .accuracy = {},
                         .samples_per_second = samples / std::max(at_.seconds, 1e-9)};
  if (objective_.counts_classes() && options_.augment.mixup == 0)
    progress.accuracy = static_cast<double>(at_.correct) / samples;
  events_.step(progress);
}

Result<void> Run::diverged(const Batch& batch, float learning_rate) {
  save();
  const std::string when = "the loss stopped being a number in epoch " +
                           std::to_string(at_.epoch + 1) + ", step " + std::to_string(at_.step + 1);
  if (const auto sample = broken_sample(batch))
    return stop_broken(when + ": " + data_.train.place(*sample) +
                       " holds a value that is no number: mend it or leave it out");
  std::string where;
  if (const auto first = session_->first_non_finite(batch.tensors, learning_rate); first && *first)
    where = ", first in " + **first;
  return stop_broken(when + where + kAgainstDivergence);
}

/// The first that goes in with a NaN or an infinity. Mixed samples have no row of their own.
std::optional<std::size_t> Run::broken_sample(const Batch& batch) const {
  if (batch.mixed) return std::nullopt;
  for (const auto& tensor : batch.tensors) {
    if (tensor.type != DataType::kFloat32) continue;
    const auto values = tensor.as<float>();
    const auto found = std::ranges::find_if(values, [](float v) { return !std::isfinite(v); });
    if (found == values.end()) continue;
    const auto row = values.size() / batch.samples.size();
    return batch.samples[static_cast<std::size_t>(found - values.begin()) / row];
  }
  return std::nullopt;
}

Result<void> Run::stop_broken(const std::string& problem) const {
  std::error_code ignored;
  const bool has_checkpoint =
      !options_.checkpoint.empty() && std::filesystem::exists(options_.checkpoint, ignored);
  return fail(ErrorCode::kFailedPrecondition,
              problem + (has_checkpoint ? "; the last good state is kept in '" +
                                              options_.checkpoint.string() + "'"
                                        : ""));
}

void Run::judge(const EpochRecord& record, std::vector<NamedTensor> parameters) {
  const bool validated = record.validation_loss.has_value();
  const double score = record.validation_accuracy ? *record.validation_accuracy
                       : validated                ? -*record.validation_loss
                                                  : -record.train_loss;
  // Of two epochs that are equally often right, the surer one.
  const auto is_surer = [&] {
    const auto& best = at_.history.at(at_.best_epoch - 1);
    return score == at_.best_score && record.validation_loss < best.validation_loss;
  };
  if (at_.best_epoch == 0 || !validated || score > at_.best_score || is_surer()) {
    at_.best_epoch = record.epoch;
    at_.best_score = score;
    at_.best = std::move(parameters);
    at_.epochs_since_best = at_.epochs_on_plateau = 0;
    return;
  }
  ++at_.epochs_since_best;
  if (++at_.epochs_on_plateau < static_cast<std::uint64_t>(options_.schedule.patience)) return;
  ++at_.reductions;
  at_.epochs_on_plateau = 0;
}

Result<void> Run::end_epoch() {
  const auto samples = static_cast<double>(at_.step * batch_);
  EpochRecord record{.epoch = at_.epoch + 1,
                     .learning_rate = static_cast<double>(rate()),
                     .train_loss = at_.loss_sum / samples,
                     .train_accuracy = {},
                     .validation_loss = {},
                     .validation_accuracy = {},
                     .seconds = at_.seconds,
                     .samples_per_second = samples / std::max(at_.seconds, 1e-9)};
  if (objective_.counts_classes() && options_.augment.mixup == 0)
    record.train_accuracy = static_cast<double>(at_.correct) / samples;
  SELVAGE_TRY(auto parameters, session_->parameters(options_.optimizer.average_decay > 0));
  if (validator_) {
    const auto found = validator_->run(parameters, events_.stop);
    // The epoch's steps are done, its validation is repeated when the run goes on.
    if (!found && found.error().code == ErrorCode::kCancelled) return stop_here();
    if (!found) return std::unexpected(found.error());
    record.validation_loss = found->loss;
    record.validation_accuracy = found->accuracy;
  }
  const bool is_finite = std::isfinite(record.validation_loss.value_or(0));
  if (!is_finite || !session_->state_is_finite())
    return stop_broken((is_finite ? "the parameters stopped being numbers at the end of epoch "
                                  : "the validation loss is no number after epoch ") +
                       std::to_string(record.epoch) + kAgainstDivergence);
  judge(record, std::move(parameters));
  at_.history.push_back(record);
  ++at_.epoch;
  at_.step = at_.correct = 0;
  at_.loss_sum = at_.seconds = 0;
  at_.finished = at_.epoch == options_.epochs ||
                 (options_.patience > 0 && at_.epochs_since_best >= options_.patience);
  save();
  if (events_.epoch) events_.epoch(record);
  if (!at_.finished && asked_to_stop()) return stop_here();
  return {};
}

}  // namespace

Result<TrainResult> train(infer::Runtime& runtime, const infer::Model& loaded,
                          const graph::Model& model, const TrainData& data,
                          const TrainOptions& options, const TrainEvents& events) {
  return Run(runtime, loaded, model, data, options, events)();
}

}  // namespace selvage::learn
