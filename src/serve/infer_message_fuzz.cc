// Any bytes as a ModelInferRequest in slices of any size, beside protobuf's own reading.
#include <cstdlib>

#include "serve/infer_message_testing.h"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  static selvage::serve::BodyBudget budget(64u << 20);
  if (size < 1) return 0;
  const std::size_t slice = data[0] % 64 + 1;
  const std::string_view bytes(reinterpret_cast<const char*>(data) + 1, size - 1);
  if (!selvage::serve::testing::reads_as_protobuf_does(bytes, slice, budget)) std::abort();
  if (budget.used() != 0) std::abort();
  return 0;
}
