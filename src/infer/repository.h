// The models that a server serves: a folder of them, loaded, warmed up, replaced and taken away
// while requests run. The protocols in src/serve are thin layers over this.
//
//   DIR/NAME/config.pbtxt            optional; see model_config.h
//   DIR/NAME/model.yaml              optional; the model card, for every version without its own
//   DIR/NAME/VERSION/model.onnx      VERSION is a number from 1
//   DIR/NAME/VERSION/model.yaml      optional
//   DIR/NAME/model.onnx              instead of VERSION folders: version 1
//   DIR/NAME/ensemble.yaml           or a chain of models (ensemble.h) for predict()
//
// Whatever happens to the folder never hurts what is being served: a new version is loaded and
// warmed up beside the old one, then requests are switched over at once; the old one ends when its
// last request has. A version that cannot be loaded leaves everything as it was, and the index says
// why.
#pragma once

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <variant>
#include <vector>

#include "base/clock.h"
#include "base/result.h"
#include "infer/model_config.h"
#include "infer/model_statistics.h"
#include "infer/request.h"
#include "infer/runtime.h"
#include "infer/session.h"

namespace selvage::infer {

struct Job;

inline constexpr std::string_view kPlatform = "onnxruntime_onnx";
inline constexpr std::size_t kModelNameBytesMax = 255;
inline constexpr std::size_t kModelsMax = 10'000;            ///< In all folders of a repository.
inline constexpr std::size_t kVersionsMax = 1'000;           ///< Folders of one model.
inline constexpr std::size_t kQueueRequestsDefault = 1'024;  ///< Waiting for one model version.

/// Every model at the start; later changes by load() and unload(), from the folders only: what runs
/// here is not the clients' to choose.
struct LoadAll {};
/// Every model at the start; the folders are looked through again after each interval. A change is
/// taken up once it has stood still from one look to the next, so that a model that is still being
/// copied is not read. load() and unload() are refused.
struct LoadByPolling {
  std::chrono::milliseconds interval{15'000};
};
/// Only what `models` and load() name; load() may bring models along.
struct LoadExplicitly {
  std::vector<std::string> models;
};
using LoadControl = std::variant<LoadAll, LoadByPolling, LoadExplicitly>;

enum class InitialLoad : std::uint8_t {
  kBeforeReturn,  ///< create() returns when every model is ready or has failed.
  kInBackground,  ///< create() returns at once; ready() tells when.
};

struct RepositoryOptions {
  std::vector<std::filesystem::path> folders;  ///< Of two models of a name, the first's is served.
  LoadControl control = LoadAll{};
  InitialLoad initial_load = InitialLoad::kBeforeReturn;
  SessionOptions session;   ///< For what neither card nor config.pbtxt says; 0 threads means 1.
  std::size_t workers = 0;  ///< Threads that run models; 0 = one a core.
  std::size_t queue_requests = kQueueRequestsDefault;  ///< For models that say nothing else.
  const Clock* clock = &machine_clock();               ///< Must outlive the repository.
};

enum class ModelState : std::uint8_t { kUnknown, kReady, kUnavailable, kLoading, kUnloading };
[[nodiscard]] std::string_view to_string(ModelState state);  ///< "READY", ...

struct IndexEntry {
  std::string name;
  std::string version;  ///< "" for a model of which no version was ever loaded.
  ModelState state = ModelState::kUnknown;
  std::string reason;  ///< Why it is not ready, or, for a ready one, why the last reload failed.
};

struct TensorMetadata {
  std::string name;
  DataType type = DataType::kUndefined;
  Shape shape;  ///< As clients send it; -1 where any size fits, the batch dimension included.
};

struct ModelMetadata {
  std::string name;
  std::vector<std::string> versions;  ///< Those that are ready.
  std::string platform;               ///< kPlatform or "ensemble".
  std::vector<TensorMetadata> inputs, outputs;
};

/// A file given with load(), instead of the repository's: "1/model.onnx".
struct ModelFile {
  std::string path;  ///< VERSION/NAME.
  std::vector<std::byte> content;
};

struct LoadOverrides {
  std::string config_json;       ///< Replaces config.pbtxt; Triton's JSON form. "" = none.
  std::vector<ModelFile> files;  ///< Replace all of the model's own; need config_json.
};

enum class Dependents : std::uint8_t { kKeep, kUnload };

using Labels = std::vector<std::string>;

/// To a request in flight. Copyable; may outlive everything.
class RequestHandle {
 public:
  RequestHandle() = default;
  explicit RequestHandle(std::weak_ptr<Job> job) : job_(std::move(job)) {}
  /// A queued request is answered with kCancelled before this returns; a running one soon, if all
  /// requests of its batch are cancelled, and otherwise when the batch ends. No effect on an
  /// answered one. Do not call it while holding a lock that the callback takes.
  void cancel() const;

