// The endpoints: docs/serving.md lists them, docs/openapi.yaml describes them for programs.
#pragma once

#include <memory>
#include <string>

#include "serve/http.h"
#include "serve/route.h"
#include "serve/services.h"

namespace selvage::serve {

/// Stateless between requests; called from all connection threads. `services` must outlive it.
class HttpApi final : public HttpHandler {
 public:
  explicit HttpApi(Services& services);

  void handle(HttpRequest request, std::shared_ptr<HttpExchange> exchange) override;
  [[nodiscard]] std::optional<HttpReply> admit(const HttpHead& head) override;

 private:
  void dispatch(HttpRequest request, std::shared_ptr<HttpExchange> exchange);
  void handle_here(const Route& route, HttpRequest request, std::shared_ptr<HttpExchange> exchange);
  void handle_aside(Route route, HttpRequest request, std::shared_ptr<HttpExchange> exchange);
  [[nodiscard]] Result<HttpReply> answer(const Route& route, const HttpRequest& request);
  [[nodiscard]] HttpReply health(const Route& route);
  [[nodiscard]] Result<HttpReply> server_metadata();
  [[nodiscard]] Result<HttpReply> models();
  [[nodiscard]] Result<HttpReply> model_metadata(const Route& route);
  [[nodiscard]] Result<HttpReply> model_config(const Route& route);
  [[nodiscard]] Result<HttpReply> statistics(const Route& route);
  [[nodiscard]] Result<HttpReply> metrics();
  [[nodiscard]] HttpReply page();

  Services& services_;
  const std::string policy_;  // The page's Content-Security-Policy.
};

// The endpoints that answer later or read a body; in files of their own.
void handle_infer(Services& services, const Route& route, HttpRequest request,
                  const std::shared_ptr<HttpExchange>& exchange);
void handle_predict(Services& services, const Route& route, HttpRequest request,
                    std::shared_ptr<HttpExchange> exchange);
void handle_load(Services& services, const Route& route, HttpRequest request,
                 std::shared_ptr<HttpExchange> exchange);
void handle_unload(Services& services, const Route& route, HttpRequest request,
                   std::shared_ptr<HttpExchange> exchange);
[[nodiscard]] Result<HttpReply> handle_index(Services& services, const HttpRequest& request);
[[nodiscard]] Result<HttpReply> handle_shared_memory(Services& services, const Route& route,
                                                     const HttpRequest& request);
[[nodiscard]] Result<HttpReply> handle_cuda_memory(Services& services, const Route& route);

}  // namespace selvage::serve
