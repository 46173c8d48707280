// The part of the zip format that NumPy writes: PKWARE APPNOTE 6.3.9, with zip64 (numpy forces it
// in local headers), without encryption, spanning or other methods.
#include <cstring>

#include <zlib.h>

#include "base/exception.h"
#include "media/array.h"
#include "media/byte_reader.h"

namespace selvage::media {
namespace {

constexpr std::size_t kEndBytes = 22;
constexpr std::size_t kCommentMax = 65'535;
constexpr std::uint32_t kEndSignature = 0x0605'4b50;
constexpr std::uint32_t kEntrySignature = 0x0201'4b50;
constexpr std::uint32_t kLocalSignature = 0x0403'4b50;
constexpr std::uint16_t kStored = 0;
constexpr std::uint16_t kDeflated = 8;
constexpr std::uint16_t kZip64Extra = 1;
constexpr std::uint32_t kSeeExtra = 0xFFFF'FFFF;

struct Entry {
  std::string_view name;
  std::uint16_t flags = 0;
  std::uint16_t method = 0;
  std::uint32_t checksum = 0;
  std::uint64_t packed_bytes = 0;
  std::uint64_t bytes = 0;
  std::uint64_t header_offset = 0;
};

std::unexpected<Error> damaged(const std::string& what) {
  return fail(ErrorCode::kInvalidArgument, "NPZ: " + what);
}

/// The directory's entries, found from the end of the file.
Result<std::span<const std::byte>> find_directory(std::span<const std::byte> file,
                                                  std::uint16_t& entries) {
  if (file.size() < kEndBytes) return damaged("not a zip file");
  const std::size_t first = file.size() - std::min(file.size(), kEndBytes + kCommentMax);
  for (std::size_t at = file.size() - kEndBytes + 1; at-- > first;) {
    ByteReader in(file.subspan(at));
    if (in.number<std::uint32_t>() != kEndSignature) continue;
    static_cast<void>(in.skip(6));  // Disks.
    entries = *in.number<std::uint16_t>();
    const std::uint64_t bytes = *in.number<std::uint32_t>();
    const std::uint64_t offset = *in.number<std::uint32_t>();
    if (entries == 0xFFFF)
      return fail(ErrorCode::kUnimplemented, "NPZ: more than 65534 arrays are not read");
    if (offset > at || bytes > at - offset) return damaged("the directory lies outside the file");
    return file.subspan(offset, bytes);
  }
  return damaged("not a zip file, or cut short");
}

/// Sizes that do not fit 32 bits stand in an extra field, in this order (4.5.3).
bool read_zip64(std::span<const std::byte> extra, Entry& entry) {
  ByteReader fields(extra);
  while (fields.remaining() >= 4) {
    const auto id = *fields.number<std::uint16_t>();
    const auto field = fields.take(*fields.number<std::uint16_t>());
    if (!field) return false;
    if (id != kZip64Extra) continue;
    ByteReader in(*field);
    for (auto* size : {&entry.bytes, &entry.packed_bytes, &entry.header_offset})
      if (*size == kSeeExtra) {
        const auto value = in.number<std::uint64_t>();
        if (!value) return false;
        *size = *value;
      }
  }
  return true;
}

Result<Entry> take_entry(ByteReader& in) {
  const auto fixed = in.take(46);
  if (!fixed) return damaged("the directory is cut short");
  ByteReader at(*fixed);
  if (at.number<std::uint32_t>() != kEntrySignature) return damaged("the directory is damaged");
  Entry entry;
  static_cast<void>(at.skip(4));  // Versions.
  entry.flags = *at.number<std::uint16_t>();
  entry.method = *at.number<std::uint16_t>();
  static_cast<void>(at.skip(4));  // Time.
  entry.checksum = *at.number<std::uint32_t>();
  entry.packed_bytes = *at.number<std::uint32_t>();
  entry.bytes = *at.number<std::uint32_t>();
  const auto name_bytes = *at.number<std::uint16_t>();
  const auto extra_bytes = *at.number<std::uint16_t>();
  const auto comment_bytes = *at.number<std::uint16_t>();
  static_cast<void>(at.skip(8));  // Disk and attributes.
  entry.header_offset = *at.number<std::uint32_t>();
  const auto name = in.take(name_bytes);
  const auto extra = in.take(extra_bytes);
  if (!name || !extra || !in.skip(comment_bytes) || !read_zip64(*extra, entry))
    return damaged("the directory is cut short");
  entry.name = as_text(*name);
  return entry;
}

Result<std::vector<std::byte>> inflate(std::span<const std::byte> packed, const Entry& entry) {
  // No deflated byte stands for more than 1032; so a lie about the size costs no memory.
  if (entry.bytes / 1'032 > packed.size())
    return damaged("'" + std::string(entry.name) + "' claims more bytes than it can hold");
  std::vector<std::byte> bytes(entry.bytes);
  z_stream stream{};
  if (inflateInit2(&stream, -MAX_WBITS) != Z_OK)
    return fail(ErrorCode::kResourceExhausted, "NPZ: out of memory");
  // The limits keep both below 4 GB, which is what zlib counts in.
  stream.next_in = reinterpret_cast<Bytef*>(const_cast<std::byte*>(packed.data()));
  stream.avail_in = static_cast<uInt>(packed.size());
  stream.next_out = reinterpret_cast<Bytef*>(bytes.data());
  stream.avail_out = static_cast<uInt>(bytes.size());
  const int status = ::inflate(&stream, Z_FINISH);
  const bool whole = status == Z_STREAM_END && stream.avail_out == 0;
  inflateEnd(&stream);
  if (!whole) return damaged("'" + std::string(entry.name) + "' does not unpack to its size");
  return bytes;
}

Result<std::span<const std::byte>> packed_bytes(std::span<const std::byte> file,
                                                const Entry& entry) {
  if (entry.header_offset > file.size()) return damaged("an array lies outside the file");
  ByteReader in(file.subspan(entry.header_offset));
  const auto signature = in.number<std::uint32_t>();
  // The local header repeats the directory; only its two lengths matter.
  if (signature != kLocalSignature || !in.skip(22))
    return damaged("an array lies outside the file");
  const auto name_bytes = in.number<std::uint16_t>();
  const auto extra_bytes = in.number<std::uint16_t>();
  if (!name_bytes || !extra_bytes || !in.skip(std::size_t{*name_bytes} + *extra_bytes))
    return damaged("an array lies outside the file");
  const auto packed = in.take(entry.packed_bytes);
  if (!packed) return damaged("'" + std::string(entry.name) + "' is cut short");
  return *packed;
}

Result<Array> read_entry(std::span<const std::byte> file, const Entry& entry,
                         const ArrayLimits& limits) {
  if (entry.flags & 1) return fail(ErrorCode::kUnimplemented, "NPZ: the archive is encrypted");
  SELVAGE_TRY(const auto packed, packed_bytes(file, entry));
  std::vector<std::byte> unpacked;
  std::span<const std::byte> content = packed;
  if (entry.method == kDeflated) {
    SELVAGE_TRY(unpacked, inflate(packed, entry));
    content = unpacked;
  } else if (entry.method != kStored) {
    return fail(ErrorCode::kUnimplemented,
                "NPZ: compression method " + std::to_string(entry.method));
  }
  if (content.size() != entry.bytes)
    return damaged("'" + std::string(entry.name) + "' does not have its size");
  const auto checksum = crc32_z(0, reinterpret_cast<const Bytef*>(content.data()), content.size());
  if (checksum != entry.checksum)
    return fail(ErrorCode::kDataLoss,
                "NPZ: the checksum of '" + std::string(entry.name) + "' is wrong");
  return read_npy(content, limits);
}

Result<std::vector<NamedArray>> read_archive(std::span<const std::byte> file,
                                             const ArrayLimits& limits) {
  std::uint16_t count = 0;
  SELVAGE_TRY(const auto directory, find_directory(file, count));
  if (count > limits.arrays_max)
    return fail(ErrorCode::kOutOfRange, "NPZ: " + std::to_string(count) +
                                            " arrays are above the limit of " +
                                            std::to_string(limits.arrays_max));
  ByteReader in(directory);
  std::vector<NamedArray> arrays;
  ArrayLimits rest = limits;
  for (std::uint16_t i = 0; i < count; ++i) {
    SELVAGE_TRY(const auto entry, take_entry(in));
    if (!entry.name.ends_with(".npy"))
      return damaged("'" + std::string(entry.name) + "' is not an array");
    // A header of an array is at most this much more than its data.
    constexpr std::uint64_t kHeaderMax = 65'536 + 12;
    if (entry.bytes > rest.bytes_max + kHeaderMax || entry.bytes > 0xFFFF'FFFE ||
        entry.packed_bytes > 0xFFFF'FFFE)
      return fail(ErrorCode::kOutOfRange, "NPZ: '" + std::string(entry.name) +
                                              "' takes the arrays above the limit of " +
                                              std::to_string(limits.bytes_max) + " bytes");
    auto array = read_entry(file, entry, rest);
    if (!array) return std::unexpected(std::move(array).error().with_context(entry.name));
    rest.bytes_max -= std::min(rest.bytes_max, entry.bytes);
    arrays.push_back({std::string(entry.name.substr(0, entry.name.size() - 4)), *std::move(array)});
  }
  return arrays;
}

}  // namespace

Result<std::vector<NamedArray>> read_npz(std::span<const std::byte> file,
                                         const ArrayLimits& limits) {
  return catch_to_result(ErrorCode::kInternal, [&] { return read_archive(file, limits); });
}

}  // namespace selvage::media
