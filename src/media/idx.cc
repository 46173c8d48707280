#include "media/idx.h"

#include <algorithm>
#include <array>
#include <limits>
#include <optional>
#include <string>

#include <zlib.h>

#include "base/exception.h"

namespace selvage::media {
namespace {

/// No deflated byte stands for more: so a lie about the size costs no memory.
constexpr std::uint64_t kInflationMax = 1'032;
constexpr std::size_t kMagicBytes = 4;

std::unexpected<Error> damaged(const std::string& what) {
  return fail(ErrorCode::kInvalidArgument, "IDX: " + what);
}

/// The file's content from the front, packed or not.
class Content {
 public:
  static Result<Content> open(std::span<const std::byte> file) {
    Content content(file);
    if (file.size() >= 2 && file[0] == std::byte{0x1F} && file[1] == std::byte{0x8B}) {
      content.stream_ = std::make_unique<z_stream>();
      constexpr int kGzip = 16;
      if (inflateInit2(content.stream_.get(), MAX_WBITS + kGzip) != Z_OK)
        return fail(ErrorCode::kResourceExhausted, "IDX: out of memory");
    }
    return content;
  }
  Content(Content&&) = default;
  Content& operator=(Content&&) = delete;
  ~Content() {
    if (stream_) inflateEnd(stream_.get());
  }

  /// Above this there is nothing, whatever the header says.
  [[nodiscard]] std::uint64_t bytes_max() const {
    return stream_ ? rest_.size() * kInflationMax : rest_.size();
  }

  [[nodiscard]] Result<void> read(std::span<std::byte> to) {
    if (!stream_) {
      if (rest_.size() < to.size()) return damaged("cut short");
      std::ranges::copy(rest_.first(to.size()), to.begin());
      rest_ = rest_.subspan(to.size());
      return {};
    }
    while (!to.empty()) {
      SELVAGE_TRY(const auto count, inflate_some(to));
      if (count == 0) return damaged("cut short");
      to = to.subspan(count);
    }
    return {};
  }

  /// That nothing follows; the checksum is seen by reading past the end.
  [[nodiscard]] Result<void> expect_end() {
    if (!stream_) return rest_.empty() ? Result<void>{} : damaged("longer than its sizes say");
    std::array<std::byte, 1> extra{};
    while (!ended_) {
      SELVAGE_TRY(const auto count, inflate_some(extra));
      if (count > 0) return damaged("longer than its sizes say");
      if (!ended_ && rest_.empty()) return damaged("cut short");
    }
    return {};
  }

 private:
  explicit Content(std::span<const std::byte> file) : rest_(file) {}

  /// zlib counts in 32 bits.
  static uInt chunk(std::size_t bytes) {
    return static_cast<uInt>(std::min<std::size_t>(bytes, 1u << 30));
  }

  Result<std::size_t> inflate_some(std::span<std::byte> to) {
    if (ended_) return std::size_t{0};
    const auto packed = chunk(rest_.size());
    const auto room = chunk(to.size());
    stream_->next_in = reinterpret_cast<Bytef*>(const_cast<std::byte*>(rest_.data()));
    stream_->avail_in = packed;
    stream_->next_out = reinterpret_cast<Bytef*>(to.data());
    stream_->avail_out = room;
    const int status = ::inflate(stream_.get(), Z_NO_FLUSH);
    ended_ = status == Z_STREAM_END;
    if (status == Z_DATA_ERROR) {
      const std::string why = stream_->msg ? stream_->msg : "";
      return fail(
          why == "incorrect data check" ? ErrorCode::kDataLoss : ErrorCode::kInvalidArgument,
          "IDX: gzip: " + (why.empty() ? "damaged" : why));
    }
    if (status != Z_OK && status != Z_STREAM_END && status != Z_BUF_ERROR)
      return damaged("gzip: damaged");
    rest_ = rest_.subspan(packed - stream_->avail_in);
    return std::size_t{room} - stream_->avail_out;
  }

  std::span<const std::byte> rest_;
  std::unique_ptr<z_stream> stream_;  // zlib keeps its address.
  bool ended_ = false;
};

std::optional<ArrayElement> element_of(std::byte code) {
  switch (std::to_integer<int>(code)) {
    case 0x08: return ArrayElement::kUint8;
    case 0x09: return ArrayElement::kInt8;
    case 0x0B: return ArrayElement::kInt16;
    case 0x0C: return ArrayElement::kInt32;
    case 0x0D: return ArrayElement::kFloat32;
    case 0x0E: return ArrayElement::kFloat64;
    default: return std::nullopt;
  }
}

std::uint32_t big_endian(std::span<const std::byte> bytes) {
  std::uint32_t value = 0;
  for (const auto byte : bytes) value = value << 8 | std::to_integer<std::uint32_t>(byte);
  return value;
}

Result<Array> read(std::span<const std::byte> file, const ArrayLimits& limits) {
  SELVAGE_TRY(auto content, Content::open(file));
  std::array<std::byte, kMagicBytes> magic{};
  SELVAGE_RETURN_IF_ERROR(content.read(magic));
  const auto element = element_of(magic[2]);
  const auto rank = std::to_integer<std::size_t>(magic[3]);
  if (magic[0] != std::byte{0} || magic[1] != std::byte{0} || !element)
    return damaged("not an IDX file");
  if (rank == 0 || rank > kArrayRankMax) return damaged("rank " + std::to_string(rank));

  Array array{.element = *element, .shape = {}, .bytes = {}};
  std::uint64_t bytes = element_bytes(*element);
  for (std::size_t d = 0; d < rank; ++d) {
    std::array<std::byte, 4> size{};
    SELVAGE_RETURN_IF_ERROR(content.read(size));
    array.shape.push_back(big_endian(size));
    const auto dimension = static_cast<std::uint64_t>(array.shape.back());
    if (dimension > 0 && bytes > std::numeric_limits<std::uint64_t>::max() / dimension)
      return damaged("its sizes overflow");
    bytes *= dimension;
  }
  if (bytes > limits.bytes_max)
    return fail(ErrorCode::kOutOfRange, "IDX: " + std::to_string(bytes) +
                                            " bytes are above the limit of " +
                                            std::to_string(limits.bytes_max));
  if (bytes > content.bytes_max()) return damaged("cut short");
  array.bytes.resize(bytes);
  SELVAGE_RETURN_IF_ERROR(content.read(array.bytes));
  SELVAGE_RETURN_IF_ERROR(content.expect_end());
  const auto width = element_bytes(*element);
  if (width > 1)
    for (std::size_t at = 0; at < array.bytes.size(); at += width)
      std::ranges::reverse(std::span(array.bytes).subspan(at, width));
  return array;
}

}  // namespace

Result<Array> read_idx(std::span<const std::byte> file, const ArrayLimits& limits) {
  return catch_to_result(ErrorCode::kInternal, [&] { return read(file, limits); });
}

}  // namespace selvage::media
