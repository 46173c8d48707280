// The gRPC server over a real channel.
#include "serve/grpc_server.h"

#include <cstring>
#include <filesystem>
#include <fstream>
#include <thread>

#include <arpa/inet.h>
#include <gmock/gmock.h>
#include <grpcpp/create_channel.h>
#include <grpcpp/generic/generic_stub.h>
#include <grpcpp/impl/codegen/client_unary_call.h>
#include <gtest/gtest.h>
#include <netinet/in.h>
#include <poll.h>
#include <sys/socket.h>
#include <unistd.h>

#include "health.pb.h"
#include "inference.pb.h"
#include "serve/fake_backend.h"
#include "serve/grpc_connections.h"
#include "serve/grpc_message.h"
#include "serve/listen.h"

namespace selvage::serve {
namespace {

using std::chrono::milliseconds;
using std::chrono::seconds;
using testing::HasSubstr;

constexpr const char* kInfer = "/inference.GRPCInferenceService/ModelInfer";

class GrpcServerTest : public testing::Test {
 protected:
  void SetUp() override { start({}); }
  void TearDown() override {
    backend_.release();
    server_.reset();
  }
  void start(const GrpcLimits& limits) {
    server_.reset();
    auto server =
        GrpcServer::start({.port = 0, .threads = 2, .limits = limits}, services_, nullptr);
    ASSERT_TRUE(server) << server.error().message;
    server_ = *std::move(server);
    grpc::ChannelArguments arguments;
    arguments.SetMaxReceiveMessageSize(-1);
    channel_ = grpc::CreateCustomChannel("127.0.0.1:" + std::to_string(server_->port()),
                                         grpc::InsecureChannelCredentials(), arguments);
  }
  // One call of any method with any bytes.
  grpc::Status call(const char* method, grpc::ByteBuffer request, grpc::ByteBuffer* reply,
                    grpc::ClientContext& context) {
    const grpc::internal::RpcMethod rpc(method, grpc::internal::RpcMethod::NORMAL_RPC);
    return grpc::internal::BlockingUnaryCall(channel_.get(), rpc, &context, request, reply);
  }
  template <typename Reply, typename Request>
  grpc::Status call(const char* method, const Request& request, Reply* reply = nullptr) {
    grpc::ClientContext context;
    context.set_deadline(std::chrono::system_clock::now() + seconds(20));
    grpc::ByteBuffer bytes;
    const auto status = call(method, to_buffer(request), &bytes, context);
    if (status.ok() && reply) {
      EXPECT_TRUE(parse_message(bytes, *reply));
    }
    return status;
  }
  grpc::Status infer(const inference::ModelInferRequest& request,
                     inference::ModelInferResponse* reply = nullptr) {
    return call<inference::ModelInferResponse>(kInfer, request, reply);
  }
  static inference::ModelInferRequest request(std::size_t floats = 2) {
    inference::ModelInferRequest made;
    made.set_model_name("identity");
    made.set_id("7");
    auto& input = *made.add_inputs();
    input.set_name("IN");
    input.set_datatype("FP32");
    input.add_shape(1);
    input.add_shape(static_cast<std::int64_t>(floats));
    made.add_raw_input_contents(std::string(4 * floats, '\x01'));
    return made;
  }

