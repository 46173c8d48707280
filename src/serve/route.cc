#include "serve/route.h"

#include <algorithm>
#include <charconv>
#include <vector>

namespace selvage::serve {
namespace {

using Segments = std::span<const std::string>;
constexpr std::size_t kSegmentsMax = 8;

std::unexpected<Error> no_such_path(std::string_view target) {
  return fail(ErrorCode::kNotFound, "no such path: " + std::string(target.substr(0, 200)));
}

Result<std::vector<std::string>> split(std::string_view target) {
  std::string_view path = target.substr(0, target.find_first_of("?#"));
  if (!path.starts_with('/')) return no_such_path(target);
  path.remove_prefix(1);
  if (path.ends_with('/')) path.remove_suffix(1);
  std::vector<std::string> segments;
  while (!path.empty()) {
    if (segments.size() == kSegmentsMax) return no_such_path(target);
    const auto end = std::min(path.find('/'), path.size());
    SELVAGE_TRY(std::string segment, decode_percent(path.substr(0, end)));
    segments.push_back(std::move(segment));
    path.remove_prefix(std::min(end + 1, path.size()));
  }
  return segments;
}

bool is_version(std::string_view text) {
  return !text.empty() && text.size() <= 18 &&
         text.find_first_not_of("0123456789") == std::string_view::npos;
}

// After /v2/models.
std::optional<Route> model_route(Segments rest) {
  if (rest.empty()) return Route{Endpoint::kModels, "", ""};
  if (rest.size() == 1 && rest[0] == "stats") return Route{Endpoint::kModelStatistics, "", ""};
  Route route{Endpoint::kModelMetadata, rest[0], ""};
  rest = rest.subspan(1);
  if (rest.size() >= 2 && rest[0] == "versions") {
    if (!is_version(rest[1])) return std::nullopt;
    route.version = rest[1];
    rest = rest.subspan(2);
  }
  if (rest.empty()) return route;
  if (rest.size() > 1) return std::nullopt;
  if (rest[0] == "ready")
    route.endpoint = Endpoint::kModelReady;
  else if (rest[0] == "infer")
    route.endpoint = Endpoint::kInfer;
  else if (rest[0] == "config")
    route.endpoint = Endpoint::kModelConfig;
  else if (rest[0] == "stats")
    route.endpoint = Endpoint::kModelStatistics;
  else
    return std::nullopt;
  return route;
}

// After /v2/repository. Triton's form with a repository's name before the rest means the same.
std::optional<Route> repository_route(Segments rest) {
  if (rest.size() == 2 && rest[1] == "index") rest = rest.subspan(1);
  if (rest.size() == 4 && rest[1] == "models") rest = rest.subspan(1);
  if (rest.size() == 1 && rest[0] == "index") return Route{Endpoint::kIndex, "", ""};
  if (rest.size() != 3 || rest[0] != "models") return std::nullopt;
  if (rest[2] == "load") return Route{Endpoint::kLoad, rest[1], ""};
  if (rest[2] == "unload") return Route{Endpoint::kUnload, rest[1], ""};
  return std::nullopt;
}

struct MemoryEndpoints {
  Endpoint status, add, remove;
};
constexpr MemoryEndpoints kSystemMemory = {Endpoint::kSharedMemoryStatus,
                                           Endpoint::kSharedMemoryRegister,
                                           Endpoint::kSharedMemoryUnregister};
constexpr MemoryEndpoints kCudaMemory = {Endpoint::kCudaMemoryStatus, Endpoint::kCudaMemoryRegister,
                                         Endpoint::kCudaMemoryUnregister};

// After /v2/systemsharedmemory or /v2/cudasharedmemory.
std::optional<Route> shared_memory_route(Segments rest, const MemoryEndpoints& of) {
  std::string region;
  if (rest.size() == 3 && rest[0] == "region") {
    region = rest[1];
    rest = rest.subspan(2);
    if (region.empty()) return std::nullopt;
  }
  if (rest.size() != 1) return std::nullopt;
  if (rest[0] == "status") return Route{of.status, region, ""};
  if (rest[0] == "unregister") return Route{of.remove, region, ""};
  if (rest[0] == "register" && !region.empty()) return Route{of.add, region, ""};
  return std::nullopt;
}

std::optional<Route> v2_route(Segments rest) {
  if (rest.empty()) return Route{Endpoint::kServerMetadata, "", ""};
  const std::string& first = rest[0];
  if (first == "models") return model_route(rest.subspan(1));
  if (first == "repository") return repository_route(rest.subspan(1));
  if (first == "systemsharedmemory") return shared_memory_route(rest.subspan(1), kSystemMemory);
  if (first == "cudasharedmemory") return shared_memory_route(rest.subspan(1), kCudaMemory);
  if (first != "health" || rest.size() != 2) return std::nullopt;
  if (rest[1] == "live") return Route{Endpoint::kLive, "", ""};
  if (rest[1] == "ready") return Route{Endpoint::kReady, "", ""};
  return std::nullopt;
}

// /v1/models/NAME:predict
std::optional<Route> v1_route(Segments rest) {
  constexpr std::string_view kSuffix = ":predict";
  if (rest.size() != 2 || rest[0] != "models" || !rest[1].ends_with(kSuffix)) return std::nullopt;
  return Route{Endpoint::kPredict, rest[1].substr(0, rest[1].size() - kSuffix.size()), ""};
}

}  // namespace

Result<std::string> decode_percent(std::string_view text) {
  std::string plain;
  for (std::size_t i = 0; i < text.size(); ++i) {
    if (text[i] != '%') {
      plain += text[i];
      continue;
    }
    unsigned byte = 0;
    const char* const digits = text.data() + i + 1;
    if (text.size() - i < 3)
      return fail(ErrorCode::kInvalidArgument, "the path ends within a percent-encoded byte");
    const auto [end, error] = std::from_chars(digits, digits + 2, byte, 16);
    if (error != std::errc() || end != digits + 2)
      return fail(ErrorCode::kInvalidArgument, "the path has a broken percent-encoding");
    plain += static_cast<char>(byte);
    i += 2;
  }
  return plain;
}

Result<Route> find_route(std::string_view target) {
  SELVAGE_TRY(const auto segments, split(target));
  std::optional<Route> route;
  if (segments.empty())
    route = Route{Endpoint::kStatusPage, "", ""};
  else if (segments[0] == "v2")
    route = v2_route(Segments(segments).subspan(1));
  else if (segments[0] == "v1")
    route = v1_route(Segments(segments).subspan(1));
  else if (segments[0] == "metrics" && segments.size() == 1)
    route = Route{Endpoint::kMetrics, "", ""};
  if (!route) return no_such_path(target);
  return *std::move(route);
}

Method method_of(Endpoint endpoint) {
  switch (endpoint) {
    case Endpoint::kStatusPage:
    case Endpoint::kMetrics:
    case Endpoint::kLive:
    case Endpoint::kReady:
    case Endpoint::kServerMetadata:
    case Endpoint::kModels:
    case Endpoint::kModelMetadata:
    case Endpoint::kModelReady:
    case Endpoint::kModelConfig:
    case Endpoint::kModelStatistics:
    case Endpoint::kSharedMemoryStatus:
    case Endpoint::kCudaMemoryStatus: return Method::kGet;
    case Endpoint::kInfer:
    case Endpoint::kPredict:
    case Endpoint::kIndex:
    case Endpoint::kLoad:
    case Endpoint::kUnload:
    case Endpoint::kSharedMemoryRegister:
    case Endpoint::kSharedMemoryUnregister:
    case Endpoint::kCudaMemoryRegister:
    case Endpoint::kCudaMemoryUnregister: return Method::kPost;
  }
  return Method::kOther;
}

bool is_public(Endpoint endpoint) {
  return endpoint == Endpoint::kLive || endpoint == Endpoint::kReady ||
         endpoint == Endpoint::kStatusPage;
}

}  // namespace selvage::serve
