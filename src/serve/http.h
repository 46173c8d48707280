// HTTP messages as the endpoints see them, and the interface between connections and endpoints.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "serve/backend.h"
#include "serve/body.h"

namespace selvage::serve {

enum class Method : std::uint8_t { kGet, kHead, kPost, kOther };
enum class Coding : std::uint8_t { kIdentity, kGzip, kDeflate };
[[nodiscard]] std::string_view coding_name(Coding coding);  ///< "gzip", ...

/// What the endpoints need of a request's head.
struct HttpHead {
  Method method = Method::kOther;
  bool secure = false;  ///< Over TLS.
  std::string method_text;
  std::string target;  ///< As sent: "/v2/models/a%20b?x=1".
  Coding content_coding = Coding::kIdentity;
  Coding reply_coding = Coding::kIdentity;   ///< The best of Accept-Encoding that we have.
  std::optional<std::uint64_t> json_length;  ///< Inference-Header-Content-Length.
  std::string authorization;
  std::string content_type;
  std::string origin;
  std::string host;
};

struct HttpRequest {
  HttpHead head;
  Body body;                          ///< In head.content_coding.
  std::uint64_t plain_bytes_max = 0;  ///< Of the body, when its coding is undone.
};

struct HttpReply {
  unsigned status = 200;
  std::string_view content_type = "application/json";
  std::vector<std::pair<std::string, std::string>> fields;  ///< Further header fields.
  std::string text;                                         ///< The body, or its beginning.
  std::vector<std::span<const std::byte>> parts;            ///< The rest, not copied.
  std::shared_ptr<const void> keepalive;                    ///< Owns what `parts` point to.
};

/// `{"error": message}` with the code's status.
[[nodiscard]] HttpReply error_reply(const Error& error);

/// One request that waits for its reply. Synchronised.
class HttpExchange {
 public:
  virtual ~HttpExchange() = default;
  /// Call it exactly once, from any thread: `make` runs on the connection's own thread, unless the
  /// client has left.
  virtual void reply(std::move_only_function<HttpReply()> make) = 0;
  /// Called when the client leaves before the reply. Set it before reply(), at most once, on the
  /// thread that called handle().
  virtual void on_leave(Cancel cancel) = 0;
};

class HttpHandler {
 public:
  virtual ~HttpHandler() = default;
  /// On the connection's thread; returns soon.
  virtual void handle(HttpRequest request, std::shared_ptr<HttpExchange> exchange) = 0;
  /// Before the body is read, so that strangers cannot make the server read one: the reply to a
  /// request that is refused.
  [[nodiscard]] virtual std::optional<HttpReply> admit(const HttpHead& head) = 0;
};

}  // namespace selvage::serve
