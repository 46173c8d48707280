#include "serve/http_connection.h"

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <deque>

#include <boost/asio/dispatch.hpp>
#include <boost/asio/post.hpp>
#include <boost/asio/ssl/stream.hpp>
#include <boost/asio/write.hpp>
#include <boost/beast/core/flat_buffer.hpp>
#include <linux/sockios.h>
#include <sys/ioctl.h>
#include <sys/socket.h>

#include "base/log.h"
#include "serve/compression.h"
#include "serve/http_head.h"

namespace selvage::serve {
namespace {

namespace asio = boost::asio;
namespace http = boost::beast::http;
using BoostError = boost::system::error_code;
using Time = std::chrono::steady_clock::time_point;
using TlsStream = asio::ssl::stream<TcpSocket>;

constexpr std::size_t kReadBytes = 4096;
constexpr std::size_t kChunkedReadBytes = 64u << 10;
constexpr std::size_t kWriteBytesMax = 16u << 20;  // Asio's own default is 64 KB a call.
constexpr std::size_t kCompressBytesMin = 1024;
constexpr std::size_t kLingerBytesMax = 256u << 10;
constexpr auto kLingerTime = std::chrono::seconds(2);
// Smaller replies are not counted, so that errors and probes go out whatever happens.
constexpr std::size_t kCountedBytesMin = 16u << 10;

Time now() {
  return std::chrono::steady_clock::now();
}

std::string_view reason_of(unsigned status) {
  const auto text = http::obsolete_reason(http::int_to_status(status));
  return {text.data(), text.size()};
}

TcpSocket& socket_of(TcpSocket& stream) {
  return stream;
}
TcpSocket& socket_of(TlsStream& stream) {
  return stream.next_layer();
}

// See HttpConnection. A request at a time: head, body, handler, reply; what a client sends ahead
// stays in `buffer_` until then.
template <typename Stream>
class Connection final : public HttpConnection {
 public:
  Connection(ConnectionHome& home, Stream stream)
      : home_(home), stream_(std::move(stream)), share_(home.budget) {
    home_.live.insert(this);
    ++home_.count;
    BoostError ignored;
    socket_of(stream_).set_option(asio::ip::tcp::no_delay(true), ignored);
    const auto peer = socket_of(stream_).remote_endpoint(ignored);
    if (!ignored) peer_ = peer.address().to_string();
  }
  ~Connection() override {
    home_.live.erase(this);
    --home_.count;
  }
  Connection(const Connection&) = delete;
  Connection& operator=(const Connection&) = delete;

  void begin() {
    if constexpr (std::is_same_v<Stream, TlsStream>) {
      deadline_ = now() + home_.limits.head_time_max;
      stream_.async_handshake(asio::ssl::stream_base::server,
                              [self = self()](const BoostError& error) {
                                if (error) return self->abort();
                                self->await_request();
                              });
    } else {
      await_request();
    }
  }

  void check(Time time) override {
    if (deadline_ && time > *deadline_ && !keeps_pace(time)) return abort();
    if (phase_ != Phase::kHandling || !cancel_) return;
    char byte = 0;
    const auto got = ::recv(socket_of(stream_).native_handle(), &byte, 1, MSG_PEEK | MSG_DONTWAIT);
    if (got == 0 || (got < 0 && errno != EAGAIN && errno != EWOULDBLOCK && errno != EINTR)) abort();
  }

  std::optional<Time> waiting_since() const override {
    const bool waits = phase_ == Phase::kIdle || (phase_ == Phase::kReading && !body_);
    return waits ? std::optional(started_) : std::nullopt;
  }

  void finish() override {
    finishing_ = true;
    if (phase_ == Phase::kIdle) abort();
  }

  void abort() override {
    if (std::exchange(phase_, Phase::kClosed) == Phase::kClosed) return;
    deadline_.reset();
    BoostError ignored;
    socket_of(stream_).close(ignored);
    if (Cancel cancel = std::exchange(cancel_, nullptr)) cancel();
  }

 private:
  enum class Phase : std::uint8_t { kIdle, kReading, kHandling, kWriting, kLingering, kClosed };

  // A request's way back.
  class Exchange final : public HttpExchange {
   public:
    explicit Exchange(std::shared_ptr<Connection> connection)
        : connection_(std::move(connection)) {}
    // At once where the handler has answered on the connection's own thread: those who wait behind
    // it there wait for themselves, not for each other.
    void reply(std::move_only_function<HttpReply()> make) override {
      asio::dispatch(connection_->stream_.get_executor(),
                     [connection = connection_, make = std::move(make)]() mutable {
                       connection->reply(make);
                     });
    }
    void on_leave(Cancel cancel) override {
      if (connection_->phase_ == Phase::kHandling) connection_->cancel_ = std::move(cancel);
    }

