// Which endpoint a request's method and path mean (docs/serving.md, "Endpoints").
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

#include "base/result.h"
#include "serve/http.h"

namespace selvage::serve {

enum class Endpoint : std::uint8_t {
  kStatusPage,
  kMetrics,
  kLive,
  kReady,
  kServerMetadata,
  kModels,
  kModelMetadata,
  kModelReady,
  kModelConfig,
  kModelStatistics,
  kInfer,
  kPredict,
  kIndex,
  kLoad,
  kUnload,
  kSharedMemoryStatus,
  kSharedMemoryRegister,
  kSharedMemoryUnregister,
  kCudaMemoryStatus,
  kCudaMemoryRegister,
  kCudaMemoryUnregister,
};

struct Route {
  Endpoint endpoint = Endpoint::kStatusPage;
  std::string name;     ///< Of the model or region; "" = all.
  std::string version;  ///< "" = the server's choice.
};

/// `target` as sent, percent-encoded, a query behind it ignored. kNotFound for a path that is none
/// of ours or a version that is no number; kInvalidArgument for broken percent-encoding.
[[nodiscard]] Result<Route> find_route(std::string_view target);

/// The method that an endpoint takes; HEAD goes where GET goes.
[[nodiscard]] Method method_of(Endpoint endpoint);

/// Whether strangers may call it although tokens are required: probes, and the page, which is the
/// same for everybody.
[[nodiscard]] bool is_public(Endpoint endpoint);

/// "%20" to " ". kInvalidArgument.
[[nodiscard]] Result<std::string> decode_percent(std::string_view text);

}  // namespace selvage::serve
