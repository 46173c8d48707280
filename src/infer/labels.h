// Names of classes, one a line, as label files have them.
#pragma once

#include <cstdint>
#include <filesystem>
#include <string>
#include <vector>

#include "base/result.h"

namespace selvage::infer {

/// `file` lies in `folder`, whatever a card says: kInvalidArgument for an absolute path or "..",
/// and for text that is not UTF-8; kNotFound; kOutOfRange above kLabelsBytesMax or kLabelsMax.
/// Lines may end in CRLF; empty lines count, but for the last.
[[nodiscard]] Result<std::vector<std::string>> read_labels(const std::filesystem::path& folder,
                                                           const std::filesystem::path& file);

/// labels[index], or "" outside.
[[nodiscard]] inline std::string label_of(const std::vector<std::string>& labels,
                                          std::int64_t index) {
  return index >= 0 && index < static_cast<std::int64_t>(labels.size())
             ? labels[static_cast<std::size_t>(index)]
             : std::string();
}

}  // namespace selvage::infer
