#include "crypto/digest.h"

#include <cstring>

#include <openssl/evp.h>

#include "base/check.h"
#include "base/file.h"

namespace selvage::crypto {
namespace {

int value_of_hex(char c) {
  if (c >= '0' && c <= '9') return c - '0';
  if (c >= 'a' && c <= 'f') return c - 'a' + 10;
  if (c >= 'A' && c <= 'F') return c - 'A' + 10;
  return -1;
}

}  // namespace

Result<Digest> Digest::parse(std::string_view hex) {
  const auto invalid = [] {
    return fail(ErrorCode::kInvalidArgument, "a SHA-256 digest is 64 hexadecimal digits");
  };
  if (hex.size() != 2 * kSize) return invalid();
  Digest digest;
  for (std::size_t i = 0; i < kSize; ++i) {
    const int high = value_of_hex(hex[2 * i]);
    const int low = value_of_hex(hex[2 * i + 1]);
    if (high < 0 || low < 0) return invalid();
    digest.bytes_[i] = static_cast<std::byte>(high << 4 | low);
  }
  return digest;
}

std::string Digest::hex() const {
  static constexpr std::string_view kDigits = "0123456789abcdef";
  std::string text;
  text.reserve(2 * kSize);
  for (const auto byte : bytes_) {
    text += kDigits[std::to_integer<std::size_t>(byte >> 4)];
    text += kDigits[std::to_integer<std::size_t>(byte & std::byte{0xf})];
  }
  return text;
}

// OpenSSL fails here only without memory or without its default provider: neither can be mended at
// run time, so these are checks and not Results.
Sha256::Sha256() : context_(EVP_MD_CTX_new()) {
  SELVAGE_CHECK(context_ != nullptr);
  start();
}

void Sha256::Free::operator()(evp_md_ctx_st* context) const {
  EVP_MD_CTX_free(context);
}

void Sha256::start() {
  SELVAGE_CHECK(EVP_DigestInit_ex2(context_.get(), EVP_sha256(), nullptr) == 1);
}

void Sha256::update(std::span<const std::byte> bytes) {
  SELVAGE_CHECK(EVP_DigestUpdate(context_.get(), bytes.data(), bytes.size()) == 1);
}

Digest Sha256::finish() {
  std::array<std::byte, Digest::kSize> bytes;
  unsigned int size = 0;
  SELVAGE_CHECK(EVP_DigestFinal_ex(context_.get(), reinterpret_cast<unsigned char*>(bytes.data()),
                                   &size) == 1);
  SELVAGE_CHECK(size == Digest::kSize);
  start();
  return Digest(bytes);
}

Digest sha256(std::span<const std::byte> bytes) {
  Sha256 hash;
  hash.update(bytes);
  return hash.finish();
}

Digest sha256(std::string_view text) {
  return sha256(std::as_bytes(std::span(text)));
}

Result<Digest> sha256_file(const std::filesystem::path& path) {
  Sha256 hash;
  SELVAGE_RETURN_IF_ERROR(
      read_pieces(path, [&hash](std::span<const std::byte> piece) { hash.update(piece); }));
  return hash.finish();
}

}  // namespace selvage::crypto

std::size_t std::hash<selvage::crypto::Digest>::operator()(
    const selvage::crypto::Digest& digest) const noexcept {
  std::size_t value;  // The bytes of a digest are already evenly spread.
  std::memcpy(&value, digest.bytes().data(), sizeof value);
  return value;
}
