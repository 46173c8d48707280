#include "base/result.h"

namespace selvage {

std::string_view to_string(ErrorCode code) {
  switch (code) {
    case ErrorCode::kInvalidArgument: return "invalid argument";
    case ErrorCode::kNotFound: return "not found";
    case ErrorCode::kAlreadyExists: return "already exists";
    case ErrorCode::kPermissionDenied: return "permission denied";
    case ErrorCode::kFailedPrecondition: return "failed precondition";
    case ErrorCode::kOutOfRange: return "out of range";
    case ErrorCode::kResourceExhausted: return "resource exhausted";
    case ErrorCode::kUnimplemented: return "unimplemented";
    case ErrorCode::kUnavailable: return "unavailable";
    case ErrorCode::kDeadlineExceeded: return "deadline exceeded";
    case ErrorCode::kCancelled: return "cancelled";
    case ErrorCode::kDataLoss: return "data loss";
    case ErrorCode::kIo: return "input/output error";
    case ErrorCode::kInternal: return "internal error";
  }
  return "unknown error";
}

Error Error::with_context(std::string_view context) && {
  std::string whole;
  whole.reserve(context.size() + 2 + message.size());
  whole.append(context).append(": ").append(message);
  return Error{code, std::move(whole)};
}

}  // namespace selvage
