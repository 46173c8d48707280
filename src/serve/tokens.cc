#include "serve/tokens.h"

#include "base/file.h"
#include "base/log.h"

namespace selvage::serve {
namespace {

crypto::Digest digest_of(std::string_view token) {
  crypto::Sha256 hash;
  hash.update(token);
  return hash.finish();
}

bool same(const crypto::Digest& a, const crypto::Digest& b) {
  unsigned difference = 0;
  for (std::size_t i = 0; i < crypto::Digest::kSize; ++i)
    difference |= std::to_integer<unsigned>(a.bytes()[i] ^ b.bytes()[i]);
  return difference == 0;
}

std::string_view trimmed(std::string_view line) {
  constexpr std::string_view kBlank = " \t\r";
  const auto from = line.find_first_not_of(kBlank);
  if (from == std::string_view::npos) return {};
  return line.substr(from, line.find_last_not_of(kBlank) - from + 1);
}

}  // namespace

Result<std::unique_ptr<Tokens>> Tokens::open(std::filesystem::path file, const Clock& clock) {
  auto tokens = std::unique_ptr<Tokens>(new Tokens(std::move(file), clock));
  std::error_code ignored;
  tokens->changed_ = std::filesystem::last_write_time(tokens->file_, ignored);
  tokens->looked_ = clock.steady_now();
  SELVAGE_RETURN_IF_ERROR(tokens->read());
  return tokens;
}

Result<void> Tokens::read() {
  digests_.clear();
  SELVAGE_TRY(const std::string text, read_text(file_, kFileBytesMax, Pipes::kRead));
  std::vector<crypto::Digest> digests;
  for (std::size_t at = 0, line = 1; at < text.size(); ++line) {
    const auto end = std::min(text.find('\n', at), text.size());
    const auto token = trimmed(std::string_view(text).substr(at, end - at));
    at = end + 1;
    if (token.empty() || token.starts_with('#')) continue;
    if (token.size() < kTokenBytesMin)
      return fail(ErrorCode::kInvalidArgument,
                  file_.string() + ", line " + std::to_string(line) + ": a token has at least " +
                      std::to_string(kTokenBytesMin) +
                      " characters; make one with `openssl rand -hex 32`");
    digests.push_back(digest_of(token));
  }
  if (digests.empty())
    return fail(ErrorCode::kInvalidArgument,
                file_.string() + " holds no token; make one with `openssl rand -hex 32`");
  digests_ = std::move(digests);
  return {};
}

void Tokens::look() {
  const auto now = clock_.steady_now();
  if (now - looked_ < kLookInterval) return;
  looked_ = now;
  std::error_code error;
  auto changed = std::filesystem::last_write_time(file_, error);
  if (error) changed = {};
  if (changed == changed_) return;
  changed_ = changed;
  if (auto done = read(); !done)
    log::error("no token is accepted", {{"reason", done.error().message}});
}

bool Tokens::admits(std::string_view authorization) {
  constexpr std::string_view kScheme = "bearer ";
  if (authorization.size() < kScheme.size()) return false;
  for (std::size_t i = 0; i < kScheme.size(); ++i) {
    const auto c = static_cast<unsigned char>(authorization[i]);
    if ((c >= 'A' && c <= 'Z' ? c + 32 : c) != static_cast<unsigned char>(kScheme[i])) return false;
  }
  const crypto::Digest shown = digest_of(trimmed(authorization.substr(kScheme.size())));
  const std::lock_guard lock(mutex_);
  look();
  bool admitted = false;
  for (const auto& digest : digests_) admitted |= same(digest, shown);
  return admitted;
}

}  // namespace selvage::serve
