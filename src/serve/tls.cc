#include "serve/tls.h"

#include <boost/asio/ssl/context.hpp>

#include "base/exception.h"
#include "base/file.h"
#include "base/log.h"

namespace selvage::serve {
namespace {

namespace ssl = boost::asio::ssl;
using BoostError = boost::system::error_code;

Error refusal(const std::filesystem::path& file, const std::string& what, const BoostError& error) {
  return {ErrorCode::kInvalidArgument, "'" + file.string() + "' " + what + ": " + error.message()};
}

Result<void> use_key(ssl::context& context, const TlsOptions& files, const std::string& key) {
  // Without a callback OpenSSL would ask for the password at the terminal.
  bool is_encrypted = false;
  context.set_password_callback([&is_encrypted](std::size_t, ssl::context::password_purpose) {
    is_encrypted = true;
    return std::string();
  });
  BoostError error;
  context.use_private_key(boost::asio::buffer(key), ssl::context::pem, error);
  context.set_password_callback(
      [](std::size_t, ssl::context::password_purpose) { return std::string(); });
  if (!error) return {};
  if (is_encrypted)
    return fail(ErrorCode::kInvalidArgument,
                "'" + files.key.string() +
                    "' is encrypted: write it without a password, as `openssl pkey -in KEY -out "
                    "PLAIN` does");
  return std::unexpected(refusal(
      files.key, "is not the private key (PEM) of '" + files.certificate.string() + "'", error));
}

Result<std::shared_ptr<ssl::context>> make_context(const TlsOptions& files, const TlsMaterial& of) {
  auto context = std::make_shared<ssl::context>(ssl::context::tls_server);
  context->set_options(ssl::context::default_workarounds | ssl::context::no_tlsv1 |
                       ssl::context::no_tlsv1_1 | ssl::context::no_compression);
  BoostError error;
  context->use_certificate_chain(boost::asio::buffer(of.certificate), error);
  if (error)
    return std::unexpected(refusal(files.certificate, "holds no certificate (PEM)", error));
  SELVAGE_RETURN_IF_ERROR(use_key(*context, files, of.key));
  if (files.client_authorities.empty()) return context;
  context->add_certificate_authority(boost::asio::buffer(of.client_authorities), error);
  if (error)
    return std::unexpected(refusal(files.client_authorities, "holds no certificate (PEM)", error));
  context->set_verify_mode(ssl::verify_peer | ssl::verify_fail_if_no_peer_cert);
  return context;
}

Result<std::shared_ptr<const TlsMaterial>> read(const TlsOptions& files) {
  auto material = std::make_shared<TlsMaterial>();
  SELVAGE_TRY(material->certificate,
              read_text(files.certificate, TlsFiles::kFileBytesMax, Pipes::kRead));
  SELVAGE_TRY(material->key, read_text(files.key, TlsFiles::kFileBytesMax, Pipes::kRead));
  if (!files.client_authorities.empty()) {
    SELVAGE_TRY(material->client_authorities,
                read_text(files.client_authorities, TlsFiles::kFileBytesMax, Pipes::kRead));
  }
  SELVAGE_TRY(material->context, catch_to_result(ErrorCode::kInvalidArgument,
                                                 [&] { return make_context(files, *material); }));
  return material;
}

}  // namespace

Result<std::unique_ptr<TlsFiles>> TlsFiles::open(TlsOptions options, const Clock& clock) {
  auto files = std::unique_ptr<TlsFiles>(new TlsFiles(std::move(options), clock));
  files->changed_ = files->times();
  files->looked_ = clock.steady_now();
  SELVAGE_TRY(files->current_, read(files->options_));
  return files;
}

TlsFiles::Times TlsFiles::times() const {
  const auto of = [](const std::filesystem::path& file) {
    std::error_code error;
    const auto time = std::filesystem::last_write_time(file, error);
    return error ? std::filesystem::file_time_type() : time;
  };
  return {of(options_.certificate), of(options_.key), of(options_.client_authorities)};
}

std::shared_ptr<const TlsMaterial> TlsFiles::current() {
  const std::lock_guard lock(mutex_);
  const auto now = clock_.steady_now();
  if (now - looked_ < kLookInterval) return current_;
  looked_ = now;
  const Times changed = times();
  if (changed == changed_) return current_;
  changed_ = changed;
  if (auto renewed = read(options_)) {
    current_ = *std::move(renewed);
    log::info("the TLS certificates were read again");
  } else {
    log::error("the changed TLS certificates are not used, the former ones stay",
               {{"reason", renewed.error().message}});
  }
  return current_;
}

}  // namespace selvage::serve
