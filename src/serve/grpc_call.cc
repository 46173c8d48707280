#include "serve/grpc_call.h"

#include <utility>
#include <vector>

#include "serve/error_map.h"
#include "serve/grpc_connections.h"
#include "serve/thread_name.h"

namespace selvage::serve {
namespace {

// Smaller answers are not counted, so that errors and probes go out whatever happens.
constexpr std::size_t kCountedBytesMin = 16u << 10;

const grpc::Status kStopping{grpc::StatusCode::UNAVAILABLE, "the server is stopping"};

std::size_t counted(const grpc::ByteBuffer& answer) {
  const std::size_t bytes = answer.Length();
  return bytes < kCountedBytesMin ? 0 : bytes;
}

grpc::Status to_status(const Error& error) {
  return {static_cast<grpc::StatusCode>(grpc_status(error.code)), error.message};
}

}  // namespace

CallWatch::CallWatch(std::chrono::milliseconds interval)
    : interval_(interval), thread_(start_thread("grpc-watch", [this] { run(); })) {}

CallWatch::~CallWatch() {
  const std::lock_guard lock(mutex_);
  stopping_ = true;
  stop_asked_.notify_all();
}

void CallWatch::add(GrpcCall& call) {
  const std::lock_guard lock(mutex_);
  calls_.insert(&call);
}

void CallWatch::remove(GrpcCall& call) {
  const std::lock_guard lock(mutex_);
  calls_.erase(&call);
}

std::vector<std::shared_ptr<GrpcCall>> CallWatch::calls() {
  const std::lock_guard lock(mutex_);
  std::vector<std::shared_ptr<GrpcCall>> alive;
  for (auto* call : calls_)
    if (auto held = call->weak_from_this().lock()) alive.push_back(std::move(held));
  return alive;
}

void CallWatch::run() {
  std::unique_lock lock(mutex_);
  while (!stop_asked_.wait_for(lock, interval_, [this] { return stopping_; })) {
    lock.unlock();  // Whoever holds a call last removes it.
    const auto now = std::chrono::steady_clock::now();
    for (const auto& call : calls()) call->check(now);
    lock.lock();
  }
}

void CallTag::run(void* tag, bool ok) {
  auto& self = *static_cast<CallTag*>(tag);
  // The last tag may end the call, and the tag with it.
  const auto call = std::exchange(self.call, nullptr);
  (call.get()->*self.then)(ok);
}

// A request's way back. On a stream there are several at once, each with its own cancellation.
class GrpcCall::Exchange final : public GrpcExchange {
 public:
  Exchange(std::shared_ptr<GrpcCall> call, std::size_t number)
      : call_(std::move(call)), number_(number) {}
  void reply(Result<grpc::ByteBuffer> answer) override {
    {
      const std::lock_guard lock(call_->mutex_);
      answered_ = true;
      call_->cancels_.erase(this);
    }
    call_->take(number_, std::move(answer));
  }
  void on_leave(Cancel cancel) override {
    {
      const std::lock_guard lock(call_->mutex_);
      if (answered_) return;
      if (!call_->gone_) {
        call_->cancels_.emplace(this, std::move(cancel));
        return;
      }
    }
    cancel();
  }
  std::optional<std::chrono::microseconds> time_left() const override {
    const auto deadline = call_->context_.deadline();
    if (deadline == std::chrono::system_clock::time_point::max()) return std::nullopt;
    const auto left = std::chrono::duration_cast<std::chrono::microseconds>(
        deadline - std::chrono::system_clock::now());
    return std::max(left, std::chrono::microseconds(1));
  }

