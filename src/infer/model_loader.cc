#include "infer/model_loader.h"

#include <algorithm>

#include "base/log.h"

namespace selvage::infer {
namespace {

/// The lines of a model's fingerprint that concern one version: its folder and what lies beside the
/// version folders.
[[nodiscard]] Fingerprint part_of(const Fingerprint& all, const std::filesystem::path& folder,
                                  std::int64_t version) {
  Fingerprint part;
  const auto prefix = folder.string() + "/";
  for (std::size_t begin = 0; begin < all.size();) {
    const auto end = all.find('\n', begin) + 1;
    const auto line = std::string_view(all).substr(begin, end - begin);
    begin = end;
    const auto rest = line.substr(std::min(prefix.size(), line.size()));
    const auto number = parse_version(rest.substr(0, rest.find_first_of("/ ")));
    if (!number || *number == version) part += line;
  }
  return part;
}

[[nodiscard]] const EnsembleScheduling* ensemble_of(const ModelConfig& config) {
  return std::get_if<EnsembleScheduling>(&config.scheduling);
}

}  // namespace

ModelMetadata describe(const ServedVersion& served, const std::vector<Served>& siblings) {
  ModelMetadata metadata{.name = served.name,
                         .versions = {},
                         .platform = served.runner == nullptr ? "ensemble" : std::string(kPlatform),
                         .inputs = {},
                         .outputs = {}};
  for (const auto& sibling : siblings) metadata.versions.push_back(sibling->version);
  const auto& signature = served.signature();
  for (const auto& port : signature.inputs)
    metadata.inputs.push_back({port.name, port.type, port.client});
  for (const auto& port : signature.outputs)
    metadata.outputs.push_back({port.name, port.type, port.client});
  return metadata;
}

void ModelLoader::load_initial() {
  std::vector<std::string> names;
  if (const auto* listed = std::get_if<LoadExplicitly>(&options_.control)) {
    names = listed->models;
  } else {
    for (const auto& folder : options_.folders)
      if (const auto found = list_models(folder))
        names.insert(names.end(), found->begin(), found->end());
  }
  for (const auto& name : names) {
    const std::scoped_lock lock(mutex_);
    if (stopped_) return;
    // An ensemble may have brought it along already.
    if (index_.knows(name)) continue;
    if (const auto valid = check_model_name(name); !valid) {
      log::error("a model's name is not valid", {{"reason", valid.error().message}});
      continue;
    }
    static_cast<void>(load_one(name, {}, Reload::kAll));  // The index and the log say why not.
  }
}

Result<void> ModelLoader::load(const std::string& name, const LoadOverrides& overrides) {
  SELVAGE_RETURN_IF_ERROR(check_model_name(name));
  if (!overrides.files.empty() && overrides.config_json.empty())
    return fail(ErrorCode::kInvalidArgument, "files can only be given along with a configuration");
  const std::scoped_lock lock(mutex_);
  return load_one(name, overrides, Reload::kAll);
}

Result<void> ModelLoader::load_one(const std::string& name, const LoadOverrides& overrides,
                                   Reload reload) {
  if (stopped_) return fail(ErrorCode::kUnavailable, "the server is stopping");
  if (!loading_.insert(name).second)
    return fail(ErrorCode::kInvalidArgument,
                "model '" + name + "' needs itself: the ensembles go round in a circle");
  if (overrides.files.empty() && !index_.knows(name)) {
    // A name that was never there must not leave an entry: clients could fill the index.
    auto found = find_model(options_.folders, name);
    if (!found && found.error().code == ErrorCode::kNotFound) {
      loading_.erase(name);
      return std::unexpected(std::move(found).error());
    }
  }
  if (!index_.knows(name) && index_.names().size() >= kModelsMax) {
    loading_.erase(name);
    return fail(ErrorCode::kResourceExhausted,
                "there are " + std::to_string(kModelsMax) + " models already");
  }
  const auto start = options_.clock->steady_now();
  index_.begin_loading(name);
  Reasons reasons;
  auto done = load_versions(name, overrides, reload, reasons);
  if (!done && reasons.empty()) reasons[0] = done.error().message;
  index_.end_loading(name, reasons);
  loading_.erase(name);
  const auto took =
      std::chrono::duration_cast<std::chrono::milliseconds>(options_.clock->steady_now() - start);
  if (done)
    log::info("model loaded", {{"model", name}, {"ms", std::to_string(took.count())}});
  else
    log::error("model not loaded", {{"model", name}, {"reason", done.error().message}});
  return done;
}

Result<void> ModelLoader::load_versions(const std::string& name, const LoadOverrides& overrides,
                                        Reload reload, Reasons& reasons) {
  std::optional<ScratchModel> scratch;
  auto roots = options_.folders;
  if (!overrides.files.empty()) {
    SELVAGE_TRY(auto given, ScratchModel::create(name, overrides.files));
    roots = {given.root()};
    scratch.emplace(std::move(given));
  }
  SELVAGE_TRY(const auto folder, find_model(roots, name));
  SELVAGE_TRY(const auto before, fingerprint(folder));
  auto& watch = watches_[name];
  watch.seen = watch.failed = before;  // Until it has succeeded.
  SELVAGE_TRY(const auto config, read_config(folder, name, overrides.config_json));
  SELVAGE_TRY(const auto found, read_folder(folder.parent_path(), folder, config));
  SELVAGE_TRY(const auto chosen, choose_versions(config.version_policy, found.versions));

  std::vector<Served> versions;
  std::optional<Error> error;
  std::map<std::int64_t, Fingerprint> prints;
  const auto serving = index_.serving(name);
  for (const auto version : chosen) {
    prints[version] = part_of(before, folder, version);
    const auto same = std::ranges::find(serving, std::to_string(version), &ServedVersion::version);
    if (reload == Reload::kChanged && same != serving.end() &&
        watch.versions[version] == prints[version]) {
      versions.push_back(*same);
      continue;
    }
    auto loaded = load_version_of(found, config, version);
    if (loaded) {
      versions.push_back(*std::move(loaded));
    } else {
      prints.erase(version);
      reasons[version] = loaded.error().message;
      if (!error) error = std::move(loaded).error();
    }
  }
  SELVAGE_TRY(const auto after, fingerprint(folder));
  if (after != before)
    return fail(ErrorCode::kUnavailable,
                "the folder of model '" + name + "' changed while it was loaded; try again");
  index_.swap(name, versions, error ? Others::kKeep : Others::kRemove);
  for (const auto& [version, print] : prints) watch.versions[version] = print;
  if (error) return std::unexpected(*std::move(error));
  watch.loaded = scratch ? Fingerprint() : before;
  watch.failed.clear();
  return {};
}

Result<Served> ModelLoader::load_version_of(const ModelFolder& folder, const ModelConfig& config,
                                            std::int64_t version) {
  const auto number = std::to_string(version);
  auto loaded = ensemble_of(config) != nullptr ? load_ensemble(config, number, folder.path)
                                               : load_version(runtime_, pool_, options_,
                                                              {.name = config.name,
                                                               .version = number,
                                                               .folder = folder.path,
                                                               .file = folder.versions.at(version),
                                                               .config = config});
  if (!loaded)
    return std::unexpected(
        std::move(loaded).error().with_context("model '" + config.name + "' version " + number));
  return loaded;
}

Result<Served> ModelLoader::load_ensemble(ModelConfig config, const std::string& version,
                                          const std::filesystem::path& folder) {
  for (const auto& step : ensemble_of(config)->steps) {
    std::set<std::string> seen;
    if (step.model == config.name || needs(step.model, config.name, seen))
      return fail(ErrorCode::kInvalidArgument,
                  "ensemble_scheduling: step '" + step.model + "' needs this ensemble itself");
    if (!index_.serving(step.model).empty()) continue;
    SELVAGE_RETURN_IF_ERROR(check_model_name(step.model));
    SELVAGE_RETURN_IF_ERROR(load_one(step.model, {}, Reload::kAll));
  }
  auto served = std::make_shared<ServedVersion>();
  const auto lookup = [&](const std::string& model,
                          const std::string& wanted) -> Result<ModelMetadata> {
    SELVAGE_TRY(const auto found, index_.find(model, wanted));
    return describe(*found, {});
  };
  SELVAGE_TRY(served->ensemble, make_ensemble_plan(config, config.name, version, lookup));
  SELVAGE_TRY(served->labels, read_label_files(config, folder));
  config.max_batch_size = config.max_batch_size.value_or(0);
  served->name = config.name;
  served->version = version;
  served->config = std::move(config);
  return served;
}

bool ModelLoader::needs(const std::string& ensemble, const std::string& model,
                        std::set<std::string>& seen) const {
  if (!seen.insert(ensemble).second) return false;
  for (const auto& served : index_.serving(ensemble))
    if (const auto* scheduling = ensemble_of(served->config))
      for (const auto& step : scheduling->steps)
        if (step.model == model || needs(step.model, model, seen)) return true;
  return false;
}

Result<void> ModelLoader::unload(const std::string& name, Dependents dependents) {
  const std::scoped_lock lock(mutex_);
  std::set<std::string> steps;
  if (dependents == Dependents::kUnload)
    for (const auto& served : index_.serving(name))
      if (const auto* scheduling = ensemble_of(served->config))
        for (const auto& step : scheduling->steps) steps.insert(step.model);
  SELVAGE_RETURN_IF_ERROR(index_.remove(name));
  watches_.erase(name);
  log::info("model unloaded", {{"model", name}});
  for (const auto& step : steps) {
    watches_.erase(step);
    // One that is gone already is as it should be.
    static_cast<void>(index_.remove(step));
  }
  return {};
}

void ModelLoader::poll() {
  const std::scoped_lock lock(mutex_);
  if (stopped_) return;
  std::set<std::string> found;
  for (const auto& folder : options_.folders) {
    const auto names = list_models(folder);
    if (!names) {
      // The disk is away, not the models: everything goes on as it is.
      log::warning("a model repository cannot be read",
                   {{"folder", folder.string()}, {"reason", names.error().message}});
      return;
    }
    for (const auto& name : *names)
      if (found.insert(name).second) look_at(name, folder / name);
  }
  for (const auto& name : index_.names()) {
    if (found.contains(name)) continue;
    auto& watch = watches_[name];
    if (!std::exchange(watch.missing, true)) continue;  // It may be being replaced: look again.
    if (index_.serving(name).empty()) {
      if (index_.forget(name)) watches_.erase(name);
      continue;
    }
    static_cast<void>(index_.remove(name));
    log::info("model unloaded: its folder is gone", {{"model", name}});
  }
}

void ModelLoader::look_at(const std::string& name, const std::filesystem::path& folder) {
  const auto print = fingerprint(folder);
  auto& watch = watches_[name];
  watch.missing = false;
  if (!print || *print == watch.loaded || *print == watch.failed) return;
  if (watch.seen != *print) {
    watch.seen = *print;  // Perhaps still being written: act when it has stood still.
    return;
  }
  static_cast<void>(load_one(name, {}, Reload::kChanged));  // The index and the log say why not.
}

void ModelLoader::stop() {
  stopped_ = true;
  const std::scoped_lock lock(mutex_);
}

}  // namespace selvage::infer
