#include "infer/session_options.h"

#include <algorithm>
#include <array>
#include <thread>

#include "base/log.h"
#include "infer/cache.h"
#include "infer/config_keys.h"

namespace selvage::infer {
namespace {

using ort::api;
using ort::to_result;

constexpr int kThreadsMax = 256;

GraphOptimizationLevel ort_level(Optimization level) {
  switch (level) {
    case Optimization::kNone: return ORT_DISABLE_ALL;
    case Optimization::kBasic: return ORT_ENABLE_BASIC;
    case Optimization::kExtended: return ORT_ENABLE_EXTENDED;
    case Optimization::kAll: return ORT_ENABLE_ALL;
  }
  return ORT_ENABLE_ALL;
}

/// Spinning keeps a pool awake between runs. ONNX Runtime's own default is a fixed number of pauses
/// that burns tens of milliseconds of every core after each run; see docs/benchmarks.md.
std::uint32_t spin_us_of(PowerProfile power) {
  switch (power) {
    case PowerProfile::kLatency: return 1000;
    case PowerProfile::kBalanced: return 200;
    case PowerProfile::kLowPower: return 0;
  }
  return 0;
}

struct ProviderName {
  std::string_view full;
  std::string_view generic;  ///< As SessionOptionsAppendExecutionProvider takes it; "" = own call.
};
constexpr std::array kProviderNames = {
    ProviderName{"CUDAExecutionProvider", ""},
    ProviderName{"TensorrtExecutionProvider", ""},
    ProviderName{"XnnpackExecutionProvider", "XNNPACK"},
    ProviderName{"QNNExecutionProvider", "QNN"},
    ProviderName{"OpenVINOExecutionProvider", "OpenVINO"},
    ProviderName{"CoreMLExecutionProvider", "CoreML"},
    ProviderName{"WebGpuExecutionProvider", "WebGPU"},
};

bool same_ignoring_case(std::string_view a, std::string_view b) {
  const auto lower = [](char c) { return c >= 'A' && c <= 'Z' ? static_cast<char>(c + 32) : c; };
  return std::ranges::equal(a, b, {}, lower, lower);
}

/// "cuda" or "CUDAExecutionProvider" -> "CUDAExecutionProvider", as the library spells it.
std::string full_name(const std::string& name, const std::vector<std::string>& available) {
  for (const auto& full : available)
    if (same_ignoring_case(full, name) || same_ignoring_case(full, name + "ExecutionProvider"))
      return full;
  return "";
}

Result<void> append_cuda(OrtSessionOptions* options) {
  OrtCUDAProviderOptionsV2* cuda = nullptr;
  SELVAGE_RETURN_IF_ERROR(to_result(api().CreateCUDAProviderOptions(&cuda)));
  auto appended = to_result(api().SessionOptionsAppendExecutionProvider_CUDA_V2(options, cuda));
  api().ReleaseCUDAProviderOptions(cuda);
  return appended;
}

Result<void> append_tensorrt(OrtSessionOptions* options) {
  OrtTensorRTProviderOptionsV2* tensorrt = nullptr;
  SELVAGE_RETURN_IF_ERROR(to_result(api().CreateTensorRTProviderOptions(&tensorrt)));
  auto appended =
      to_result(api().SessionOptionsAppendExecutionProvider_TensorRT_V2(options, tensorrt));
  api().ReleaseTensorRTProviderOptions(tensorrt);
  return appended;
}

Result<void> append_provider(OrtSessionOptions* options, std::string_view full) {
  if (full == "CUDAExecutionProvider") return append_cuda(options);
  if (full == "TensorrtExecutionProvider") return append_tensorrt(options);
  std::string generic(full.substr(0, full.find("ExecutionProvider")));
  for (const auto& known : kProviderNames)
    if (known.full == full) generic = known.generic;
  return to_result(
      api().SessionOptionsAppendExecutionProvider(options, generic.c_str(), nullptr, nullptr, 0));
}

/// A provider that is absent or refuses is passed over: the CPU can run everything.
void append_providers(OrtSessionOptions* options, const std::vector<std::string>& names) {
  const auto available = Runtime::providers();
  for (const auto& name : names) {
    const auto full = full_name(name, available);
    if (full == "CPUExecutionProvider") return;
    if (full.empty()) {
      log::warning_once("this ONNX Runtime lacks the execution provider; using the next",
                        {{"provider", name}});
      continue;
    }
    if (const auto appended = append_provider(options, full); !appended)
      log::warning_once("the execution provider cannot be used; using the next",
                        {{"provider", full}, {"reason", appended.error().message}});
  }
}

Result<void> set_threads(OrtSessionOptions* options, const SessionOptions& chosen) {
  const auto entry = [&](const char* key, const std::string& value) {
    return to_result(api().AddSessionConfigEntry(options, key, value.c_str()));
  };
  SELVAGE_RETURN_IF_ERROR(to_result(api().SetIntraOpNumThreads(options, chosen.threads)));
  SELVAGE_RETURN_IF_ERROR(to_result(api().SetInterOpNumThreads(options, 1)));
  SELVAGE_RETURN_IF_ERROR(to_result(api().SetSessionExecutionMode(options, ORT_SEQUENTIAL)));
  const auto spin_us = chosen.spin_us.value_or(0);
  SELVAGE_RETURN_IF_ERROR(entry("session.intra_op.allow_spinning", spin_us > 0 ? "1" : "0"));
  if (spin_us > 0)
    SELVAGE_RETURN_IF_ERROR(entry("session.intra_op.spin_duration_us", std::to_string(spin_us)));
  if (!chosen.thread_affinities.empty())
    SELVAGE_RETURN_IF_ERROR(entry("session.intra_op_thread_affinities", chosen.thread_affinities));
  return entry("session.set_denormal_as_zero", chosen.flush_denormals ? "1" : "0");
}

}  // namespace

Result<SessionOptions> decide(SessionOptions options) {
  if (options.threads < 0 || options.threads > kThreadsMax)
    return fail(ErrorCode::kInvalidArgument, std::to_string(options.threads) +
                                                 " threads: between 0 (measure) and " +
                                                 std::to_string(kThreadsMax) + " are possible");
  for (const auto& [key, value] : options.config)
    SELVAGE_RETURN_IF_ERROR(check_config_key(key, Runtime::version()));
  if (options.power == PowerProfile::kLowPower && options.threads == 0) options.threads = 1;
  if (!options.spin_us) options.spin_us = spin_us_of(options.power);
  return options;
}

Result<ort::Handle<OrtSessionOptions>> to_ort(const SessionOptions& options, bool optimised) {
  OrtSessionOptions* raw = nullptr;
  SELVAGE_RETURN_IF_ERROR(to_result(api().CreateSessionOptions(&raw)));
  ort::Handle<OrtSessionOptions> result(raw);
  const auto level = optimised ? Optimization::kNone : options.optimization;
  SELVAGE_RETURN_IF_ERROR(to_result(api().SetSessionGraphOptimizationLevel(raw, ort_level(level))));
  SELVAGE_RETURN_IF_ERROR(
      to_result(api().SetSessionLogSeverityLevel(raw, ORT_LOGGING_LEVEL_ERROR)));
  SELVAGE_RETURN_IF_ERROR(set_threads(raw, options));
  if (options.arena == Arena::kNone) {
    SELVAGE_RETURN_IF_ERROR(to_result(api().DisableCpuMemArena(raw)));
  } else {
    SELVAGE_RETURN_IF_ERROR(
        to_result(api().AddSessionConfigEntry(raw, "session.use_env_allocators", "1")));
  }
  if (!options.memory_pattern) SELVAGE_RETURN_IF_ERROR(to_result(api().DisableMemPattern(raw)));
  for (const auto& [name, size] : options.dimensions)
    SELVAGE_RETURN_IF_ERROR(
        to_result(api().AddFreeDimensionOverrideByName(raw, name.c_str(), size)));
  if (!options.profile_prefix.empty())
    SELVAGE_RETURN_IF_ERROR(to_result(api().EnableProfiling(raw, options.profile_prefix.c_str())));
  append_providers(raw, options.providers);
  // Last, so that what the user says wins.
  for (const auto& [key, value] : options.config)
    SELVAGE_RETURN_IF_ERROR(
        to_result(api().AddSessionConfigEntry(raw, key.c_str(), value.c_str())));
  return result;
}

bool starts_provider(std::string_view full) {
  OrtSessionOptions* raw = nullptr;
  if (!to_result(api().CreateSessionOptions(&raw))) return false;
  const ort::Handle<OrtSessionOptions> options(raw);
  return full == "CPUExecutionProvider" || append_provider(raw, full).has_value();
}

bool cacheable(const SessionOptions& options) {
  return !options.cache_folder.empty() && options.providers.empty() && options.operators.empty() &&
         options.optimization != Optimization::kNone;
}

crypto::Digest cache_key(const crypto::Digest& model, const SessionOptions& options) {
  crypto::Sha256 hash;
  const auto add = [&](std::string_view part) {
    hash.update(std::to_string(part.size()) + ":");  // Lengths keep neighbours apart.
    hash.update(part);
  };
  add(model.hex());
  add(Runtime::version());
  add(cpu_features());
  add(std::to_string(static_cast<int>(options.optimization)));
  for (const auto& [name, size] : options.dimensions) {
    add("dimension");
    add(name);
    add(std::to_string(size));
  }
  for (const auto& [key, value] : options.config) {
    add("config");
    add(key);
    add(value);
  }
  return hash.finish();
}

}  // namespace selvage::infer