   private:
    const std::shared_ptr<Connection> connection_;  // Two threads may read it at once.
  };

  std::shared_ptr<Connection> self() {
    return std::static_pointer_cast<Connection>(shared_from_this());
  }

  // From here on bytes must move, at the least rate in every interval of our patience: one limit
  // for the whole body would let a client be silent for as long as a large one may take.
  void expect_pace() {
    pace_from_ = moved();
    deadline_ = now() + home_.limits.patience;
  }

  bool keeps_pace(Time time) {
    if (!pace_from_) return false;
    const auto patience = static_cast<std::uint64_t>(home_.limits.patience.count());
    if (moved() < *pace_from_ + patience * home_.limits.bytes_per_second_min / 1000) return false;
    pace_from_ = moved();
    deadline_ = time + home_.limits.patience;
    return true;
  }

  // Bytes of the body that have come, or of the reply that the client has.
  std::uint64_t moved() {
    if (phase_ != Phase::kWriting) return body_ ? body_->size() : 0;
    int unread = 0;
    if (::ioctl(socket_of(stream_).native_handle(), SIOCOUTQ, &unread) != 0) return written_;
    return written_ - std::min(written_, static_cast<std::uint64_t>(unread));
  }

  // --- Reading
  // ------------------------------------------------------------------------------------

  void await_request() {
    if (finishing_) return abort();
    parser_.emplace();
    limit(*parser_, home_.limits.head_bytes_max);
    body_.reset();
    framing_ = {};
    chunk_error_.reset();
    phase_ = Phase::kIdle;
    pace_from_.reset();
    started_ = now();
    deadline_ = started_ + home_.limits.idle_max;
    if (buffer_.size() > 0) return read_head();
    more(kReadBytes, &Connection::read_head);
  }

  // Reads on into buffer_ and calls `next`.
  void more(std::size_t size, void (Connection::*next)()) {
    stream_.async_read_some(buffer_.prepare(size),
                            [self = self(), next](const BoostError& error, std::size_t read) {
                              if (self->phase_ == Phase::kClosed) return;
                              if (error) return self->abort();
                              self->buffer_.commit(read);
                              (self.get()->*next)();
                            });
  }

  void read_head() {
    if (phase_ == Phase::kIdle) {
      phase_ = Phase::kReading;
      started_ = now();
      deadline_ = started_ + home_.limits.head_time_max;
    }
    BoostError error;
    buffer_.consume(parser_->put(buffer_.data(), error));
    if (error == http::error::need_more) {
      if (buffer_.size() > home_.limits.head_bytes_max)
        return refuse(431, {ErrorCode::kInvalidArgument, "the header is too large"});
      return more(kReadBytes, &Connection::read_head);
    }
    if (error == http::error::header_limit)
      return refuse(431, {ErrorCode::kInvalidArgument, "the header is too large"});
    if (error)
      return refuse(400, {ErrorCode::kInvalidArgument, "not an HTTP request: " + error.message()});
    head_done();
  }

  void head_done() {
    auto framing = read_framing(*parser_);
    if (!framing) return refuse(framing.error());
    framing_ = *std::move(framing);
    framing_.head.secure = std::is_same_v<Stream, TlsStream>;
    if (auto refusal = home_.handler.admit(framing_.head)) return write(*std::move(refusal), false);
    if (framing_.content_length.value_or(0) > home_.limits.body_bytes_max)
      return refuse(413, too_large());
    const bool coded = framing_.head.content_coding != Coding::kIdentity;
    body_.emplace(home_.budget, coded ? 0 : framing_.head.json_length.value_or(0));
    expect_pace();
    const bool has_body = framing_.chunked || framing_.content_length.value_or(0) > 0;
    if (framing_.expects_continue && has_body && buffer_.size() == 0) return send_continue();
    read_body();
  }

  Error too_large() const {
    return {ErrorCode::kOutOfRange, "the body is larger than the limit of " +
                                        std::to_string(home_.limits.body_bytes_max) + " bytes"};
  }

  void send_continue() {
    static constexpr std::string_view kContinue = "HTTP/1.1 100 Continue\r\n\r\n";
    asio::async_write(stream_, asio::buffer(kContinue),
                      [self = self()](const BoostError& error, std::size_t) {
                        if (self->phase_ == Phase::kClosed) return;
                        if (error) return self->abort();
                        self->read_body();
                      });
  }

  void read_body() {
    if (framing_.chunked) return read_chunks();
    const std::uint64_t length = framing_.content_length.value_or(0);
    // With all of it in view, so that it gets kept memory of its size: growing copies.
    if (length > 0)
      if (auto room = body_->prepare(length); !room) return refuse(room.error());
    const auto here = static_cast<std::size_t>(std::min<std::uint64_t>(length, buffer_.size()));
    const auto* data = static_cast<const std::byte*>(buffer_.data().data());
    if (auto taken = body_->append({data, here}); !taken) return refuse(taken.error());
    buffer_.consume(here);
    read_rest();
  }

