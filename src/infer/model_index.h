// Which versions serve, and what became of the others. Internal to the serving core.
#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <mutex>
#include <set>
#include <string>
#include <string_view>
#include <vector>

#include "infer/served_version.h"

namespace selvage::infer {

using Served = std::shared_ptr<const ServedVersion>;

enum class Others : std::uint8_t { kKeep, kRemove };

/// Synchronised. What is taken out lives on until its last request has ended.
class ModelIndex {
 public:
  /// Version "" = the highest. kNotFound for what was never there; kUnavailable with the reason for
  /// what is not served now.
  [[nodiscard]] Result<Served> find(std::string_view name, std::string_view version) const;
  [[nodiscard]] std::vector<Served> serving(std::string_view name) const;  ///< Ascending.
  [[nodiscard]] std::vector<Served> all() const;
  [[nodiscard]] bool knows(std::string_view name) const;
  [[nodiscard]] std::set<std::string> names() const;

  void begin_loading(const std::string& name);
  /// Puts versions in the place of their predecessors, all at one moment.
  void swap(const std::string& name, const std::vector<Served>& versions, Others others);
  /// `reason` "" = all is well. `version` 0 = of the model as a whole.
  void end_loading(const std::string& name, const std::map<std::int64_t, std::string>& reasons);
  /// kNotFound when nothing of it is served.
  [[nodiscard]] Result<void> remove(std::string_view name);
  /// Drops the entry of a model of which nothing serves or ends any more; whether it did.
  bool forget(std::string_view name);

  [[nodiscard]] std::vector<IndexEntry> entries(bool ready_only) const;
  /// Of everything that may still run.
  [[nodiscard]] std::vector<std::shared_ptr<Scheduler>> schedulers() const;

 private:
  struct Version {
    Served serving;
    std::weak_ptr<Scheduler> leaving;
    std::string reason;
  };
  struct Model {
    std::map<std::int64_t, Version> versions;
    std::string reason;
    bool loading = false;
  };
  // The caller holds mutex_.
  void retire(Version& version, std::string reason);
  [[nodiscard]] static std::string state_of(const Model& model, const Version& version,
                                            ModelState& state);

  mutable std::mutex mutex_;
  std::map<std::string, Model, std::less<>> models_;
  std::vector<std::weak_ptr<Scheduler>> retired_;
};

}  // namespace selvage::infer
