// libjpeg reports errors by longjmp. Every function here that calls setjmp holds only trivial
// locals and no value that changes after it, so that nothing is skipped or clobbered.
#include <csetjmp>
#include <cstdio>
#include <cstdlib>
#include <cstring>

// jpeglib.h uses FILE and size_t without including what declares them.
#include <jpeglib.h>
// After jpeglib.h.
#include <jerror.h>

#include "media/picture_codecs.h"
#include "media/pixel_rows.h"

namespace selvage::media {
namespace {

// A progressive file can make each scan redo the whole picture for a few bytes: bound them, as
// libjpeg-turbo's own fuzzers do.
constexpr int kScansMax = 500;

struct ErrorHandler {
  jpeg_error_mgr base{};
  std::jmp_buf jump{};
  char message[JMSG_LENGTH_MAX]{};
};

[[noreturn]] void give_up(j_common_ptr jpeg) {
  // The base is the first member.
  auto* handler = reinterpret_cast<ErrorHandler*>(jpeg->err);
  handler->base.format_message(jpeg, handler->message);
  std::longjmp(handler->jump, 1);
}

// libjpeg warns of lost data and goes on with grey; only warnings that lose no pixels may pass.
void on_message(j_common_ptr jpeg, int level) {
  if (level >= 0) return;
  switch (jpeg->err->msg_code) {
    case JWRN_EXTRANEOUS_DATA:
    case JWRN_ADOBE_XFORM:
    case JWRN_JFIF_MAJOR:
    case JWRN_BOGUS_ICC: return;
    default: give_up(jpeg);
  }
}

void on_progress(j_common_ptr jpeg) {
  if (reinterpret_cast<j_decompress_ptr>(jpeg)->input_scan_number <= kScansMax) return;
  auto* handler = reinterpret_cast<ErrorHandler*>(jpeg->err);
  std::snprintf(handler->message, sizeof handler->message, "more than %d scans", kScansMax);
  std::longjmp(handler->jump, 1);
}

void install(ErrorHandler& handler) {
  jpeg_std_error(&handler.base);
  handler.base.error_exit = give_up;
  handler.base.emit_message = on_message;
}

std::unexpected<Error> jpeg_failed(const ErrorHandler& handler) {
  return fail(ErrorCode::kInvalidArgument, std::string("JPEG: ") + handler.message);
}

class Decoder {
 public:
  Decoder() {
    install(errors_);
    jpeg_.err = &errors_.base;
    progress_.progress_monitor = on_progress;
  }
  Decoder(const Decoder&) = delete;
  Decoder& operator=(const Decoder&) = delete;
  ~Decoder() { jpeg_destroy_decompress(&jpeg_); }

  [[nodiscard]] bool read_header(std::span<const std::byte> file) {
    if (setjmp(errors_.jump)) return false;
    jpeg_create_decompress(&jpeg_);
    jpeg_.progress = &progress_;
    jpeg_mem_src(&jpeg_, reinterpret_cast<const unsigned char*>(file.data()), file.size());
    jpeg_save_markers(&jpeg_, JPEG_APP0 + 1, 0xFFFF);
    jpeg_read_header(&jpeg_, TRUE);
    const bool cmyk = jpeg_.jpeg_color_space == JCS_CMYK || jpeg_.jpeg_color_space == JCS_YCCK;
    jpeg_.out_color_space = cmyk ? JCS_CMYK : JCS_RGB;
    return true;
  }

  /// `cmyk_row` holds four bytes a pixel; it is needed for CMYK only.
  [[nodiscard]] bool read_pixels(std::uint8_t* pixels, std::uint8_t* cmyk_row) {
    if (setjmp(errors_.jump)) return false;
    jpeg_start_decompress(&jpeg_);
    const std::size_t stride = std::size_t{jpeg_.output_width} * 3;
    while (jpeg_.output_scanline < jpeg_.output_height) {
      std::uint8_t* rgb = pixels + jpeg_.output_scanline * stride;
      JSAMPROW row = is_cmyk() ? cmyk_row : rgb;
      jpeg_read_scanlines(&jpeg_, &row, 1);
      if (is_cmyk()) convert_cmyk(row, rgb);
    }
    jpeg_finish_decompress(&jpeg_);
    return true;
  }

  [[nodiscard]] std::uint32_t width() const { return jpeg_.image_width; }
  [[nodiscard]] std::uint32_t height() const { return jpeg_.image_height; }
  [[nodiscard]] bool is_cmyk() const { return jpeg_.out_color_space == JCS_CMYK; }
  [[nodiscard]] const ErrorHandler& errors() const { return errors_; }

  /// The first APP1 segment that is EXIF, without its signature; empty if there is none.
  [[nodiscard]] std::span<const std::uint8_t> exif() const {
    for (auto* marker = jpeg_.marker_list; marker != nullptr; marker = marker->next)
      if (marker->data_length > 6 && std::memcmp(marker->data, "Exif\0\0", 6) == 0)
        return std::span(marker->data, marker->data_length).subspan(6);
    return {};
  }

 private:
  // Adobe's files hold inverted ink: 255 is none.
  void convert_cmyk(const std::uint8_t* cmyk, std::uint8_t* rgb) const {
    const std::uint8_t flip = jpeg_.saw_Adobe_marker ? 0 : 255;
    for (JDIMENSION x = 0; x < jpeg_.output_width; ++x, cmyk += 4)
      for (int c = 0; c < 3; ++c)
        *rgb++ = static_cast<std::uint8_t>(((cmyk[c] ^ flip) * (cmyk[3] ^ flip) + 127) / 255);
  }