 private:
  std::weak_ptr<Job> job_;
};

/// Synchronised. Errors of requests: kNotFound for an unknown model or version; kInvalidArgument
/// names the input; kUnavailable when the queue is full, the model is loading or unloaded, or the
/// repository is stopping; kDeadlineExceeded; kCancelled.
class ModelRepository {
 public:
  /// Starts the workers and loads the models. A model that fails is not an error here: see index().
  /// kNotFound or kPermissionDenied for a folder that cannot be read; kInvalidArgument for options.
  /// `runtime` must outlive the repository and its responses.
  [[nodiscard]] static Result<std::unique_ptr<ModelRepository>> create(Runtime& runtime,
                                                                       RepositoryOptions options);
  ~ModelRepository();  ///< stop().
  ModelRepository(const ModelRepository&) = delete;
  ModelRepository& operator=(const ModelRepository&) = delete;

  RequestHandle submit(InferenceRequest request, ResponseCallback callback);
  RequestHandle predict(PredictionRequest request, PredictionCallback callback);

  /// The model with its card, for as long as the pointer is kept. kNotFound; kUnavailable;
  /// kFailedPrecondition for what is several models. Version "" = the highest that is served, here
  /// and below.
  [[nodiscard]] Result<std::shared_ptr<const Model>> model(std::string_view name,
                                                           std::string_view version = "") const;
  /// What predict() takes: a model's own, or for a chain that of the model that sees the picture.
  [[nodiscard]] Result<std::shared_ptr<const ModelCard>> card(std::string_view name,
                                                              std::string_view version = "") const;
  [[nodiscard]] Result<ModelMetadata> metadata(std::string_view name,
                                               std::string_view version = "") const;
  /// As it is in force: completed from the model.
  [[nodiscard]] Result<ModelConfig> config(std::string_view name,
                                           std::string_view version = "") const;
  /// The class names of an output, from label_filename or the card; empty when there are none.
  [[nodiscard]] Result<std::shared_ptr<const Labels>> labels(std::string_view name,
                                                             std::string_view version,
                                                             std::string_view output) const;
  /// Whether requests to it are taken, others may still be loading.
  [[nodiscard]] bool ready(std::string_view name, std::string_view version = "") const;
  [[nodiscard]] bool ready() const;  ///< The initial load has ended and no stop has begun.
  /// Every model that was found or loaded, by name and version.
  [[nodiscard]] std::vector<IndexEntry> index(bool ready_only = false) const;
  /// Of one version, of all ready versions of a model (version ""), or of all models (name "").
  [[nodiscard]] Result<std::vector<ModelStatistics>> statistics(
      std::string_view name = "", std::string_view version = "") const;

  /// Loads or reloads; returns when the new versions serve. Blocks for as long as loading and
  /// warming up take: not for I/O threads. The error is that of the first version that failed;
  /// nothing has changed then. An ensemble loads the models that it needs. `overrides` need
  /// LoadExplicitly: kPermissionDenied.
  [[nodiscard]] Result<void> load(std::string_view name, const LoadOverrides& overrides = {});
  /// Takes the model away from new requests; those in flight end normally. With kUnload an
  /// ensemble takes its models along.
  [[nodiscard]] Result<void> unload(std::string_view name, Dependents dependents);
  /// With LoadByPolling: looks through the folders now, as after each interval.
  void poll();

  /// Refuses new requests and waits until those in flight have ended: false when some had not at
  /// the deadline. ready() is false from here on.
  bool drain(std::chrono::milliseconds deadline);
  /// Refuses new requests, fails those that wait with kUnavailable, ends those that run, joins the
  /// threads. Idempotent; call drain() first to end gently. Not from a callback.
  void stop();

 private:
  struct State;
  explicit ModelRepository(std::unique_ptr<State> state);
  std::unique_ptr<State> state_;
};

/// kInvalidArgument unless `name` can be a folder's name inside a repository and a part of a URL:
/// 1 to kModelNameBytesMax bytes of UTF-8 without '/', '\', control characters or a leading '.'.
/// "stats" is taken by the protocol.
[[nodiscard]] Result<void> check_model_name(std::string_view name);

}  // namespace selvage::infer
