// Where pictures of results go, as a person names it after --draw.
#pragma once

#include <filesystem>
#include <set>
#include <span>
#include <string>
#include <vector>

#include "base/result.h"
#include "media/picture.h"

namespace selvage::cli {

/// A file for one picture or a folder for any number. Confined to one thread.
class DrawTarget {
 public:
  /// A name that ends in .png, .jpg or .jpeg is a file. A folder that exists, a name without an
  /// ending and one with a slash behind it are folders. kInvalidArgument for another ending: it
  /// promises a format that is not written. `inputs` are never overwritten.
  [[nodiscard]] static Result<DrawTarget> create(const std::filesystem::path& path,
                                                 std::span<const std::string> inputs);

  /// kInvalidArgument for a file: more than one picture is to come.
  [[nodiscard]] Result<void> expect_several() const;

  /// Writes the picture of `input`: to the file, or in the folder, which is made when needed, to
  /// the input's name with .png, numbered where that was written before. Returns the path.
  [[nodiscard]] Result<std::filesystem::path> save(const media::Picture& picture,
                                                   const std::filesystem::path& input);

 private:
  DrawTarget(std::filesystem::path path, bool is_folder, std::span<const std::string> inputs)
      : path_(std::move(path)), is_folder_(is_folder), inputs_(inputs.begin(), inputs.end()) {}
  [[nodiscard]] bool is_input(const std::filesystem::path& target) const;
  [[nodiscard]] Result<std::filesystem::path> path_in_folder(const std::filesystem::path& input);

  std::filesystem::path path_;
  bool is_folder_;
  std::vector<std::filesystem::path> inputs_;
  std::set<std::string> used_;
};

}  // namespace selvage::cli
