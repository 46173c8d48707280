#include "cli/scratch_folder.h"

#include <cstdlib>
#include <string>

namespace selvage::cli {

Result<ScratchFolder> ScratchFolder::create() {
  std::error_code error;
  auto name = (std::filesystem::temp_directory_path(error) / "selvage-XXXXXX").string();
  if (error || !::mkdtemp(name.data()))
    return fail(ErrorCode::kIo, "cannot make a temporary folder: set TMPDIR to a writable one");
  return ScratchFolder(name);
}

ScratchFolder::~ScratchFolder() {
  std::error_code ignored;
  if (!path_.empty()) std::filesystem::remove_all(path_, ignored);
}

}  // namespace selvage::cli
