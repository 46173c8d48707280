// The one place where an ErrorCode becomes what a client of HTTP or gRPC sees. The table is the
// protocol's (docs/serving.md, "Errors").
#pragma once

#include "base/result.h"

namespace selvage::serve {

/// The status of an HTTP reply.
[[nodiscard]] unsigned http_status(ErrorCode code);

/// gRPC's canonical code, as the number on the wire.
[[nodiscard]] int grpc_status(ErrorCode code);

}  // namespace selvage::serve
