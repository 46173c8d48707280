// What lies in a model repository's folders. Everything here takes the folders as they are at the
// moment: others may change them at any time. Internal to the serving core.
#pragma once

#include <cstdint>
#include <filesystem>
#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"
#include "infer/model_config.h"
#include "infer/repository.h"

namespace selvage::infer {

inline constexpr std::size_t kModelFilesMax = 10'000;  ///< In one model's folder.
inline constexpr int kModelFoldersDeepMax = 6;
inline constexpr std::string_view kChainFile = "ensemble.yaml";  ///< See ensemble.h.

/// Names, sizes, times and inode numbers of all files of a model; it changes when any file does.
using Fingerprint = std::string;

struct ModelFolder {
  std::filesystem::path path;
  /// By version: the model file, or kChainFile where a folder holds that instead.
  std::map<std::int64_t, std::filesystem::path> versions;
};

/// Folders with valid model names in `root`. kNotFound, kPermissionDenied, kIo when it cannot be
/// read: that says nothing about the models.
[[nodiscard]] Result<std::vector<std::string>> list_models(const std::filesystem::path& root);

/// The folder of a model in the first of `roots` that has one. kNotFound; kPermissionDenied for one
/// that leads out of its root by a symbolic link. `name` must be valid.
[[nodiscard]] Result<std::filesystem::path> find_model(
    const std::vector<std::filesystem::path>& roots, const std::string& name);

/// kPermissionDenied when `path` leads out of `root`, by dots or by symbolic links.
[[nodiscard]] Result<void> check_inside(const std::filesystem::path& root,
                                        const std::filesystem::path& path);

/// Of everything in the folder.
[[nodiscard]] Result<Fingerprint> fingerprint(const std::filesystem::path& folder);

/// The configuration: `json`, if not empty, else config.pbtxt, else nothing said. Errors name the
/// file.
[[nodiscard]] Result<ModelConfig> read_config(const std::filesystem::path& folder,
                                              const std::string& name, std::string_view json);

/// The versions there are. kPermissionDenied for a link that leads out of the model's root.
[[nodiscard]] Result<ModelFolder> read_folder(const std::filesystem::path& root,
                                              const std::filesystem::path& folder,
                                              const ModelConfig& config);

/// The versions that the policy chooses; kNotFound when a specific one is missing or there is none.
[[nodiscard]] Result<std::vector<std::int64_t>> choose_versions(
    const VersionPolicy& policy, const std::map<std::int64_t, std::filesystem::path>& versions);

/// "3" from 1 up, without sign or leading zeros.
[[nodiscard]] std::optional<std::int64_t> parse_version(std::string_view text);

/// A folder of our own with a model's files in it, gone when destroyed.
class ScratchModel {
 public:
  /// kInvalidArgument for paths that are not VERSION/NAME.
  [[nodiscard]] static Result<ScratchModel> create(const std::string& name,
                                                   const std::vector<ModelFile>& files);
  ScratchModel(ScratchModel&& other) noexcept;
  ScratchModel& operator=(ScratchModel&&) = delete;
  ~ScratchModel();
  [[nodiscard]] const std::filesystem::path& root() const { return root_; }

 private:
  explicit ScratchModel(std::filesystem::path root) : root_(std::move(root)) {}
  std::filesystem::path root_;  // Empty after a move.
};

}  // namespace selvage::infer
