// The HTTP server over real sockets, with what clients send and with what attackers send.
#include "serve/http_server.h"

#include <cstdio>
#include <cstring>
#include <fstream>
#include <thread>

#include <arpa/inet.h>
#include <fcntl.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <netinet/in.h>
#include <poll.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <unistd.h>

#include "serve/compression.h"
#include "serve/fake_backend.h"
#include "serve/http_api.h"

namespace selvage::serve {
namespace {

using std::chrono::milliseconds;
using std::chrono::seconds;
using testing::HasSubstr;
using testing::Not;
using testing::StartsWith;

// A client that sends bytes as they are.
class Client {
 public:
  explicit Client(std::uint16_t port) : fd_(::socket(AF_INET, SOCK_STREAM, 0)) {
    sockaddr_in address = {};
    address.sin_family = AF_INET;
    address.sin_port = htons(port);
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    if (::connect(fd_, reinterpret_cast<const sockaddr*>(&address), sizeof(address)) != 0)
      ADD_FAILURE() << "connect: " << std::strerror(errno);
  }
  ~Client() { close(); }
  Client(const Client&) = delete;
  Client& operator=(const Client&) = delete;

  void send(std::string_view text) {
    while (!text.empty()) {
      const auto sent = ::send(fd_, text.data(), text.size(), MSG_NOSIGNAL);
      if (sent <= 0) return;
      text.remove_prefix(static_cast<std::size_t>(sent));
    }
  }
  // What arrives until the peer closes, `until` has come, or nothing comes for a while.
  std::string read(std::string_view until = "", milliseconds patience = seconds(5)) {
    std::string text;
    while (until.empty() || text.find(until) == std::string::npos) {
      pollfd wait{fd_, POLLIN, 0};
      if (::poll(&wait, 1, static_cast<int>(patience.count())) <= 0) break;
      char buffer[4096];
      const auto got = ::recv(fd_, buffer, sizeof(buffer), 0);
      if (got <= 0) {
        closed_ = true;
        break;
      }
      text.append(buffer, static_cast<std::size_t>(got));
    }
    return text;
  }
  void close_sending() { ::shutdown(fd_, SHUT_WR); }
  void close() {
    if (fd_ >= 0) ::close(fd_);
    fd_ = -1;
  }
  [[nodiscard]] bool closed() const { return closed_; }

 private:
  int fd_;
  bool closed_ = false;
};

std::string post(std::string_view path, std::string_view body, std::string_view fields = "") {
  return "POST " + std::string(path) +
         " HTTP/1.1\r\nHost: localhost\r\nContent-Length: " + std::to_string(body.size()) + "\r\n" +
         std::string(fields) + "\r\n" + std::string(body);
}

std::string get(std::string_view path, std::string_view fields = "") {
  return "GET " + std::string(path) + " HTTP/1.1\r\nHost: localhost\r\n" + std::string(fields) +
         "\r\n";
}

constexpr std::string_view kInfer = "/v2/models/identity/infer";
constexpr std::string_view kInput =
    R"({"id":"7","inputs":[{"name":"IN","shape":[1,2],"datatype":"FP32","data":[1,2.5]}]})";

class HttpServerTest : public testing::Test {
 protected:
  void SetUp() override { start({}); }
  void TearDown() override {
    backend_.release();
    server_.reset();
    EXPECT_EQ(budget_.used(), 0u);
  }
  void start(HttpLimits limits) {
    server_.reset();
    auto server =
        HttpServer::start({.port = 0, .threads = 2, .limits = limits}, api_, budget_, nullptr);
    ASSERT_TRUE(server) << server.error().message;
    server_ = *std::move(server);
  }
  // Sends one request and returns the whole reply; the connection is closed by `Connection: close`.
  std::string ask(const std::string& request) {
    Client client(server_->port());
    client.send(request);
    client.close_sending();
    return client.read();
  }

