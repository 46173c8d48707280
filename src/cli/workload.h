// What a benchmark runs: a model, one input, and one or more callers that predict on it.
#pragma once

#include <filesystem>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "cli/input_file.h"
#include "cli/subject.h"

namespace selvage::cli {

struct WorkloadOptions {
  std::filesystem::path model;
  std::filesystem::path input;      ///< Empty: random tensors, straight into the session.
  std::vector<std::string> shapes;  ///< "x=1x3x224x224", for random tensors.
  std::int64_t batch = 1;           ///< For random tensors: an open first dimension.
  int callers = 1;
};

/// Movable. Callers are warm.
class Workload {
 public:
  [[nodiscard]] static Result<Workload> create(infer::Runtime& runtime,
                                               const WorkloadOptions& options,
                                               const infer::ModelOptions& model_options);
  ~Workload();
  Workload(Workload&&) noexcept;
  Workload& operator=(Workload&&) noexcept;

  /// One call of each is one unit of work. Each confined to one thread at a time.
  [[nodiscard]] std::vector<std::function<Result<void>()>>& callers();
  [[nodiscard]] const Subject& subject() const;
  /// What one call does: "prediction", "window of 32 ms", "run".
  [[nodiscard]] const std::string& unit() const;
  /// Whether calls go through the card: stages are timed then.
  [[nodiscard]] bool whole_path() const;
  /// "astronaut.png (512 x 512 pixels)" or "random tensors x float32 [1,3,8,8]".
  [[nodiscard]] const std::string& input() const;

 private:
  struct State;
  explicit Workload(std::unique_ptr<State> state);
  std::unique_ptr<State> state_;
};

}  // namespace selvage::cli
