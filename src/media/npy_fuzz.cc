#include <cstdint>
#include <cstdlib>
#include <span>

#include "media/array.h"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  using namespace selvage::media;
  const auto file = std::as_bytes(std::span(data, size));
  constexpr ArrayLimits kLimits{.bytes_max = 1u << 20};
  if (const auto array = read_npy(file, kLimits)) {
    // What is read can be written, and read again as the same.
    const auto written = write_npy(*array);
    if (!written || read_npy(*written).value() != *array) std::abort();
  }
  static_cast<void>(read_npz(file, kLimits));
  return 0;
}
