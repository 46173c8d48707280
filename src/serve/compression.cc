#include "serve/compression.h"

#include <algorithm>
#include <limits>

#include <zlib.h>

namespace selvage::serve {
namespace {

constexpr int kGzipWindow = 15 + 16;  // zlib's way of saying "with gzip's header".
constexpr int kZlibWindow = 15;
constexpr std::size_t kChunkBytes = 256u << 10;

int window_of(Coding coding) {
  return coding == Coding::kGzip ? kGzipWindow : kZlibWindow;
}

// zlib's input pointer is not const, though it only reads.
void feed(z_stream& stream, std::span<const std::byte> bytes) {
  stream.next_in = reinterpret_cast<Bytef*>(const_cast<std::byte*>(bytes.data()));
  stream.avail_in = static_cast<uInt>(bytes.size());
}

std::span<const std::byte> next_piece(std::span<const std::byte>& rest) {
  const auto piece =
      rest.first(std::min<std::size_t>(rest.size(), std::numeric_limits<uInt>::max()));
  rest = rest.subspan(piece.size());
  return piece;
}

struct Inflater {
  z_stream stream = {};
  bool ready = false;
  explicit Inflater(Coding coding) { ready = ::inflateInit2(&stream, window_of(coding)) == Z_OK; }
  Inflater(const Inflater&) = delete;
  Inflater& operator=(const Inflater&) = delete;
  ~Inflater() {
    if (ready) ::inflateEnd(&stream);
  }
};

struct Deflater {
  z_stream stream = {};
  bool ready = false;
  explicit Deflater(Coding coding) {
    ready = ::deflateInit2(&stream, Z_BEST_SPEED, Z_DEFLATED, window_of(coding), 8,
                           Z_DEFAULT_STRATEGY) == Z_OK;
  }
  Deflater(const Deflater&) = delete;
  Deflater& operator=(const Deflater&) = delete;
  ~Deflater() {
    if (ready) ::deflateEnd(&stream);
  }
};

std::unexpected<Error> no_memory() {
  return fail(ErrorCode::kResourceExhausted, "out of memory for compression: try again later");
}

}  // namespace

std::string_view coding_name(Coding coding) {
  switch (coding) {
    case Coding::kIdentity: return "identity";
    case Coding::kGzip: return "gzip";
    case Coding::kDeflate: return "deflate";
  }
  return "identity";
}

Result<Body> decompress(std::span<const std::byte> bytes, Coding coding, std::uint64_t bytes_max,
                        BodyBudget& budget, std::uint64_t aligned_at) {
  Inflater inflater(coding);
  if (!inflater.ready) return no_memory();
  z_stream& stream = inflater.stream;
  Body body(budget, aligned_at);
  int status = Z_OK;
  while (status != Z_STREAM_END) {
    if (stream.avail_in == 0) feed(stream, next_piece(bytes));
    if (body.size() == bytes_max) {
      // Full: only the end may follow.
      Bytef spare = 0;
      stream.next_out = &spare;
      stream.avail_out = 1;
      status = ::inflate(&stream, Z_NO_FLUSH);
      if (stream.avail_out == 0)
        return fail(ErrorCode::kOutOfRange, "the body is larger than " + std::to_string(bytes_max) +
                                                " bytes once its compression is undone");
    } else {
      SELVAGE_TRY(const auto room,
                  body.prepare(std::min<std::uint64_t>(bytes_max - body.size(), kChunkBytes)));
      stream.next_out = reinterpret_cast<Bytef*>(room.data());
      stream.avail_out = static_cast<uInt>(room.size());
      status = ::inflate(&stream, Z_NO_FLUSH);
      body.commit(room.size() - stream.avail_out);
    }
    if (status == Z_MEM_ERROR) return no_memory();
    if (status == Z_BUF_ERROR ||
        (status == Z_OK && stream.avail_in == 0 && bytes.empty() && stream.avail_out != 0))
      return fail(ErrorCode::kInvalidArgument, "the compressed body is cut off");
    if (status != Z_OK && status != Z_STREAM_END)
      return fail(ErrorCode::kInvalidArgument,
                  "the body is not valid " + std::string(coding_name(coding)));
  }
  if (stream.avail_in != 0 || !bytes.empty())
    return fail(ErrorCode::kInvalidArgument, "bytes follow the end of the compressed body");
  return body;
}

Result<std::string> compress(std::span<const std::span<const std::byte>> pieces, Coding coding) {
  Deflater deflater(coding);
  if (!deflater.ready) return no_memory();
  z_stream& stream = deflater.stream;
  std::string out;
  const auto run = [&](int flush) {
    while (true) {
      const std::size_t before = out.size();
      out.resize(before + 16'384);
      stream.next_out = reinterpret_cast<Bytef*>(out.data() + before);
      stream.avail_out = 16'384;
      const int status = ::deflate(&stream, flush);
      out.resize(out.size() - stream.avail_out);
      if (stream.avail_out != 0 || status == Z_STREAM_END || status == Z_STREAM_ERROR) return;
    }
  };
  for (std::span<const std::byte> rest : pieces)
    while (!rest.empty()) {
      feed(stream, next_piece(rest));
      run(Z_NO_FLUSH);
    }
  feed(stream, {});
  run(Z_FINISH);
  return out;
}

}  // namespace selvage::serve