  FakeBackend backend_;
  SharedMemory shared_{SharedMemoryAccess::kAllowed};
  Tasks loading_{"load", 1, 4};
  Tasks decoding_{"decode", 1, 4};
  BodyBudget budget_{64u << 20};
  Services services_{backend_, shared_, budget_, nullptr, loading_, decoding_, "0"};
  HttpApi api_{services_};
  std::unique_ptr<HttpServer> server_;
};

TEST_F(HttpServerTest, AnswersHealthAndMetadata) {
  EXPECT_THAT(ask(get("/v2/health/live")), HasSubstr("\r\n\r\n{\"live\":true}"));
  EXPECT_THAT(ask(get("/v2/health/ready")), HasSubstr(R"({"ready":true,"live":true})"));
  EXPECT_THAT(ask(get("/v2/models/identity/ready")),
              HasSubstr(R"({"name":"identity","ready":true})"));
  EXPECT_THAT(ask(get("/v2")), HasSubstr("\"binary_tensor_data\""));
  EXPECT_THAT(ask(get("/v2/models/identity")),
              HasSubstr(R"("inputs":[{"name":"IN","datatype":"FP32","shape":[-1,2]}])"));
  EXPECT_THAT(ask(get("/v2/models/identity/config")), HasSubstr("\"max_batch_size\":8"));
  EXPECT_THAT(ask(get("/v2/models")), HasSubstr(R"({"models":["identity"]})"));
  EXPECT_THAT(ask(get("/v2/models/stats")), HasSubstr("\"cache_miss\":{\"count\":0,\"ns\":0}"));
  EXPECT_THAT(ask(post("/v2/repository/index", "")),
              HasSubstr(R"([{"name":"identity","version":"1","state":"READY","reason":""}])"));
  EXPECT_THAT(ask(get("/metrics")),
              HasSubstr("nv_inference_count{model=\"identity\",version=\"1\"} 0"));
  EXPECT_THAT(ask(get("/")), HasSubstr("Content-Security-Policy: default-src 'none'"));
  backend_.set_ready(false);
  EXPECT_THAT(ask(get("/v2/health/ready")), StartsWith("HTTP/1.1 503 "));
}

TEST_F(HttpServerTest, SaysWhatIsWrongWithARequest) {
  EXPECT_THAT(ask(get("/v2/models/nobody")), StartsWith("HTTP/1.1 404 Not Found\r\n"));
  EXPECT_THAT(ask(get("/v2/models/nobody")), HasSubstr(R"({"error":"no model 'nobody'"})"));
  EXPECT_THAT(ask(get("/nowhere")), StartsWith("HTTP/1.1 404 "));
  EXPECT_THAT(ask(get(kInfer)), StartsWith("HTTP/1.1 405 "));
  EXPECT_THAT(ask(get(kInfer)), HasSubstr("Allow: POST"));
  EXPECT_THAT(ask(post("/v2/models/identity/versions/2/infer", kInput)),
              StartsWith("HTTP/1.1 404 "));
  EXPECT_THAT(ask(post("/v2/repository/models/nobody/load", "")), StartsWith("HTTP/1.1 404 "));
  EXPECT_THAT(
      ask(post("/v2/repository/models/identity/load", R"({"parameters":{"file:1/m":"?"}})")),
      StartsWith("HTTP/1.1 400 "));
}

TEST_F(HttpServerTest, InfersWithJson) {
  const auto reply = ask(post(kInfer, kInput));
  EXPECT_THAT(reply, StartsWith("HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n"));
  EXPECT_THAT(reply,
              HasSubstr(R"({"model_name":"identity","model_version":"1","id":"7","outputs":[)"
                        R"({"name":"OUT","datatype":"FP32","shape":[1,2],"data":[1.0,2.5]}]})"));
}

TEST_F(HttpServerTest, InfersWithBinaryTensors) {
  const std::string json =
      R"({"parameters":{"binary_data_output":true},"inputs":[{"name":"IN",)"
      R"("shape":[1,2],"datatype":"FP32","parameters":{"binary_data_size":8}}]})";
  const std::string raw("\0\0\x80\x3f\0\0\0\x40", 8);
  const auto header = "Inference-Header-Content-Length: " + std::to_string(json.size()) + "\r\n";
  const auto reply = ask(post(kInfer, json + raw, header));
  EXPECT_THAT(reply, HasSubstr("Content-Type: application/octet-stream"));
  EXPECT_THAT(reply, HasSubstr("\"parameters\":{\"binary_data_size\":8}"));
  EXPECT_THAT(reply, testing::EndsWith(raw));
  // The raw request: the body is the only input.
  EXPECT_THAT(ask(post(kInfer, raw, "Inference-Header-Content-Length: 0\r\n")),
              testing::EndsWith(raw));
}

TEST_F(HttpServerTest, ClassifiesAndNamesTheClasses) {
  const auto reply = ask(
      post(kInfer, R"({"inputs":[{"name":"IN","shape":[1,2],"datatype":"FP32","data":[1,2.5]}],)"
                   R"("outputs":[{"name":"OUT","parameters":{"classification":1}}]})"));
  EXPECT_THAT(reply, HasSubstr(R"("datatype":"BYTES","shape":[1,1],"data":["2.500000:1:dog"])"));
}

TEST_F(HttpServerTest, CompressesBothWays) {
  std::string input = R"({"inputs":[{"name":"IN","shape":[1,2000],"datatype":"FP32","data":[0)";
  for (int i = 1; i < 2000; ++i) input += ",0";
  input += "]}]}";
  for (const Coding coding : {Coding::kGzip, Coding::kDeflate}) {
    const auto packed = compress(std::array{std::as_bytes(std::span(input))}, coding);
    const std::string name(coding_name(coding));
    const auto reply = ask(post(
        kInfer, *packed, "Content-Encoding: " + name + "\r\nAccept-Encoding: " + name + "\r\n"));
    EXPECT_THAT(reply, HasSubstr("Content-Encoding: " + name + "\r\n"));
    const auto body = reply.substr(reply.find("\r\n\r\n") + 4);
    BodyBudget budget(1u << 20);
    const auto plain = decompress(std::as_bytes(std::span(body)), coding, 1u << 20, budget);
    ASSERT_TRUE(plain) << plain.error().message;
    EXPECT_THAT(std::string(plain->text()), HasSubstr("\"shape\":[1,2000]"));
  }
}

TEST_F(HttpServerTest, KeepsTheOrderOfPipelinedRequests) {
  Client client(server_->port());
  std::string many;
  for (int i = 0; i < 50; ++i)
    many += post(kInfer,
                 R"({"id":")" + std::to_string(i) +
                     R"(","inputs":[{"name":"IN","shape":[1],"datatype":"INT64","data":[1]}]})");
  client.send(many);
  client.close_sending();
  const auto replies = client.read();
  std::size_t at = 0;
  for (int i = 0; i < 50; ++i) {
    at = replies.find("\"id\":\"" + std::to_string(i) + "\"", at);
    ASSERT_NE(at, std::string::npos) << i;
  }
}

TEST_F(HttpServerTest, TakesChunksAndExpectations) {
  Client client(server_->port());
  client.send("POST " + std::string(kInfer) +
              " HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\nExpect: 100-continue\r\n\r\n");
  EXPECT_THAT(client.read("\r\n\r\n"), StartsWith("HTTP/1.1 100 Continue\r\n\r\n"));
  for (std::size_t at = 0; at < kInput.size(); at += 10) {
    const auto piece = kInput.substr(at, 10);
    char size[16];
    std::snprintf(size, sizeof(size), "%zx;x=y\r\n", piece.size());
    client.send(size + std::string(piece) + "\r\n");
  }
  client.send("0\r\nTrailer: z\r\n\r\n");
  EXPECT_THAT(client.read("2.5]}]}"), StartsWith("HTTP/1.1 200 OK"));
  client.send(get("/v2/health/live"));  // The connection is still good.
  EXPECT_THAT(client.read("}"), StartsWith("HTTP/1.1 200 OK"));
}

