// Any text as a tensor's `data`: what is read is written and read again to the same elements.
#include <cstdlib>
#include <cstring>
#include <string>

#include "serve/tensor_json.h"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  using namespace selvage;
  if (size < 4) return 0;
  const auto type = static_cast<DataType>(data[0] % 17);
  const Shape shapes[] = {{}, {data[1]}, {data[1], data[2]}, {data[1], data[2], 2}};
  const Shape& shape = shapes[data[3] % 4];
  const std::string_view text(reinterpret_cast<const char*>(data) + 4, size - 4);
  serve::JsonReader reader(text);
  const auto tensor = serve::read_tensor(reader, type, shape, text.size());
  serve::JsonReader skipper(text);
  const bool skipped = skipper.skip().has_value();
  if (!tensor) return 0;
  if (!skipped) std::abort();  // What is a tensor is JSON.
  std::string written;
  if (!serve::append_tensor(written, tensor->view())) std::abort();
  serve::JsonReader second(written);
  const auto again = serve::read_tensor(second, type, shape, written.size() + 2);
  if (!again) std::abort();
  const auto same = [](auto a, auto b) {
    return std::equal(a.begin(), a.end(), b.begin(), b.end());
  };
  if (!same(tensor->strings(), again->strings())) std::abort();
  // NaN has many forms and one token, so floats are compared by their text.
  std::string rewritten;
  if (!serve::append_tensor(rewritten, again->view()) || rewritten != written) std::abort();
  return 0;
}
