#include "infer/repository.h"

#include <algorithm>
#include <atomic>
#include <condition_variable>
#include <mutex>
#include <thread>

#include <pthread.h>

#include "infer/gate.h"
#include "infer/job.h"
#include "infer/model_loader.h"
#include "infer/scheduler.h"

namespace selvage::infer {
namespace {

constexpr std::size_t kWorkersMax = 256;

Result<void> check_options(const RepositoryOptions& options) {
  if (options.workers > kWorkersMax)
    return fail(ErrorCode::kInvalidArgument,
                "at most " + std::to_string(kWorkersMax) + " workers are possible");
  if (options.queue_requests == 0)
    return fail(ErrorCode::kInvalidArgument, "a queue must hold at least one request");
  const auto* polling = std::get_if<LoadByPolling>(&options.control);
  if (polling != nullptr && polling->interval < std::chrono::milliseconds(1))
    return fail(ErrorCode::kInvalidArgument, "the polling interval must be at least 1 ms");
  for (const auto& folder : options.folders) SELVAGE_RETURN_IF_ERROR(list_models(folder));
  return {};
}

std::size_t worker_count(const RepositoryOptions& options) {
  if (options.workers > 0) return options.workers;
  return std::clamp<std::size_t>(std::thread::hardware_concurrency(), 1, kWorkersMax);
}

}  // namespace

void RequestHandle::cancel() const {
  if (const auto job = job_.lock()) job->cancel();
}

struct ModelRepository::State {
  State(Runtime& runtime, RepositoryOptions given)
      : options(std::move(given)),
        pool(worker_count(options), *options.clock),
        loader(runtime, pool, options, index) {}

  const RepositoryOptions options;
  const std::shared_ptr<Gate> gate = std::make_shared<Gate>();
  WorkerPool pool;
  ModelIndex index;
  ModelLoader loader;
  std::atomic<bool> loaded{false};

  std::mutex mutex;  // Guards `stopping`.
  std::condition_variable stop_asked;
  bool stopping = false;
  std::thread keeper;  // Loads in the background and polls.

  void keep() {
    ::pthread_setname_np(::pthread_self(), "model-keeper");
    if (!loaded) {
      loader.load_initial();
      loaded = true;
    }
    const auto* polling = std::get_if<LoadByPolling>(&options.control);
    if (polling == nullptr) return;
    std::unique_lock lock(mutex);
    auto next = options.clock->steady_now() + polling->interval;
    while (!stopping) {
      // In short steps, since an injected clock may be moved by hand.
      stop_asked.wait_for(lock, std::min(polling->interval, std::chrono::milliseconds(500)));
      if (stopping || options.clock->steady_now() < next) continue;
      lock.unlock();
      loader.poll();
      next = options.clock->steady_now() + polling->interval;
      lock.lock();
    }
  }

  /// Both for clients and for the steps of ensembles, which need no pass: their ensemble has one.
  RequestHandle start(InferenceRequest request, ResponseCallback callback, GatePass pass) {
    auto found = index.find(request.model, request.version);
    if (!found) {
      callback(std::unexpected(std::move(found).error()));
      return {};
    }
    const auto& served = **found;
    if (served.ensemble)
      return run_ensemble(
          served.ensemble, std::move(request), std::move(callback), *options.clock,
          [this](InferenceRequest step, ResponseCallback done) {
            return start(std::move(step), std::move(done), GatePass());
          },
          std::move(pass));
    if (served.chain) {
      callback(fail(ErrorCode::kFailedPrecondition,
                    "'" + request.model + "' has no tensors: it takes pictures, by :predict"));
      return {};
    }
    auto job = std::make_shared<InferJob>();
    job->request = std::move(request);
    job->callback = std::move(callback);
    job->pass = std::move(pass);
    job->scheduler = served.scheduler;
    job->priority = job->request.priority;
    job->timeout = job->request.timeout;
    job->sequence_id = job->request.sequence;
    job->sequence_flags = job->request.flags;
    if (auto prepared = served.runner->prepare(*job); !prepared) {
      served.statistics().record_failure(prepared.error().code, std::chrono::nanoseconds(0));
      job->fail(std::move(prepared).error());
      return {};
    }
    served.scheduler->submit(job);
    return RequestHandle(job);
  }

