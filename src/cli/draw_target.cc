#include "cli/draw_target.h"

#include <algorithm>

#include "base/file.h"

namespace selvage::cli {
namespace {

enum class Format : std::uint8_t { kNone, kPng, kJpeg };

Format format_of(const std::filesystem::path& path) {
  auto ending = path.extension().string();
  std::ranges::transform(ending, ending.begin(), [](char c) {
    return c >= 'A' && c <= 'Z' ? static_cast<char>(c - 'A' + 'a') : c;
  });
  if (ending == ".png") return Format::kPng;
  return ending == ".jpg" || ending == ".jpeg" ? Format::kJpeg : Format::kNone;
}

std::unexpected<Error> refuse(const std::filesystem::path& path, const std::string& why) {
  return fail(ErrorCode::kInvalidArgument, "--draw " + path.string() + ": " + why);
}

}  // namespace

Result<DrawTarget> DrawTarget::create(const std::filesystem::path& path,
                                      std::span<const std::string> inputs) {
  if (path.empty())
    return fail(ErrorCode::kInvalidArgument,
                "--draw names no file: give a .png, a .jpg or a folder/");
  std::error_code ignored;
  if (path.filename().empty() || std::filesystem::is_directory(path, ignored))
    return DrawTarget(path, true, inputs);
  if (format_of(path) != Format::kNone) return DrawTarget(path, false, inputs);
  if (std::filesystem::exists(path, ignored))
    return refuse(path, "is neither a folder nor a .png or .jpg file");
  if (path.has_extension())
    return refuse(path, "pictures are written as .png or .jpg; a folder is named with a slash, " +
                            path.string() + "/");
  return DrawTarget(path, true, inputs);
}

bool DrawTarget::is_input(const std::filesystem::path& target) const {
  std::error_code ignored;
  return std::ranges::any_of(inputs_, [&](const auto& input) {
    return std::filesystem::equivalent(input, target, ignored);
  });
}

Result<void> DrawTarget::expect_several() const {
  if (is_folder_) return {};
  return refuse(path_, "one file cannot hold several pictures; name a folder, such as " +
                           path_.stem().string() + "/");
}

Result<std::filesystem::path> DrawTarget::save(const media::Picture& picture,
                                               const std::filesystem::path& input) {
  auto target = path_;
  if (is_folder_) {
    SELVAGE_TRY(target, path_in_folder(input));
  } else if (is_input(target)) {
    return refuse(target, "is an input, which would be overwritten; name another file");
  }
  const auto encoded = format_of(target) == Format::kJpeg ? media::encode_jpeg(picture.view())
                                                          : media::encode_png(picture.view());
  if (!encoded) return std::unexpected(encoded.error());
  SELVAGE_RETURN_IF_ERROR(write_atomically(target, *encoded));
  return target;
}

Result<std::filesystem::path> DrawTarget::path_in_folder(const std::filesystem::path& input) {
  std::error_code error;
  std::filesystem::create_directories(path_, error);
  if (error) return refuse(path_, "cannot make the folder: " + error.message());
  const auto stem = input.stem().string();
  for (int i = 1;; ++i) {
    auto name = stem + (i == 1 ? "" : "-" + std::to_string(i)) + ".png";
    if (used_.insert(name).second && !is_input(path_ / name)) return path_ / name;
  }
}

}  // namespace selvage::cli
