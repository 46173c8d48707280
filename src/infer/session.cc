#include "infer/session.h"

#include <algorithm>
#include <set>
#include <system_error>

#include "base/file.h"
#include "base/log.h"
#include "graph/check.h"
#include "graph/model.h"
#include "graph/sort.h"
#include "graph/summary.h"
#include "infer/cache.h"
#include "infer/denormals.h"
#include "infer/session_options.h"
#include "infer/session_state.h"
#include "infer/shapes.h"
#include "infer/tune.h"

namespace selvage::infer {
namespace {

using ort::api;
using ort::to_result;

ValueKind kind_of(ONNXType type) {
  switch (type) {
    case ONNX_TYPE_TENSOR: return ValueKind::kTensor;
    case ONNX_TYPE_SEQUENCE: return ValueKind::kSequence;
    case ONNX_TYPE_MAP: return ValueKind::kMap;
    case ONNX_TYPE_OPTIONAL: return ValueKind::kOptional;
    case ONNX_TYPE_SPARSETENSOR: return ValueKind::kSparseTensor;
    default: return ValueKind::kOther;
  }
}

Result<ValueInfo> value_info(std::string name, ort::Handle<OrtTypeInfo> type) {
  ValueInfo info;
  info.name = std::move(name);
  ONNXType kind = ONNX_TYPE_UNKNOWN;
  SELVAGE_RETURN_IF_ERROR(to_result(api().GetOnnxTypeFromTypeInfo(type.get(), &kind)));
  info.kind = kind_of(kind);
  if (info.kind != ValueKind::kTensor) return info;
  const OrtTensorTypeAndShapeInfo* tensor = nullptr;  // Owned by `type`.
  SELVAGE_RETURN_IF_ERROR(to_result(api().CastTypeInfoToTensorInfo(type.get(), &tensor)));
  ONNXTensorElementDataType element = ONNX_TENSOR_ELEMENT_DATA_TYPE_UNDEFINED;
  std::size_t rank = 0;
  SELVAGE_RETURN_IF_ERROR(to_result(api().GetTensorElementType(tensor, &element)));
  SELVAGE_RETURN_IF_ERROR(to_result(api().GetDimensionsCount(tensor, &rank)));
  info.type = static_cast<DataType>(element);
  info.shape.resize(rank);
  SELVAGE_RETURN_IF_ERROR(to_result(api().GetDimensions(tensor, info.shape.data(), rank)));
  std::vector<const char*> symbols(rank);
  SELVAGE_RETURN_IF_ERROR(to_result(api().GetSymbolicDimensions(tensor, symbols.data(), rank)));
  info.symbols.assign(symbols.begin(), symbols.end());
  return info;
}

enum class Side : std::uint8_t { kInputs, kOutputs };

Result<std::vector<ValueInfo>> value_infos(const OrtSession* session, Side side) {
  const auto count_of =
      side == Side::kInputs ? api().SessionGetInputCount : api().SessionGetOutputCount;
  const auto name_of =
      side == Side::kInputs ? api().SessionGetInputName : api().SessionGetOutputName;
  const auto type_of =
      side == Side::kInputs ? api().SessionGetInputTypeInfo : api().SessionGetOutputTypeInfo;
  OrtAllocator* allocator = nullptr;
  SELVAGE_RETURN_IF_ERROR(to_result(api().GetAllocatorWithDefaultOptions(&allocator)));
  std::size_t count = 0;
  SELVAGE_RETURN_IF_ERROR(to_result(count_of(session, &count)));
  std::vector<ValueInfo> infos;
  for (std::size_t i = 0; i < count; ++i) {
    char* name = nullptr;
    SELVAGE_RETURN_IF_ERROR(to_result(name_of(session, i, allocator, &name)));
    const std::string owned(name);
    allocator->Free(allocator, name);
    OrtTypeInfo* type = nullptr;
    SELVAGE_RETURN_IF_ERROR(to_result(type_of(session, i, &type)));
    SELVAGE_TRY(auto info, value_info(owned, ort::Handle<OrtTypeInfo>(type)));
    infos.push_back(std::move(info));
  }
  return infos;
}

Result<ort::Handle<OrtSession>> create(const OrtEnv* environment, std::span<const std::byte> model,
                                       const OrtSessionOptions* options) {
  // Creating a session switches the calling thread's denormal mode for good: put it back.
  const DenormalsAsZero restore(true);
  OrtSession* session = nullptr;
  SELVAGE_RETURN_IF_ERROR(to_result(
      api().CreateSessionFromArray(environment, model.data(), model.size(), options, &session)));
  return ort::Handle<OrtSession>(session);
}

void warn_not_cached(const ModelCache& cache, const Error& reason) {
  log::warning_once("the optimised model is not cached; the next start will be slower",
                    {{"folder", cache.folder().string()}, {"reason", reason.message}});
}

/// Creates a session and stores its optimised graph. Fails also when the graph cannot be written,
/// which says nothing about the model: the caller then creates the session without the cache.
Result<ort::Handle<OrtSession>> create_and_store(const OrtEnv* environment,
                                                 std::span<const std::byte> model,
                                                 OrtSessionOptions* options,
                                                 const ModelCache& cache,
                                                 const crypto::Digest& key) {
  std::error_code error;
  std::filesystem::create_directories(cache.folder(), error);
  const auto scratch = cache.scratch_path();
  SELVAGE_RETURN_IF_ERROR(to_result(api().SetOptimizedModelFilePath(options, scratch.c_str())));
  auto session = create(environment, model, options);
  if (session) {
    auto payload = read_bytes(scratch, graph::kModelBytesMax);
    const auto stored =
        payload ? cache.store(key, *payload) : Result<void>(std::unexpected(payload.error()));
    if (!stored) warn_not_cached(cache, stored.error());
  }
  std::filesystem::remove(scratch, error);
  return session;
}

/// The runtime does not tell a full disk or a closed folder from a fault of its own.
Error why_not_written(const ModelCache& cache, std::span<const std::byte> model, Error runtimes) {
  auto written = cache.try_writing(model);
  if (written) return runtimes;
  if (written.error().code != ErrorCode::kResourceExhausted) return std::move(written).error();
  return std::move(written).error().with_context("the disk of the cache is full");
}

struct Source {
  std::span<const std::byte> bytes;
  std::filesystem::path folder;  ///< Where external data lie; empty for a model in memory.
};

/// What must hold before the runtime sees the bytes. Returns whether the file is all of the model.
Result<bool> check_model(const Source& source, const SessionOptions& options) {
  SELVAGE_TRY(auto model, graph::Model::parse(source.bytes, {.folder = source.folder}));
  // The runtime sorts nodes by itself: what it gets are the file's own bytes.
  graph::sort_nodes(model);
  SELVAGE_RETURN_IF_ERROR(graph::check(model));
  const auto summary = graph::summarise(model);
  SELVAGE_RETURN_IF_ERROR(check_dimensions(summary, options.dimensions));
  return summary.external_bytes == 0;
}

struct Created {
  ort::Handle<OrtSession> session;
  bool from_cache = false;
  std::unique_ptr<OperatorDomain> operators = {};
};

/// Optimises the graph and, with a key, stores it in the cache.
Result<Created> create_anew(const OrtEnv* environment, const Source& source,
                            const SessionOptions& options, const ModelCache& cache,
                            const std::optional<crypto::Digest>& key) {
  SELVAGE_TRY(const bool self_contained, check_model(source, options));
  std::optional<Error> not_written;
  if (key && self_contained) {
    SELVAGE_TRY(const auto writing, to_ort(options, false));
    auto session = create_and_store(environment, source.bytes, writing.get(), cache, *key);
    if (session) return Created{*std::move(session), false};
    not_written = std::move(session).error();
  }
  SELVAGE_TRY(const auto plain, to_ort(options, false));
  std::unique_ptr<OperatorDomain> operators;
  if (!options.operators.empty()) {
    SELVAGE_TRY(operators, OperatorDomain::create(options.operators));
    SELVAGE_RETURN_IF_ERROR(operators->add_to(plain.get()));
  }
  if (!self_contained)
    SELVAGE_RETURN_IF_ERROR(to_result(api().AddSessionConfigEntry(
        plain.get(), "session.model_external_initializers_file_folder_path",
        source.folder.c_str())));
  SELVAGE_TRY(auto session, create(environment, source.bytes, plain.get()));
  if (not_written)
    warn_not_cached(cache, why_not_written(cache, source.bytes, *std::move(not_written)));
  return Created{std::move(session), false, std::move(operators)};
}

Result<Created> create_session(const OrtEnv* environment, const Source& source,
                               const SessionOptions& options) {
  const ModelCache cache(options.cache_folder);
  if (!cacheable(options)) return create_anew(environment, source, options, cache, std::nullopt);
  const auto key = cache_key(crypto::sha256(source.bytes), options);
  const auto entry = cache.find(key);
  if (entry) {  // A graph from the cache was checked before it was stored.
    SELVAGE_TRY(const auto ready, to_ort(options, true));
    if (auto session = create(environment, entry->payload, ready.get()))
      return Created{*std::move(session), true};
  }
  auto created = create_anew(environment, source, options, cache, key);
  if (entry && created)  // Else the settings or the machine are to blame, not the cache.
    log::warning("a cached model did not load and was optimised anew", {{"key", key.hex()}});
  return created;
}

/// The runtime's messages about a setting seldom name it.
std::string settings_text(const SessionOptions& options) {
  std::string text;
  for (const auto& [key, value] : options.config)
    text.append(text.empty() ? " with " : ", ").append(key).append("=").append(value);
  return text;
}

std::vector<const char*> names_of(std::span<const ValueInfo> infos) {
  std::vector<const char*> names;
  for (const auto& info : infos) names.push_back(info.name.c_str());
  return names;
}

std::optional<std::size_t> index_of(std::span<const ValueInfo> infos, std::string_view name) {
  const auto found = std::ranges::find(infos, name, &ValueInfo::name);
  if (found == infos.end()) return std::nullopt;
  return static_cast<std::size_t>(found - infos.begin());
}

}  // namespace

Result<std::unique_ptr<Session>> Session::open(Runtime& runtime, std::span<const std::byte> model,
                                               const std::filesystem::path& folder,
                                               const SessionOptions& options) {
  auto state = std::make_unique<State>();
  SELVAGE_TRY(state->options, decide(options));
  if (state->options.threads == 0) {
    const auto trial = [&](int threads) {
      auto fixed = state->options;
      fixed.threads = threads;
      fixed.profile_prefix.clear();  // Trials are not what the user wants to see.
      return open(runtime, model, folder, fixed);
    };
    SELVAGE_TRY(state->options.threads, tuned_threads(model, state->options, trial));
  }
  SELVAGE_RETURN_IF_ERROR(runtime.state_->start());
  SELVAGE_TRY(auto created,
              create_session(runtime.state_->environment.get(), {model, folder}, state->options));
  state->operators = std::move(created.operators);
  state->session = std::move(created.session);
  state->from_cache = created.from_cache;
  state->memory = runtime.state_->memory.get();
  SELVAGE_TRY(state->inputs, value_infos(state->session.get(), Side::kInputs));
  SELVAGE_TRY(state->outputs, value_infos(state->session.get(), Side::kOutputs));
  state->input_names = names_of(state->inputs);
  state->output_names = names_of(state->outputs);
  std::multiset<std::string_view> names;
  for (const auto& value : state->inputs) names.insert(value.name);
  for (const auto& value : state->outputs) names.insert(value.name);
  for (const auto& output : state->outputs)
    state->output_is_alias.push_back(names.count(output.name) > 1);
  return std::unique_ptr<Session>(new Session(std::move(state)));
}

Result<std::unique_ptr<Session>> Session::load(Runtime& runtime, const std::filesystem::path& model,
                                               const SessionOptions& options) {
  // Read whole rather than mapped: another process may truncate the file while it is loaded.
  SELVAGE_TRY(const auto bytes, read_bytes(model, graph::kModelBytesMax));
  const auto folder = model.has_parent_path() ? model.parent_path() : std::filesystem::path(".");
  auto session = open(runtime, bytes, folder, options);
  if (!session)
    return std::unexpected(std::move(session).error().with_context("load model '" + model.string() +
                                                                   "'" + settings_text(options)));
  return session;
}

Result<std::unique_ptr<Session>> Session::load(Runtime& runtime, std::span<const std::byte> model,
                                               const SessionOptions& options) {
  return open(runtime, model, {}, options);
}

Session::Session(std::unique_ptr<State> state) : state_(std::move(state)) {}
Session::~Session() = default;

std::span<const ValueInfo> Session::inputs() const {
  return state_->inputs;
}
std::span<const ValueInfo> Session::outputs() const {
  return state_->outputs;
}
const SessionOptions& Session::options() const {
  return state_->options;
}
bool Session::loaded_from_cache() const {
  return state_->from_cache;
}

std::optional<std::size_t> Session::input_index(std::string_view name) const {
  return index_of(state_->inputs, name);
}
std::optional<std::size_t> Session::output_index(std::string_view name) const {
  return index_of(state_->outputs, name);
}

Result<std::vector<Value>> Session::run(std::span<const Value> inputs) const {
  if (inputs.size() != state_->inputs.size())
    return fail(ErrorCode::kInvalidArgument, "the model takes " +
                                                 std::to_string(state_->inputs.size()) +
                                                 " inputs, not " + std::to_string(inputs.size()));
  std::vector<ort::Handle<OrtValue>> given;
  std::vector<const OrtValue*> given_pointers;
  for (std::size_t i = 0; i < inputs.size(); ++i) {
    const auto& declared = state_->inputs[i];
    if (const auto* tensor = std::get_if<Tensor>(&inputs[i]);
        tensor != nullptr && declared.kind == ValueKind::kTensor)
      SELVAGE_RETURN_IF_ERROR(check_fits(declared, tensor->type(), tensor->shape()));
    auto value = to_ort(inputs[i], state_->memory);
    if (!value)
      return std::unexpected(
          std::move(value).error().with_context("input '" + declared.name + "'"));
    given_pointers.push_back(value->get());
    given.push_back(*std::move(value));
  }
  std::vector<OrtValue*> got_pointers(state_->outputs.size(), nullptr);
  const DenormalsAsZero flush(state_->options.flush_denormals);
  SELVAGE_RETURN_IF_ERROR(
      to_result(api().Run(state_->session.get(), nullptr, state_->input_names.data(),
                          given_pointers.data(), given_pointers.size(), state_->output_names.data(),
                          state_->output_names.size(), got_pointers.data())));
  std::vector<ort::Handle<OrtValue>> got(got_pointers.begin(), got_pointers.end());
  std::vector<Value> outputs;
  for (const auto& value : got) {
    SELVAGE_TRY(auto output, from_ort(value.get()));
    outputs.push_back(std::move(output));
  }
  return outputs;
}

Result<void> Session::reserve(std::uint64_t bytes) {
  if (state_->options.arena == Arena::kNone || bytes == 0) return {};
  OrtMemoryInfo* info = nullptr;
  SELVAGE_RETURN_IF_ERROR(
      to_result(api().CreateCpuMemoryInfo(OrtArenaAllocator, OrtMemTypeDefault, &info)));
  const ort::Handle<OrtMemoryInfo> owned_info(info);
  OrtAllocator* arena = nullptr;
  SELVAGE_RETURN_IF_ERROR(to_result(api().CreateAllocator(state_->session.get(), info, &arena)));
  void* piece = nullptr;
  auto taken = to_result(api().AllocatorAlloc(arena, bytes, &piece));
  if (taken) taken = to_result(api().AllocatorFree(arena, piece));
  api().ReleaseAllocator(arena);
  if (!taken)
    return fail(ErrorCode::kResourceExhausted,
                "out of memory for " + std::to_string(bytes) + " bytes of intermediate values");
  return {};
}

Result<std::filesystem::path> Session::end_profiling() {
  if (state_->options.profile_prefix.empty())
    return fail(ErrorCode::kFailedPrecondition, "the session was loaded without profiling");
  OrtAllocator* allocator = nullptr;
  SELVAGE_RETURN_IF_ERROR(to_result(api().GetAllocatorWithDefaultOptions(&allocator)));
  char* path = nullptr;
  SELVAGE_RETURN_IF_ERROR(
      to_result(api().SessionEndProfiling(state_->session.get(), allocator, &path)));
  std::filesystem::path result(path);
  allocator->Free(allocator, path);
  return result;
}

}  // namespace selvage::infer
