#include "serve/repository_backend.h"

namespace selvage::serve {
namespace {

Cancel cancel_of(infer::RequestHandle handle) {
  return [handle = std::move(handle)] { handle.cancel(); };
}

class RepositoryBackend final : public Backend {
 public:
  explicit RepositoryBackend(infer::ModelRepository& repository) : repository_(repository) {}

  Cancel submit(infer::InferenceRequest request, infer::ResponseCallback callback) override {
    return cancel_of(repository_.submit(std::move(request), std::move(callback)));
  }
  Cancel predict(infer::PredictionRequest request, infer::PredictionCallback callback) override {
    return cancel_of(repository_.predict(std::move(request), std::move(callback)));
  }
  Result<std::shared_ptr<const infer::ModelCard>> card(std::string_view model,
                                                       std::string_view version) override {
    return repository_.card(model, version);
  }
  Result<infer::ModelMetadata> metadata(std::string_view model, std::string_view version) override {
    return repository_.metadata(model, version);
  }
  Result<infer::ModelConfig> config(std::string_view model, std::string_view version) override {
    return repository_.config(model, version);
  }
  Result<std::shared_ptr<const infer::Labels>> labels(std::string_view model,
                                                      std::string_view version,
                                                      std::string_view output) override {
    return repository_.labels(model, version, output);
  }
  bool ready(std::string_view model, std::string_view version) override {
    return repository_.ready(model, version);
  }
  bool ready() override { return repository_.ready(); }
  std::vector<infer::IndexEntry> index(bool ready_only) override {
    return repository_.index(ready_only);
  }
  Result<std::vector<infer::ModelStatistics>> statistics(std::string_view model,
                                                         std::string_view version) override {
    return repository_.statistics(model, version);
  }
  Result<void> load(std::string_view model, const infer::LoadOverrides& overrides) override {
    return repository_.load(model, overrides);
  }
  Result<void> unload(std::string_view model, infer::Dependents dependents) override {
    return repository_.unload(model, dependents);
  }

 private:
  infer::ModelRepository& repository_;
};

}  // namespace

std::unique_ptr<Backend> make_backend(infer::ModelRepository& repository) {
  return std::make_unique<RepositoryBackend>(repository);
}

}  // namespace selvage::serve
