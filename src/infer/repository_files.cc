#include "infer/repository_files.h"

#include <algorithm>
#include <charconv>
#include <cstdlib>
#include <system_error>

#include <sys/stat.h>

#include "base/file.h"
#include "base/utf8.h"

namespace selvage::infer {
namespace {

namespace fs = std::filesystem;

[[nodiscard]] std::unexpected<Error> io_error(const fs::path& path, const std::error_code& error) {
  auto code = ErrorCode::kIo;
  if (error == std::errc::no_such_file_or_directory || error == std::errc::not_a_directory)
    code = ErrorCode::kNotFound;
  if (error == std::errc::permission_denied) code = ErrorCode::kPermissionDenied;
  return fail(code, "'" + path.string() + "': " + error.message());
}

/// The entries of a folder, at most `max` of them.
Result<std::vector<fs::path>> entries_of(const fs::path& folder, std::size_t max) {
  std::error_code error;
  fs::directory_iterator it(folder, error);
  if (error) return io_error(folder, error);
  std::vector<fs::path> entries;
  for (; it != fs::directory_iterator(); it.increment(error)) {
    if (entries.size() == max)
      return fail(ErrorCode::kOutOfRange,
                  "'" + folder.string() + "' has more than " + std::to_string(max) + " entries");
    entries.push_back(it->path());
    if (error) break;
  }
  if (error) return io_error(folder, error);
  std::ranges::sort(entries);
  return entries;
}

Result<void> add_files(const fs::path& folder, int depth, std::size_t& count, Fingerprint& print) {
  if (depth > kModelFoldersDeepMax)
    return fail(ErrorCode::kOutOfRange, "'" + folder.string() + "' is nested too deep");
  SELVAGE_TRY(const auto entries, entries_of(folder, kModelFilesMax));
  for (const auto& path : entries) {
    if (++count > kModelFilesMax)
      return fail(ErrorCode::kOutOfRange,
                  "more than " + std::to_string(kModelFilesMax) + " files in a model's folder");
    struct ::stat info{};
    if (::stat(path.c_str(), &info) != 0) {
      // A dangling link, or gone since it was listed: absence is part of the picture.
      print += path.string() + " -\n";
      continue;
    }
    print += path.string() + " " + std::to_string(info.st_size) + " " +
             std::to_string(info.st_mtim.tv_sec) + "." + std::to_string(info.st_mtim.tv_nsec) +
             " " + std::to_string(info.st_ino) + "\n";
    if (S_ISDIR(info.st_mode)) SELVAGE_RETURN_IF_ERROR(add_files(path, depth + 1, count, print));
  }
  return {};
}

/// The model's file in a version's folder, if there is one.
Result<std::optional<fs::path>> model_file(const fs::path& root, const fs::path& folder,
                                           const std::string& name) {
  std::error_code error;
  auto file = folder / name;
  // A model with external data may be a folder of that name.
  if (fs::is_directory(file, error)) file /= "model.onnx";
  if (!fs::is_regular_file(file, error)) return std::nullopt;
  SELVAGE_RETURN_IF_ERROR(check_inside(root, file));
  return file;
}

}  // namespace

Result<void> check_inside(const fs::path& root, const fs::path& path) {
  std::error_code error;
  const auto real_root = fs::canonical(root, error);
  if (error) return io_error(root, error);
  const auto real = fs::canonical(path, error);
  if (error) return io_error(path, error);
  const auto [at, unused] = std::ranges::mismatch(real_root, real);
  if (at == real_root.end()) return {};
  return fail(ErrorCode::kPermissionDenied,
              "'" + path.string() + "' leads out of the repository '" + root.string() + "'");
}

Result<void> check_model_name(std::string_view name) {
  const auto bad = [&](std::string_view problem) {
    return fail(ErrorCode::kInvalidArgument, "a model name " + std::string(problem));
  };
  if (name.empty()) return bad("cannot be empty");
  if (name.size() > kModelNameBytesMax)
    return bad("has at most " + std::to_string(kModelNameBytesMax) + " bytes");
  if (!is_utf8(name)) return bad("must be UTF-8");
  if (name.front() == '.') return bad("cannot begin with a dot");
  for (const char c : name)
    if (c == '/' || c == '\\' || static_cast<unsigned char>(c) < 0x20 || c == 0x7f)
      return bad("cannot have slashes or control characters");
  if (name == "stats") return bad("cannot be 'stats', which the protocol uses itself");
  return {};
}

std::optional<std::int64_t> parse_version(std::string_view text) {
  std::int64_t version = 0;
  const auto read = std::from_chars(text.data(), text.data() + text.size(), version);
  if (read.ec != std::errc() || read.ptr != text.data() + text.size() || version < 1 ||
      text.front() == '0')
    return std::nullopt;
  return version;
}

Result<std::vector<std::string>> list_models(const fs::path& root) {
  SELVAGE_TRY(const auto entries, entries_of(root, kModelsMax));
  std::vector<std::string> names;
  std::error_code error;
  for (const auto& path : entries) {
    auto name = path.filename().string();
    if (check_model_name(name) && fs::is_directory(path, error)) names.push_back(std::move(name));
  }
  return names;
}

Result<fs::path> find_model(const std::vector<fs::path>& roots, const std::string& name) {
  std::error_code error;
  for (const auto& root : roots) {
    auto path = root / name;
    if (!fs::is_directory(path, error)) continue;
    SELVAGE_RETURN_IF_ERROR(check_inside(root, path));
    return path;
  }
  return fail(ErrorCode::kNotFound, "no model '" + name + "' in the repository");
}

Result<Fingerprint> fingerprint(const fs::path& folder) {
  Fingerprint print;
  std::size_t count = 0;
  SELVAGE_RETURN_IF_ERROR(add_files(folder, 0, count, print));
  return print;
}

Result<ModelConfig> read_config(const fs::path& folder, const std::string& name,
                                std::string_view json) {
  const auto file = folder / "config.pbtxt";
  std::error_code error;
  Result<ModelConfig> config;
  std::string source = "the given configuration";
  if (!json.empty()) {
    config = parse_model_config_json(json);
  } else if (fs::exists(file, error)) {
    SELVAGE_RETURN_IF_ERROR(check_inside(folder.parent_path(), file));
    SELVAGE_TRY(const auto text, read_text(file, kConfigBytesMax));
    config = parse_model_config(text);
    source = "'" + file.string() + "'";
  } else {
    config->platform = kPlatform;
    config->backend = "onnxruntime";
  }
  if (!config) return std::unexpected(std::move(config).error().with_context(source));
  if (!config->name.empty() && config->name != name)
    return fail(ErrorCode::kInvalidArgument, source + ": name is '" + config->name +
                                                 "', but the model's folder is '" + name + "'");
  config->name = name;
  return config;
}

Result<ModelFolder> read_folder(const fs::path& root, const fs::path& folder,
                                const ModelConfig& config) {
  const auto& wanted = config.default_model_filename;
  const std::string name = wanted.empty() ? "model.onnx" : wanted;
  const bool ensemble = std::holds_alternative<EnsembleScheduling>(config.scheduling);
  ModelFolder found{.path = folder, .versions = {}};
  SELVAGE_TRY(const auto entries, entries_of(folder, kVersionsMax));
  std::error_code error;
  for (const auto& path : entries) {
    const auto version = parse_version(path.filename().string());
    if (!version || !fs::is_directory(path, error)) continue;
    SELVAGE_TRY(const auto file, model_file(root, path, name));
    if (ensemble || file) found.versions.emplace(*version, file.value_or(path / name));
  }
  if (found.versions.empty()) {
    SELVAGE_TRY(auto file, model_file(root, folder, name));
    // Like a model card it may be a link to anywhere; the models that it names may not.
    if (!file && fs::is_regular_file(folder / kChainFile, error)) file = folder / kChainFile;
    if (ensemble || file) found.versions.emplace(1, file.value_or(folder / name));
  }
  if (found.versions.empty())
    return fail(ErrorCode::kNotFound, "no version in '" + folder.string() + "': neither VERSION/" +
                                          name + " nor " + name + " nor " +
                                          std::string(kChainFile));
  return found;
}

Result<std::vector<std::int64_t>> choose_versions(
    const VersionPolicy& policy, const std::map<std::int64_t, fs::path>& versions) {
  std::vector<std::int64_t> all;
  all.reserve(versions.size());
  for (const auto& [version, file] : versions) all.push_back(version);
  if (const auto* latest = std::get_if<LatestVersions>(&policy)) {
    if (all.size() > latest->count)
      all.erase(all.begin(), all.end() - static_cast<std::ptrdiff_t>(latest->count));
  } else if (const auto* specific = std::get_if<SpecificVersions>(&policy)) {
    for (const auto version : specific->versions)
      if (!versions.contains(version))
        return fail(ErrorCode::kNotFound,
                    "version_policy.specific: there is no version " + std::to_string(version));
    all = specific->versions;
    std::ranges::sort(all);
    const auto [first, last] = std::ranges::unique(all);
    all.erase(first, last);
  }
  return all;
}

Result<ScratchModel> ScratchModel::create(const std::string& name,
                                          const std::vector<ModelFile>& files) {
  std::error_code error;
  auto pattern = (fs::temp_directory_path(error) / "selvage-model-XXXXXX").string();
  if (error || ::mkdtemp(pattern.data()) == nullptr)
    return fail(ErrorCode::kIo, "no temporary folder for the model's files");
  ScratchModel scratch{fs::path(pattern)};
  if (files.size() > kModelFilesMax)
    return fail(ErrorCode::kOutOfRange, "more than " + std::to_string(kModelFilesMax) + " files");
  for (const auto& file : files) {
    const auto slash = file.path.find('/');
    const auto version = file.path.substr(0, slash);
    const auto base = slash == std::string::npos ? "" : file.path.substr(slash + 1);
    if (!parse_version(version) || base.empty() || base == "." || base == ".." ||
        base.find_first_of(std::string_view("/\\\0", 3)) != std::string::npos)
      return fail(ErrorCode::kInvalidArgument,
                  "the file's path '" + file.path + "' is not VERSION/NAME");
    const auto folder = scratch.root_ / name / version;
    fs::create_directories(folder, error);
    if (error) return io_error(folder, error);
    SELVAGE_RETURN_IF_ERROR(write_atomically(folder / base, std::span(file.content)));
  }
  return scratch;
}

ScratchModel::ScratchModel(ScratchModel&& other) noexcept
    : root_(std::exchange(other.root_, fs::path())) {}

ScratchModel::~ScratchModel() {
  std::error_code ignored;
  if (!root_.empty()) fs::remove_all(root_, ignored);
}

}  // namespace selvage::infer
