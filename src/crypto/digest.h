// SHA-256 (FIPS 180-4): what models, caches and releases are named by. Computed by OpenSSL, which
// uses the CPU's SHA instructions where it has them.
#pragma once

#include <array>
#include <compare>
#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <functional>
#include <memory>
#include <span>
#include <string>
#include <string_view>

#include "base/result.h"

struct evp_md_ctx_st;  // OpenSSL's EVP_MD_CTX

namespace selvage::crypto {

/// The 32 bytes of a SHA-256. Default-constructed: all zeros, the digest of nothing known. Ordered
/// bytewise, as its hexadecimal form is. Comparison is not constant-time: digests are no secrets.
class Digest {
 public:
  static constexpr std::size_t kSize = 32;

  Digest() = default;
  explicit Digest(const std::array<std::byte, kSize>& bytes) : bytes_(bytes) {}
  /// From 64 hexadecimal digits, either case. kInvalidArgument for anything else.
  [[nodiscard]] static Result<Digest> parse(std::string_view hex);

  [[nodiscard]] const std::array<std::byte, kSize>& bytes() const { return bytes_; }
  [[nodiscard]] std::string hex() const;  ///< 64 lower-case digits.

  friend auto operator<=>(const Digest&, const Digest&) = default;

 private:
  std::array<std::byte, kSize> bytes_{};
};

/// A SHA-256 in parts. Confined to one thread. Movable; a moved-from one may only be assigned to or
/// destroyed.
class Sha256 {
 public:
  Sha256();
  Sha256(Sha256&&) noexcept = default;
  Sha256& operator=(Sha256&&) noexcept = default;
  Sha256(const Sha256&) = delete;
  Sha256& operator=(const Sha256&) = delete;
  ~Sha256() = default;

  void update(std::span<const std::byte> bytes);
  void update(std::string_view text) { update(std::as_bytes(std::span(text))); }
  /// The digest of everything since construction or the last finish(); starts over.
  [[nodiscard]] Digest finish();

 private:
  struct Free {
    void operator()(evp_md_ctx_st* context) const;
  };
  void start();
  std::unique_ptr<evp_md_ctx_st, Free> context_;
};

[[nodiscard]] Digest sha256(std::span<const std::byte> bytes);
[[nodiscard]] Digest sha256(std::string_view text);

/// Of a file's content, read in pieces: memory does not grow with the file. Errors name the path,
/// as base/file.h's do. A file that changes meanwhile has an undefined digest.
[[nodiscard]] Result<Digest> sha256_file(const std::filesystem::path& path);

}  // namespace selvage::crypto

template <>
struct std::hash<selvage::crypto::Digest> {
  std::size_t operator()(const selvage::crypto::Digest& digest) const noexcept;
};
