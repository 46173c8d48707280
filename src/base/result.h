// How every function of Selvage reports failure: a value, or an Error with a code for the program
// and a message for the person. Nothing of ours throws; see base/exception.h for libraries that do.
#pragma once

#include <cstdint>
#include <expected>
#include <string>
#include <string_view>
#include <utility>

namespace selvage {

/// What a caller can do about a failure. The set of gRPC's canonical codes that we use, plus kIo.
enum class ErrorCode : std::uint8_t {
  kInvalidArgument,     ///< The input is wrong and stays wrong: mend it and call again.
  kNotFound,            ///< The named thing does not exist.
  kAlreadyExists,       ///< The named thing exists and would be overwritten.
  kPermissionDenied,    ///< The operating system or a policy refuses.
  kFailedPrecondition,  ///< The input is fine, the state is not: mend the state first.
  kOutOfRange,          ///< Past the end, or beyond a limit that the message names.
  kResourceExhausted,   ///< Memory, disk or a queue is full; may work later.
  kUnimplemented,       ///< Not supported by this build, runtime or machine.
  kUnavailable,         ///< A peer or device is away; try again.
  kDeadlineExceeded,    ///< Took longer than the caller allowed.
  kCancelled,           ///< The caller asked to stop.
  kDataLoss,            ///< Stored data is damaged.
  kIo,                  ///< The operating system failed a read or write.
  kInternal,            ///< A fault of ours or of a library: please report.
};

/// "invalid argument", "not found", ...
[[nodiscard]] std::string_view to_string(ErrorCode code);

/// A failure. `message` names the thing that failed and, where there is one, the way out.
struct Error {
  ErrorCode code = ErrorCode::kInternal;
  std::string message;

  /// The same failure seen from one level up: "load model blazeface: <message>".
  [[nodiscard]] Error with_context(std::string_view context) &&;
};

/// std::expected is not [[nodiscard]] as a class: put it on every function that returns one.
template <typename T>
using Result = std::expected<T, Error>;

/// `return fail(ErrorCode::kNotFound, "no file 'x'");` in a function that returns any Result.
[[nodiscard]] inline std::unexpected<Error> fail(ErrorCode code, std::string message) {
  return std::unexpected<Error>(Error{code, std::move(message)});
}

}  // namespace selvage

#define SELVAGE_CONCAT_INNER(a, b) a##b
#define SELVAGE_CONCAT(a, b) SELVAGE_CONCAT_INNER(a, b)

/// `SELVAGE_TRY(auto model, load(path));` declares `model`, or returns the error to the caller.
#define SELVAGE_TRY(declaration, expression) \
  SELVAGE_TRY_INNER(declaration, expression, SELVAGE_CONCAT(selvage_result_, __LINE__))
#define SELVAGE_TRY_INNER(declaration, expression, result)                          \
  auto result = (expression);                                                       \
  if (!result) return std::unexpected<::selvage::Error>(std::move(result).error()); \
  declaration = *std::move(result)

/// `SELVAGE_RETURN_IF_ERROR(write(path));` for a Result whose value is not needed.
#define SELVAGE_RETURN_IF_ERROR(expression)                                        \
  do {                                                                             \
    if (auto selvage_result = (expression); !selvage_result)                       \
      return std::unexpected<::selvage::Error>(std::move(selvage_result).error()); \
  } while (false)
