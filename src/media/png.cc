// libpng reports errors by longjmp. Every function here that calls setjmp holds only trivial
// locals and no value that changes after it, so that nothing is skipped or clobbered.
#include <csetjmp>
#include <cstring>

#include <png.h>

#include "media/picture_codecs.h"
#include "media/pixel_rows.h"

namespace selvage::media {
namespace {

// Fast: pictures for people are written while somebody waits.
constexpr int kCompressionLevel = 3;

struct Message {
  char text[128] = "";
};

[[noreturn]] void on_error(png_structp png, png_const_charp text) {
  auto* message = static_cast<Message*>(png_get_error_ptr(png));
  std::strncpy(message->text, text, sizeof message->text - 1);
  png_longjmp(png, 1);
}

void on_warning(png_structp, png_const_charp) {}

std::unexpected<Error> png_failed(const Message& message) {
  return fail(ErrorCode::kInvalidArgument, std::string("PNG: ") + message.text);
}

void read_from_memory(png_structp png, png_bytep to, std::size_t count) {
  auto* rest = static_cast<std::span<const std::byte>*>(png_get_io_ptr(png));
  if (rest->size() < count) png_error(png, "the file is cut short");
  std::memcpy(to, rest->data(), count);
  *rest = rest->subspan(count);
}

class Decoder {
 public:
  explicit Decoder(std::span<const std::byte> file) : rest_(file) {
    png_ = png_create_read_struct(PNG_LIBPNG_VER_STRING, &message_, on_error, on_warning);
    if (png_ != nullptr) info_ = png_create_info_struct(png_);
  }
  Decoder(const Decoder&) = delete;
  Decoder& operator=(const Decoder&) = delete;
  ~Decoder() { png_destroy_read_struct(&png_, &info_, nullptr); }

  [[nodiscard]] bool ready() const { return info_ != nullptr; }
  [[nodiscard]] std::uint32_t width() const { return png_get_image_width(png_, info_); }
  [[nodiscard]] std::uint32_t height() const { return png_get_image_height(png_, info_); }
  [[nodiscard]] const Message& message() const { return message_; }

  [[nodiscard]] bool read_header() {
    if (setjmp(png_jmpbuf(png_))) return false;
    png_set_read_fn(png_, &rest_, read_from_memory);
    png_read_info(png_, info_);
    return true;
  }

  [[nodiscard]] bool read_pixels(std::uint8_t* pixels) {
    if (setjmp(png_jmpbuf(png_))) return false;
    png_set_palette_to_rgb(png_);
    png_set_expand_gray_1_2_4_to_8(png_);
    png_set_scale_16(png_);
    png_set_strip_alpha(png_);
    png_set_gray_to_rgb(png_);
    const int passes = png_set_interlace_handling(png_);
    png_read_update_info(png_, info_);
    const std::size_t stride = png_get_rowbytes(png_, info_);
    if (stride != std::size_t{width()} * 3) png_error(png_, "unexpected row size");
    for (int pass = 0; pass < passes; ++pass)
      for (std::uint32_t y = 0; y < height(); ++y) png_read_row(png_, pixels + y * stride, nullptr);
    png_read_end(png_, nullptr);
    return true;
  }

 private:
  std::span<const std::byte> rest_;
  Message message_;
  png_structp png_ = nullptr;
  png_infop info_ = nullptr;
};

void write_to_memory(png_structp png, png_bytep from, std::size_t count) {
  auto* bytes = static_cast<std::vector<std::byte>*>(png_get_io_ptr(png));
  const auto* begin = reinterpret_cast<const std::byte*>(from);
  bytes->insert(bytes->end(), begin, begin + count);
}

void flush_memory(png_structp) {}

class Encoder {
 public:
  Encoder() {
    png_ = png_create_write_struct(PNG_LIBPNG_VER_STRING, &message_, on_error, on_warning);
    if (png_ != nullptr) info_ = png_create_info_struct(png_);
  }
  Encoder(const Encoder&) = delete;
  Encoder& operator=(const Encoder&) = delete;
  ~Encoder() { png_destroy_write_struct(&png_, &info_); }

  [[nodiscard]] bool ready() const { return info_ != nullptr; }
  [[nodiscard]] const Message& message() const { return message_; }

  [[nodiscard]] bool write(const PictureView& rgb, std::vector<std::byte>& bytes) {
    if (setjmp(png_jmpbuf(png_))) return false;
    png_set_write_fn(png_, &bytes, write_to_memory, flush_memory);
    png_set_compression_level(png_, kCompressionLevel);
    png_set_IHDR(png_, info_, static_cast<std::uint32_t>(rgb.width),
                 static_cast<std::uint32_t>(rgb.height), 8, PNG_COLOR_TYPE_RGB, PNG_INTERLACE_NONE,
                 PNG_COMPRESSION_TYPE_DEFAULT, PNG_FILTER_TYPE_DEFAULT);
    png_write_info(png_, info_);
    for (int y = 0; y < rgb.height; ++y)
      png_write_row(png_, rgb.planes[0].data + y * rgb.planes[0].stride_bytes);
    png_write_end(png_, info_);
    return true;
  }

 private:
  Message message_;
  png_structp png_ = nullptr;
  png_infop info_ = nullptr;
};

}  // namespace

Result<Picture> decode_png(std::span<const std::byte> file, const DecodeLimits& limits) {
  Decoder decoder(file);
  if (!decoder.ready()) return fail(ErrorCode::kResourceExhausted, "PNG: out of memory");
  if (!decoder.read_header()) return png_failed(decoder.message());
  SELVAGE_RETURN_IF_ERROR(check_pixels(decoder.width(), decoder.height(), limits));
  Picture picture(static_cast<int>(decoder.width()), static_cast<int>(decoder.height()));
  if (!decoder.read_pixels(picture.row(0))) return png_failed(decoder.message());
  return picture;
}

Result<std::vector<std::byte>> encode_png(const PictureView& picture) {
  SELVAGE_RETURN_IF_ERROR(check_view(picture));
  Picture copy;
  SELVAGE_TRY(const auto rgb, rgb_view(picture, copy));
  Encoder encoder;
  if (!encoder.ready()) return fail(ErrorCode::kResourceExhausted, "PNG: out of memory");
  std::vector<std::byte> bytes;
  if (!encoder.write(rgb, bytes)) return png_failed(encoder.message());
  return bytes;
}

}  // namespace selvage::media
