// What the protocols need of whoever runs the models: ModelRepository in the server, a fake in
// tests and fuzzers. Meanings, errors and threads are those of infer/repository.h.
#pragma once

#include <functional>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"
#include "infer/repository.h"

namespace selvage::serve {

/// To a request in flight: cancels it when called. Empty for one that was answered at once.
using Cancel = std::move_only_function<void()>;

/// Synchronised.
class Backend {
 public:
  virtual ~Backend() = default;

  virtual Cancel submit(infer::InferenceRequest request, infer::ResponseCallback callback) = 0;
  virtual Cancel predict(infer::PredictionRequest request, infer::PredictionCallback callback) = 0;

  [[nodiscard]] virtual Result<std::shared_ptr<const infer::ModelCard>> card(
      std::string_view model, std::string_view version) = 0;
  [[nodiscard]] virtual Result<infer::ModelMetadata> metadata(std::string_view model,
                                                              std::string_view version) = 0;
  [[nodiscard]] virtual Result<infer::ModelConfig> config(std::string_view model,
                                                          std::string_view version) = 0;
  [[nodiscard]] virtual Result<std::shared_ptr<const infer::Labels>> labels(
      std::string_view model, std::string_view version, std::string_view output) = 0;
  [[nodiscard]] virtual bool ready(std::string_view model, std::string_view version) = 0;
  [[nodiscard]] virtual bool ready() = 0;
  [[nodiscard]] virtual std::vector<infer::IndexEntry> index(bool ready_only) = 0;
  [[nodiscard]] virtual Result<std::vector<infer::ModelStatistics>> statistics(
      std::string_view model, std::string_view version) = 0;

  /// These two block for as long as loading takes: never on an I/O thread.
  [[nodiscard]] virtual Result<void> load(std::string_view model,
                                          const infer::LoadOverrides& overrides) = 0;
  [[nodiscard]] virtual Result<void> unload(std::string_view model,
                                            infer::Dependents dependents) = 0;
};

}  // namespace selvage::serve
