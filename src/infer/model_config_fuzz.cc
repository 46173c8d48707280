// Any text and any JSON either is refused or gives a configuration that survives its JSON form.
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <string_view>

#include "infer/model_config.h"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  using namespace selvage::infer;  // NOLINT(google-build-using-namespace): the one function here.
  const std::string_view text(reinterpret_cast<const char*>(data), size);
  if (const auto config = parse_model_config(text)) {
    const auto json = to_json(*config);
    const auto again = parse_model_config_json(json);
    if (!again && again.error().message.find("JSON") != std::string::npos) std::abort();
  }
  if (const auto config = parse_model_config_json(text)) static_cast<void>(to_json(*config));
  return 0;
}