  jpeg_decompress_struct jpeg_{};
  jpeg_progress_mgr progress_{};
  ErrorHandler errors_;
};

/// The orientation (1 to 8) of a TIFF header's first directory; 1 when there is none or it is
/// damaged. EXIF 2.32, 4.6.2 and 4.6.4.
int orientation_of(std::span<const std::uint8_t> tiff) {
  if (tiff.size() < 8) return 1;
  const bool little = tiff[0] == 'I';
  const auto number = [&](std::size_t offset, std::size_t bytes) -> std::size_t {
    if (offset > tiff.size() || tiff.size() - offset < bytes) return 0;
    std::size_t value = 0;
    for (std::size_t i = 0; i < bytes; ++i)
      value = value << 8 | tiff[offset + (little ? bytes - 1 - i : i)];
    return value;
  };
  const std::size_t directory = number(4, 4);
  const std::size_t entries = number(directory, 2);
  for (std::size_t i = 0; i < entries; ++i) {
    const std::size_t entry = directory + 2 + 12 * i;
    if (number(entry, 2) != 0x0112) continue;
    const auto value = number(entry + 8, 2);
    return value >= 1 && value <= 8 ? static_cast<int>(value) : 1;
  }
  return 1;
}

/// Turns stored pixels the way they are to be seen: 2 mirrors, 3 turns by 180 degrees, 4 flips,
/// 5 to 8 the same with rows and columns exchanged first.
Picture oriented(Picture stored, int orientation) {
  if (orientation == 1) return stored;
  const bool exchanged = orientation >= 5;
  const bool flip_x = orientation == 2 || orientation == 3 || orientation == 6 || orientation == 7;
  const bool flip_y = orientation == 3 || orientation == 4 || orientation == 7 || orientation == 8;
  Picture seen(exchanged ? stored.height() : stored.width(),
               exchanged ? stored.width() : stored.height());
  for (int y = 0; y < seen.height(); ++y) {
    std::uint8_t* to = seen.row(y);
    const int from_y = flip_y ? seen.height() - 1 - y : y;
    for (int x = 0; x < seen.width(); ++x, to += 3) {
      const int from_x = flip_x ? seen.width() - 1 - x : x;
      const auto* from = exchanged ? stored.row(from_x) + std::ptrdiff_t{3} * from_y
                                   : stored.row(from_y) + std::ptrdiff_t{3} * from_x;
      std::memcpy(to, from, 3);
    }
  }
  return seen;
}

class Encoder {
 public:
  Encoder() {
    install(errors_);
    jpeg_.err = &errors_.base;
  }
  Encoder(const Encoder&) = delete;
  Encoder& operator=(const Encoder&) = delete;
  ~Encoder() {
    jpeg_destroy_compress(&jpeg_);
    std::free(bytes_);
  }

  [[nodiscard]] bool write(const PictureView& rgb, int quality) {
    if (setjmp(errors_.jump)) return false;
    jpeg_create_compress(&jpeg_);
    jpeg_mem_dest(&jpeg_, &bytes_, &size_);
    jpeg_.image_width = static_cast<JDIMENSION>(rgb.width);
    jpeg_.image_height = static_cast<JDIMENSION>(rgb.height);
    jpeg_.input_components = 3;
    jpeg_.in_color_space = JCS_RGB;
    jpeg_set_defaults(&jpeg_);
    jpeg_set_quality(&jpeg_, quality, TRUE);
    jpeg_start_compress(&jpeg_, TRUE);
    while (jpeg_.next_scanline < jpeg_.image_height) {
      // libjpeg's rows are not const, but it does not write to them.
      auto* row = const_cast<std::uint8_t*>(rgb.planes[0].data) +
                  jpeg_.next_scanline * rgb.planes[0].stride_bytes;
      jpeg_write_scanlines(&jpeg_, &row, 1);
    }
    jpeg_finish_compress(&jpeg_);
    return true;
  }

  [[nodiscard]] std::span<const std::byte> bytes() const {
    return std::as_bytes(std::span(bytes_, size_));
  }
  [[nodiscard]] const ErrorHandler& errors() const { return errors_; }

 private:
  jpeg_compress_struct jpeg_{};
  ErrorHandler errors_;
  unsigned char* bytes_ = nullptr;
  unsigned long size_ = 0;
};

}  // namespace

Result<Picture> decode_jpeg(std::span<const std::byte> file, const DecodeLimits& limits) {
  Decoder decoder;
  if (!decoder.read_header(file)) return jpeg_failed(decoder.errors());
  SELVAGE_RETURN_IF_ERROR(check_pixels(decoder.width(), decoder.height(), limits));
  Picture picture(static_cast<int>(decoder.width()), static_cast<int>(decoder.height()));
  std::vector<std::uint8_t> cmyk_row(decoder.is_cmyk() ? std::size_t{decoder.width()} * 4 : 0);
  const int orientation = orientation_of(decoder.exif());
  if (!decoder.read_pixels(picture.row(0), cmyk_row.data())) return jpeg_failed(decoder.errors());
  return oriented(std::move(picture), orientation);
}

Result<std::vector<std::byte>> encode_jpeg(const PictureView& picture, int quality) {
  SELVAGE_RETURN_IF_ERROR(check_view(picture));
  if (quality < 1 || quality > 100)
    return fail(ErrorCode::kInvalidArgument, "JPEG quality must be 1 to 100");
  Picture copy;
  SELVAGE_TRY(const auto rgb, rgb_view(picture, copy));
  Encoder encoder;
  if (!encoder.write(rgb, quality)) return jpeg_failed(encoder.errors());
  return std::vector(encoder.bytes().begin(), encoder.bytes().end());
}

}  // namespace selvage::media
