#include "serve/http_api.h"

#include <algorithm>

#include "base/exception.h"
#include "base/json_writer.h"
#include "serve/compression.h"
#include "serve/error_map.h"
#include "serve/late_exchange.h"
#include "serve/metrics_page.h"
#include "serve/statistics_json.h"
#include "serve/status_page.h"
#include "serve/wire_type.h"

namespace selvage::serve {
namespace {

HttpReply json_reply(const JsonWriter& json) {
  HttpReply reply;
  reply.text = json.text();
  return reply;
}

HttpReply unauthorized() {
  HttpReply reply = error_reply(
      {ErrorCode::kPermissionDenied, "a token is needed: send 'Authorization: Bearer TOKEN'"});
  reply.status = 401;
  reply.fields.emplace_back("WWW-Authenticate", "Bearer");
  return reply;
}

HttpReply wrong_method(Method right) {
  const std::string_view allowed = right == Method::kGet ? "GET, HEAD" : "POST";
  HttpReply reply = error_reply(
      {ErrorCode::kInvalidArgument, "this path takes " + std::string(allowed) + " only"});
  reply.status = 405;
  reply.fields.emplace_back("Allow", allowed);
  return reply;
}

// A page of another site may send requests to us from its visitor's browser, which says where they
// come from. A name that its owner has pointed at this machine is another site, too (DNS
// rebinding): it has neither our certificate nor a token, but where nobody needs those, only
// addresses and localhost count as ours.
bool is_foreign(const HttpHead& head, bool tokens) {
  if (head.origin.empty()) return false;
  const auto scheme = head.origin.find("://");
  if (scheme == std::string::npos || head.origin.substr(scheme + 3) != head.host) return true;
  if (tokens || (head.secure && head.origin.starts_with("https:"))) return false;
  const std::string_view host = std::string_view(head.host).substr(0, head.host.rfind(':'));
  return host != "localhost" && !host.starts_with('[') &&
         host.find_first_not_of("0123456789.") != std::string_view::npos;
}

// What a connection's thread may read itself, in about 0.2 ms: its other connections wait for it.
// Of JSON, numbers take that long; compressed bytes may become a thousand times as many.
constexpr std::size_t kJsonHereMax = 32u << 10;
constexpr std::size_t kCodedHereMax = 1u << 10;

// Whether reading the request, or what it asks for, takes longer.
bool takes_long(Endpoint endpoint, const HttpRequest& request) {
  if (endpoint == Endpoint::kIndex) return true;  // It reads folders.
  if (request.head.content_coding != Coding::kIdentity) return request.body.size() > kCodedHereMax;
  if (endpoint == Endpoint::kPredict) return false;  // It has its own way of that.
  const std::uint64_t size = request.body.size();
  return std::min(request.head.json_length.value_or(size), size) > kJsonHereMax;
}

Result<void> undo_coding(HttpRequest& request, BodyBudget& budget) {
  HttpHead& head = request.head;
  if (head.content_coding == Coding::kIdentity) return {};
  SELVAGE_TRY(request.body,
              decompress(request.body.bytes(), head.content_coding, request.plain_bytes_max, budget,
                         head.json_length.value_or(0)));
  head.content_coding = Coding::kIdentity;
  return {};
}

void write_tensors(std::string_view key, const std::vector<infer::TensorMetadata>& tensors,
                   JsonWriter& json) {
  json.key(key).begin_array();
  for (const auto& tensor : tensors) {
    json.begin_object().field("name", tensor.name).field("datatype", wire_name(tensor.type));
    json.list("shape", tensor.shape).end_object();
  }
  json.end_array();
}

// Memory that runs out costs one request and not the server.
template <typename Function>
void reply_if_thrown(const std::shared_ptr<HttpExchange>& exchange, Function handle) {
  auto done = catch_to_result(ErrorCode::kInternal, handle);
  if (!done) exchange->reply([error = std::move(done).error()] { return error_reply(error); });
}

}  // namespace

HttpReply error_reply(const Error& error) {
  JsonWriter json;
  json.begin_object().field("error", error.message).end_object();
  HttpReply reply = json_reply(json);
  reply.status = http_status(error.code);
  return reply;
}

HttpApi::HttpApi(Services& services)
    : services_(services), policy_(content_security_policy(status_page())) {}

std::optional<HttpReply> HttpApi::admit(const HttpHead& head) {
  if (is_foreign(head, services_.tokens != nullptr))
    return error_reply({ErrorCode::kPermissionDenied, "requests of other sites are refused"});
  const auto route = find_route(head.target);
  const bool open = !services_.tokens || (route && is_public(route->endpoint));
  if (!open && !services_.tokens->admits(head.authorization)) return unauthorized();
  if (!route) return error_reply(route.error());
  const Method right = method_of(route->endpoint);
  const Method asked = head.method == Method::kHead ? Method::kGet : head.method;
  if (asked != right) return wrong_method(right);
  return std::nullopt;
}

void HttpApi::handle(HttpRequest request, std::shared_ptr<HttpExchange> exchange) {
  reply_if_thrown(exchange, [&] { dispatch(std::move(request), exchange); });
}

void HttpApi::dispatch(HttpRequest request, std::shared_ptr<HttpExchange> exchange) {
  const auto route = find_route(request.head.target);
  if (!route) return exchange->reply([error = route.error()] { return error_reply(error); });
  if (takes_long(route->endpoint, request))
    return handle_aside(*route, std::move(request), std::move(exchange));
  handle_here(*route, std::move(request), std::move(exchange));
}

void HttpApi::handle_aside(Route route, HttpRequest request,
                           std::shared_ptr<HttpExchange> exchange) {
  const auto late = LateExchange::over(std::move(exchange));
  Tasks::Task task = [this, late, route = std::move(route),
                      request = std::move(request)]() mutable {
    if (!late->left())
      return reply_if_thrown(late, [&] { handle_here(route, std::move(request), late); });
    late->reply([] { return error_reply({ErrorCode::kCancelled, "the request was cancelled"}); });
  };
  if (services_.decoding.submit(std::move(task))) return;
  late->reply([] {
    return error_reply(
        {ErrorCode::kUnavailable, "too many large requests wait to be read: try again later"});
  });
}

void HttpApi::handle_here(const Route& route, HttpRequest request,
                          std::shared_ptr<HttpExchange> exchange) {
  if (auto plain = undo_coding(request, services_.bodies); !plain)
    return exchange->reply([error = std::move(plain).error()] {
      HttpReply reply = error_reply(error);
      if (error.code == ErrorCode::kOutOfRange) reply.status = 413;
      return reply;
    });
  switch (route.endpoint) {
    case Endpoint::kInfer: return handle_infer(services_, route, std::move(request), exchange);
    case Endpoint::kPredict:
      return handle_predict(services_, route, std::move(request), std::move(exchange));
    case Endpoint::kLoad:
      return handle_load(services_, route, std::move(request), std::move(exchange));
    case Endpoint::kUnload:
      return handle_unload(services_, route, std::move(request), std::move(exchange));
    default: break;
  }
  auto reply = answer(route, request);
  exchange->reply([reply = reply ? *std::move(reply) : error_reply(reply.error())]() mutable {
    return std::move(reply);
  });
}

Result<HttpReply> HttpApi::answer(const Route& route, const HttpRequest& request) {
  switch (route.endpoint) {
    case Endpoint::kStatusPage: return page();
    case Endpoint::kMetrics: return metrics();
    case Endpoint::kLive:
    case Endpoint::kReady:
    case Endpoint::kModelReady: return health(route);
    case Endpoint::kServerMetadata: return server_metadata();
    case Endpoint::kModels: return models();
    case Endpoint::kModelMetadata: return model_metadata(route);
    case Endpoint::kModelConfig: return model_config(route);
    case Endpoint::kModelStatistics: return statistics(route);
    case Endpoint::kIndex: return handle_index(services_, request);
    case Endpoint::kSharedMemoryStatus:
    case Endpoint::kSharedMemoryRegister:
    case Endpoint::kSharedMemoryUnregister: return handle_shared_memory(services_, route, request);
    case Endpoint::kCudaMemoryStatus:
    case Endpoint::kCudaMemoryRegister:
    case Endpoint::kCudaMemoryUnregister: return handle_cuda_memory(services_, route);
    case Endpoint::kInfer:
    case Endpoint::kPredict:
    case Endpoint::kLoad:
    case Endpoint::kUnload: break;
  }
  return fail(ErrorCode::kInternal, "an endpoint without an answer");
}

// The bodies that KServe's client reads; others look at the status only.
HttpReply HttpApi::health(const Route& route) {
  JsonWriter json;
  json.begin_object();
  bool good = true;
  if (route.endpoint == Endpoint::kLive) {
    json.field("live", true);
  } else if (route.endpoint == Endpoint::kReady) {
    good = services_.backend.ready();
    json.field("ready", good).field("live", true);
  } else {
    good = services_.backend.ready(route.name, route.version);
    json.field("name", route.name).field("ready", good);
  }
  if (!good) json.field("error", "not ready");
  json.end_object();
  HttpReply reply = json_reply(json);
  if (!good) reply.status = 503;
  return reply;
}

Result<HttpReply> HttpApi::server_metadata() {
  JsonWriter json;
  json.begin_object().field("name", kServerName).field("version", services_.version);
  json.list("extensions", extensions(services_.shared)).end_object();
  return json_reply(json);
}

Result<HttpReply> HttpApi::models() {
  std::vector<std::string> names;
  for (const auto& entry : services_.backend.index(true))
    if (names.empty() || names.back() != entry.name) names.push_back(entry.name);
  JsonWriter json;
  json.begin_object().list("models", names).end_object();
  return json_reply(json);
}

Result<HttpReply> HttpApi::model_metadata(const Route& route) {
  SELVAGE_TRY(const auto metadata, services_.backend.metadata(route.name, route.version));
  JsonWriter json;
  json.begin_object().field("name", metadata.name).list("versions", metadata.versions);
  json.field("platform", metadata.platform);
  write_tensors("inputs", metadata.inputs, json);
  write_tensors("outputs", metadata.outputs, json);
  json.end_object();
  return json_reply(json);
}

Result<HttpReply> HttpApi::model_config(const Route& route) {
  SELVAGE_TRY(const auto config, services_.backend.config(route.name, route.version));
  HttpReply reply;
  reply.text = infer::to_json(config);
  return reply;
}

Result<HttpReply> HttpApi::statistics(const Route& route) {
  SELVAGE_TRY(const auto all, services_.backend.statistics(route.name, route.version));
  JsonWriter json;
  write_json(all, json);
  return json_reply(json);
}

Result<HttpReply> HttpApi::metrics() {
  SELVAGE_TRY(const auto all, services_.backend.statistics("", ""));
  HttpReply reply;
  reply.content_type = "text/plain; version=0.0.4; charset=utf-8";
  reply.text = metrics_page(all);
  return reply;
}

HttpReply HttpApi::page() {
  HttpReply reply;
  reply.content_type = "text/html; charset=utf-8";
  reply.text = status_page();
  reply.fields = {{"Content-Security-Policy", policy_},
                  {"X-Content-Type-Options", "nosniff"},
                  {"Referrer-Policy", "no-referrer"},
                  {"Cache-Control", "no-cache"}};
  return reply;
}

}  // namespace selvage::serve
