#include "crypto/digest.h"
#include "serve/base64.h"
#include "serve/status_page.h"

namespace selvage::serve {
namespace {

// 'sha256-...' of what stands between the first <tag> and </tag>.
std::string source_of(std::string_view page, std::string_view tag) {
  const std::string open = "<" + std::string(tag) + ">", close = "</" + std::string(tag) + ">";
  const auto from = page.find(open);
  const auto to = page.find(close, from);
  if (from == std::string_view::npos || to == std::string_view::npos) return "'none'";
  crypto::Sha256 hash;
  hash.update(page.substr(from + open.size(), to - from - open.size()));
  return "'sha256-" + encode_base64(hash.finish().bytes()) + "'";
}

}  // namespace

std::string content_security_policy(std::string_view page) {
  return "default-src 'none'; connect-src 'self'; img-src 'self' blob: data:; form-action 'none'; "
         "base-uri 'none'; frame-ancestors 'none'; script-src " +
         source_of(page, "script") + "; style-src " + source_of(page, "style");
}

}  // namespace selvage::serve
