#include <cstdint>
#include <cstdlib>
#include <span>

#include "media/table.h"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  using namespace selvage::media;
  const auto table = parse_csv(std::as_bytes(std::span(data, size)));
  if (!table) return 0;
  std::size_t bytes = 0;
  for (std::size_t column = 0; column < table->columns(); ++column) {
    for (std::size_t row = 0; row < table->rows(); ++row) bytes += table->cell(row, column).size();
    const auto numbers = table->numbers(column);
    if (numbers && numbers->size() != table->rows()) std::abort();
  }
  if (bytes > size) std::abort();
  return 0;
}