TEST_F(HttpServerTest, TakesChunksInPieces) {
  const std::string body(kInput);
  const std::string request =
      "POST " + std::string(kInfer) + " HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n" +
      "10\r\n" + body.substr(0, 16) + "\r\n" + "42\r\n" + body.substr(16) + "\r\n0\r\n\r\n";
  ASSERT_EQ(body.size(), 16 + 0x42u);
  for (const std::size_t piece : {1u, 7u, 90u}) {
    Client client(server_->port());
    for (std::size_t at = 0; at < request.size(); at += piece) {
      client.send(std::string_view(request).substr(at, piece));
      if (piece > 1 || at % 16 == 0) std::this_thread::sleep_for(milliseconds(2));
    }
    EXPECT_THAT(client.read("2.5]}]}"), StartsWith("HTTP/1.1 200"));
  }
}

TEST_F(HttpServerTest, AnswersHeadAndHttp10) {
  Client head(server_->port());
  head.send("HEAD /v2 HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n");
  const auto reply = head.read();
  EXPECT_THAT(reply, HasSubstr("Content-Length: "));
  EXPECT_THAT(reply, testing::EndsWith("\r\n\r\n"));
  Client old(server_->port());
  old.send("GET /v2 HTTP/1.0\r\n\r\n");
  EXPECT_THAT(old.read(), HasSubstr("Connection: close"));
  EXPECT_TRUE(old.closed());
  // One that would rather stay must be told that it may.
  Client staying(server_->port());
  for (int i = 0; i < 2; ++i) {
    staying.send("GET /v2/health/live HTTP/1.0\r\nConnection: keep-alive\r\n\r\n");
    EXPECT_THAT(staying.read("}"), HasSubstr("Connection: keep-alive\r\n"));
  }
}

struct Oddity {
  std::string name;
  std::string bytes;
  std::string status;
};

