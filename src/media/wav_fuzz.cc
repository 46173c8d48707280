#include <cmath>
#include <cstdint>
#include <cstdlib>
#include <span>

#include "media/sound.h"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  using namespace selvage::media;
  const auto sound = decode_wav(std::as_bytes(std::span(data, size)));
  if (!sound) return 0;
  for (const float sample : sound->samples)
    if (!std::isfinite(sample)) std::abort();
  if (!encode_wav16(*sound)) std::abort();
  return 0;
}
