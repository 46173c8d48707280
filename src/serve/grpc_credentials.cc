#include "serve/grpc_credentials.h"

#include <string>

#include <grpc/grpc.h>
#include <grpc/grpc_security.h>

namespace selvage::serve {
namespace {

// gRPC's C++ interface reads certificates once. Its C interface asks for them at every handshake,
// and keeps the former ones where it cannot use what it gets.
class Credentials final : public grpc::ServerCredentials {
 public:
  /// Without `files`: no TLS.
  Credentials(std::unique_ptr<TlsFiles> files, bool asks_clients, GrpcIntake& intake)
      : files_(std::move(files)), credentials_(make(asks_clients)) {
    ::grpc_server_credentials_set_auth_metadata_processor(credentials_, {&admit, nullptr, &intake});
  }
  ~Credentials() override { ::grpc_server_credentials_release(credentials_); }
  Credentials(const Credentials&) = delete;
  Credentials& operator=(const Credentials&) = delete;

  void SetAuthMetadataProcessor(const std::shared_ptr<grpc::AuthMetadataProcessor>&) override {}

 private:
  int AddPortToServer(const std::string& address, grpc_server* server) override {
    return ::grpc_server_add_http2_port(server, address.c_str(), credentials_);
  }

  grpc_server_credentials* make(bool asks_clients) {
    if (!files_) return ::grpc_insecure_server_credentials_create();
    return ::grpc_ssl_server_credentials_create_with_options(
        ::grpc_ssl_server_credentials_create_options_using_config_fetcher(
            asks_clients ? GRPC_SSL_REQUEST_AND_REQUIRE_CLIENT_CERTIFICATE_AND_VERIFY
                         : GRPC_SSL_DONT_REQUEST_CLIENT_CERTIFICATE,
            &fetch, this));
  }

  // One thread at a time.
  static grpc_ssl_certificate_config_reload_status fetch(
      void* self, grpc_ssl_server_certificate_config** config) {
    auto& credentials = *static_cast<Credentials*>(self);
    auto current = credentials.files_->current();
    if (current == credentials.given_) return GRPC_SSL_CERTIFICATE_CONFIG_RELOAD_UNCHANGED;
    const grpc_ssl_pem_key_cert_pair pair{current->key.c_str(), current->certificate.c_str()};
    // gRPC 1.51 aborts without authorities, also where no client is asked for a certificate.
    const auto& authorities =
        current->client_authorities.empty() ? current->certificate : current->client_authorities;
    *config = ::grpc_ssl_server_certificate_config_create(authorities.c_str(), &pair, 1);
    credentials.given_ = std::move(current);
    return GRPC_SSL_CERTIFICATE_CONFIG_RELOAD_NEW;
  }

  // On the thread that has read the call, and the only place that gRPC offers there. Tokens are
  // looked at later, where methods are known.
  static void admit(void* intake, grpc_auth_context*, const grpc_metadata*, std::size_t,
                    grpc_process_auth_metadata_done_cb done, void* call) {
    const bool admitted = static_cast<GrpcIntake*>(intake)->admit();
    done(call, nullptr, 0, nullptr, 0, admitted ? GRPC_STATUS_OK : GRPC_STATUS_RESOURCE_EXHAUSTED,
         admitted ? nullptr : "too many calls at once: try again later");
  }

  const std::unique_ptr<TlsFiles> files_;
  std::shared_ptr<const TlsMaterial> given_;
  grpc_server_credentials* const credentials_;
};

}  // namespace

Result<std::shared_ptr<grpc::ServerCredentials>> make_credentials(const TlsOptions& tls,
                                                                  GrpcIntake& intake) {
  std::unique_ptr<TlsFiles> files;
  if (tls.enabled()) {
    SELVAGE_TRY(files, TlsFiles::open(tls));
  }
  return std::make_shared<Credentials>(std::move(files), !tls.client_authorities.empty(), intake);
}

}  // namespace selvage::serve
