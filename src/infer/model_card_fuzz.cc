// Model cards and ensembles come with models from anywhere.
#include <cstddef>
#include <cstdint>
#include <string_view>

#include "infer/ensemble.h"
#include "infer/model_card.h"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const std::string_view yaml(reinterpret_cast<const char*>(data), size);
  // No label file may be found, wherever the fuzzer runs.
  (void)selvage::infer::parse_model_card(yaml, "/nonexistent");
  (void)selvage::infer::parse_ensemble_card(yaml);
  return 0;
}
