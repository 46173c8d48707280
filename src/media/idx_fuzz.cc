#include <cstdint>
#include <cstdlib>
#include <span>

#include "media/idx.h"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  using namespace selvage::media;
  const auto array = read_idx(std::as_bytes(std::span(data, size)), {.bytes_max = 1u << 20});
  if (!array) return 0;
  // What was read is exactly as large as it says.
  std::uint64_t bytes = element_bytes(array->element);
  for (const auto side : array->shape) bytes *= static_cast<std::uint64_t>(side);
  if (bytes != array->bytes.size()) std::abort();
  return 0;
}