  // Straight into the body's own memory.
  void read_rest() {
    const std::uint64_t missing = framing_.content_length.value_or(0) - body_->size();
    if (missing == 0) return handle();
    auto room = body_->prepare(missing);
    if (!room) return refuse(room.error());
    stream_.async_read_some(asio::buffer(room->data(), room->size()),
                            [self = self()](const BoostError& error, std::size_t read) {
                              if (self->phase_ == Phase::kClosed) return;
                              if (error) return self->abort();
                              self->body_->commit(read);
                              self->read_rest();
                            });
  }

  void read_chunks() {
    auto on_chunk = [this](std::uint64_t, boost::beast::string_view piece, BoostError& error) {
      take_chunk(std::as_bytes(std::span(piece.data(), piece.size())));
      if (chunk_error_) error = http::error::body_limit;
      return piece.size();
    };
    // The callback lives for this call only, and the parser keeps a reference: one parser, one
    // member.
    if (!on_chunk_) {
      on_chunk_ = on_chunk;
      parser_->on_chunk_body(on_chunk_);
    }
    BoostError error;
    while (!parser_->is_done() && !error) {
      // In the middle of a chunk the parser takes nothing for something, and would do so forever.
      if (buffer_.size() == 0) error = http::error::need_more;
      if (!error) buffer_.consume(parser_->put(buffer_.data(), error));
    }
    if (error == http::error::need_more) {
      if (buffer_.size() >= kChunkedReadBytes)
        return refuse(400, {ErrorCode::kInvalidArgument, "a chunk's header is too large"});
      return more(kChunkedReadBytes, &Connection::read_chunks);
    }
    if (chunk_error_) return refuse(chunk_status_, *chunk_error_);
    if (error) return refuse(400, {ErrorCode::kInvalidArgument, "bad chunks: " + error.message()});
    handle();
  }

  void take_chunk(std::span<const std::byte> piece) {
    if (chunk_error_) return;
    if (piece.size() > home_.limits.body_bytes_max - body_->size()) {
      chunk_status_ = 413;
      chunk_error_ = too_large();
      return;
    }
    auto taken = body_->append(piece);
    if (taken) return;
    chunk_status_ = 503;
    chunk_error_ = std::move(taken).error();
  }

  // --- Handling
  // -----------------------------------------------------------------------------------

  void handle() {
    phase_ = Phase::kHandling;
    pace_from_.reset();
    deadline_.reset();
    HttpRequest request{framing_.head, *std::move(body_), home_.limits.body_bytes_max};
    body_.reset();
    home_.handler.handle(std::move(request), std::make_shared<Exchange>(self()));
  }

  void reply(std::move_only_function<HttpReply()>& make) {
    cancel_ = nullptr;
    if (phase_ != Phase::kHandling) return;
    write(make(), framing_.keep_alive && !finishing_);
  }

  // --- Writing
  // ------------------------------------------------------------------------------------

  void refuse(const Error& error) {
    const unsigned status = error_reply(error).status;
    refuse(status, error);
  }

  // Where the rest of the request cannot be told from the next one, the connection ends.
  void refuse(unsigned status, const Error& error) {
    HttpReply reply = error_reply(error);
    reply.status = status;
    write(std::move(reply), false);
  }

  void compress_reply() {
    const Coding coding = framing_.head.reply_coding;
    if (coding == Coding::kIdentity || size_of(reply_) < kCompressBytesMin) return;
    std::vector<std::span<const std::byte>> pieces{std::as_bytes(std::span(reply_.text))};
    pieces.insert(pieces.end(), reply_.parts.begin(), reply_.parts.end());
    auto packed = compress(pieces, coding);
    if (!packed) return;  // It goes out as it is.
    reply_.text = *std::move(packed);
    reply_.parts.clear();
    reply_.fields.emplace_back("Content-Encoding", coding_name(coding));
  }

  void write(HttpReply reply, bool keep_alive) {
    phase_ = Phase::kWriting;
    keep_alive_ = keep_alive;
    body_.reset();
    reply_ = std::move(reply);
    compress_reply();
    if (auto kept = share_.add(counted(reply_)); !kept) reply_ = error_reply(kept.error());
    const std::uint64_t size = size_of(reply_);
    head_text_ = head_of(size);
    if (framing_.head.method == Method::kHead) {
      reply_.text.clear();
      reply_.parts.clear();
    }
    std::vector<asio::const_buffer> buffers{asio::buffer(head_text_), asio::buffer(reply_.text)};
    for (const auto part : reply_.parts) buffers.emplace_back(part.data(), part.size());
    reply_bytes_ = size;
    written_ = 0;
    expect_pace();
    // Handed over whole, so that the kernel takes as much as it can in one call.
    const auto go_on = [this](const BoostError& error, std::size_t written) {
      written_ = written;
      return error ? 0 : kWriteBytesMax;
    };
    asio::async_write(
        stream_, std::move(buffers), go_on,
        [self = self()](const BoostError& error, std::size_t) { self->written(error); });
  }

