#include "serve/error_map.h"

namespace selvage::serve {
namespace {

struct Mapped {
  unsigned http;
  int grpc;
};

// No default: the compiler names a code that is missing here.
Mapped map(ErrorCode code) {
  switch (code) {
    case ErrorCode::kInvalidArgument: return {400, 3};
    case ErrorCode::kNotFound: return {404, 5};
    case ErrorCode::kAlreadyExists: return {400, 6};
    case ErrorCode::kPermissionDenied: return {403, 7};
    case ErrorCode::kFailedPrecondition: return {400, 9};
    case ErrorCode::kOutOfRange: return {400, 11};
    case ErrorCode::kResourceExhausted: return {503, 8};
    case ErrorCode::kUnimplemented: return {501, 12};
    case ErrorCode::kUnavailable: return {503, 14};
    case ErrorCode::kDeadlineExceeded: return {504, 4};
    case ErrorCode::kCancelled: return {400, 1};
    case ErrorCode::kDataLoss: return {500, 15};
    case ErrorCode::kIo:
    case ErrorCode::kInternal: return {500, 13};
  }
  return {500, 13};
}

}  // namespace

unsigned http_status(ErrorCode code) {
  return map(code).http;
}
int grpc_status(ErrorCode code) {
  return map(code).grpc;
}

}  // namespace selvage::serve