  [[nodiscard]] ModelStatistics statistics_of(const ServedVersion& served) const {
    auto statistics = served.statistics().snapshot();
    statistics.model = served.name;
    statistics.version = served.version;
    statistics.pending = served.scheduler ? served.scheduler->pending() : 0;
    return statistics;
  }
};

Result<std::unique_ptr<ModelRepository>> ModelRepository::create(Runtime& runtime,
                                                                 RepositoryOptions options) {
  SELVAGE_RETURN_IF_ERROR(check_options(options));
  auto state = std::make_unique<State>(runtime, std::move(options));
  if (state->options.initial_load == InitialLoad::kBeforeReturn) {
    state->loader.load_initial();
    state->loaded = true;
  }
  if (!state->loaded || std::holds_alternative<LoadByPolling>(state->options.control))
    state->keeper = std::thread([raw = state.get()] { raw->keep(); });
  return std::unique_ptr<ModelRepository>(new ModelRepository(std::move(state)));
}

ModelRepository::ModelRepository(std::unique_ptr<State> state) : state_(std::move(state)) {}

ModelRepository::~ModelRepository() {
  stop();
}

RequestHandle ModelRepository::submit(InferenceRequest request, ResponseCallback callback) {
  auto pass = GatePass::enter(state_->gate);
  if (!pass) {
    callback(fail(ErrorCode::kUnavailable, "the server is stopping"));
    return {};
  }
  return state_->start(std::move(request), std::move(callback), std::move(pass));
}

RequestHandle ModelRepository::predict(PredictionRequest request, PredictionCallback callback) {
  auto pass = GatePass::enter(state_->gate);
  if (!pass) {
    callback(fail(ErrorCode::kUnavailable, "the server is stopping"));
    return {};
  }
  auto found = state_->index.find(request.model, request.version);
  if (found && (*found)->ensemble)
    found = fail(ErrorCode::kFailedPrecondition,
                 "'" + request.model + "' is an ensemble: it has no model card");
  if (!found) {
    callback(std::unexpected(std::move(found).error()));
    return {};
  }
  auto job = std::make_shared<PredictJob>();
  job->request = std::move(request);
  job->callback = std::move(callback);
  job->pass = std::move(pass);
  job->scheduler = (*found)->scheduler;
  job->priority = job->request.priority;
  job->timeout = job->request.timeout;
  job->alone = true;
  job->scheduler->submit(job);
  return RequestHandle(job);
}

Result<std::shared_ptr<const Model>> ModelRepository::model(std::string_view name,
                                                            std::string_view version) const {
  SELVAGE_TRY(const auto found, state_->index.find(name, version));
  if (found->runner == nullptr)
    return fail(ErrorCode::kFailedPrecondition,
                "'" + std::string(name) + "' is several models: it has none of its own");
  return found->runner->shared_model();
}

Result<std::shared_ptr<const ModelCard>> ModelRepository::card(std::string_view name,
                                                               std::string_view version) const {
  SELVAGE_TRY(const auto found, state_->index.find(name, version));
  if (found->chain)
    return std::shared_ptr<const ModelCard>(found->chain,
                                            &found->chain->steps().front().model->card());
  SELVAGE_TRY(const auto only, model(name, version));
  return std::shared_ptr<const ModelCard>(only, &only->card());
}

Result<ModelMetadata> ModelRepository::metadata(std::string_view name,
                                                std::string_view version) const {
  SELVAGE_TRY(const auto found, state_->index.find(name, version));
  return describe(*found, state_->index.serving(name));
}

Result<ModelConfig> ModelRepository::config(std::string_view name, std::string_view version) const {
  SELVAGE_TRY(const auto found, state_->index.find(name, version));
  return found->config;
}

Result<std::shared_ptr<const Labels>> ModelRepository::labels(std::string_view name,
                                                              std::string_view version,
                                                              std::string_view output) const {
  static const auto none = std::make_shared<const Labels>();
  SELVAGE_TRY(const auto found, state_->index.find(name, version));
  const auto labels = found->labels.find(output);
  return labels == found->labels.end() ? none : labels->second;
}

bool ModelRepository::ready(std::string_view name, std::string_view version) const {
  const auto found = state_->index.find(name, version);
  if (!found || state_->gate->closed()) return false;
  if (!(*found)->ensemble) return true;
  return std::ranges::all_of((*found)->ensemble->steps,
                             [&](const auto& step) { return ready(step.model, step.version); });
}

bool ModelRepository::ready() const {
  return state_->loaded && !state_->gate->closed();
}

std::vector<IndexEntry> ModelRepository::index(bool ready_only) const {
  auto entries = state_->index.entries(ready_only);
  if (ready_only) return entries;
  std::set<std::string> known;
  for (const auto& entry : entries) known.insert(entry.name);
  for (const auto& folder : state_->options.folders)
    if (const auto names = list_models(folder))
      for (const auto& name : *names)
        if (known.insert(name).second) entries.push_back({.name = name, .reason = "not loaded"});
  std::ranges::stable_sort(entries, {}, &IndexEntry::name);
  return entries;
}

Result<std::vector<ModelStatistics>> ModelRepository::statistics(std::string_view name,
                                                                 std::string_view version) const {
  std::vector<Served> wanted;
  if (name.empty()) {
    wanted = state_->index.all();
  } else {
    SELVAGE_TRY(const auto found, state_->index.find(name, version));
    wanted = version.empty() ? state_->index.serving(name) : std::vector{found};
  }
  std::vector<ModelStatistics> statistics;
  statistics.reserve(wanted.size());
  for (const auto& served : wanted) statistics.push_back(state_->statistics_of(*served));
  return statistics;
}

Result<void> ModelRepository::load(std::string_view name, const LoadOverrides& overrides) {
  if (std::holds_alternative<LoadByPolling>(state_->options.control))
    return fail(ErrorCode::kFailedPrecondition,
                "models are loaded by polling: change the repository's folder instead");
  const bool brings = !overrides.config_json.empty() || !overrides.files.empty();
  if (brings && !std::holds_alternative<LoadExplicitly>(state_->options.control))
    return fail(ErrorCode::kPermissionDenied,
                "clients may bring configurations and files only with explicit model control");
  return state_->loader.load(std::string(name), overrides);
}

Result<void> ModelRepository::unload(std::string_view name, Dependents dependents) {
  if (std::holds_alternative<LoadByPolling>(state_->options.control))
    return fail(ErrorCode::kFailedPrecondition,
                "models are loaded by polling: change the repository's folder instead");
  return state_->loader.unload(std::string(name), dependents);
}

void ModelRepository::poll() {
  if (std::holds_alternative<LoadByPolling>(state_->options.control)) state_->loader.poll();
}

bool ModelRepository::drain(std::chrono::milliseconds deadline) {
  state_->gate->close();
  return state_->gate->wait_empty(deadline);
}

void ModelRepository::stop() {
  state_->gate->close();
  {
    const std::scoped_lock lock(state_->mutex);
    state_->stopping = true;
  }
  state_->stop_asked.notify_all();
  state_->loader.stop();
  if (state_->keeper.joinable()) state_->keeper.join();
  for (const auto& scheduler : state_->index.schedulers()) scheduler->close();
  state_->pool.stop();
}

}  // namespace selvage::infer
