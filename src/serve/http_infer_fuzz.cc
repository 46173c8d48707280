// Bytes as they arrive on a socket: header, framing, coding, infer request, reply.
#include <cstdlib>
#include <optional>
#include <string>

#include "serve/fake_backend.h"
#include "serve/http_api.h"
#include "serve/http_head.h"

namespace selvage::serve {
namespace {

constexpr std::uint64_t kBodyBytesMax = 1u << 20;

// Keeps the reply as the connection would make it.
class Exchange final : public HttpExchange {
 public:
  void reply(std::move_only_function<HttpReply()> make) override { answer = make(); }
  void on_leave(Cancel) override {}
  std::optional<HttpReply> answer;
};

struct Fixture {
  FakeBackend backend;
  SharedMemory shared{SharedMemoryAccess::kRefused};
  Tasks loading{"load", 0, 0};  // Everything inside this call: a full queue answers at once.
  Tasks decoding{"decode", 0, 0};
  BodyBudget budget{64u << 20};
  Services services{backend, shared, budget, nullptr, loading, decoding, "0"};
  HttpApi api{services};
};

void run(Fixture& on, std::string_view input) {
  RequestParser parser;
  limit(parser, 16u << 10);
  boost::system::error_code error;
  const auto used = parser.put(boost::asio::buffer(input.data(), input.size()), error);
  if (error || !parser.is_header_done()) return;
  auto framing = read_framing(parser);
  if (!framing || on.api.admit(framing->head)) return;
  const HttpHead& head = framing->head;
  Body body(on.budget, head.json_length.value_or(0));
  if (!body.append(std::as_bytes(std::span(input.substr(used))))) return;
  const auto exchange = std::make_shared<Exchange>();
  on.api.handle(HttpRequest{head, std::move(body), kBodyBytesMax}, exchange);
  if (!exchange->answer) std::abort();  // Every request has its answer.
  if (exchange->answer->status != 200 &&
      exchange->answer->text.find("\"error\"") == std::string::npos)
    std::abort();
}

}  // namespace
}  // namespace selvage::serve

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  static selvage::serve::Fixture fixture;
  selvage::serve::run(fixture, {reinterpret_cast<const char*>(data), size});
  if (fixture.budget.used() != 0) std::abort();
  return 0;
}