  FakeBackend backend_;
  SharedMemory shared_{SharedMemoryAccess::kAllowed};
  Tasks loading_{"load", 1, 4};
  Tasks decoding_{"decode", 1, 4};
  BodyBudget budget_{256u << 20};
  Services services_{backend_, shared_, budget_, nullptr, loading_, decoding_, "0"};
  std::unique_ptr<GrpcServer> server_;
  std::shared_ptr<grpc::Channel> channel_;
};

TEST_F(GrpcServerTest, InfersSmallAndLargeTensors) {
  for (const std::size_t floats : {0u, 1u, 2u, 1024u, 1025u, 150'000u, 4'000'000u}) {
    inference::ModelInferResponse reply;
    const auto made = request(floats);
    const auto status = infer(made, &reply);
    ASSERT_TRUE(status.ok()) << status.error_message();
    EXPECT_EQ(reply.id(), "7");
    EXPECT_EQ(reply.model_version(), "1");
    ASSERT_EQ(reply.raw_output_contents_size(), 1);
    EXPECT_EQ(reply.raw_output_contents(0), made.raw_input_contents(0));
    EXPECT_EQ(reply.outputs(0).shape(1), static_cast<std::int64_t>(floats));
  }
}

TEST_F(GrpcServerTest, TakesTypedContents) {
  auto typed = request();
  typed.clear_raw_input_contents();
  auto& contents = *typed.mutable_inputs(0)->mutable_contents();
  contents.add_fp32_contents(1);
  contents.add_fp32_contents(2.5);
  inference::ModelInferResponse reply;
  ASSERT_TRUE(infer(typed, &reply).ok());
  const float expected[] = {1, 2.5};
  EXPECT_EQ(reply.raw_output_contents(0),
            std::string(reinterpret_cast<const char*>(expected), sizeof(expected)));
}

TEST_F(GrpcServerTest, AnswersHealthMetadataConfigAndStatistics) {
  using grpc::health::v1::HealthCheckRequest;
  using grpc::health::v1::HealthCheckResponse;
  HealthCheckRequest check;
  HealthCheckResponse health;
  ASSERT_TRUE(call("/grpc.health.v1.Health/Check", check, &health).ok());
  EXPECT_EQ(health.status(), HealthCheckResponse::SERVING);
  check.set_service("nobody");
  EXPECT_EQ(call("/grpc.health.v1.Health/Check", check, &health).error_code(),
            grpc::StatusCode::NOT_FOUND);
  backend_.set_ready(false);
  check.set_service("");
  ASSERT_TRUE(call("/grpc.health.v1.Health/Check", check, &health).ok());
  EXPECT_EQ(health.status(), HealthCheckResponse::NOT_SERVING);

  inference::ModelMetadataRequest which;
  which.set_name("identity");
  inference::ModelMetadataResponse metadata;
  ASSERT_TRUE(call("/inference.GRPCInferenceService/ModelMetadata", which, &metadata).ok());
  EXPECT_EQ(metadata.inputs(0).datatype(), "FP32");
  which.set_version("v1");
  EXPECT_EQ(call("/inference.GRPCInferenceService/ModelMetadata", which, &metadata).error_code(),
            grpc::StatusCode::NOT_FOUND);
  inference::ModelConfigRequest configured;
  configured.set_name("identity");
  inference::ModelConfigResponse config;
  ASSERT_TRUE(call("/inference.GRPCInferenceService/ModelConfig", configured, &config).ok());
  EXPECT_EQ(config.config().max_batch_size(), 8);
  EXPECT_EQ(config.config().input(0).data_type(), inference::TYPE_FP32);
  inference::ModelStatisticsResponse stats;
  ASSERT_TRUE(call("/inference.GRPCInferenceService/ModelStatistics",
                   inference::ModelStatisticsRequest(), &stats)
                  .ok());
  EXPECT_EQ(stats.model_stats(0).name(), "identity");
}

TEST_F(GrpcServerTest, ThereIsNoCudaMemory) {
  EXPECT_TRUE(call<inference::CudaSharedMemoryUnregisterResponse>(
                  "/inference.GRPCInferenceService/CudaSharedMemoryUnregister",
                  inference::CudaSharedMemoryUnregisterRequest())
                  .ok());
  inference::CudaSharedMemoryRegisterRequest region;
  region.set_name("r");
  EXPECT_EQ(call<inference::CudaSharedMemoryRegisterResponse>(
                "/inference.GRPCInferenceService/CudaSharedMemoryRegister", region)
                .error_code(),
            grpc::StatusCode::UNIMPLEMENTED);
}

TEST_F(GrpcServerTest, NamesTheTensorAndTheReason) {
  struct Bad {
    std::string reason;
    std::function<void(inference::ModelInferRequest&)> spoil;
  };
  const std::vector<Bad> cases = {
      {"takes 8 bytes", [](auto& r) { r.set_raw_input_contents(0, "1234567"); }},
      {"has no entry", [](auto& r) { *r.add_inputs() = r.inputs(0); }},
      {"belong to no input", [](auto& r) { r.add_raw_input_contents("x"); }},
      {"input 'IN': unknown datatype", [](auto& r) { r.mutable_inputs(0)->set_datatype("FP33"); }},
      {"not a size", [](auto& r) { r.mutable_inputs(0)->set_shape(0, -1); }},
      {"not a size",
       [](auto& r) {
         r.mutable_inputs(0)->set_shape(0, INT64_MAX);
         r.mutable_inputs(0)->set_shape(1, INT64_MAX);
       }},
      {"typed contents beside",
       [](auto& r) { r.mutable_inputs(0)->mutable_contents()->add_fp32_contents(1); }},
      {"'contents' has 0 elements", [](auto& r) { r.clear_raw_input_contents(); }},
      {"300 is not a value of type UINT8",
       [](auto& r) {
         r.clear_raw_input_contents();
         auto& input = *r.mutable_inputs(0);
         input.set_datatype("UINT8");
         input.mutable_contents()->add_uint_contents(300);
         input.mutable_contents()->add_uint_contents(3);
       }},
      {"send raw_input_contents",
       [](auto& r) {
         r.clear_raw_input_contents();
         r.mutable_inputs(0)->set_datatype("FP16");
       }},
      {"'timeout'", [](auto& r) { (*r.mutable_parameters())["timeout"].set_int64_param(-5); }},
      {"'priority'", [](auto& r) { (*r.mutable_parameters())["priority"].set_string_param("x"); }},
      {"no output 'X'", [](auto& r) { r.add_outputs()->set_name("X"); }},
  };
  for (const auto& bad : cases) {
    auto spoilt = request();
    bad.spoil(spoilt);
    const auto status = infer(spoilt);
    EXPECT_EQ(status.error_code(), grpc::StatusCode::INVALID_ARGUMENT) << bad.reason;
    EXPECT_THAT(status.error_message(), HasSubstr(bad.reason));
  }
  auto unknown = request();
  unknown.set_model_name("nobody");
  EXPECT_EQ(infer(unknown).error_code(), grpc::StatusCode::NOT_FOUND);
}

TEST_F(GrpcServerTest, RefusesWhatIsNoMessageOrNoMethod) {
  const grpc::Slice noise(std::string(100, '\xff'));
  grpc::ByteBuffer reply;
  {
    grpc::ClientContext context;
    EXPECT_EQ(call(kInfer, grpc::ByteBuffer(&noise, 1), &reply, context).error_code(),
              grpc::StatusCode::INVALID_ARGUMENT);
  }
  grpc::ClientContext context;
  EXPECT_EQ(
      call("/inference.GRPCInferenceService/Nothing", grpc::ByteBuffer(&noise, 1), &reply, context)
          .error_code(),
      grpc::StatusCode::UNIMPLEMENTED);
}

TEST_F(GrpcServerTest, RefusesLargeMessagesAlsoWhenCompressed) {
  start({.message_bytes_max = 1u << 20});
  EXPECT_EQ(infer(request(1u << 19)).error_code(), grpc::StatusCode::RESOURCE_EXHAUSTED);
  grpc::ClientContext context;
  context.set_compression_algorithm(GRPC_COMPRESS_GZIP);
  grpc::ByteBuffer reply;
  EXPECT_FALSE(call(kInfer, to_buffer(request(1u << 24)), &reply, context).ok());
  EXPECT_EQ(backend_.submitted(), 0);
}

TEST_F(GrpcServerTest, DeadlinesAndCancellationReachTheBackend) {
  backend_.hold();
  grpc::ClientContext context;
  context.set_deadline(std::chrono::system_clock::now() + milliseconds(200));
  grpc::ByteBuffer reply;
  EXPECT_EQ(call(kInfer, to_buffer(request()), &reply, context).error_code(),
            grpc::StatusCode::DEADLINE_EXCEEDED);
  for (int i = 0; i < 500 && backend_.cancelled() == 0; ++i)
    std::this_thread::sleep_for(milliseconds(10));
  EXPECT_EQ(backend_.cancelled(), 1);
}

TEST_F(GrpcServerTest, CallsAreBounded) {
  start({.calls_max = 1});
  backend_.hold();
  std::jthread first([this] { EXPECT_TRUE(infer(request()).ok()); });
  for (int i = 0; i < 500 && backend_.submitted() == 0; ++i)
    std::this_thread::sleep_for(milliseconds(10));
  EXPECT_EQ(infer(request()).error_code(), grpc::StatusCode::RESOURCE_EXHAUSTED);
  backend_.release();
}

// A stream of requests as a client has it that says what it does when.
class Stream {
 public:
  explicit Stream(const std::shared_ptr<grpc::Channel>& channel) : stub_(channel) {
    stream_ =
        stub_.PrepareCall(&context_, "/inference.GRPCInferenceService/ModelStreamInfer", &queue_);
    stream_->StartCall(nullptr);
    EXPECT_TRUE(next());
  }
  ~Stream() {
    context_.TryCancel();
    grpc::Status status;
    stream_->Finish(&status, nullptr);
    queue_.Shutdown();
    void* tag = nullptr;
    bool ok = false;
    while (queue_.Next(&tag, &ok)) {
    }
  }
  Stream(const Stream&) = delete;
  Stream& operator=(const Stream&) = delete;

  // Whether the server took it soon.
  bool write(const inference::ModelInferRequest& request) {
    stream_->Write(to_buffer(request), nullptr);
    return next();
  }
  inference::ModelStreamInferResponse read() {
    grpc::ByteBuffer bytes;
    inference::ModelStreamInferResponse reply;
    stream_->Read(&bytes, nullptr);
    EXPECT_TRUE(next() && parse_message(bytes, reply));
    return reply;
  }

 private:
  bool next() {
    void* tag = nullptr;
    bool ok = false;
    const auto end = std::chrono::system_clock::now() + seconds(2);
    return queue_.AsyncNext(&tag, &ok, end) == grpc::CompletionQueue::GOT_EVENT && ok;
  }

  grpc::ClientContext context_;
  grpc::CompletionQueue queue_;
  grpc::GenericStub stub_;
  std::unique_ptr<grpc::GenericClientAsyncReaderWriter> stream_;
};

TEST_F(GrpcServerTest, AStreamIsAnsweredInTheOrderOfItsRequests) {
  backend_.hold();
  Stream stream(channel_);
  for (const auto* id : {"a", "b", "c"}) {
    auto made = request();
    made.set_id(id);
    EXPECT_TRUE(stream.write(made));
  }
  for (int i = 0; i < 500 && backend_.submitted() < 3; ++i)
    std::this_thread::sleep_for(milliseconds(10));
  backend_.release_last();
  backend_.release();
  for (const auto* id : {"a", "b", "c"}) {
    const auto reply = stream.read();
    EXPECT_EQ(reply.infer_response().id(), id);
    EXPECT_TRUE(reply.infer_response().parameters().at("triton_final_response").bool_param());
  }
}

TEST_F(GrpcServerTest, AClientThatDoesNotReadIsNotReadFrom) {
  start({.stream_requests_max = 4});
  Stream stream(channel_);
  const auto large = request(250'000);
  int written = 0;
  while (written < 100 && stream.write(large)) ++written;
  EXPECT_LT(written, 100);
  EXPECT_LT(backend_.submitted(), 60);  // What HTTP/2's window lets through, and four.
}

TEST_F(GrpcServerTest, AnswersThatNobodyReadsEnd) {
  start({.patience = milliseconds(300), .bytes_per_second_min = 1u << 30});
  {
    Stream stream(channel_);
    const auto large = request(250'000);
    for (int i = 0; i < 30 && stream.write(large); ++i) {
    }
    for (int i = 0; i < 500 && budget_.used() > 0; ++i)
      std::this_thread::sleep_for(milliseconds(10));
    EXPECT_EQ(budget_.used(), 0u);
  }
}

// Four connections could open as many calls as there may be requests, and never send one.
TEST_F(GrpcServerTest, SilentCallsDoNotKeepOthersOut) {
  start({.calls_max = 2, .message_time_max = milliseconds(500), .patience = seconds(2)});
  std::vector<std::unique_ptr<Stream>> silent;
  for (int i = 0; i < 4; ++i) silent.push_back(std::make_unique<Stream>(channel_));
  EXPECT_TRUE(infer(request()).ok());

  grpc::GenericStub stub(channel_);
  grpc::CompletionQueue queue;
  grpc::ClientContext context;
  const auto call = stub.PrepareCall(&context, kInfer, &queue);
  grpc::Status status;
  call->StartCall(nullptr);
  void* tag = nullptr;
  bool ok = false;
  ASSERT_TRUE(queue.Next(&tag, &ok));
  call->Finish(&status, nullptr);
  const auto end = std::chrono::system_clock::now() + seconds(10);
  ASSERT_EQ(queue.AsyncNext(&tag, &ok, end), grpc::CompletionQueue::GOT_EVENT)
      << "a call without a message stays for ever";
  EXPECT_FALSE(status.ok());
}

// HTTP/2 as bytes: what no client of gRPC would send.
std::string frame(char type, char flags, std::uint32_t stream, std::string_view payload) {
  std::string made(9, '\0');
  made[2] = static_cast<char>(payload.size());  // Below 128 bytes.
  made[3] = type;
  made[4] = flags;
  for (int i = 0; i < 4; ++i)
    made[static_cast<std::size_t>(8 - i)] = static_cast<char>(stream >> (8 * i));
  return made.append(payload);
}

std::string field(std::string_view name, std::string_view value) {
  std::string made(1, '\0');
  made += static_cast<char>(name.size());
  made.append(name) += static_cast<char>(value.size());
  return made.append(value);
}

class RawConnection {
 public:
  explicit RawConnection(std::uint16_t port) : fd_(::socket(AF_INET, SOCK_STREAM, 0)) {
    sockaddr_in address = {};
    address.sin_family = AF_INET;
    address.sin_port = htons(port);
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    EXPECT_EQ(::connect(fd_, reinterpret_cast<const sockaddr*>(&address), sizeof(address)), 0);
    EXPECT_TRUE(send("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + frame(4, 0, 0, "")));
  }
  ~RawConnection() { ::close(fd_); }
  RawConnection(const RawConnection&) = delete;
  RawConnection& operator=(const RawConnection&) = delete;

  bool send(std::string_view bytes) {
    return ::send(fd_, bytes.data(), bytes.size(), MSG_NOSIGNAL) ==
           static_cast<ssize_t>(bytes.size());
  }
  // Whether the server ends it soon.
  bool ends(milliseconds patience = seconds(10)) {
    pollfd wait{fd_, POLLIN, 0};
    char buffer[1024];
    ssize_t got = 1;
    while (got > 0 && ::poll(&wait, 1, static_cast<int>(patience.count())) > 0)
      got = ::recv(fd_, buffer, sizeof(buffer), 0);
    return got <= 0;
  }

 private:
  const int fd_;
};

TEST_F(GrpcServerTest, IdleConnectionsEnd) {
  start({.idle_max = milliseconds(300)});
  EXPECT_TRUE(RawConnection(server_->port()).ends());
}

TEST_F(GrpcServerTest, TheIdlestConnectionGivesWay) {
  start({.connections_max = 3, .silence_min = milliseconds(200)});
  backend_.hold();
  std::jthread busy([this] { EXPECT_TRUE(infer(request()).ok()); });
  for (int i = 0; i < 500 && backend_.submitted() == 0; ++i)
    std::this_thread::sleep_for(milliseconds(10));
  RawConnection first(server_->port());
  std::this_thread::sleep_for(milliseconds(20));
  RawConnection second(server_->port());
  EXPECT_TRUE(RawConnection(server_->port()).ends(seconds(5))) << "none is silent for long enough";
  std::this_thread::sleep_for(milliseconds(300));
  RawConnection third(server_->port());
  EXPECT_TRUE(first.ends());
  EXPECT_FALSE(third.ends(milliseconds(300)));
  EXPECT_FALSE(second.ends(milliseconds(50)));
  backend_.release();
}

// CVE-2023-44487: each call costs the client 170 bytes and is cancelled before it begins.
TEST_F(GrpcServerTest, ClientsThatCancelAllTheirCallsAreEnded) {
  const std::string head = "\x83\x86" +
                           field(":path", "/inference.GRPCInferenceService/ServerLive") +
                           field(":authority", "x") + field("content-type", "application/grpc") +
                           field("te", "trailers");
  RawConnection attacker(server_->port());
  const std::jthread reader([&] { attacker.ends(seconds(30)); });
  std::uint32_t stream = 1;
  bool open = true;
  while (open && stream < 400'000) {
    std::string many;
    for (int i = 0; i < 100; ++i, stream += 2)
      many += frame(1, 4, stream, head) + frame(3, 0, stream, std::string_view("\0\0\0\x08", 4));
    open = attacker.send(many);
  }
  EXPECT_FALSE(open) << "it may go on for ever";
  const auto asked = std::chrono::steady_clock::now();
  EXPECT_TRUE(infer(request()).ok());
  // What it has sent is still to be worked off, but no more than a stretch of it.
  EXPECT_LT(std::chrono::steady_clock::now() - asked, seconds(5));
}

// An ordinary client may change its mind: that of the whole test has one connection.
TEST_F(GrpcServerTest, SomeCallsMayBeCancelled) {
  backend_.hold();
  for (int i = 0; i < 100; ++i) {
    grpc::ClientContext context;
    context.set_deadline(std::chrono::system_clock::now() + milliseconds(2));
    grpc::ByteBuffer reply;
    EXPECT_FALSE(call(kInfer, to_buffer(request()), &reply, context).ok());
  }
  backend_.release();
  EXPECT_TRUE(infer(request()).ok());
}

// Where a server is overloaded, that is what its clients do.
TEST_F(GrpcServerTest, CallsWhoseTimeIsUpAreNoAttack) {
  start({.resets_per_second_max = 1, .resets_burst = 5});
  Stream same_connection(channel_);
  backend_.hold();
  for (int i = 0; i < 20; ++i) {
    grpc::ClientContext context;
    context.set_deadline(std::chrono::system_clock::now() + milliseconds(50));
    grpc::ByteBuffer reply;
    EXPECT_FALSE(call(kInfer, to_buffer(request()), &reply, context).ok());
  }
  backend_.release();
  ASSERT_TRUE(same_connection.write(request()));
  EXPECT_EQ(same_connection.read().infer_response().id(), "7");
}

// One thread may read what another's queue gets, and have nothing to handle itself.
TEST_F(GrpcServerTest, ManyHonestCallsAreNoAttack) {
  std::vector<std::jthread> clients;
  for (int c = 0; c < 4; ++c)
    clients.emplace_back([this] {
      int failed = 0;
      for (int i = 0; i < 5'000; ++i) failed += infer(request()).ok() ? 0 : 1;
      EXPECT_EQ(failed, 0);
    });
}

TEST(GrpcPeer, HasOneAddressHoweverItIsWritten) {
  EXPECT_EQ(address_of_peer("ipv4:127.0.0.1:5000"), "127.0.0.1:5000");
  EXPECT_EQ(address_of_peer("ipv6:%5B::1%5D:5000"), "::1:5000");
  EXPECT_EQ(address_of_peer("ipv6:%5Bfe80::1%252%5D:5000"), "fe80::1:5000");
  EXPECT_EQ(address_of_peer("ipv6:%5Bfe80::1%25"), "fe80::1");
  EXPECT_EQ(address_of_peer(""), "");
}

TEST_F(GrpcServerTest, OpenCallsAreBounded) {
  start({.open_calls_max = 2});
  const Stream one(channel_), two(channel_);
  grpc::Status status;
  for (int i = 0; i < 100 && status.ok(); ++i) {
    status = infer(request());
    std::this_thread::sleep_for(milliseconds(10));
  }
  EXPECT_EQ(status.error_code(), grpc::StatusCode::RESOURCE_EXHAUSTED);
}

TEST_F(GrpcServerTest, MemoryThatRunsOutCostsOneRequest) {
  backend_.without_memory = true;
  EXPECT_EQ(infer(request()).error_code(), grpc::StatusCode::RESOURCE_EXHAUSTED);
  Stream stream(channel_);
  ASSERT_TRUE(stream.write(request()));
  EXPECT_THAT(stream.read().error_message(), HasSubstr("out of memory"));
  backend_.without_memory = false;
  EXPECT_TRUE(infer(request()).ok());
}

TEST_F(GrpcServerTest, StopLetsCallsEnd) {
  backend_.hold();
  std::jthread client([this] { EXPECT_TRUE(infer(request()).ok()); });
  for (int i = 0; i < 500 && backend_.submitted() == 0; ++i)
    std::this_thread::sleep_for(milliseconds(10));
  std::jthread later([this] {
    std::this_thread::sleep_for(milliseconds(200));
    backend_.release();
  });
  server_->stop(seconds(10));
}

TEST_F(GrpcServerTest, NobodyConnectsToAServerThatStops) {
  backend_.hold();
  std::jthread client([this] { EXPECT_TRUE(infer(request()).ok()); });
  for (int i = 0; i < 500 && backend_.submitted() == 0; ++i)
    std::this_thread::sleep_for(milliseconds(10));
  const auto port = server_->port();
  std::jthread stopping([this] { server_->stop(seconds(10)); });
  bool refused = false;
  for (int i = 0; i < 200 && !refused; ++i) {
    std::this_thread::sleep_for(milliseconds(10));
    const auto second = listen_on("the next server", "127.0.0.1", port);
    refused = second.has_value();
  }
  EXPECT_TRUE(refused) << "clients would wait for a server that never answers";
  backend_.release();
}

TEST_F(GrpcServerTest, StopDoesNotWaitForSilentStreams) {
  backend_.hold();
  Stream silent(channel_), busy(channel_);
  EXPECT_TRUE(busy.write(request()));
  for (int i = 0; i < 500 && backend_.submitted() == 0; ++i)
    std::this_thread::sleep_for(milliseconds(10));
  std::jthread later([this] {
    std::this_thread::sleep_for(milliseconds(200));
    backend_.release();
  });
  const auto start = std::chrono::steady_clock::now();
  server_->stop(seconds(30));
  EXPECT_LT(std::chrono::steady_clock::now() - start, seconds(15));
  EXPECT_EQ(busy.read().infer_response().id(), "7");
}

TEST_F(GrpcServerTest, StopCancelsWhatDoesNotEnd) {
  backend_.hold();
  std::jthread client([this] { EXPECT_FALSE(infer(request()).ok()); });
  for (int i = 0; i < 500 && backend_.submitted() == 0; ++i)
    std::this_thread::sleep_for(milliseconds(10));
  server_->stop(milliseconds(100));
  EXPECT_EQ(backend_.cancelled(), 1);
}

TEST_F(GrpcServerTest, ATakenPortIsAnError) {
  const auto second = GrpcServer::start({.port = server_->port()}, services_, nullptr);
  ASSERT_FALSE(second);
  EXPECT_EQ(second.error().code, ErrorCode::kUnavailable);
}

TEST_F(GrpcServerTest, TokensGuardAllButProbes) {
  const auto file = std::filesystem::temp_directory_path() /
                    ("selvage_grpc_tokens_" + std::to_string(::getpid()));
  std::ofstream(file) << "0123456789abcdef\n";
  const auto tokens = Tokens::open(file);
  std::filesystem::remove(file);
  ASSERT_TRUE(tokens) << tokens.error().message;
  services_.tokens = tokens->get();
  EXPECT_EQ(infer(request()).error_code(), grpc::StatusCode::UNAUTHENTICATED);
  EXPECT_TRUE(call<inference::ServerLiveResponse>("/inference.GRPCInferenceService/ServerLive",
                                                  inference::ServerLiveRequest())
                  .ok());

  services_.tokens = nullptr;
}

}  // namespace
}  // namespace selvage::serve
