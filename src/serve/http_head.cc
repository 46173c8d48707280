#include "serve/http_head.h"

#include <algorithm>
#include <cctype>
#include <charconv>
#include <limits>

namespace selvage::serve {
namespace {

namespace http = boost::beast::http;
using Fields = http::fields;

std::string_view view(boost::beast::string_view text) {
  return {text.data(), text.size()};
}

bool same_word(std::string_view a, std::string_view b) {
  return std::ranges::equal(
      a, b, [](unsigned char x, unsigned char y) { return std::tolower(x) == std::tolower(y); });
}

std::string_view trimmed(std::string_view text) {
  while (!text.empty() && (text.front() == ' ' || text.front() == '\t')) text.remove_prefix(1);
  while (!text.empty() && (text.back() == ' ' || text.back() == '\t')) text.remove_suffix(1);
  return text;
}

// A field that may stand once only; empty when absent.
template <typename Name>
Result<std::optional<std::string_view>> single(const Fields& fields, Name name,
                                               std::string_view shown) {
  const auto [begin, end] = fields.equal_range(name);
  if (begin == end) return std::nullopt;
  if (std::next(begin) != end)
    return fail(ErrorCode::kInvalidArgument,
                "the header field " + std::string(shown) + " is repeated");
  return trimmed(view(begin->value()));
}

Result<std::uint64_t> decimal(std::string_view text, std::string_view shown) {
  std::uint64_t value = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (text.empty() || error != std::errc() || end != text.data() + text.size())
    return fail(ErrorCode::kInvalidArgument,
                std::string(shown) + " is not a size: '" + std::string(text.substr(0, 40)) + "'");
  return value;
}

Result<Coding> content_coding(std::string_view text) {
  if (text.empty() || same_word(text, "identity")) return Coding::kIdentity;
  if (same_word(text, "gzip") || same_word(text, "x-gzip")) return Coding::kGzip;
  if (same_word(text, "deflate")) return Coding::kDeflate;
  return fail(ErrorCode::kUnimplemented,
              "Content-Encoding '" + std::string(text.substr(0, 40)) + "': send gzip or deflate");
}

Method method_of(http::verb verb) {
  switch (verb) {
    case http::verb::get: return Method::kGet;
    case http::verb::head: return Method::kHead;
    case http::verb::post: return Method::kPost;
    default: return Method::kOther;
  }
}

Result<void> read_length(const RequestParser& parser, Framing& framing) {
  const Fields& fields = parser.get();
  SELVAGE_TRY(const auto transfer,
              single(fields, http::field::transfer_encoding, "Transfer-Encoding"));
  SELVAGE_TRY(const auto length, single(fields, http::field::content_length, "Content-Length"));
  if (transfer) {
    if (length)
      return fail(ErrorCode::kInvalidArgument,
                  "Content-Length and Transfer-Encoding exclude each other");
    if (!same_word(*transfer, "chunked"))
      return fail(ErrorCode::kUnimplemented, "the only Transfer-Encoding here is 'chunked'");
    if (parser.get().version() < 11)
      return fail(ErrorCode::kInvalidArgument, "Transfer-Encoding needs HTTP/1.1");
    framing.chunked = true;
    return {};
  }
  if (!length) return {};
  SELVAGE_TRY(framing.content_length, decimal(*length, "Content-Length"));
  return {};
}

Result<void> read_expectation(const Fields& fields, Framing& framing) {
  SELVAGE_TRY(const auto expect, single(fields, http::field::expect, "Expect"));
  if (!expect) return {};
  if (!same_word(*expect, "100-continue"))
    return fail(ErrorCode::kInvalidArgument, "the only expectation here is '100-continue'");
  framing.expects_continue = true;
  return {};
}

}  // namespace

void limit(RequestParser& parser, std::uint32_t head_bytes_max) {
  parser.header_limit(head_bytes_max);
  parser.body_limit(std::numeric_limits<std::uint64_t>::max());
  parser.eager(false);
}

Coding choose_coding(std::string_view accept) {
  Coding best = Coding::kIdentity;
  while (!accept.empty()) {
    const auto comma = std::min(accept.find(','), accept.size());
    const std::string_view item = accept.substr(0, comma);
    accept.remove_prefix(std::min(comma + 1, accept.size()));
    const auto semicolon = std::min(item.find(';'), item.size());
    const std::string_view name = trimmed(item.substr(0, semicolon));
    const std::string_view weight = trimmed(item.substr(std::min(semicolon + 1, item.size())));
    const bool refused =
        weight.starts_with("q=0") && weight.find_first_of("123456789") == std::string_view::npos;
    if (refused) continue;
    if (same_word(name, "gzip")) return Coding::kGzip;
    if (same_word(name, "deflate")) best = Coding::kDeflate;
  }
  return best;
}

Result<Framing> read_framing(const RequestParser& parser) {
  const auto& message = parser.get();
  Framing framing;
  HttpHead& head = framing.head;
  head.method = method_of(message.method());
  head.method_text = view(message.method_string());
  head.target = view(message.target());
  framing.keep_alive = message.keep_alive();
  framing.http10 = message.version() < 11;
  SELVAGE_RETURN_IF_ERROR(read_length(parser, framing));
  SELVAGE_RETURN_IF_ERROR(read_expectation(message, framing));

  SELVAGE_TRY(const auto host, single(message, http::field::host, "Host"));
  if (!host && message.version() >= 11)
    return fail(ErrorCode::kInvalidArgument, "HTTP/1.1 needs a Host field");
  head.host = host.value_or("");
  SELVAGE_TRY(const auto json, single(message, "Inference-Header-Content-Length",
                                      "Inference-Header-Content-Length"));
  if (json) {
    SELVAGE_TRY(head.json_length, decimal(*json, "Inference-Header-Content-Length"));
  }
  SELVAGE_TRY(const auto coding,
              single(message, http::field::content_encoding, "Content-Encoding"));
  SELVAGE_TRY(head.content_coding, content_coding(coding.value_or("")));
  SELVAGE_TRY(const auto authorization,
              single(message, http::field::authorization, "Authorization"));
  head.authorization = authorization.value_or("");
  head.content_type = trimmed(view(message[http::field::content_type]));
  head.origin = trimmed(view(message[http::field::origin]));
  head.reply_coding = choose_coding(view(message[http::field::accept_encoding]));
  return framing;
}

}  // namespace selvage::serve
