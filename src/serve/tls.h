// The certificates of a TLS server, read from files and read again when these change: on machines
// that stand for years they are renewed while the server runs.
#pragma once

#include <filesystem>
#include <memory>
#include <mutex>
#include <string>

#include "base/clock.h"
#include "base/result.h"

namespace boost::asio::ssl {
class context;  // NOLINT(readability-identifier-naming): not our name
}

namespace selvage::serve {

struct TlsOptions {
  std::filesystem::path certificate;  ///< PEM, the chain behind it; empty = no TLS.
  std::filesystem::path key;          ///< PEM.
  /// PEM. Given: clients must show a certificate that one of these has signed.
  std::filesystem::path client_authorities;
  [[nodiscard]] bool enabled() const { return !certificate.empty(); }
};

/// The content of the files at one time, which fits together.
struct TlsMaterial {
  std::string certificate, key, client_authorities;    ///< PEM.
  std::shared_ptr<boost::asio::ssl::context> context;  ///< Made of them; TLS 1.2 or newer.
};

/// Synchronised.
class TlsFiles {
 public:
  static constexpr std::uint64_t kFileBytesMax = 1u << 20;
  static constexpr auto kLookInterval = std::chrono::seconds(1);

  /// Errors name the file: those of read_text; kInvalidArgument for what is no PEM, a key that is
  /// encrypted or that belongs to another certificate. `clock` must outlive it.
  [[nodiscard]] static Result<std::unique_ptr<TlsFiles>> open(TlsOptions options,
                                                              const Clock& clock = machine_clock());

  /// For a new connection; looks at the files when the last look is kLookInterval ago. Where they
  /// have become unreadable or wrong the former content stays in force and the log says why, once.
  [[nodiscard]] std::shared_ptr<const TlsMaterial> current();

 private:
  struct Times {
    std::filesystem::file_time_type certificate, key, client_authorities;
    bool operator==(const Times&) const = default;
  };

  TlsFiles(TlsOptions options, const Clock& clock) : options_(std::move(options)), clock_(clock) {}
  [[nodiscard]] Times times() const;

  const TlsOptions options_;
  const Clock& clock_;
  std::mutex mutex_;  // Guards the three below.
  std::shared_ptr<const TlsMaterial> current_;
  Times changed_{};
  SteadyTime looked_{};
};

}  // namespace selvage::serve
