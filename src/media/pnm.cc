// Binary PGM and PPM, as netpbm's pgm(5) and ppm(5) describe them.
#include <charconv>

#include "media/picture_codecs.h"

namespace selvage::media {
namespace {

std::unexpected<Error> damaged(std::string_view what) {
  return fail(ErrorCode::kInvalidArgument, "PNM: " + std::string(what));
}

bool is_blank(char c) {
  return c == ' ' || (c >= '\t' && c <= '\r');
}

/// Takes the next number off the front of `text`, after blanks and comments.
Result<std::uint32_t> take_number(std::string_view& text) {
  while (!text.empty() && (is_blank(text.front()) || text.front() == '#')) {
    if (text.front() == '#')
      text.remove_prefix(std::min(text.find('\n'), text.size()));
    else
      text.remove_prefix(1);
  }
  std::uint32_t number = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), number);
  if (error != std::errc()) return damaged("the header is cut short or damaged");
  text.remove_prefix(static_cast<std::size_t>(end - text.data()));
  return number;
}

}  // namespace

Result<Picture> decode_pnm(std::span<const std::byte> file, const DecodeLimits& limits) {
  std::string_view text(reinterpret_cast<const char*>(file.data()), file.size());
  const std::size_t channels = text[1] == '6' ? 3 : 1;
  text.remove_prefix(2);
  SELVAGE_TRY(const auto width, take_number(text));
  SELVAGE_TRY(const auto height, take_number(text));
  SELVAGE_TRY(const auto max, take_number(text));
  if (max == 0 || max > 65'535) return damaged("the largest value must be 1 to 65535");
  if (text.empty() || !is_blank(text.front())) return damaged("no blank after the header");
  text.remove_prefix(1);
  SELVAGE_RETURN_IF_ERROR(check_pixels(width, height, limits));
  const std::size_t sample_bytes = max > 255 ? 2 : 1;
  const std::size_t samples = std::size_t{width} * height * channels;
  if (text.size() / sample_bytes < samples)
    return damaged(std::to_string(samples * sample_bytes - text.size()) + " bytes are missing");

  Picture picture(static_cast<int>(width), static_cast<int>(height));
  std::uint8_t* out = picture.row(0);
  const auto* in = reinterpret_cast<const std::uint8_t*>(text.data());
  for (std::size_t i = 0; i < samples; ++i, in += sample_bytes) {
    const std::uint32_t value = sample_bytes == 2 ? in[0] * 256u + in[1] : in[0];
    const auto scaled = static_cast<std::uint8_t>((std::min(value, max) * 255 + max / 2) / max);
    for (std::size_t copy = 0; copy < (channels == 1 ? 3 : 1); ++copy) *out++ = scaled;
  }
  return picture;
}

}  // namespace selvage::media
