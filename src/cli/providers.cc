#include "cli/providers.h"

#include <fcntl.h>
#include <unistd.h>

namespace selvage::cli {

std::vector<std::string> quiet_usable_providers(const infer::Runtime& runtime) {
  const int saved = ::fcntl(STDERR_FILENO, F_DUPFD_CLOEXEC, 3);
  const int nowhere = ::open("/dev/null", O_WRONLY | O_CLOEXEC);
  if (saved >= 0 && nowhere >= 0) ::dup2(nowhere, STDERR_FILENO);
  auto usable = runtime.usable_providers();
  if (saved >= 0) ::dup2(saved, STDERR_FILENO);
  for (const int descriptor : {saved, nowhere})
    if (descriptor >= 0) ::close(descriptor);
  return usable;
}

}  // namespace selvage::cli
