#include "infer/served_version.h"

#include <algorithm>
#include <charconv>

#include "base/file.h"
#include "infer/labels.h"
#include "infer/repository_files.h"
#include "infer/warmup.h"

namespace selvage::infer {
namespace {

constexpr int kThreadsMax = 256;

[[nodiscard]] std::unexpected<Error> parameter_error(ErrorCode code, const std::string& key,
                                                     std::string_view problem) {
  return fail(code, "parameters." + key + ": " + std::string(problem));
}

Result<int> whole_number(const std::string& key, const std::string& text, int max) {
  int value = 0;
  const auto* end = text.data() + text.size();
  const auto read = std::from_chars(text.data(), end, value);
  if (read.ec != std::errc() || read.ptr != end || value < 0 || value > max)
    return parameter_error(ErrorCode::kInvalidArgument, key,
                           "'" + text + "' is not a number from 0 to " + std::to_string(max));
  return value;
}

Optimization optimization_of(GraphLevel level) {
  switch (level) {
    case GraphLevel::kBasic: return Optimization::kBasic;
    case GraphLevel::kExtended: return Optimization::kExtended;
    case GraphLevel::kNone: return Optimization::kNone;
    case GraphLevel::kDefault: break;
  }
  return Optimization::kAll;
}

/// Of a card's output, when it names classes.
void add_card_labels(const ModelCard& card, const Signature& signature,
                     std::map<std::string, std::shared_ptr<const Labels>, std::less<>>& labels) {
  const auto* classes = std::get_if<ClassificationOutput>(&card.output);
  if (classes == nullptr || classes->labels.empty() || signature.outputs.empty()) return;
  const auto& tensor = classes->tensor.empty() ? signature.outputs.front().name : classes->tensor;
  labels.emplace(tensor, std::make_shared<const Labels>(classes->labels));
}

std::size_t instances_of(const ModelConfig& config, std::size_t workers, int threads) {
  std::size_t count = 0;
  for (const auto& group : config.instance_groups) count += static_cast<std::size_t>(group.count);
  if (count == 0) count = workers / static_cast<std::size_t>(std::max(threads, 1));
  return std::clamp<std::size_t>(count, 1, workers);
}

std::unique_ptr<JobQueue> priority_queue(const ModelConfig& config, BatchLimits limits,
                                         std::size_t jobs_max, Compatible compatible) {
  PriorityQueue::Options options{.limits = std::move(limits), .jobs_max = jobs_max};
  if (const auto* dynamic = std::get_if<DynamicBatching>(&config.scheduling)) {
    options.limits.rows_max = config.max_batch_size.value_or(0);
    options.limits.preferred = dynamic->preferred_batch_sizes;
    options.limits.delay = dynamic->max_queue_delay;
    options.levels = std::max<std::uint64_t>(dynamic->priority_levels, 1);
    options.default_level = std::max<std::uint64_t>(dynamic->default_priority_level, 1);
    options.policy = dynamic->default_queue_policy;
    options.level_policies = dynamic->priority_queue_policies;
  }
  return std::make_unique<PriorityQueue>(std::move(options), std::move(compatible));
}

std::unique_ptr<JobQueue> sequence_queue(const SequenceBatching& sequences, std::int64_t rows_max,
                                         std::size_t instances, std::size_t jobs_max,
                                         Compatible compatible) {
  const auto slots = static_cast<std::size_t>(std::max<std::int64_t>(rows_max, 1));
  SequenceQueue::Options options{.limits = {.rows_max = rows_max},
                                 .candidates = slots * instances,
                                 .max_idle = sequences.max_idle,
                                 .jobs_max = jobs_max};
  if (const auto* direct = std::get_if<DirectStrategy>(&sequences.strategy)) {
    const auto wanted = direct->minimum_slot_utilization * static_cast<float>(slots);
    options.slots_wanted = static_cast<std::size_t>(wanted + 0.999f);
    if (options.slots_wanted > 0) options.limits.delay = direct->max_queue_delay;
  } else if (const auto* oldest = std::get_if<OldestStrategy>(&sequences.strategy)) {
    options.limits.preferred = oldest->preferred_batch_sizes;
    options.limits.delay = oldest->max_queue_delay;
    if (oldest->max_candidate_sequences > 0)
      options.candidates = static_cast<std::size_t>(oldest->max_candidate_sequences);
  }
  return std::make_unique<SequenceQueue>(std::move(options), std::move(compatible));
}

bool preserves_ordering(const ModelConfig& config) {
  if (const auto* dynamic = std::get_if<DynamicBatching>(&config.scheduling))
    return dynamic->preserve_ordering;
  const auto* sequences = std::get_if<SequenceBatching>(&config.scheduling);
  const auto* oldest =
      sequences == nullptr ? nullptr : std::get_if<OldestStrategy>(&sequences->strategy);
  return oldest != nullptr && oldest->preserve_ordering;
}

Result<std::shared_ptr<const Model>> load_model(Runtime& runtime, const RepositoryOptions& options,
                                                const LoadRequest& request) {
  ModelOptions model{.name = request.name, .version = request.version, .session = options.session};
  // As many workers as cores run models at once: more threads for each would only fight.
  if (model.session.threads == 0) model.session.threads = 1;
  SELVAGE_TRY(model.overrides, session_settings(request.config));
  std::error_code error;
  const auto folder = request.file.parent_path();
  const auto own = [&](const std::filesystem::path& card) {
    return std::filesystem::exists(card, error);
  };
  if (!own(folder / "model.yaml") &&
      !own(std::filesystem::path(request.file).replace_extension(".yaml")))
    model.card_beside = request.folder / request.file.filename();
  return Model::load(runtime, request.file, model);
}

/// The chain with models of its own: those of its name may serve beside it, other versions even.
Result<std::shared_ptr<const ServedVersion>> load_chain(Runtime& runtime, WorkerPool& pool,
                                                        const RepositoryOptions& options,
                                                        LoadRequest request) {
  SELVAGE_TRY(const auto text, read_text(request.file, kCardBytesMax));
  SELVAGE_TRY(const auto card, parse_ensemble_card(text));
  for (const auto& step : card.steps)
    SELVAGE_RETURN_IF_ERROR(
        check_inside(request.folder.parent_path(), request.file.parent_path() / step.model));
  ModelOptions model{.name = {}, .version = {}, .session = options.session};
  if (model.session.threads == 0) model.session.threads = 1;
  SELVAGE_TRY(auto chain, Ensemble::load(runtime, request.file, model));
  auto served = std::make_shared<ServedVersion>();
  served->chain = std::move(chain);
  const auto instances = instances_of(request.config, pool.size(), model.session.threads);
  served->scheduler = std::make_shared<Scheduler>(
      Scheduler::Options{.instances = instances},
      priority_queue(request.config, {}, options.queue_requests,
                     [](const Job&, const Job&) { return false; }),
      std::make_unique<ChainRunner>(served->chain, request.name, request.version, instances), pool,
      *options.clock);
  served->name = request.name;
  served->version = request.version;
  served->config = std::move(request.config);
  return served;
}

}  // namespace

Result<SessionSettings> session_settings(const ModelConfig& config) {
  SessionSettings settings;
  if (config.graph_level != GraphLevel::kDefault)
    settings.optimization = optimization_of(config.graph_level);
  for (const auto& [key, value] : config.parameters) {
    if (key == "intra_op_thread_count") {
      SELVAGE_TRY(const int threads, whole_number(key, value, kThreadsMax));
      if (threads > 0) settings.threads = threads;
    } else if (key == "inter_op_thread_count") {
      // Only the parallel execution mode would use them.
      SELVAGE_RETURN_IF_ERROR(whole_number(key, value, kThreadsMax));
    } else if (key == "execution_mode") {
      SELVAGE_TRY(const int parallel, whole_number(key, value, 1));
      if (parallel != 0)
        return parameter_error(ErrorCode::kUnimplemented, key,
                               "1 (parallel) is not supported; operators run one after the other");
    } else if (key == "enable_mem_arena") {
      SELVAGE_TRY(const int arena, whole_number(key, value, 1));
      settings.arena = arena != 0 ? Arena::kGrowAsNeeded : Arena::kNone;
    } else if (key == "enable_mem_pattern") {
      SELVAGE_TRY(const int pattern, whole_number(key, value, 1));
      if (pattern == 0)
        return parameter_error(ErrorCode::kUnimplemented, key, "0 is not supported");
    } else if (key == "session.set_denormal_as_zero") {
      SELVAGE_TRY(const int flush, whole_number(key, value, 1));
      settings.flush_denormals = flush != 0;
    } else if (key.starts_with("memory.") || key.starts_with("cudnn_") || key == "gpu_mem_limit" ||
               key == "arena_extend_strategy") {
      return parameter_error(ErrorCode::kUnimplemented, key, "is not supported");
    } else if (key.starts_with("session.") || key.starts_with("optimization.") ||
               key.starts_with("mlas.") || key.starts_with("ep.")) {
      settings.config.emplace_back(key, value);
    }
  }
  return settings;
}

Result<std::map<std::string, std::shared_ptr<const Labels>, std::less<>>> read_label_files(
    const ModelConfig& config, const std::filesystem::path& folder) {
  std::map<std::string, std::shared_ptr<const Labels>, std::less<>> labels;
  for (const auto& output : config.outputs) {
    if (output.label_filename.empty()) continue;
    auto read = read_labels(folder, output.label_filename);
    if (!read)
      return std::unexpected(
          std::move(read).error().with_context("label_filename of '" + output.name + "'"));
    labels.emplace(output.name, std::make_shared<const Labels>(*std::move(read)));
  }
  return labels;
}

Result<std::shared_ptr<const ServedVersion>> load_version(Runtime& runtime, WorkerPool& pool,
                                                          const RepositoryOptions& options,
                                                          LoadRequest request) {
  if (request.file.filename() == kChainFile)
    return load_chain(runtime, pool, options, std::move(request));
  auto served = std::make_shared<ServedVersion>();
  SELVAGE_TRY(const auto model, load_model(runtime, options, request));
  auto& config = request.config;
  SELVAGE_TRY(auto signature, make_signature(config, model->session().inputs(),
                                             model->session().outputs(), request.folder));
  SELVAGE_TRY(served->labels, read_label_files(config, request.folder));
  add_card_labels(model->card(), signature, served->labels);
  const auto instances = instances_of(config, pool.size(), model->session().options().threads);

  const bool automatic = signature.automatic;
  auto runner = std::make_unique<OnnxRunner>(model, std::move(signature), request.name,
                                             request.version, 2 * instances + 2);
  served->runner = runner.get();
  const auto* sequences = std::get_if<SequenceBatching>(&config.scheduling);
  const bool batches =
      sequences != nullptr || std::holds_alternative<DynamicBatching>(config.scheduling);
  BatchLimits limits{.rows_max = batches ? *config.max_batch_size : 0};
  if (automatic) limits.rows_max = probe_batching(*runner);
  // Clients send batches of their own, too: as large as somebody configured, which without a
  // configuration nobody did.
  const auto rows_max =
      automatic ? limits.rows_max
                : std::max<std::int64_t>(limits.rows_max, config.max_batch_size.value_or(0));
  SELVAGE_RETURN_IF_ERROR(warm_up(*runner, config, rows_max, request.folder));
  if (limits.rows_max <= 1) limits.rows_max = 0;

  const auto compatible = [r = runner.get()](const Job& a, const Job& b) {
    return r->compatible(a, b);
  };
  auto queue = sequences != nullptr
                   ? sequence_queue(*sequences, limits.rows_max, instances, options.queue_requests,
                                    compatible)
                   : priority_queue(config, limits, options.queue_requests, compatible);
  served->scheduler = std::make_shared<Scheduler>(
      Scheduler::Options{.instances = instances, .preserve_ordering = preserves_ordering(config)},
      std::move(queue), std::move(runner), pool, *options.clock);
  served->name = config.name = request.name;
  served->version = request.version;
  if (config.instance_groups.empty())
    config.instance_groups.push_back(
        {.name = request.name, .count = static_cast<std::int32_t>(instances)});
  if (config.default_model_filename.empty()) config.default_model_filename = "model.onnx";
  served->config = std::move(config);
  return served;
}

}  // namespace selvage::infer
