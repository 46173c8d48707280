// Who may connect to the gRPC server, with certificates that are renewed while it runs. Internal
// to src/serve.
#pragma once

#include <memory>

#include <grpcpp/security/server_credentials.h>

#include "base/result.h"
#include "serve/grpc_intake.h"
#include "serve/tls.h"

namespace selvage::serve {

/// Without TLS: everybody. Each new connection gets the certificates of that moment; each call is
/// shown to `intake`, which must outlive them, before anything else. Must outlive the server.
/// Errors of TlsFiles::open.
[[nodiscard]] Result<std::shared_ptr<grpc::ServerCredentials>> make_credentials(
    const TlsOptions& tls, GrpcIntake& intake);

}  // namespace selvage::serve
