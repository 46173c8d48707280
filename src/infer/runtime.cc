#include "infer/runtime.h"

#include <algorithm>
#include <charconv>
#include <cstdlib>

#include "base/log.h"
#include "infer/ort.h"
#include "infer/session_options.h"

namespace selvage::infer {
namespace ort {
namespace {

/// Where the signature that `text` begins with ends: behind the first parameter list that a blank
/// follows.
std::size_t signature_length(std::string_view text) {
  int depth = 0;
  for (std::size_t i = 0; i < text.size(); ++i) {
    if (text[i] == '(') ++depth;
    if (text[i] == ')' && --depth == 0 && (i + 1 == text.size() || text[i + 1] == ' '))
      return std::min(i + 2, text.size());
  }
  return 0;
}

}  // namespace

std::string readable_message(std::string_view message) {
  message = message.substr(0, message.find("\nStacktrace:"));
  std::string prefix;
  for (const std::string_view suffix : {".cc:", ".h:", ".cpp:"}) {
    const auto found = message.find(suffix);
    if (found == std::string_view::npos) continue;
    const auto begin = message.rfind(' ', found) + 1;  // 0 where there is no blank.
    if (message[begin] != '/') continue;
    prefix = message.substr(0, begin);
    const auto end = std::min(message.find(' ', found), message.size() - 1);
    message.remove_prefix(end + 1);
    constexpr std::string_view kCondition = " was false. ";
    const auto condition = message.find(kCondition);
    message.remove_prefix(condition != std::string_view::npos ? condition + kCondition.size()
                                                              : signature_length(message));
    if (constexpr std::string_view kConst = "const "; message.starts_with(kConst))
      message.remove_prefix(kConst.size());
    break;
  }
  const auto last = message.find_last_not_of(" \n\t");
  return prefix + std::string(message.substr(0, last + 1));
}

Result<void> to_result(OrtStatus* status) {
  if (status == nullptr) return {};
  // As a number: a runtime newer than our headers has codes that their enumeration does not.
  const int code = static_cast<int>(api().GetErrorCode(status));
  std::string message = readable_message(api().GetErrorMessage(status));
  api().ReleaseStatus(status);
  // The runtime has no code for the commonest reason why a model does not load.
  if (message.contains("No Op registered for") ||
      message.contains("is not a registered function/op"))
    return fail(ErrorCode::kUnimplemented,
                message + "; export the model with standard ONNX operators, of an older opset");
  switch (code) {
    case ORT_INVALID_ARGUMENT: return fail(ErrorCode::kInvalidArgument, std::move(message));
    case ORT_NO_SUCHFILE:
    case ORT_NO_MODEL: return fail(ErrorCode::kNotFound, std::move(message));
    case ORT_INVALID_PROTOBUF: return fail(ErrorCode::kDataLoss, std::move(message));
    case ORT_INVALID_GRAPH: return fail(ErrorCode::kInvalidArgument, std::move(message));
    case ORT_NOT_IMPLEMENTED: return fail(ErrorCode::kUnimplemented, std::move(message));
    default: return fail(ErrorCode::kInternal, std::move(message));
  }
}

int version_number(std::string_view version) {
  int parts[2] = {0, 0};
  const char* at = version.data();
  const char* const end = at + version.size();
  for (int& part : parts) {
    const auto parsed = std::from_chars(at, end, part);
    if (parsed.ec != std::errc() || parsed.ptr == end) break;
    at = parsed.ptr + 1;
  }
  return parts[0] * 1000 + parts[1];
}

}  // namespace ort

namespace {

/// Arena growth: ONNX Runtime's default doubles the arena each time and never gives memory back.
constexpr int kGrowBySameAsRequested = 1;
/// A free piece that is larger than what is asked by more than this is divided. The runtime's own
/// 128 MiB means: only where less than half of it would be used.
constexpr std::size_t kUnusedBytesMax = 64u << 10;

void ORT_API_CALL write_log(void*, OrtLoggingLevel severity, const char* category, const char*,
                            const char* location, const char* message) {
  // What fails comes back as a Result as well, so that the runtime's own lines are details.
  log::debug("onnxruntime", {{"severity", std::to_string(static_cast<int>(severity))},
                             {"category", category},
                             {"at", location},
                             {"message", message}});
}

Result<void> register_arena(const OrtEnv* environment, const OrtMemoryInfo* arena_memory) {
  OrtArenaCfg* configuration = nullptr;
  const char* keys[] = {"arena_extend_strategy", "max_dead_bytes_per_chunk"};
  const std::size_t values[] = {kGrowBySameAsRequested, kUnusedBytesMax};
  SELVAGE_RETURN_IF_ERROR(
      ort::to_result(ort::api().CreateArenaCfgV2(keys, values, std::size(keys), &configuration)));
  const ort::Handle<OrtArenaCfg> owned(configuration);
  // The environment lives as long as the process and is shared: a second Runtime finds it there.
  // CreateAndRegisterAllocator takes the environment as non-const although it is a shared handle.
  return ort::to_result(ort::api().CreateAndRegisterAllocator(const_cast<OrtEnv*>(environment),
                                                              arena_memory, configuration));
}

Result<void> check_library() {
  const auto version = Runtime::version();
  if (ort::version_number(version) >= ort::version_number(kRuntimeVersionMin) &&
      ort::api_or_null() != nullptr)
    return {};
  return fail(ErrorCode::kFailedPrecondition,
              "ONNX Runtime " + version + " is too old: " + std::string(kRuntimeVersionMin) +
                  " or newer is needed");
}

}  // namespace

Result<void> Runtime::State::start() {
  const std::lock_guard lock(mutex);
  if (environment) return {};
  SELVAGE_RETURN_IF_ERROR(check_library());
  OrtEnv* made = nullptr;
  SELVAGE_RETURN_IF_ERROR(ort::to_result(ort::api().CreateEnvWithCustomLogger(
      write_log, nullptr, ORT_LOGGING_LEVEL_ERROR, "selvage", &made)));
  ort::Handle<OrtEnv> owned_environment(made);

  OrtMemoryInfo* memory_info = nullptr;
  SELVAGE_RETURN_IF_ERROR(ort::to_result(
      ort::api().CreateCpuMemoryInfo(OrtDeviceAllocator, OrtMemTypeDefault, &memory_info)));
  memory.reset(memory_info);
  OrtMemoryInfo* arena_memory = nullptr;
  SELVAGE_RETURN_IF_ERROR(ort::to_result(
      ort::api().CreateCpuMemoryInfo(OrtArenaAllocator, OrtMemTypeDefault, &arena_memory)));
  const ort::Handle<OrtMemoryInfo> owned(arena_memory);
  if (auto registered = register_arena(made, arena_memory);
      !registered && registered.error().message.find("already") == std::string::npos)
    return std::unexpected(std::move(registered).error().with_context("set up the memory arena"));
  environment = std::move(owned_environment);
  return {};
}

Result<std::unique_ptr<Runtime>> Runtime::create(EnvironmentStart start) {
  // Both spellings that releases have used; read once, when the environment is made.
  // NOLINTBEGIN(concurrency-mt-unsafe): the header asks for a call before other threads start
  ::setenv("ORT_DISABLE_TELEMETRY", "1", 1);
  ::setenv("ORT_TELEMETRY_DISABLED", "1", 1);
  // NOLINTEND(concurrency-mt-unsafe)
  auto state = std::make_unique<State>();
  if (start == EnvironmentStart::kNow) SELVAGE_RETURN_IF_ERROR(state->start());
  return std::unique_ptr<Runtime>(new Runtime(std::move(state)));
}

Runtime::Runtime(std::unique_ptr<State> state) : state_(std::move(state)) {}
Runtime::~Runtime() = default;

std::string Runtime::version() {
  return OrtGetApiBase()->GetVersionString();
}

std::vector<std::string> Runtime::providers() {
  char** names = nullptr;
  int count = 0;
  std::vector<std::string> result;
  if (ort::api_or_null() == nullptr ||
      !ort::to_result(ort::api().GetAvailableProviders(&names, &count)))
    return result;
  for (int i = 0; i < count; ++i) result.emplace_back(names[i]);
  // The call cannot fail; its status exists for uniformity.
  if (auto* status = ort::api().ReleaseAvailableProviders(names, count))
    ort::api().ReleaseStatus(status);
  return result;
}

std::vector<std::string> Runtime::usable_providers() const {
  auto names = providers();
  std::erase_if(names, [](const std::string& name) { return !starts_provider(name); });
  return names;
}

}  // namespace selvage::infer
