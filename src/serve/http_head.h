// From Beast's parsed header to what connections and endpoints go by, and what we refuse to guess
// about (RFC 9112, sections 6 and 11.2: request smuggling). Internal to src/serve.
#pragma once

#include <cstdint>
#include <optional>

#include <boost/beast/http/empty_body.hpp>
#include <boost/beast/http/parser.hpp>

#include "base/result.h"
#include "serve/http.h"

namespace selvage::serve {

using RequestParser = boost::beast::http::request_parser<boost::beast::http::empty_body>;

/// A parser with our limits; bodies are not its business but for their chunks.
void limit(RequestParser& parser, std::uint32_t head_bytes_max);

struct Framing {
  HttpHead head;
  std::optional<std::uint64_t> content_length;  ///< Empty and not chunked: no body.
  bool chunked = false;
  bool keep_alive = false;
  bool http10 = false;  ///< Such a client must be told that the connection stays open.
  bool expects_continue = false;
};

/// After parser.is_header_done(). kInvalidArgument; kUnimplemented for transfer codings other than
/// chunked and for content codings other than gzip and deflate.
[[nodiscard]] Result<Framing> read_framing(const RequestParser& parser);

/// The best coding that we have of an Accept-Encoding field (RFC 9110, section 12.5.3).
[[nodiscard]] Coding choose_coding(std::string_view accept);

}  // namespace selvage::serve
