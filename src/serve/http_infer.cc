#include "serve/http_api.h"
#include "serve/infer_http.h"

namespace selvage::serve {
namespace {

Result<InferCall> decode(Services& services, const Route& route, HttpRequest& request) {
  if (request.head.json_length != 0)
    return decode_infer(std::move(request.body), request.head.json_length, services.shared);
  SELVAGE_TRY(const auto metadata, services.backend.metadata(route.name, route.version));
  return decode_raw_infer(std::move(request.body), metadata, services.shared);
}

// On the connection's thread, so that the worker is free for the next request at once.
HttpReply encode(Services& services, Result<infer::InferenceResponse> response,
                 const std::vector<WantedOutput>& outputs, bool binary) {
  if (!response) return error_reply(response.error());
  auto finished = finish_response(services.backend, *std::move(response), outputs, binary);
  if (!finished) return error_reply(finished.error());
  auto reply = encode_infer(*std::move(finished));
  return reply ? *std::move(reply) : error_reply(reply.error());
}

}  // namespace

void handle_infer(Services& services, const Route& route, HttpRequest request,
                  const std::shared_ptr<HttpExchange>& exchange) {
  auto call = decode(services, route, request);
  if (!call)
    return exchange->reply([error = std::move(call).error()] { return error_reply(error); });
  call->request.model = route.name;
  call->request.version = route.version;
  auto answer = [&services, exchange, outputs = std::move(call->outputs),
                 binary = call->binary_outputs](Result<infer::InferenceResponse> response) mutable {
    exchange->reply(
        [&services, response = std::move(response), outputs = std::move(outputs),
         binary]() mutable { return encode(services, std::move(response), outputs, binary); });
  };
  exchange->on_leave(services.backend.submit(std::move(call->request), std::move(answer)));
}

}  // namespace selvage::serve
