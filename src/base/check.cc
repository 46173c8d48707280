#include "base/check.h"

#include <cstdio>
#include <cstdlib>

namespace selvage {

void check_failed(std::string_view condition, std::source_location where) {
  std::fprintf(stderr, "selvage: broken invariant: %.*s (%s:%u, %s). Please report this.\n",
               static_cast<int>(condition.size()), condition.data(), where.file_name(),
               static_cast<unsigned>(where.line()), where.function_name());
  std::abort();
}

}  // namespace selvage
