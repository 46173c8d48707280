// ONNX Runtime's C API as this folder uses it: statuses become Results, handles free themselves.
// Internal to src/infer; no other header includes it.
#pragma once

#include <memory>
#include <mutex>
#include <string>
#include <string_view>

#include <onnxruntime_c_api.h>

#include "base/result.h"
#include "infer/runtime.h"

namespace selvage::infer::ort {

/// The C API of the version that our headers describe; null when the library is too old for them.
[[nodiscard]] inline const OrtApi* api_or_null() {
  static const OrtApi* const api = OrtGetApiBase()->GetApi(ORT_API_VERSION);
  return api;
}
/// Only after Runtime::create has succeeded.
[[nodiscard]] inline const OrtApi& api() {
  return *api_or_null();
}

struct Release {
  void operator()(OrtEnv* p) const { api().ReleaseEnv(p); }
  void operator()(OrtSession* p) const { api().ReleaseSession(p); }
  void operator()(OrtSessionOptions* p) const { api().ReleaseSessionOptions(p); }
  void operator()(OrtRunOptions* p) const { api().ReleaseRunOptions(p); }
  void operator()(OrtValue* p) const { api().ReleaseValue(p); }
  void operator()(OrtMemoryInfo* p) const { api().ReleaseMemoryInfo(p); }
  void operator()(OrtArenaCfg* p) const { api().ReleaseArenaCfg(p); }
  void operator()(OrtTypeInfo* p) const { api().ReleaseTypeInfo(p); }
  void operator()(OrtTensorTypeAndShapeInfo* p) const { api().ReleaseTensorTypeAndShapeInfo(p); }
};
template <typename T>
using Handle = std::unique_ptr<T, Release>;

/// Frees the status. The codes that a caller can act on keep their meaning, the rest is kInternal.
[[nodiscard]] Result<void> to_result(OrtStatus* status);

/// The runtime's message without the place in its sources, the function's signature and the failed
/// condition: "[PREFIX]/FILE:LINE SIGNATURE [CONDITION was false.] MESSAGE" (ORT_ENFORCE).
[[nodiscard]] std::string readable_message(std::string_view message);

/// Major and minor version as one number that can be compared: "1.30.0" is 1030.
[[nodiscard]] int version_number(std::string_view version);

}  // namespace selvage::infer::ort

namespace selvage::infer {

struct Runtime::State {
  std::mutex mutex;
  ort::Handle<OrtEnv> environment;    ///< Null until start() has succeeded.
  ort::Handle<OrtMemoryInfo> memory;  ///< Describes CPU memory that a caller owns.

  /// Makes what is not there yet. Synchronised; what it made stays.
  [[nodiscard]] Result<void> start();
};

}  // namespace selvage::infer
