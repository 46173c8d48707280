#include "infer/labels.h"

#include <algorithm>

#include "base/file.h"
#include "base/utf8.h"
#include "infer/model_card.h"

namespace selvage::infer {

Result<std::vector<std::string>> read_labels(const std::filesystem::path& folder,
                                             const std::filesystem::path& file) {
  if (file.is_absolute() || std::ranges::find(file, "..") != file.end())
    return fail(ErrorCode::kInvalidArgument,
                "label file '" + file.string() + "' must lie in the model's folder");
  std::error_code error;
  const auto inside = std::filesystem::canonical(folder.empty() ? "." : folder, error);
  const auto target = std::filesystem::weakly_canonical(folder / file, error);
  if (!error && std::mismatch(inside.begin(), inside.end(), target.begin(), target.end()).first !=
                    inside.end())
    return fail(ErrorCode::kInvalidArgument,
                "label file '" + file.string() + "' is a link out of the model's folder");
  SELVAGE_TRY(const std::string text, read_text(folder / file, kLabelsBytesMax));
  if (!is_utf8(text))
    return fail(ErrorCode::kInvalidArgument, "label file '" + file.string() + "' is not UTF-8");
  std::vector<std::string> labels;
  for (std::size_t begin = 0; begin < text.size();) {
    if (labels.size() == kLabelsMax)
      return fail(ErrorCode::kOutOfRange, "label file '" + file.string() + "' has more than " +
                                              std::to_string(kLabelsMax) + " lines");
    const auto end = std::min(text.find('\n', begin), text.size());
    std::string_view line = std::string_view(text).substr(begin, end - begin);
    if (line.ends_with('\r')) line.remove_suffix(1);
    labels.emplace_back(line);
    begin = end + 1;
  }
  return labels;
}

}  // namespace selvage::infer