 private:
  const std::shared_ptr<GrpcCall> call_;
  const std::size_t number_;
  bool answered_ = false;  // Guarded by the call's mutex.
};

GrpcCall::GrpcCall(CallHome& home, grpc::ServerCompletionQueue& queue)
    : home_(home), queue_(queue), share_(home.services.bodies) {}

GrpcCall::~GrpcCall() {
  if (!counted_) return;
  home_.watch.remove(*this);
  home_.in_flight -= requests_;
  --home_.open;
}

void GrpcCall::check(Time now) {
  {
    const std::lock_guard lock(mutex_);
    if (now < deadline_) return;
    deadline_ = Time::max();
  }
  context_.TryCancel();
}

bool GrpcCall::is_busy() {
  const std::lock_guard lock(mutex_);
  return requests_ > 0;
}

void GrpcCall::retire() {
  const std::lock_guard lock(mutex_);
  if (method_ && method_->shape == GrpcShape::kBothStreams) advance_stream();
}

void GrpcCall::allow(std::size_t bytes) {
  const auto& limits = home_.limits;
  deadline_ = std::chrono::steady_clock::now() + limits.patience +
              std::chrono::seconds(bytes / limits.bytes_per_second_min);
}

void* GrpcCall::tag(CallTag& of, void (GrpcCall::*then)(bool)) {
  of.call = shared_from_this();
  of.then = then;
  return &of;
}

void GrpcCall::wait(CallHome& home, grpc::ServerCompletionQueue& queue) {
  auto call = std::make_shared<GrpcCall>(home, queue);
  call->context_.AsyncNotifyWhenDone(call->tag(call->left_, &GrpcCall::left));
  home.service.RequestCall(&call->context_, &call->stream_, &queue, &queue,
                           call->tag(call->arrived_, &GrpcCall::arrived));
}

void GrpcCall::arrived(bool ok) {
  if (!ok) {
    left_.call = nullptr;  // Without a call there is no end of it.
    return;
  }
  home_.intake.handled();
  wait(home_, queue_);
  started_ = std::chrono::steady_clock::now();
  counted_ = true;
  const std::uint32_t others = home_.open++;
  method_ = find_method(context_.method());
  home_.watch.add(*this);
  if (const auto status = admit(); !status.ok()) return finish(status);
  if (others >= home_.limits.open_calls_max)
    return finish({grpc::StatusCode::RESOURCE_EXHAUSTED, "too many calls: try again later"});
  if (home_.stopping) return finish(kStopping);
  const std::lock_guard lock(mutex_);
  if (done_) return;  // It was retired a moment ago.
  // A stream may be silent for as long as it likes.
  if (method_->shape == GrpcShape::kUnary) deadline_ = started_ + home_.limits.message_time_max;
  read_more();
}

grpc::Status GrpcCall::admit() const {
  if (!method_) return {grpc::StatusCode::UNIMPLEMENTED, "no method '" + context_.method() + "'"};
  if (!home_.services.tokens || method_->is_public) return grpc::Status::OK;
  const auto& metadata = context_.client_metadata();
  const auto found = metadata.find("authorization");
  if (found != metadata.end() &&
      home_.services.tokens->admits({found->second.data(), found->second.size()}))
    return grpc::Status::OK;
  return {grpc::StatusCode::UNAUTHENTICATED,
          "a token is needed: send 'authorization: Bearer TOKEN'"};
}

void GrpcCall::read_more() {
  reading_ = true;
  incoming_.Clear();
  stream_.Read(&incoming_, tag(read_, &GrpcCall::read));
}

void GrpcCall::read(bool ok) {
  grpc::ByteBuffer message;
  std::size_t number = 0;
  const bool streams = method_->shape == GrpcShape::kBothStreams;
  {
    const std::lock_guard lock(mutex_);
    reading_ = false;
    half_closed_ = !ok;
    if (done_) return;
    if (!streams) deadline_ = Time::max();
    if (ok) {
      message.Swap(&incoming_);
      ++requests_;
    }
    if (streams && ok) {
      number = first_ + answers_.size();
      answers_.emplace_back();
      ++unanswered_;
      if (answers_.size() < home_.limits.stream_requests_max) read_more();
    } else if (streams) {
      advance_stream();
    }
  }
  if (!ok) {
    if (!streams)
      finish({grpc::StatusCode::INVALID_ARGUMENT, "the request is missing or too large"});
    return;
  }
  const auto exchange = std::make_shared<Exchange>(shared_from_this(), number);
  if (home_.in_flight++ >= home_.limits.calls_max)
    return exchange->reply(fail(ErrorCode::kResourceExhausted, "too many calls: try again later"));
  reply_if_thrown(*exchange, [&] { method_->handle(home_.services, message, exchange); });
}

void GrpcCall::take(std::size_t number, Result<grpc::ByteBuffer> answer) {
  if (method_->shape == GrpcShape::kUnary) return take_unary(std::move(answer));
  if (!answer) answer = method_->refuse(answer.error());
  const std::lock_guard lock(mutex_);
  if (auto kept = share_.add(counted(*answer)); !kept) answer = method_->refuse(kept.error());
  --unanswered_;
  answers_[number - first_] = *std::move(answer);
  advance_stream();
}

void GrpcCall::take_unary(Result<grpc::ByteBuffer> answer) {
  if (!answer) return finish(to_status(answer.error()));
  if (auto kept = share_.add(counted(*answer)); !kept) return finish(to_status(kept.error()));
  {
    const std::lock_guard lock(mutex_);
    if (std::exchange(done_, true)) return;
    allow(answer->Length());
  }
  stream_.WriteAndFinish(*answer, grpc::WriteOptions(), grpc::Status::OK,
                         tag(finished_, &GrpcCall::finished));
}

// One write at a time, in the order of the requests; the stream ends when the client has said all
// and has all answers.
void GrpcCall::advance_stream() {
  if (writing_ || done_) return;
  if (!gone_ && !answers_.empty() && answers_.front()) {
    writing_ = true;
    allow(answers_.front()->Length());
    stream_.Write(*answers_.front(), tag(wrote_, &GrpcCall::wrote));
    return;
  }
  const bool over = half_closed_ || gone_;
  if (unanswered_ > 0 || !(over || home_.stopping)) return;
  done_ = true;
  allow(0);
  stream_.Finish(over ? grpc::Status::OK : kStopping, tag(finished_, &GrpcCall::finished));
}

void GrpcCall::wrote(bool) {
  const std::lock_guard lock(mutex_);
  writing_ = false;
  deadline_ = Time::max();
  share_.give(counted(*answers_.front()));
  answers_.pop_front();
  ++first_;
  --requests_;
  --home_.in_flight;
  // A client that does not read is not read from either.
  if (!reading_ && !half_closed_ && !gone_) read_more();
  advance_stream();
}

void GrpcCall::finish(const grpc::Status& status) {
  {
    const std::lock_guard lock(mutex_);
    if (std::exchange(done_, true)) return;
    status_ = status.error_code();
    allow(0);
  }
  stream_.Finish(status, tag(finished_, &GrpcCall::finished));
}

void GrpcCall::finished(bool) {
  if (!home_.log) return;
  const std::string peer = context_.peer();
  home_.log->write({.peer = peer,
                    .method = "gRPC",
                    .target = context_.method(),
                    .status = static_cast<unsigned>(status_),
                    .reply_bytes = 0,
                    .duration = std::chrono::steady_clock::now() - started_});
}

// Cancelled as soon as it was made, rather than given up when the time was over: by the client's
// clock, which is ahead of ours by what the call took to get here.
bool GrpcCall::was_reset() const {
  const auto age = std::chrono::steady_clock::now() - started_;
  const auto time_left = context_.deadline() - std::chrono::system_clock::now();
  return age < GrpcLimits::kEarly && time_left > age;
}

void GrpcCall::left(bool) {
  if (!context_.IsCancelled()) return;
  if (was_reset()) {
    home_.intake.lost();  // gRPC does not always know the peer of a call that ended so soon.
    if (auto* connections = home_.connections.load()) connections->count_reset(peer());
  }
  std::unordered_map<const Exchange*, Cancel> cancels;
  {
    const std::lock_guard lock(mutex_);
    gone_ = true;
    cancels.swap(cancels_);
    if (method_ && method_->shape == GrpcShape::kBothStreams) advance_stream();
  }
  for (auto& [exchange, cancel] : cancels) cancel();
}

}  // namespace selvage::serve
