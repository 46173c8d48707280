// Brings what lies in the repository's folders into the index. Internal to the serving core.
#pragma once

#include <atomic>
#include <map>
#include <mutex>
#include <set>
#include <string>

#include "infer/model_index.h"
#include "infer/repository_files.h"

namespace selvage::infer {

/// Synchronised: one load, unload or look at the folders at a time; requests go on meanwhile.
class ModelLoader {
 public:
  /// References must outlive the loader.
  ModelLoader(Runtime& runtime, WorkerPool& pool, const RepositoryOptions& options,
              ModelIndex& index)
      : runtime_(runtime), pool_(pool), options_(options), index_(index) {}

  /// What RepositoryOptions::control asks for at the start. Failures are in the index.
  void load_initial();
  [[nodiscard]] Result<void> load(const std::string& name, const LoadOverrides& overrides);
  [[nodiscard]] Result<void> unload(const std::string& name, Dependents dependents);
  void poll();
  /// No load begins after this; waits for the one in progress.
  void stop();

 private:
  enum class Reload : std::uint8_t { kAll, kChanged };
  /// What the last looks at a model's folder saw.
  struct Watch {
    Fingerprint loaded, failed, seen;
    bool missing = false;
    std::map<std::int64_t, Fingerprint> versions;  ///< As they were loaded.
  };
  using Reasons = std::map<std::int64_t, std::string>;

  // The caller holds mutex_.
  Result<void> load_one(const std::string& name, const LoadOverrides& overrides, Reload reload);
  Result<void> load_versions(const std::string& name, const LoadOverrides& overrides, Reload reload,
                             Reasons& reasons);
  Result<Served> load_version_of(const ModelFolder& folder, const ModelConfig& config,
                                 std::int64_t version);
  Result<Served> load_ensemble(ModelConfig config, const std::string& version,
                               const std::filesystem::path& folder);
  [[nodiscard]] bool needs(const std::string& ensemble, const std::string& model,
                           std::set<std::string>& seen) const;
  void look_at(const std::string& name, const std::filesystem::path& folder);

  Runtime& runtime_;
  WorkerPool& pool_;
  const RepositoryOptions& options_;
  ModelIndex& index_;

  // Outside the mutex, which the load in progress holds, and perhaps takes again for the next.
  std::atomic<bool> stopped_{false};
  std::mutex mutex_;  // Guards everything below, and who changes index_.
  std::map<std::string, Watch> watches_;
  std::set<std::string> loading_;  // In progress: an ensemble loads its models.
};

/// What clients are told about a version and its siblings.
[[nodiscard]] ModelMetadata describe(const ServedVersion& served,
                                     const std::vector<Served>& siblings);

}  // namespace selvage::infer
