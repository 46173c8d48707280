// The one place where exceptions of libraries become Results. Adapters around libraries that throw
// (ONNX Runtime, yaml-cpp, nlohmann-json) wrap their calls in catch_to_result.
#pragma once

#include <exception>
#include <new>
#include <type_traits>
#include <utility>

#include "base/result.h"

namespace selvage {

/// Calls `function`, which returns a Result or nothing, and turns what it throws into an Error with
/// `code`. Running out of memory is kResourceExhausted, so that one hostile input cannot end the
/// process.
template <typename Function>
[[nodiscard]] auto catch_to_result(ErrorCode code, Function&& function) {
  using Returned = decltype(function());
  using Caught = std::conditional_t<std::is_void_v<Returned>, Result<void>, Returned>;
  try {
    if constexpr (std::is_void_v<Returned>) {
      std::forward<Function>(function)();
      return Caught();
    } else {
      return std::forward<Function>(function)();
    }
  } catch (const std::bad_alloc&) {
    return Caught(fail(ErrorCode::kResourceExhausted, "out of memory"));
  } catch (const std::exception& e) {
    return Caught(fail(code, e.what()));
  }
}

}  // namespace selvage