// Each gets an error with a reason and a closed connection, and nothing of it is taken for another
// request.
TEST_F(HttpServerTest, RefusesSmuggledAndBrokenFraming) {
  const std::string tail = "\r\n\r\n0\r\n\r\nGET /v2/health/live HTTP/1.1\r\nHost: x\r\n\r\n";
  const std::string head = "POST " + std::string(kInfer) + " HTTP/1.1\r\nHost: x\r\n";
  const std::vector<Oddity> cases = {
      {"length and chunks", head + "Content-Length: 5\r\nTransfer-Encoding: chunked" + tail, "400"},
      {"chunks and length", head + "Transfer-Encoding: chunked\r\nContent-Length: 5" + tail, "400"},
      {"two lengths", head + "Content-Length: 5\r\nContent-Length: 6" + tail, "400"},
      {"the same length twice", head + "Content-Length: 5\r\nContent-Length: 5" + tail, "400"},
      {"a list of lengths", head + "Content-Length: 5, 5" + tail, "400"},
      {"a negative length", head + "Content-Length: -1" + tail, "400"},
      {"a length of letters", head + "Content-Length: abc" + tail, "400"},
      {"a length with a sign", head + "Content-Length: +5" + tail, "400"},
      {"a length beyond 64 bits", head + "Content-Length: 99999999999999999999" + tail, "400"},
      {"a huge length", head + "Content-Length: 99999999999" + tail, "413"},
      {"an unknown coding", head + "Transfer-Encoding: gzip" + tail, "501"},
      {"a coding before chunked", head + "Transfer-Encoding: gzip, chunked" + tail, "501"},
      {"a misspelt coding", head + "Transfer-Encoding: xchunked" + tail, "501"},
      {"a coding twice", head + "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked" + tail,
       "400"},
      {"a blank before the colon", head + "Transfer-Encoding : chunked" + tail, "400"},
      {"a bad chunk size", head + "Transfer-Encoding: chunked\r\n\r\nzz\r\n\r\n", "400"},
      {"a negative chunk size", head + "Transfer-Encoding: chunked\r\n\r\n-5\r\nhello\r\n0\r\n\r\n",
       "400"},
      {"a chunk longer than it says",
       head + "Transfer-Encoding: chunked\r\n\r\n2\r\nhello\r\n0\r\n\r\n", "400"},
      {"a chunk beyond 64 bits", head + "Transfer-Encoding: chunked\r\n\r\nffffffffffffffffff\r\n",
       "400"},
      {"an endless chunk extension",
       head + "Transfer-Encoding: chunked\r\n\r\n1;" + std::string(200'000, 'x'), "400"},
      {"no host", "GET /v2 HTTP/1.1\r\n\r\n", "400"},
      {"two hosts", "GET /v2 HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n", "400"},
      {"another protocol", "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", "400"},
      {"TLS",
       std::string("\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", 11) + std::string(200, 'a') +
           "\r\n\r\n",
       "400"},
      {"nonsense", "hello\r\n\r\n", "400"},
      {"bytes of no text", std::string("GET /\0\x01 HTTP/1.1\r\n\r\n", 21), "400"},
      {"a large header",
       "GET /v2 HTTP/1.1\r\nHost: x\r\nX: " + std::string(100'000, 'x') + "\r\n\r\n", "431"},
      {"many fields",
       "GET /v2 HTTP/1.1\r\nHost: x\r\n" +
           [] {
             std::string f;
             for (int i = 0; i < 10'000; ++i) f += "A: b\r\n";
             return f;
           }() +
           "\r\n",
       "431"},
      {"an unknown expectation", head + "Expect: wonders\r\nContent-Length: 2\r\n\r\n{}", "400"},
      {"an unknown content coding", head + "Content-Encoding: br\r\nContent-Length: 2\r\n\r\n{}",
       "501"},
  };
  for (const auto& odd : cases) {
    Client client(server_->port());
    client.send(odd.bytes);
    client.close_sending();
    const auto reply = client.read();
    EXPECT_THAT(reply, StartsWith("HTTP/1.1 " + odd.status + " ")) << odd.name;
    EXPECT_THAT(reply, HasSubstr("{\"error\":")) << odd.name;
    EXPECT_THAT(reply, Not(HasSubstr("\"live\""))) << odd.name;
    EXPECT_TRUE(client.closed()) << odd.name;
  }
  EXPECT_EQ(backend_.submitted(), 0);
}

struct BadInfer {
  std::string name;
  std::string body;
  std::string reason;
  std::string fields;
};

TEST_F(HttpServerTest, NamesTheTensorAndTheReason) {
  const auto input = [](const std::string& members) {
    return R"({"inputs":[{"name":"IN",)" + members + "}]}";
  };
  const std::vector<BadInfer> cases = {
      {"no JSON", "hello", "not valid JSON", ""},
      {"an array", "[]", "object", ""},
      {"no inputs", "{}", "'inputs' is missing", ""},
      {"inputs of a number", R"({"inputs":1})", "array", ""},
      {"no name", R"({"inputs":[{"shape":[1],"datatype":"INT64","data":[1]}]})", "'name'", ""},
      {"no shape", input(R"("datatype":"INT64","data":[1])"), "input 'IN': 'shape' is missing", ""},
      {"no datatype", input(R"("shape":[1],"data":[1])"), "input 'IN': 'datatype' is missing", ""},
      {"no data", input(R"("shape":[1],"datatype":"INT64")"), "input 'IN': exactly one", ""},
      {"unknown datatype", input(R"("shape":[1],"datatype":"INT65","data":[1])"),
       "unknown datatype 'INT65'", ""},
      {"negative shape", input(R"("shape":[-1],"datatype":"INT64","data":[1])"), "integers from 0",
       ""},
      {"shape of fractions", input(R"("shape":[1.5],"datatype":"INT64","data":[1])"),
       "integers from 0", ""},
      {"shape of text", input(R"("shape":["1"],"datatype":"INT64","data":[1])"), "value", ""},
      {"overflowing shape",
       input(R"("shape":[4294967296,4294967296],"datatype":"INT64","data":[1])"), "not a size", ""},
      {"huge shape", input(R"("shape":[1000000000],"datatype":"INT64","data":[1])"), "too few", ""},
      {"many dimensions",
       input("\"shape\":[1" +
             [] {
               std::string s;
               for (int i = 0; i < 50; ++i) s += ",1";
               return s;
             }() +
             R"(],"datatype":"INT64","data":[1])"),
       "dimensions", ""},
      {"data of another type", input(R"("shape":[1],"datatype":"INT64","data":["x"])"),
       "input 'IN'", ""},
      {"data after the fact", input(R"("data":[1,2],"shape":[1],"datatype":"INT64")"),
       "more elements", ""},
      {"parameters of a list",
       input(R"("shape":[1],"datatype":"INT64","data":[1],"parameters":[])"), "object", ""},
      {"a parameter of null", R"({"parameters":{"x":null},"inputs":[]})", "'x' must be", ""},
      {"a negative timeout", R"({"parameters":{"timeout":-1},"inputs":[]})", "'timeout'", ""},
      {"a sequence id that is kept for long",
       R"({"parameters":{"sequence_id":")" + std::string(129, 'x') + R"("},"inputs":[]})",
       "'sequence_id' has at most 128", ""},
      {"a priority of text", R"({"parameters":{"priority":"high"},"inputs":[]})", "'priority'", ""},
      {"text behind the object", std::string(kInput) + "x", "after the end", ""},
      {"nesting", std::string(100'000, '['), "byte", ""},
      {"invalid UTF-8", "{\"id\":\"\xff\",\"inputs\":[]}", "UTF-8", ""},
      {"binary without bytes",
       input(R"("shape":[1],"datatype":"INT64","parameters":{"binary_data_size":8})"),
       "'binary_data_size' is 8", ""},
      {"a negative binary size",
       input(R"("shape":[1],"datatype":"INT64","parameters":{"binary_data_size":-8})"),
       "integer from 0", ""},
      {"a binary size of text",
       input(R"("shape":[1],"datatype":"INT64","parameters":{"binary_data_size":"8"})"),
       "integer from 0", ""},
      {"a long header length", std::string(kInput), "Inference-Header-Content-Length",
       "Inference-Header-Content-Length: 100000\r\n"},
      {"a header length of text", std::string(kInput), "not a size",
       "Inference-Header-Content-Length: x\r\n"},
      {"a negative header length", std::string(kInput), "not a size",
       "Inference-Header-Content-Length: -1\r\n"},
      {"bytes left over", std::string(kInput) + "12345678", "belong to no input",
       "Inference-Header-Content-Length: " + std::to_string(kInput.size()) + "\r\n"},
      {"a raw body of another size", "12345", "do not make up",
       "Inference-Header-Content-Length: 0\r\n"},
      {"an unknown region",
       input(
           R"("shape":[1],"datatype":"INT64","parameters":{"shared_memory_region":"r","shared_memory_byte_size":8})"),
       R"({"error":"input 'IN': no region 'r')", ""},
      {"binary of another size",
       input(R"("shape":[1],"datatype":"INT64","parameters":{"binary_data_size":4})") + "1234",
       R"({"error":"input 'IN': INT64 of shape [1] takes 8 bytes, not 4"})",
       "Inference-Header-Content-Length: " +
           std::to_string(
               input(R"("shape":[1],"datatype":"INT64","parameters":{"binary_data_size":4})")
                   .size()) +
           "\r\n"},
      {"gzip that is none", "hello", "gzip", "Content-Encoding: gzip\r\n"},
  };
  for (const auto& bad : cases) {
    const auto reply = ask(post(kInfer, bad.body, bad.fields));
    EXPECT_THAT(reply, testing::AnyOf(StartsWith("HTTP/1.1 400 "), StartsWith("HTTP/1.1 404 ")))
        << bad.name;
    EXPECT_THAT(reply, HasSubstr("{\"error\":\"")) << bad.name;
    EXPECT_THAT(reply, HasSubstr(bad.reason)) << bad.name;
  }
  EXPECT_EQ(backend_.submitted(), 0);
}

TEST_F(HttpServerTest, StopsACompressionBomb) {
  start({.body_bytes_max = 1u << 20});
  const std::string zeros(100u << 20, ' ');
  const auto bomb = compress(std::array{std::as_bytes(std::span(zeros))}, Coding::kGzip);
  ASSERT_LT(bomb->size(), 1u << 20);
  EXPECT_THAT(ask(post(kInfer, *bomb, "Content-Encoding: gzip\r\n")), StartsWith("HTTP/1.1 413 "));
}

TEST_F(HttpServerTest, RefusesLargeBodiesInChunks) {
  start({.body_bytes_max = 1000});
  Client client(server_->port());
  client.send("POST " + std::string(kInfer) +
              " HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n");
  for (int i = 0; i < 200; ++i) client.send("10\r\n0123456789abcdef\r\n");
  EXPECT_THAT(client.read(), StartsWith("HTTP/1.1 413 "));
}

TEST_F(HttpServerTest, SlowSendersAndReadersEnd) {
  start({.idle_max = milliseconds(300),
         .head_time_max = milliseconds(300),
         .patience = milliseconds(300)});
  Client silent(server_->port()), dripping(server_->port()), starving(server_->port());
  dripping.send("GET /v2 HT");
  starving.send(post(kInfer, "").substr(0, 20));
  starving.send(" HTTP/1.1\r\nHost: x\r\nContent-Length: 1000\r\n\r\n{");
  for (auto* client : {&silent, &dripping, &starving}) {
    client->read("", seconds(10));
    EXPECT_TRUE(client->closed());
  }
}

// What has been sent once must not let a client be slow for as long as a large body may take.
TEST_F(HttpServerTest, BodiesAndRepliesKeepPace) {
  start({.patience = seconds(1)});
  const std::string head = "POST " + std::string(kInfer) + " HTTP/1.1\r\nHost: x\r\n";
  Client promising(server_->port()), dripping(server_->port()), steady(server_->port());
  promising.send(head + "Content-Length: 10000000\r\n\r\n{");
  dripping.send(head + "Transfer-Encoding: chunked\r\n\r\n1\r\n{\r\n");
  steady.send(head + "Content-Length: " + std::to_string(kInput.size() + 160'000) + "\r\n\r\n" +
              std::string(kInput));
  for (int i = 0; i < 20; ++i) {  // Two seconds.
    dripping.send("1\r\n \r\n");
    steady.send(std::string(8'000, ' '));
    std::this_thread::sleep_for(milliseconds(100));
  }
  EXPECT_EQ(promising.read("", seconds(2)), "");
  EXPECT_EQ(dripping.read("", seconds(2)), "");
  EXPECT_TRUE(promising.closed() && dripping.closed());
  EXPECT_THAT(steady.read("2.5]}]}"), StartsWith("HTTP/1.1 200"));

  Client deaf(server_->port());
  const std::string raw(16u << 20, '\0');
  deaf.send(post(kInfer, raw, "Inference-Header-Content-Length: 0\r\n"));
  for (int i = 0; i < 500 && budget_.used() > 0; ++i) std::this_thread::sleep_for(milliseconds(10));
  EXPECT_EQ(budget_.used(), 0u) << "the reply that nobody reads is still there";
}

TEST_F(HttpServerTest, RepliesThatWaitToBeReadCount) {
  const std::string large(20u << 20, '\0'), small(8u << 20, '\0');
  const std::string header = "Inference-Header-Content-Length: 0\r\n";
  {
    Client deaf(server_->port());
    deaf.send(post(kInfer, large, header));
    for (int i = 0; i < 500 && budget_.used() < 2 * large.size(); ++i)
      std::this_thread::sleep_for(milliseconds(10));
    // Its body and its reply, beside which there is no room for both of another.
    EXPECT_THAT(ask(post(kInfer, small + small, header)).substr(0, 12), "HTTP/1.1 503");
    EXPECT_THAT(ask(get("/v2/health/live")), StartsWith("HTTP/1.1 200"));
  }
  for (int i = 0; i < 500 && budget_.used() > 0; ++i) std::this_thread::sleep_for(milliseconds(10));
  EXPECT_THAT(ask(post(kInfer, small + small, header)).substr(0, 12), "HTTP/1.1 200");
}

// Growing would copy what has come, again and again.
TEST_F(HttpServerTest, BodiesGetTheMemoryOfThoseBefore) {
  const std::string large(600'000, '\0');
  const std::string request = post(kInfer, large, "Inference-Header-Content-Length: 0\r\n");
  EXPECT_THAT(ask(request), StartsWith("HTTP/1.1 200"));
  Client slow(server_->port());
  slow.send(std::string_view(request).substr(0, 1'000));
  for (int i = 0; i < 500 && budget_.used() == 0; ++i)
    std::this_thread::sleep_for(milliseconds(10));
  EXPECT_GE(budget_.used(), large.size());
}

// Three bytes of JSON are a string object of 32.
TEST_F(HttpServerTest, TensorsMadeOfJsonCount) {
  const auto strings = [](std::size_t count) {
    std::string data = "\"\"";
    for (std::size_t i = 1; i < count; ++i) data += ",\"\"";
    return R"({"inputs":[{"name":"IN","shape":[)" + std::to_string(count) +
           R"(],"datatype":"BYTES","data":[)" + data + "]}]}";
  };
  EXPECT_THAT(ask(post(kInfer, strings(1000))), StartsWith("HTTP/1.1 200"));
  const auto reply = ask(post(kInfer, strings(3'000'000)));
  EXPECT_THAT(reply, StartsWith("HTTP/1.1 503"));
  EXPECT_THAT(reply, HasSubstr("too many bytes are in flight"));
}

TEST_F(HttpServerTest, CancelsWhenTheClientLeaves) {
  backend_.hold();
  const std::string pgm = std::string("P5 4 3 255\n") + std::string(12, 'x');
  int left = 0;
  for (const auto& request : {post(kInfer, kInput), post("/v1/models/identity:predict", pgm)}) {
    {
      Client client(server_->port());
      client.send(request);
      for (int i = 0; i < 500 && backend_.submitted() == left; ++i)
        std::this_thread::sleep_for(milliseconds(10));
      ASSERT_EQ(backend_.submitted(), ++left);
    }
    for (int i = 0; i < 500 && backend_.cancelled() < left; ++i)
      std::this_thread::sleep_for(milliseconds(10));
    EXPECT_EQ(backend_.cancelled(), left);
  }
}

// When the server ends, too: every connection has left by then, and many pictures may wait.
TEST_F(HttpServerTest, NothingIsDecodedForAClientThatHasLeft) {
  std::atomic<bool> busy{true};
  ASSERT_TRUE(decoding_.submit([&] {
    while (busy) std::this_thread::sleep_for(milliseconds(5));
  }));
  backend_.hold();
  {
    Client client(server_->port());
    client.send(
        post("/v1/models/identity:predict", std::string("P5 4 3 255\n") + std::string(12, 'x')));
    std::this_thread::sleep_for(milliseconds(100));
  }
  std::this_thread::sleep_for(milliseconds(1'500));  // Until the server has noticed.
  busy = false;
  decoding_.stop();
  EXPECT_EQ(backend_.submitted(), 0);
}

// Large JSON, what is compressed and what reads folders would hold up a thread's other connections.
TEST_F(HttpServerTest, WhatTakesLongIsReadElsewhere) {
  std::string large = R"({"inputs":[{"name":"IN","shape":[1,50000],"datatype":"FP32","data":[0)";
  for (int i = 1; i < 50'000; ++i) large += "," + std::to_string(i * 7919 % 50'000);
  large += "]}]}";
  const auto packed = compress(std::array{std::as_bytes(std::span(large))}, Coding::kGzip);
  const std::string close = "Connection: close\r\n";
  for (const std::string& request :
       {post(kInfer, large, close), post(kInfer, *packed, "Content-Encoding: gzip\r\n" + close),
        post("/v2/repository/index", "{}", close)}) {
    std::atomic<bool> busy{true};
    ASSERT_TRUE(decoding_.submit([&] {
      while (busy) std::this_thread::sleep_for(milliseconds(1));
    }));
    Client client(server_->port());
    client.send(request);
    EXPECT_EQ(client.read("", milliseconds(200)), "");
    EXPECT_THAT(ask(get("/v2/health/live")), StartsWith("HTTP/1.1 200"));
    busy = false;
    EXPECT_THAT(client.read(), StartsWith("HTTP/1.1 200"));
  }
  EXPECT_EQ(backend_.submitted(), 2);
}

TEST_F(HttpServerTest, NoLargeRequestIsReadForAClientThatHasLeft) {
  std::atomic<bool> busy{true};
  ASSERT_TRUE(decoding_.submit([&] {
    while (busy) std::this_thread::sleep_for(milliseconds(1));
  }));
  {
    Client client(server_->port());
    client.send(post(kInfer, "{" + std::string(100'000, ' ') + std::string(kInput.substr(1))));
    std::this_thread::sleep_for(milliseconds(100));
  }
  std::this_thread::sleep_for(milliseconds(1'000));  // Until the server has noticed.
  busy = false;
  decoding_.stop();
  EXPECT_EQ(backend_.submitted(), 0);
}

TEST_F(HttpServerTest, ConnectionsAreBounded) {
  start({.connections_max = 4});
  backend_.hold();
  std::vector<std::unique_ptr<Client>> clients;
  for (int i = 0; i < 4; ++i) {
    clients.push_back(std::make_unique<Client>(server_->port()));
    clients.back()->send(post(kInfer, kInput));
    for (int j = 0; j < 500 && backend_.submitted() == i; ++j)
      std::this_thread::sleep_for(milliseconds(10));
  }
  Client fifth(server_->port());
  EXPECT_THAT(fifth.read(), StartsWith("HTTP/1.1 503 "));
  backend_.release();
  for (auto& client : clients) EXPECT_THAT(client->read("2.5]}]}"), StartsWith("HTTP/1.1 200"));
  clients.clear();
  for (int i = 0; i < 500 && server_->connections() > 0; ++i)
    std::this_thread::sleep_for(milliseconds(10));
  EXPECT_THAT(ask(get("/v2/health/live")), StartsWith("HTTP/1.1 200"));
}

// An orchestrator would end a healthy server whose probe finds no place.
TEST_F(HttpServerTest, TheIdlestConnectionGivesWay) {
  start({.connections_max = 4});
  std::vector<std::unique_ptr<Client>> clients;
  for (int i = 0; i < 4; ++i) {
    clients.push_back(std::make_unique<Client>(server_->port()));
    clients.back()->send(get("/v2/health/live"));
    EXPECT_THAT(clients.back()->read("}"), StartsWith("HTTP/1.1 200"));
    std::this_thread::sleep_for(milliseconds(5));
  }
  clients.front()->send("GET /v2/heal");  // Busy saying what it wants: the second is idler.
  std::this_thread::sleep_for(milliseconds(50));
  EXPECT_THAT(ask(get("/v2/health/live")), StartsWith("HTTP/1.1 200"));
  clients.front()->send("th/live HTTP/1.1\r\nHost: x\r\n\r\n");
  EXPECT_THAT(clients.front()->read("}"), StartsWith("HTTP/1.1 200"));
  for (int i = 0; i < 20; ++i) EXPECT_THAT(ask(get("/v2/health/live")), StartsWith("HTTP/1.1 200"));
}

// Whoever replies may be the last that knows of the connection. For the thread sanitizer: what the
// connections of a thread share is not synchronised.
TEST_F(HttpServerTest, ConnectionsEndOnTheirOwnThread) {
  class Keeper final : public HttpHandler {
   public:
    void handle(HttpRequest, std::shared_ptr<HttpExchange> exchange) override {
      const std::lock_guard lock(mutex_);
      kept_.push_back(std::move(exchange));
    }
    std::optional<HttpReply> admit(const HttpHead&) override { return std::nullopt; }
    std::shared_ptr<HttpExchange> take() {
      const std::lock_guard lock(mutex_);
      if (kept_.empty()) return nullptr;
      auto last = std::move(kept_.back());
      kept_.pop_back();
      return last;
    }

   private:
    std::mutex mutex_;
    std::vector<std::shared_ptr<HttpExchange>> kept_;
  };
  Keeper keeper;
  auto server = HttpServer::start({.port = 0, .threads = 1}, keeper, budget_, nullptr);
  ASSERT_TRUE(server) << server.error().message;
  for (int i = 0; i < 100; ++i) {
    Client client((*server)->port());
    client.send(get("/", "Connection: close\r\n"));
    std::shared_ptr<HttpExchange> exchange;
    while (!(exchange = keeper.take())) std::this_thread::sleep_for(milliseconds(1));
    exchange->reply([] { return HttpReply(); });
    client.read();
    client.close();
    std::this_thread::sleep_for(
        milliseconds(i % 10));  // The server sees the end meanwhile, or not.
  }
  for (int i = 0; i < 500 && (*server)->connections() > 0; ++i)
    std::this_thread::sleep_for(milliseconds(10));
  EXPECT_EQ((*server)->connections(), 0u);
}

TEST_F(HttpServerTest, MemoryThatRunsOutCostsOneRequest) {
  backend_.without_memory = true;
  EXPECT_THAT(ask(post(kInfer, kInput)), StartsWith("HTTP/1.1 503 "));
  backend_.without_memory = false;
  EXPECT_THAT(ask(post(kInfer, kInput)), StartsWith("HTTP/1.1 200 "));
}

// For the address sanitizer: the third client's socket waits in the queue of the second one's loop.
TEST_F(HttpServerTest, StopsWhileALoopIsAskedForRoom) {
  class Sleeper final : public HttpHandler {
   public:
    void handle(HttpRequest, std::shared_ptr<HttpExchange> exchange) override {
      begun = true;
      std::this_thread::sleep_for(seconds(2));  // Longer than stop() waits.
      exchange->reply([] { return HttpReply(); });
    }
    std::optional<HttpReply> admit(const HttpHead&) override { return std::nullopt; }
    std::atomic<bool> begun = false;
  };
  Sleeper sleeper;
  auto server = HttpServer::start({.port = 0, .threads = 2, .limits = {.connections_max = 2}},
                                  sleeper, budget_, nullptr);
  ASSERT_TRUE(server) << server.error().message;
  Client first((*server)->port()), second((*server)->port());
  first.send("GET / HTTP/1.1\r\n");
  second.send(get("/"));
  while (!sleeper.begun) std::this_thread::sleep_for(milliseconds(1));
  Client third((*server)->port());
  std::this_thread::sleep_for(milliseconds(100));
  server->reset();
  EXPECT_EQ(third.read(), "");
  EXPECT_TRUE(third.closed());
}

TEST_F(HttpServerTest, StopLetsRequestsEnd) {
  backend_.hold();
  Client idle(server_->port()), busy(server_->port());
  busy.send(post(kInfer, kInput));
  for (int i = 0; i < 500 && backend_.submitted() == 0; ++i)
    std::this_thread::sleep_for(milliseconds(10));
  std::jthread later([this] {
    std::this_thread::sleep_for(milliseconds(200));
    backend_.release();
  });
  server_->stop(seconds(10));
  EXPECT_THAT(busy.read(), HasSubstr("\"id\":\"7\""));
  EXPECT_EQ(idle.read(), "");
  EXPECT_TRUE(idle.closed());
}

TEST_F(HttpServerTest, OtherSitesMayNotCallFromABrowser) {
  EXPECT_THAT(ask(get("/v2", "Origin: https://evil.example\r\n")), StartsWith("HTTP/1.1 403 "));
  EXPECT_THAT(
      ask("GET /v2 HTTP/1.1\r\nHost: evil.example:80\r\nOrigin: http://evil.example:80\r\n\r\n"),
      StartsWith("HTTP/1.1 403 "));
  EXPECT_THAT(ask(get("/v2", "Origin: http://localhost\r\n")), StartsWith("HTTP/1.1 200 "));
  // Over TLS a name is proven.
  HttpHead head;
  head.method = Method::kGet;
  head.target = "/v2";
  head.host = "edge.example:8000";
  head.origin = "https://edge.example:8000";
  EXPECT_EQ(api_.admit(head)->status, 403u);
  head.secure = true;
  EXPECT_FALSE(api_.admit(head));
  head.origin = "http://edge.example:8000";
  EXPECT_EQ(api_.admit(head)->status, 403u);
}

TEST_F(HttpServerTest, PredictsFromAPicture) {
  const std::string pgm = std::string("P5 4 3 255\n") + std::string(12, 'x');
  EXPECT_THAT(
      ask(post("/v1/models/identity:predict", pgm)),
      HasSubstr(
          R"("predictions":[{"kind":"boxes","boxes":[{"left":0,"top":0,"right":4,"bottom":3)"));
  EXPECT_THAT(ask(post("/v1/models/identity:predict", "no picture")), StartsWith("HTTP/1.1 400 "));
  EXPECT_THAT(ask(post("/v1/models/nobody:predict", pgm)), StartsWith("HTTP/1.1 404 "));
}

class SharedMemoryTest : public HttpServerTest {
 protected:
  void SetUp() override {
    HttpServerTest::SetUp();
    ::shm_unlink(kKey);
    const int fd = ::shm_open(kKey, O_RDWR | O_CREAT, 0600);
    ASSERT_GE(fd, 0);
    ASSERT_EQ(::ftruncate(fd, 8192), 0);
    memory_ = static_cast<float*>(::mmap(nullptr, 8192, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0));
    fd_ = fd;
  }
  void TearDown() override {
    HttpServerTest::TearDown();
    ::munmap(memory_, 8192);
    ::close(fd_);
    ::shm_unlink(kKey);
  }
  static constexpr const char* kKey = "/selvage_http_server_test";
  float* memory_ = nullptr;
  int fd_ = -1;
};

TEST_F(SharedMemoryTest, TensorsComeAndGo) {
  const std::string path = "/v2/systemsharedmemory/region/r";
  EXPECT_THAT(ask(post(path + "/register",
                       R"({"key":"/selvage_http_server_test","offset":0,"byte_size":8192})")),
              StartsWith("HTTP/1.1 200"));
  EXPECT_THAT(ask(post(path + "/register",
                       R"({"key":"/selvage_http_server_test","offset":0,"byte_size":8192})")),
              StartsWith("HTTP/1.1 400"));
  EXPECT_THAT(
      ask(get(path + "/status")),
      HasSubstr(R"([{"name":"r","key":"/selvage_http_server_test","offset":0,"byte_size":8192}])"));
  memory_[0] = 3;
  memory_[1] = 4;
  const auto reply = ask(post(
      kInfer,
      R"({"inputs":[{"name":"IN","shape":[1,2],"datatype":"FP32","parameters":{"shared_memory_region":"r","shared_memory_byte_size":8}}],)"
      R"("outputs":[{"name":"OUT","parameters":{"shared_memory_region":"r","shared_memory_byte_size":8,"shared_memory_offset":4096}}]})"));
  EXPECT_THAT(reply, HasSubstr(R"("shape":[1,2],"parameters":{"shared_memory_byte_size":8}})"));
  EXPECT_EQ(memory_[1024], 3);
  EXPECT_EQ(memory_[1025], 4);
  EXPECT_THAT(ask(post(path + "/unregister", "")), StartsWith("HTTP/1.1 200"));
  EXPECT_THAT(ask(get(path + "/status")), StartsWith("HTTP/1.1 404"));
}

// Triton's examples take away regions of both kinds before they begin.
TEST_F(SharedMemoryTest, ThereIsNoCudaMemory) {
  const std::string path = "/v2/cudasharedmemory";
  EXPECT_THAT(ask(get(path + "/status")), testing::EndsWith("\r\n\r\n[]"));
  EXPECT_THAT(ask(post(path + "/unregister", "")), StartsWith("HTTP/1.1 200"));
  EXPECT_THAT(ask(post(path + "/region/r/unregister", "")), StartsWith("HTTP/1.1 404"));
  EXPECT_THAT(ask(post(path + "/region/r/register", "{}")), StartsWith("HTTP/1.1 501"));
}

TEST_F(SharedMemoryTest, BoundsAreCheckedWithoutOverflow) {
  const auto add = [&](std::uint64_t offset, std::uint64_t size) {
    return shared_.add({"r", kKey, offset, size});
  };
  EXPECT_FALSE(add(0, 8193));
  EXPECT_FALSE(add(8192, 1));
  EXPECT_FALSE(add(UINT64_MAX, 2));
  EXPECT_FALSE(add(2, UINT64_MAX));
  EXPECT_FALSE(add(0, 0));
  EXPECT_FALSE(shared_.add({"r", "/../etc/passwd", 0, 1}));
  EXPECT_FALSE(shared_.add({"r", "/nobody_has_this", 0, 1}));
  ASSERT_TRUE(add(4096, 4096));
  EXPECT_TRUE(shared_.bytes("r", 0, 4096));
  EXPECT_FALSE(shared_.bytes("r", 1, 4096));
  EXPECT_FALSE(shared_.bytes("r", UINT64_MAX, 2));
  EXPECT_FALSE(shared_.bytes("r", 2, UINT64_MAX));
}

TEST_F(SharedMemoryTest, SurvivesAShrunkenObject) {
  ASSERT_TRUE(shared_.add({"r", kKey, 0, 8192}));
  const auto bytes = shared_.bytes("r", 0, 8192);
  ASSERT_TRUE(bytes);
  ASSERT_EQ(::ftruncate(fd_, 0), 0);
  unsigned sum = 0;
  for (const std::byte b : bytes->bytes) sum += std::to_integer<unsigned>(b);
  EXPECT_EQ(sum, 0u);
}

TEST(SharedMemory, IsOffUnlessSwitchedOn) {
  SharedMemory shared(SharedMemoryAccess::kRefused);
  const auto added = shared.add({"r", "/x", 0, 1});
  ASSERT_FALSE(added);
  EXPECT_EQ(added.error().code, ErrorCode::kPermissionDenied);
}

class TokensTest : public testing::Test {
 protected:
  void SetUp() override { write("# comment\n0123456789abcdef0123\n\n  another-token-of-mine  \n"); }
  void TearDown() override { std::filesystem::remove(file_); }
  void write(std::string_view text) {
    std::ofstream(file_) << text;
    std::filesystem::last_write_time(file_, std::filesystem::file_time_type(seconds(++time_)));
  }
  const std::filesystem::path file_ =
      std::filesystem::temp_directory_path() / ("selvage_tokens_" + std::to_string(::getpid()));
  int time_ = 0;
};

TEST_F(TokensTest, FollowTheFile) {
  FakeClock clock;
  auto tokens = Tokens::open(file_, clock);
  ASSERT_TRUE(tokens) << tokens.error().message;
  EXPECT_TRUE((*tokens)->admits("Bearer 0123456789abcdef0123"));
  EXPECT_TRUE((*tokens)->admits("bearer another-token-of-mine"));
  for (const auto* wrong : {"", "Bearer", "Bearer ", "Basic 0123456789abcdef0123",
                            "Bearer 0123456789abcdef012", "0123456789abcdef0123"})
    EXPECT_FALSE((*tokens)->admits(wrong)) << wrong;
  write("a-new-token-of-theirs\n");
  clock.advance(seconds(2));
  EXPECT_FALSE((*tokens)->admits("Bearer 0123456789abcdef0123"));
  EXPECT_TRUE((*tokens)->admits("Bearer a-new-token-of-theirs"));
  write("short\n");
  clock.advance(seconds(2));
  EXPECT_FALSE((*tokens)->admits("Bearer a-new-token-of-theirs"));
  EXPECT_FALSE(Tokens::open(file_, clock));
}

TEST_F(TokensTest, GuardEverythingButProbesAndThePage) {
  auto tokens = Tokens::open(file_);
  FakeBackend backend;
  SharedMemory shared(SharedMemoryAccess::kRefused);
  Tasks loading{"load", 1, 4}, decoding{"decode", 1, 4};
  BodyBudget budget(1u << 20);
  Services services{backend, shared, budget, tokens->get(), loading, decoding, "0"};
  HttpApi api(services);
  const auto status = [&](std::string target, std::string authorization) {
    HttpHead head;
    head.method = Method::kGet;
    head.target = std::move(target);
    head.authorization = std::move(authorization);
    const auto refusal = api.admit(head);
    return refusal ? refusal->status : 200;
  };
  EXPECT_EQ(status("/v2/health/live", ""), 200u);
  EXPECT_EQ(status("/", ""), 200u);
  EXPECT_EQ(status("/v2", ""), 401u);
  EXPECT_EQ(status("/metrics", ""), 401u);
  EXPECT_EQ(status("/nowhere", ""), 401u);
  EXPECT_EQ(status("/v2", "Bearer 0123456789abcdef0123"), 200u);
}

}  // namespace
}  // namespace selvage::serve
