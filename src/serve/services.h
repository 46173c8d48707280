// What the endpoints of both protocols share.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "serve/backend.h"
#include "serve/body.h"
#include "serve/shared_memory.h"
#include "serve/tasks.h"
#include "serve/tokens.h"

namespace selvage::serve {

struct Services {
  Backend& backend;
  SharedMemory& shared;
  BodyBudget& bodies;
  Tokens* tokens;  ///< Null: nobody needs one.
  Tasks& loading;
  Tasks& decoding;
  std::string version;  ///< Of this program.
};

inline constexpr std::string_view kServerName = "selvage";

/// The protocol's names of the extensions that are there.
[[nodiscard]] std::vector<std::string_view> extensions(const SharedMemory& shared);

/// What the CUDA shared memory extension finds on a machine without it. kPermissionDenied when
/// shared memory is switched off, kNotFound for a named region.
[[nodiscard]] Result<void> check_cuda_region(const SharedMemory& shared, std::string_view name);
/// kUnimplemented.
[[nodiscard]] Result<void> refuse_cuda_region(std::string_view name);

/// Answers `done` on a loading thread with what backend.load() says; at once when too many wait,
/// or too much.
void load_later(Services& services, std::string model, infer::LoadOverrides overrides,
                std::move_only_function<void(Result<void>)> done);
void unload_later(Services& services, std::string model, infer::Dependents dependents,
                  std::move_only_function<void(Result<void>)> done);

}  // namespace selvage::serve
