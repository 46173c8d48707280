#include "compress/release_file.h"

#include <algorithm>
#include <memory>
#include <span>
#include <vector>

#include <zlib.h>

#include "base/file.h"

namespace selvage::compress {
namespace {

constexpr int kGzipWindow = 15 + 16;  // zlib's way to ask for gzip's header and checksum.
constexpr int kMemoryLevel = 9;
constexpr std::size_t kPieceBytes = 256u << 10;

struct EndDeflate {
  void operator()(z_stream* stream) const { deflateEnd(stream); }
};

}  // namespace

Result<std::uint64_t> write_gzip(const std::filesystem::path& file,
                                 const std::filesystem::path& compressed) {
  SELVAGE_TRY(const auto source, MappedFile::open(file));
  SELVAGE_TRY(auto target, AtomicFile::create(compressed));
  z_stream stream{};
  if (deflateInit2(&stream, Z_BEST_COMPRESSION, Z_DEFLATED, kGzipWindow, kMemoryLevel,
                   Z_DEFAULT_STRATEGY) != Z_OK)
    return fail(ErrorCode::kResourceExhausted, "out of memory");
  const std::unique_ptr<z_stream, EndDeflate> guard(&stream);
  std::vector<std::byte> piece(kPieceBytes);
  auto rest = source.bytes();
  std::uint64_t written = 0;
  for (int state = Z_OK; state != Z_STREAM_END;) {
    const auto input = rest.first(std::min(rest.size(), kPieceBytes));
    // zlib does not write through this pointer.
    stream.next_in = reinterpret_cast<Bytef*>(const_cast<std::byte*>(input.data()));
    stream.avail_in = static_cast<uInt>(input.size());
    rest = rest.subspan(input.size());
    do {
      stream.next_out = reinterpret_cast<Bytef*>(piece.data());
      stream.avail_out = static_cast<uInt>(piece.size());
      state = deflate(&stream, rest.empty() ? Z_FINISH : Z_NO_FLUSH);
      if (state == Z_STREAM_ERROR) return fail(ErrorCode::kInternal, "zlib failed");
      const auto made = piece.size() - stream.avail_out;
      SELVAGE_RETURN_IF_ERROR(target.append(std::span(piece).first(made)));
      written += made;
    } while (stream.avail_out == 0);
  }
  SELVAGE_RETURN_IF_ERROR(target.commit(compressed));
  return written;
}

}  // namespace selvage::compress
