#include <cstdint>
#include <cstdlib>
#include <span>

#include "media/picture.h"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  using namespace selvage::media;
  // Small enough to be quick, large enough for every path.
  constexpr DecodeLimits kLimits{.pixels_max = 1u << 16};
  const auto picture = decode_picture(std::as_bytes(std::span(data, size)), kLimits);
  if (!picture) return 0;
  // Every byte is read, so that what the decoder left unset or out of bounds shows.
  unsigned sum = 0;
  for (std::size_t i = 0; i < picture->bytes(); ++i) sum += picture->row(0)[i];
  if (picture->bytes() == 0 || sum == ~0u) std::abort();
  return 0;
}
