#include "infer/model_index.h"

#include <algorithm>

#include "infer/repository_files.h"

namespace selvage::infer {
namespace {

[[nodiscard]] std::unexpected<Error> not_served(std::string_view name, bool loading,
                                                const std::string& reason) {
  const auto what = "model '" + std::string(name) + "' ";
  if (loading) return fail(ErrorCode::kUnavailable, what + "is still being loaded");
  return fail(ErrorCode::kUnavailable,
              what + "is not available" + (reason.empty() ? "" : ": " + reason));
}

}  // namespace

std::string_view to_string(ModelState state) {
  switch (state) {
    case ModelState::kReady: return "READY";
    case ModelState::kUnavailable: return "UNAVAILABLE";
    case ModelState::kLoading: return "LOADING";
    case ModelState::kUnloading: return "UNLOADING";
    case ModelState::kUnknown: break;
  }
  return "UNKNOWN";
}

Result<Served> ModelIndex::find(std::string_view name, std::string_view version) const {
  const std::scoped_lock lock(mutex_);
  const auto model = models_.find(name);
  if (model == models_.end())
    return fail(ErrorCode::kNotFound, "there is no model '" + std::string(name) + "'");
  const auto& versions = model->second.versions;
  if (version.empty()) {
    for (auto it = versions.rbegin(); it != versions.rend(); ++it)
      if (it->second.serving) return it->second.serving;
    return not_served(name, model->second.loading, model->second.reason);
  }
  const auto number = parse_version(version);
  const auto found = number ? versions.find(*number) : versions.end();
  if (found == versions.end())
    return fail(ErrorCode::kNotFound,
                "model '" + std::string(name) + "' has no version '" + std::string(version) + "'");
  if (found->second.serving) return found->second.serving;
  return not_served(name, model->second.loading, found->second.reason);
}

std::vector<Served> ModelIndex::serving(std::string_view name) const {
  const std::scoped_lock lock(mutex_);
  std::vector<Served> found;
  if (const auto model = models_.find(name); model != models_.end())
    for (const auto& [number, version] : model->second.versions)
      if (version.serving) found.push_back(version.serving);
  return found;
}

std::vector<Served> ModelIndex::all() const {
  const std::scoped_lock lock(mutex_);
  std::vector<Served> found;
  for (const auto& [name, model] : models_)
    for (const auto& [number, version] : model.versions)
      if (version.serving) found.push_back(version.serving);
  return found;
}

bool ModelIndex::knows(std::string_view name) const {
  const std::scoped_lock lock(mutex_);
  return models_.contains(name);
}

std::set<std::string> ModelIndex::names() const {
  const std::scoped_lock lock(mutex_);
  std::set<std::string> names;
  for (const auto& [name, model] : models_) names.insert(name);
  return names;
}

void ModelIndex::begin_loading(const std::string& name) {
  const std::scoped_lock lock(mutex_);
  models_[name].loading = true;
}

void ModelIndex::retire(Version& version, std::string reason) {
  if (!version.serving) return;
  version.reason = std::move(reason);
  version.leaving = version.serving->scheduler;
  std::erase_if(retired_, [](const auto& scheduler) { return scheduler.expired(); });
  retired_.push_back(version.leaving);
  version.serving.reset();
}

void ModelIndex::swap(const std::string& name, const std::vector<Served>& versions, Others others) {
  std::vector<Served> old;  // Destroyed after the lock is released.
  const std::scoped_lock lock(mutex_);
  auto& model = models_[name];
  for (const auto& served : versions) {
    auto& version = model.versions[*parse_version(served->version)];
    if (version.serving == served) continue;
    old.push_back(version.serving);
    retire(version, "");
    version = {.serving = served, .leaving = {}, .reason = ""};
  }
  if (others == Others::kKeep) return;
  for (auto& [number, version] : model.versions) {
    const auto kept = std::ranges::find(versions, version.serving);
    if (!version.serving || kept != versions.end()) continue;
    old.push_back(version.serving);
    retire(version, "unloaded");
  }
}

void ModelIndex::end_loading(const std::string& name,
                             const std::map<std::int64_t, std::string>& reasons) {
  const std::scoped_lock lock(mutex_);
  auto& model = models_[name];
  model.loading = false;
  model.reason.clear();
  for (auto& [number, version] : model.versions)
    if (version.serving) version.reason.clear();
  for (const auto& [number, reason] : reasons) {
    model.reason = reason;
    if (number > 0) model.versions[number].reason = reason;
  }
  // A failure of the whole shows at every version, so that the index says why a reload had no
  // effect.
  if (const auto whole = reasons.find(0); whole != reasons.end())
    for (auto& [number, version] : model.versions)
      if (version.serving) version.reason = whole->second;
}

Result<void> ModelIndex::remove(std::string_view name) {
  std::vector<Served> old;  // Destroyed after the lock is released.
  const std::scoped_lock lock(mutex_);
  const auto model = models_.find(name);
  if (model == models_.end())
    return fail(ErrorCode::kNotFound, "there is no model '" + std::string(name) + "'");
  model->second.reason = "unloaded";
  for (auto& [number, version] : model->second.versions) {
    old.push_back(version.serving);
    retire(version, "unloaded");
  }
  return {};
}

bool ModelIndex::forget(std::string_view name) {
  const std::scoped_lock lock(mutex_);
  const auto model = models_.find(name);
  if (model == models_.end()) return true;
  const bool alive = std::ranges::any_of(model->second.versions, [](const auto& entry) {
    return entry.second.serving || !entry.second.leaving.expired();
  });
  if (!alive) models_.erase(model);
  return !alive;
}

std::string ModelIndex::state_of(const Model& model, const Version& version, ModelState& state) {
  state = version.serving              ? ModelState::kReady
          : model.loading              ? ModelState::kLoading
          : !version.leaving.expired() ? ModelState::kUnloading
                                       : ModelState::kUnavailable;
  return state == ModelState::kLoading ? "" : version.reason;
}

std::vector<IndexEntry> ModelIndex::entries(bool ready_only) const {
  const std::scoped_lock lock(mutex_);
  std::vector<IndexEntry> entries;
  for (const auto& [name, model] : models_) {
    if (model.versions.empty() && !ready_only)
      entries.push_back({.name = name,
                         .version = "",
                         .state = model.loading ? ModelState::kLoading : ModelState::kUnavailable,
                         .reason = model.reason});
    for (const auto& [number, version] : model.versions) {
      IndexEntry entry{.name = name, .version = std::to_string(number)};
      entry.reason = state_of(model, version, entry.state);
      if (!ready_only || entry.state == ModelState::kReady) entries.push_back(std::move(entry));
    }
  }
  return entries;
}

std::vector<std::shared_ptr<Scheduler>> ModelIndex::schedulers() const {
  const std::scoped_lock lock(mutex_);
  std::vector<std::shared_ptr<Scheduler>> found;
  for (const auto& [name, model] : models_)
    for (const auto& [number, version] : model.versions)
      if (version.serving && version.serving->scheduler)
        found.push_back(version.serving->scheduler);
  for (const auto& retired : retired_)
    if (auto scheduler = retired.lock()) found.push_back(std::move(scheduler));
  return found;
}

}  // namespace selvage::infer