  static std::uint64_t size_of(const HttpReply& reply) {
    std::uint64_t size = reply.text.size();
    for (const auto part : reply.parts) size += part.size();
    return size;
  }
  static std::uint64_t counted(const HttpReply& reply) {
    const std::uint64_t size = size_of(reply);
    return size < kCountedBytesMin ? 0 : size;
  }

  std::string head_of(std::uint64_t size) const {
    std::string head = "HTTP/1.1 " + std::to_string(reply_.status) + ' ';
    head += reason_of(reply_.status);
    head += "\r\nContent-Type: ";
    head += reply_.content_type;
    head += "\r\nContent-Length: " + std::to_string(size);
    for (const auto& [name, value] : reply_.fields)
      head.append("\r\n").append(name).append(": ").append(value);
    if (!keep_alive_)
      head += "\r\nConnection: close";
    else if (framing_.http10)
      head += "\r\nConnection: keep-alive";
    head += "\r\n\r\n";
    return head;
  }

  void written(const BoostError& error) {
    if (home_.log)
      home_.log->write({peer_, framing_.head.method_text, framing_.head.target, reply_.status,
                        reply_bytes_, now() - started_});
    reply_ = {};
    head_text_ = {};
    share_ = BudgetShare(home_.budget);
    if (phase_ == Phase::kClosed) return;
    if (error) return abort();
    if (!keep_alive_) return linger();
    on_chunk_ = nullptr;
    await_request();
  }

  // Closing while the client still sends would reset the connection and could destroy the reply on
  // its way (RFC 9112, section 9.6): close our half, read on for a moment, then close.
  void linger() {
    phase_ = Phase::kLingering;
    pace_from_.reset();
    deadline_ = now() + kLingerTime;
    if constexpr (std::is_same_v<Stream, TlsStream>) {
      stream_.async_shutdown([self = self()](const BoostError&) { self->abort(); });
    } else {
      BoostError ignored;
      stream_.shutdown(asio::socket_base::shutdown_send, ignored);
      drop_rest();
    }
  }

  void drop_rest() {
    buffer_.clear();
    stream_.async_read_some(buffer_.prepare(kReadBytes),
                            [self = self()](const BoostError& error, std::size_t read) {
                              if (self->phase_ == Phase::kClosed) return;
                              self->lingered_ += read;
                              if (error || self->lingered_ > kLingerBytesMax) return self->abort();
                              self->drop_rest();
                            });
  }

  ConnectionHome& home_;
  Stream stream_;
  boost::beast::flat_buffer buffer_;
  Phase phase_ = Phase::kIdle;
  bool finishing_ = false;
  bool keep_alive_ = false;
  std::optional<Time> deadline_;
  std::optional<std::uint64_t> pace_from_;  // What had moved when this interval began.
  std::string peer_ = "-";

  // The request.
  Time started_ = now();
  std::optional<RequestParser> parser_;
  std::move_only_function<std::size_t(std::uint64_t, boost::beast::string_view, BoostError&)>
      on_chunk_;
  Framing framing_;
  std::optional<Body> body_;
  std::optional<Error> chunk_error_;
  unsigned chunk_status_ = 400;
  Cancel cancel_;

  // The reply.
  HttpReply reply_;
  std::string head_text_;
  std::uint64_t reply_bytes_ = 0;
  std::uint64_t written_ = 0;  // To the kernel.
  BudgetShare share_;          // For reply_.
  std::size_t lingered_ = 0;
};

// The last that holds a connection may be a worker that has just replied, but what its thread's
// connections share is that thread's business only.
template <typename Stream>
void start_on(ConnectionHome& home, Stream stream) {
  const auto executor = stream.get_executor();
  const auto end = [&home, executor](Connection<Stream>* connection) {
    std::unique_ptr<Connection<Stream>> ending(connection);
    if (!home.ended && !executor.running_in_this_thread())
      asio::post(executor, [ending = std::move(ending)] {});
  };
  std::shared_ptr<Connection<Stream>>(new Connection<Stream>(home, std::move(stream)), end)
      ->begin();
}

}  // namespace

void HttpConnection::start(ConnectionHome& home, TcpSocket socket, asio::ssl::context* tls) {
  if (tls) {
    start_on(home, TlsStream(std::move(socket), *tls));
  } else {
    start_on(home, std::move(socket));
  }
}

}  // namespace selvage::serve
